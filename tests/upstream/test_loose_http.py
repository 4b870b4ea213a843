"""HTTP that official SDKs accept from an upstream, over real sockets and on both surfaces: headers, codings, labels,
byte-order marks, and the reasons of refusals.
"""

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import Sequence
from typing import Any

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import TEXT, ask, error_of
from tests.rig.completions import COMPLETION, HI, STREAMED, post, read, streamed
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    Reset,
    ScriptedUpstream,
    Send,
    Stall,
    Step,
    Until,
    answer,
    chunk,
    delta,
    event,
    finish,
    head,
    stream,
    usage,
)

MARK = b"\xef\xbb\xbf"
EVENTS = delta("Hel") + delta("lo") + finish() + DONE
WHOLE = json.dumps(
    {
        "model": "m-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "é"}, "finish_reason": "stop"}],
    }
).encode()


def body(status: int, label: str, *parts: bytes | Step, **fields: str) -> list[Step]:
    """A response that ends with its connection; without a label it has no media type."""
    start = head(status, label, **fields)
    if not label:
        start = start.replace(b"Content-Type: \r\n", b"")
    return [Send(start), *[Send(part) if isinstance(part, bytes) else part for part in parts], Close()]


async def heard(client: Client) -> tuple[str, str]:
    """The text of an answer and the reason of its end, the same on every surface that streams."""
    answered = await ask(client)
    relayed = await streamed(client)
    said = [json.loads(block.removeprefix(b"data: ")) for block in relayed.blocks[:-1]]
    assert relayed.blocks[-1] == b"data: [DONE]"
    assert "".join([c["delta"].get("content", "") for value in said for c in value["choices"]]) == answered.text
    async with client.get("/chat?q=x") as response:
        assert (await response.json())["choices"][0]["message"]["content"] == answered.text
    async with client.get("/chat?q=x", headers=TEXT) as response:
        assert await response.text() == answered.text
    return answered.text, answered.end["reason"]


async def failed(client: Client, code: str, status: int = 502) -> str:
    """The message of a failure, the same on every surface, streamed and whole."""
    failure = (await ask(client)).failure["error"]
    assert failure["code"] == code
    messages = [failure["message"]]
    for request in (post(client, STREAMED), post(client, HI), client.get("/chat?q=x")):
        async with request as response:
            assert await error_of(response) == (status, code)
            messages.append((await response.json())["error"]["message"])
    assert len(set(messages)) == 1
    return str(messages[0])


# Content codings

LABELS = ["none", "utf-8", "UTF-8", "identity", "binary", "identity, none"]


@pytest.mark.parametrize("coding", LABELS)
async def test_an_unknown_coding_is_no_coding(gateway: MakeGateway, upstream: ScriptedUpstream, coding: str) -> None:
    upstream.script(stream(EVENTS, Content_Encoding=coding))
    client = await gateway()
    assert await heard(client) == ("Hello", "complete")
    upstream.script(answer(200, WHOLE, Content_Encoding=coding))
    async with post(client, HI) as response:
        assert await response.read() == WHOLE


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("x-gzip", 31), ("X-GZIP", 31), ("deflate", 15)])
async def test_compressed_events_are_decoded_as_they_come(
    gateway: MakeGateway, upstream: ScriptedUpstream, coding: str, wbits: int
) -> None:
    """The first event is there before the second is sent."""
    coder, second = zlib.compressobj(wbits=wbits), asyncio.Event()
    first = coder.compress(delta("a")) + coder.flush(zlib.Z_SYNC_FLUSH)
    rest = coder.compress(delta("b") + finish() + DONE) + coder.flush()
    upstream.script(stream(first, Pause(0.02), rest, Content_Encoding=coding))
    client = await gateway()
    assert await heard(client) == ("ab", "complete")
    upstream.script(stream(first, Until(second), rest, Content_Encoding=coding))
    async with asyncio.timeout(5), post(client, STREAMED) as response:
        assert await response.content.readuntil(b"\n\n") == delta("a")
        second.set()
        assert (await read(response)).raw == delta("b") + finish() + DONE


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
async def test_compressed_json_is_decoded(gateway: MakeGateway, upstream: ScriptedUpstream, coding: str) -> None:
    """A whole answer, an error, and the list of models."""
    client = await gateway()
    upstream.script(answer(200, gzip.compress(WHOLE), Content_Encoding=coding))
    assert await heard(client) == ("é", "complete")
    async with post(client, HI) as response:
        assert await response.read() == WHOLE
    upstream.script(answer(400, gzip.compress(b'{"detail":"Too long."}'), Content_Encoding=coding))
    assert await failed(client, "upstream_rejected", 400) == "Too long."
    upstream.script(answer(200, gzip.compress(MARK + b'{"data":[{"id":"a"}]}'), Content_Encoding=coding))
    async with client.get("/v1/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["a"]


async def test_an_error_in_a_coding_that_is_not_decoded_keeps_its_status(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(answer(429, b"\x8b\x02\x80", Content_Encoding="br", Retry_After="7"))
    await failed(await gateway(), "upstream_rate_limited", 429)


async def test_an_answer_in_a_coding_that_is_not_decoded_is_told(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(b"\x8b\x02\x80", Content_Encoding="br"))
    assert "compression" in await failed(await gateway(), "upstream_misconfigured")


async def test_a_body_that_a_proxy_decoded_without_changing_the_label(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(EVENTS, Content_Encoding="gzip"))
    assert await heard(await gateway()) == ("Hello", "complete")


async def test_a_compressed_stream_that_breaks_off_is_incomplete(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    coder = zlib.compressobj(wbits=31)
    first = coder.compress(delta("a")) + coder.flush(zlib.Z_SYNC_FLUSH)
    for end in ([Reset()], [Close()], [b"\xff" * 20], []):
        upstream.script(stream(first, Pause(0.02), *end, Content_Encoding="x-gzip"))
        client = await gateway()
        answered = await ask(client)
        assert (answered.text, answered.end["reason"]) == ("a", "incomplete")
        assert (await streamed(client)).error["code"] == "upstream_incomplete"


# Statuses and headers


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 299])
async def test_any_2xx_with_a_body_is_an_answer(gateway: MakeGateway, upstream: ScriptedUpstream, status: int) -> None:
    client = await gateway()
    upstream.script(body(status, "text/event-stream", EVENTS))
    assert await heard(client) == ("Hello", "complete")
    upstream.script(answer(status, WHOLE))
    assert await heard(client) == ("é", "complete")
    async with post(client, HI) as response:
        assert (response.status, await response.read()) == (200, WHOLE)


@pytest.mark.parametrize("label", ["text/event-stream", "application/json", "text/plain"])
@pytest.mark.parametrize("status", [201, 202, 204, 205])
async def test_a_2xx_without_a_body_is_no_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, status: int, label: str
) -> None:
    upstream.script([Send(head(status, label, Content_Length="0"))] if status != 204 else [Send(head(204, label))])
    assert str(status) in await failed(await gateway(), "upstream_misconfigured")


LARGE: dict[str, dict[str, str]] = {
    "a field of 20 KB": {"Content_Security_Policy": "x" * 20_000},
    "a field of 60 KB": {"X_Large": "x" * 60_000},
    "300 fields": {f"X_{n}": "y" for n in range(300)},
}


@pytest.mark.parametrize("case", LARGE)
async def test_large_headers_are_taken(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    """With an answer, streamed and whole, with an error, and with the list of models."""
    client = await gateway()
    upstream.script(stream(EVENTS, **LARGE[case]))
    assert await heard(client) == ("Hello", "complete")
    upstream.script(answer(200, WHOLE, **LARGE[case]))
    async with post(client, HI) as response:
        assert await response.read() == WHOLE
    upstream.script(answer(400, {"error": {"message": "no"}}, **LARGE[case]))
    assert await failed(client, "upstream_rejected", 400) == "no"
    upstream.script(answer(200, {"data": []}, **LARGE[case]))
    async with client.get("/v1/models") as response:
        assert (await response.json())["data"] == []


async def test_headers_are_bounded(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway()
    for fields in ({"X_Large": "x" * 70_000}, {f"X_{n}": "y" for n in range(600)}):
        upstream.script(stream(EVENTS, **fields))
        await failed(client, "upstream_error")


# Bytes and labels

MEDIA_TYPES = ["text/event-stream", "application/json", "text/plain", "text/html", "application/x-ndjson", ""]
STREAMS: dict[str, list[bytes | Step]] = {
    "data": [EVENTS],
    "data without a space": [EVENTS.replace(b"data: ", b"data:")],
    "a comment": [b": OPENROUTER PROCESSING\n\n", Pause(0.01), EVENTS],
    "an event field": [b"event: message\n" + EVENTS],
    "an id": [b"id: 1\n" + EVENTS],
    "a retry": [b"retry: 1\n\n" + EVENTS],
    "blank lines": [b"\n", Pause(0.01), b"\r\n \n", Pause(0.01), EVENTS],
    "a mark": [MARK + EVENTS],
    "a mark in pieces": [b"\xef", Pause(0.01), b"\xbb", Pause(0.01), b"\xbf\n", Pause(0.01), EVENTS],
    "the first byte alone": [EVENTS[:1], Pause(0.01), EVENTS[1:]],
}


@pytest.mark.parametrize("label", MEDIA_TYPES)
@pytest.mark.parametrize("case", STREAMS)
async def test_events_are_events_whatever_their_label(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str, label: str
) -> None:
    upstream.script(body(200, label, *STREAMS[case]))
    assert await heard(await gateway()) == ("Hello", "complete")


@pytest.mark.parametrize("label", ["application/json", "text/html", ""])
async def test_events_of_any_label_are_shown_as_they_come(
    gateway: MakeGateway, upstream: ScriptedUpstream, label: str
) -> None:
    """And not when the body is whole."""
    upstream.script(body(200, label, delta("a"), Stall()))
    client = await gateway("[timeouts]\nidle = 5")
    async with asyncio.timeout(3), post(client, STREAMED) as response:
        assert await response.content.readuntil(b"\n\n") == delta("a")


@pytest.mark.parametrize("label", MEDIA_TYPES)
@pytest.mark.parametrize("start", [b"", b"\n\n", MARK, b" " + MARK + b"\r\n"], ids=["", "blanks", "a mark", "both"])
async def test_a_whole_answer_is_one_whatever_its_label(
    gateway: MakeGateway, upstream: ScriptedUpstream, label: str, start: bytes
) -> None:
    """The byte-order mark and the white space before it are not passed on."""
    upstream.script(body(200, label, *[start[n : n + 1] for n in range(len(start))], Pause(0.01), WHOLE))
    client = await gateway()
    assert await heard(client) == ("é", "complete")
    async with post(client, HI) as response:
        assert await response.read() == WHOLE
        assert response.content_type == "application/json"


ERRORS: dict[str, bytes] = {
    "an error": b'{"error":{"message":"no"}}',
    "Google's": b'[{\n  "error": {"code": 400, "message": "no", "status": "INVALID"}\n}\n]\n',
    "a text": b'{"error":"no"}',
    "flat": b'{"object":"error","message":"no","code":400}',
    "a message": b'{"message":"no"}',
    "a detail": b'{"detail":"no"}',
    "a list of details": b'{"detail":[{"loc":["body"],"msg":"no"}]}',
    "errors": b'{"errors":[{"message":"no"}]}',
    "behind a mark": MARK + b'{"error":{"message":"no"}}',
    "behind blank lines": b'\n\n{"error":{"message":"no"}}',
}


@pytest.mark.parametrize("label", MEDIA_TYPES)
@pytest.mark.parametrize("case", ERRORS)
async def test_an_error_in_a_200_is_one_whatever_its_label(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str, label: str
) -> None:
    upstream.script(body(200, label, ERRORS[case]))
    assert await failed(await gateway(), "upstream_error") == "no"


@pytest.mark.parametrize("case", ERRORS)
async def test_an_error_in_the_middle_of_a_stream_tells_its_reason(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """`{"message"}` alone is no error there, unless its event says so."""
    said = ERRORS[case].removeprefix(MARK).replace(b"\n", b"")
    kind = b"event: error\n" if case == "a message" else b""
    upstream.script(stream(delta("a"), kind + b"data: " + said + b"\n\n", DONE))
    client = await gateway()
    answered = await ask(client)
    assert (answered.text, answered.failure["error"]["message"]) == ("a", "no")
    relayed = await streamed(client)
    assert (relayed.error["message"], relayed.broken) == ("no", False)


@pytest.mark.parametrize("label", MEDIA_TYPES)
@pytest.mark.parametrize("page", [b"<html>", b"\r\n<!DOCTYPE html>", MARK + b"<html>", b"\n  <p>no"])
async def test_fault_02_a_web_page_is_one_whatever_its_label(
    gateway: MakeGateway, upstream: ScriptedUpstream, page: bytes, label: str
) -> None:
    upstream.script(body(200, label, page + b" SECRET"))
    message = await failed(await gateway(), "upstream_misconfigured")
    assert "web page" in message
    assert "SECRET" not in message


@pytest.mark.parametrize("said", [b"", b"\n\n", MARK, b"\xef"], ids=["nothing", "blanks", "a mark", "half a mark"])
@pytest.mark.parametrize("label", ["text/event-stream", "application/json", ""])
async def test_a_body_without_a_byte_that_says_something_is_no_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, said: bytes, label: str
) -> None:
    upstream.script(body(200, label, said))
    client = await gateway()
    assert (await ask(client)).end["reason"] in ("incomplete", "upstream_error")
    for asked in (HI, STREAMED):
        async with post(client, asked) as response:
            assert (await error_of(response))[0] == 502


@pytest.mark.parametrize(("steps", "code"), [([Stall()], "first_token_timeout"), ([Reset()], "upstream_incomplete")])
@pytest.mark.parametrize("start", [b"", b"\n", b"\xef\xbb"], ids=["nothing", "blanks", "half a mark"])
async def test_limits_hold_before_the_first_byte_that_says_something(
    gateway: MakeGateway, upstream: ScriptedUpstream, start: bytes, steps: list[Step], code: str
) -> None:
    upstream.script(body(200, "", start, Pause(0.02), *steps))
    client = await gateway("[timeouts]\nfirst_token = 0.2")
    assert (await ask(client)).failure["error"]["code"] == code
    async with post(client, STREAMED) as response:
        assert (await error_of(response))[1] == code


async def test_endless_blank_lines_end_at_the_limit(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """They keep a connection open for as long as `first_token` allows, and none of them is held."""
    blanks: list[bytes | Step] = [b"\n" * 10_000, Pause(0.01)] * 100
    upstream.script(body(200, "application/json", *blanks, Stall()))
    client = await gateway("[timeouts]\nfirst_token = 0.3")
    assert (await ask(client)).failure["error"]["code"] == "first_token_timeout"


# Events where one JSON body was asked for


async def test_events_are_put_together_where_one_body_was_asked_for(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
    upstream.script(
        stream(
            event(chunk(reasoning_content="hm")),
            delta("Hel"),
            delta("lo"),
            event(chunk(tool_calls=[call])),
            event(chunk(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}])),
            finish("tool_calls"),
            usage(prompt_tokens=3, completion_tokens=2, total_tokens=5),
            DONE,
        )
    )
    async with post(await gateway(), HI) as response:
        assert response.content_type == "application/json"
        value = await response.json()
    (choice,) = value.pop("choices")
    assert value == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m-1",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    function = {"name": "f", "arguments": '{"a":1}'}
    assert choice == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": "Hello",
            "refusal": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "type": "function", "function": function}],
        },
        "logprobs": None,
        "finish_reason": "tool_calls",
    }
    (line,) = lines
    assert (line["stream"]["output_tokens"], line["stream"]["end"]) == (2, "complete")


async def test_events_without_reasoning_make_a_body_without_reasoning(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), DONE))
    async with post(await gateway(), HI) as response:
        (choice,) = (await response.json())["choices"]
    assert choice["message"] == {"role": "assistant", "content": "a", "refusal": None}
    assert choice["finish_reason"] == "stop"


NOT_WHOLE: dict[str, tuple[Sequence[Step], int, str]] = {
    "an end": (stream(delta("a")), 502, "upstream_incomplete"),
    "a reset": (stream(delta("a"), Reset()), 502, "upstream_incomplete"),
    "an error": (stream(delta("a"), event({"error": {"message": "no"}}), DONE), 502, "upstream_error"),
    "a finish taken back": (stream(finish(), delta("a")), 502, "upstream_incomplete"),
    "nothing": (stream(DONE), 502, "upstream_empty"),
    "silence": (stream(delta("a"), Stall()), 504, "total_timeout"),
    "too much": (stream(*[delta("x" * 900)] * 3, Stall()), 502, "answer_too_large"),
    "a large event": (stream(delta("x" * 5_000), Stall()), 502, "event_too_large"),
}


@pytest.mark.parametrize("case", NOT_WHOLE)
async def test_events_that_are_not_whole_make_no_body(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    script, status, code = NOT_WHOLE[case]
    upstream.script(script)
    client = await gateway("[timeouts]\ntotal = 0.4\n[stream]\nmax_bytes = 2_000\nmax_event_bytes = 2_000")
    async with post(client, HI) as response:
        assert await error_of(response) == (status, code)


async def test_events_that_finish_and_then_hang_make_a_body(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """When the total time is over: no other limit holds for a whole answer."""
    upstream.script(stream(delta("a"), finish(), Stall()))
    async with post(await gateway("[timeouts]\ntotal = 0.3"), HI) as response:
        assert (await response.json())["choices"][0]["message"]["content"] == "a"


async def test_events_of_several_answers_are_not_put_together(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(EVENTS))
    async with post(await gateway(), {**HI, "n": 2}) as response:
        assert "`stream: true`" in (await response.json())["error"]["message"]
        assert await error_of(response) == (502, "upstream_error")


# Byte-order marks


async def test_a_byte_order_mark_before_json_is_ignored(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """In an error, in the list of models, and in what a client sends. For answers, see above."""
    client = await gateway()
    upstream.script(answer(422, MARK + b'{"error":{"message":"no","code":"c","param":"p"}}'))
    assert await failed(client, "c", 422) == "no"
    upstream.script(answer(200, MARK + b'{"data":[{"id":"a"}]}'))
    async with client.get("/v1/models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["a"]
    upstream.script(answer(200, COMPLETION))
    async with post(client, MARK + json.dumps(HI).encode()) as response:
        assert await response.read() == COMPLETION
    headers = {"Content-Type": "application/json"}
    for path, status in (("/chat", 200), ("/streams", 201)):
        async with client.post(path, data=MARK + b'{"question":"hi"}', headers=headers) as response:
            assert response.status == status
    assert all(not request.body.startswith(MARK) for request in upstream.requests)


# Reasons of refusals

REFUSALS: dict[str, tuple[bytes, str]] = {
    "a detail": (b'{"detail":"Too long by 7."}', "Too long by 7."),
    "a list of details": (
        b'{"detail":[{"loc":["body","messages",0,"content"],"msg":"Field required","input":{}}]}',
        "messages[0].content: Field required",
    ),
    "a message": (b'{"message":"Too long by 7."}', "Too long by 7."),
    "an error": (b'{"error":"Too long by 7."}', "Too long by 7."),
    "errors": (b'{"errors":["Too long by 7.",{"message":"And by 8."}]}', "Too long by 7.; And by 8."),
    "Google's": (b'[{"error":{"code":400,"message":"Too long by 7."}}]', "Too long by 7."),
    "plain text": (b"Too long\r\nby 7.\n", "Too long by 7."),
}


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429])
@pytest.mark.parametrize("case", REFUSALS)
async def test_the_reason_of_a_refusal_reaches_the_person_and_the_log(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, case: str, status: int
) -> None:
    said, words = REFUSALS[case]
    upstream.script(answer(status, said, "text/plain"))
    client = await gateway()
    if status == 404 and case == "plain text":  # of a router, which does not know the path
        assert words in await failed(client, "upstream_misconfigured")
    else:
        code = "upstream_rate_limited" if status == 429 else "upstream_rejected"
        assert await failed(client, code, status) == words
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(logged) == 4
    assert all(line.endswith(f": {words}") for line in logged)


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_other_reasons_reach_the_log_alone(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    upstream.script(answer(status, {"detail": "tenant 7 is closed"}))
    async with post(await gateway(), HI) as response:
        assert "tenant" not in await response.text()
    assert "tenant 7 is closed" in caplog.text


@pytest.mark.parametrize("said", [b"<html>SECRET", b"\n<!DOCTYPE html>SECRET", b'{"detail":"<html>SECRET"}'])
async def test_a_web_page_is_no_reason(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, said: bytes
) -> None:
    upstream.script(answer(400, said, "text/html"))
    assert "SECRET" not in await failed(await gateway(), "upstream_rejected", 400)
    assert "SECRET" not in caplog.text


async def test_fault_77_reasons_are_cleaned_and_bounded_in_the_error_and_in_the_log(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    client = await gateway()
    secrets = "key-of-the-upstream, sk-abcdef123, http://10.0.0.1/v1"
    for said in (
        json.dumps({"detail": secrets}).encode(),
        secrets.encode(),
        json.dumps({"errors": [secrets]}).encode(),
    ):
        upstream.script(answer(422, said))
        assert await failed(client, "upstream_rejected", 422) == "[redacted], [redacted], [address]"
    upstream.script(answer(422, b"x " * 40_000))
    assert len(await failed(client, "upstream_rejected", 422)) == 501
    for secret in ("key-of-the", "sk-abc", "10.0.0.1", "x " * 300):
        assert secret not in caplog.text


# Usage that the gateway asks for

UNKNOWN = {"error": {"message": "Unknown parameter: 'stream_options'.", "param": "stream_options"}}
REFUSED_USAGE: dict[str, list[Step]] = {
    "a status": answer(400, UNKNOWN),
    "FastAPI": answer(422, {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}),
    "plain text": answer(400, b"stream_options is not supported", "text/plain"),
    "a failure": answer(500, {"detail": "unexpected keyword argument 'stream_options'"}),
    "an error in a 200": answer(200, UNKNOWN),
    "an error in a stream": stream(event(UNKNOWN)),
}


@pytest.mark.parametrize("case", REFUSED_USAGE)
async def test_refused_stream_options_name_the_option_that_ends_them(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    """The client did not send them, so the refusal is the operator's to mend."""
    upstream.script(REFUSED_USAGE[case])
    client = await gateway()
    failure = (await ask(client)).failure
    assert failure["error"]["code"] == "upstream_misconfigured"
    assert "`stream_usage = false`" in failure["error"]["message"]
    assert failure["retryable"] is False
    async with post(client, STREAMED) as response:
        assert (await response.json())["error"]["message"] == failure["error"]["message"]
        assert await error_of(response) == (502, "upstream_misconfigured")
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(logged) == 2
    assert all("`upstreams.stream_usage = false`" in line and "stream_options" in line for line in logged)


async def test_stream_options_of_the_client_are_its_own(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told of them in the upstream's words, as it is where nothing was added."""
    upstream.script(answer(400, UNKNOWN))
    client = await gateway()
    own = [{"include_usage": True}, {"include_obfuscation": False}, "x"]
    for body in (*[{**STREAMED, "stream_options": options} for options in own], HI):
        async with post(client, body) as response:
            assert (await response.json())["error"]["message"] == "Unknown parameter: 'stream_options'."
            assert response.status == 400
    assert "stream_usage" not in caplog.text


async def test_an_error_behind_content_is_not_about_stream_options(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), event({"error": {"message": "stream_options"}})))
    assert (await ask(await gateway())).failure["error"]["message"] == "stream_options"
