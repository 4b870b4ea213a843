"""One stream from top to bottom, over real sockets: what comes out for what the upstream does."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from gateway.bounds import Bounds
from tests.conftest import MakeGateway
from tests.rig.clients import EVENTS, TEXT, Answer, ask, error_of, post
from tests.rig.inside import at_rest
from tests.rig.receipts import sum_of
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    Reset,
    ScriptedUpstream,
    Send,
    Stall,
    Step,
    answer,
    chunk,
    chunked,
    delta,
    event,
    finish,
    head,
    stream,
    usage,
)

pytestmark = pytest.mark.usefixtures("both_ways")

WHOLE = stream(delta("Hel"), delta("lo"), finish(), usage(total_tokens=5), DONE)


async def test_a_stream_from_start_to_end(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The start block, each delta as a message, and one end; every event carries its id."""
    upstream.script(WHOLE)
    answer = await ask(await gateway())
    stream_id = json.loads(answer.events[0].data)["stream"]
    assert [event.type for event in answer.events] == ["start", "message", "message", "end"]
    assert [event.last_event_id for event in answer.events] == [f"{stream_id}.{n}" for n in range(4)]
    assert answer.raw.startswith(b"retry: 2000\nevent: start\ndata: ")
    assert answer.text == "Hello"
    assert answer.end == {
        "reason": "complete",
        "finish_reason": "stop",
        "model": "m-1",
        "usage": {"total_tokens": 5},
        "stream": stream_id,
        "attempts": 1,
        "receipt": sum_of("Hello"),
    }


async def test_what_is_posted_upstream(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(WHOLE)
    await ask(await gateway(), "why?")
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == "bearer key-of-the-upstream"
    assert request.headers["accept-encoding"] == "identity"
    assert request.json == {
        "model": "default-model",
        "messages": [{"role": "user", "content": "why?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_the_start_block_comes_before_the_upstream_answers(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script([Stall()])
    client = await gateway()
    async with client.get("/chat?q=x", headers=EVENTS) as response:
        block = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 1)
    assert b"event: start\n" in block


async def test_heartbeats_fill_silence_before_the_first_token_and_between(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script([Pause(0.5), *stream(delta("a"), Pause(0.5), delta("b"), finish(), DONE)])
    answer = await ask(await gateway("[stream]\nheartbeat_seconds = 0.2"))
    before, _, rest = answer.raw.partition(b"data: a\n")
    between, _, _ = rest.partition(b"data: b\n")
    assert before.count(b":\n\n") == 2
    assert between.count(b":\n\n") == 2
    assert answer.text == "ab"


async def test_json_is_put_together_from_the_stream(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(WHOLE)
    client = await gateway()
    async with client.get("/chat?q=x") as response:
        assert response.content_type == "application/json"
        assert await response.json() == {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 7,
            "model": "m-1",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"total_tokens": 5},
        }


async def test_text_is_bare_and_comes_chunk_by_chunk(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("你"), Pause(0.1), delta("好\n"), finish(), DONE))
    client = await gateway()
    async with client.get("/chat?q=x", headers=TEXT) as response:
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert await response.content.readany() == "你".encode()
        assert await response.read() == "好\n".encode()


async def test_text_for_a_peer_that_knows_no_chunks_has_a_length(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(WHOLE, stream(delta("x"), Close()))
    client = await gateway()
    whole = await http10(client.port or 0, "/chat?q=x", "text/plain")
    assert b"Content-Length: 5\r\n" in whole
    assert whole.endswith(b"\r\n\r\nHello")
    broken = await http10(client.port or 0, "/chat?q=x", "text/plain")
    assert broken.startswith(b"HTTP/1.0 502")


async def test_events_for_a_peer_that_knows_no_chunks_end_with_the_connection(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(WHOLE)
    client = await gateway()
    raw = await http10(client.port or 0, "/chat?q=x", "text/event-stream")
    _, _, body = raw.partition(b"\r\n\r\n")
    assert Answer(body).end["reason"] == "complete"


async def http10(port: int, path: str, accept: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: keep-alive\r\n\r\n".encode()
    )
    raw = b""
    async with asyncio.timeout(5):
        if accept == "text/plain":
            raw = await reader.readuntil(b"\r\n\r\n")
            length = int(raw.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            raw += await reader.readexactly(length)
        else:
            raw = await reader.read()
            while part := await reader.read():
                raw += part
    writer.close()
    return raw


async def test_posting_a_question(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Any OpenAI parameter passes, big integers and all; of duplicates the last one wins."""
    upstream.script(WHOLE)
    client = await gateway()
    body = b'{"question": "?", "seed": 123456789012345678901234567890, "stop": "a", "stop": ["b"], "x": {"y": 1}}'
    headers = {"Content-Type": "application/json; charset=utf-8", **EVENTS}
    async with client.post("/chat?model=other", data=body, headers=headers) as response:
        assert Answer(await response.read()).text == "Hello"
    sent = upstream.requests[0].json
    assert sent["seed"] == 123456789012345678901234567890
    assert sent["stop"] == ["b"]
    assert sent["x"] == {"y": 1}
    assert sent["model"] == "other"
    assert "question" not in sent


async def test_an_assistant_adds_its_prompts_and_parameters(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(WHOLE)
    client = await gateway(
        '[assistants.maths]\nmodel = "k"\nsystem = ["Teach.", "Be brief: ${NOT_FILLED}"]\n'
        "parameters = {temperature = 0.3, top_p = 0.5}\n"
    )
    messages = [{"role": "user", "content": "1+1?"}]
    response = await post(client, {"assistant": "maths", "messages": messages, "temperature": 1})
    assert response.status == 200
    sent = upstream.requests[0].json
    assert sent["model"] == "k"
    assert sent["messages"] == [
        {"role": "system", "content": "Teach."},
        {"role": "system", "content": "Be brief: ${NOT_FILLED}"},
        *messages,
    ]
    assert (sent["temperature"], sent["top_p"]) == (1, 0.5)


async def test_the_default_assistant_is_asked_where_none_is_named(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(WHOLE)
    await ask(await gateway('[assistants.default]\nmodel = "d"\nsystem = ["S"]'))
    assert upstream.requests[0].json["model"] == "d"
    assert upstream.requests[0].json["messages"] == [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "hi"},
    ]


RICH = stream(
    event(chunk(reasoning_content="hm\n")),
    event(chunk(content="a\r\nb")),
    event(chunk(refusal="no")),
    event(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}])),
    event(chunk(tool_calls=[{"index": 0, "function": {"arguments": "}"}}])),
    finish("tool_calls"),
    DONE,
)


async def test_every_kind_of_event(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(RICH)
    client = await gateway()
    plain = await ask(client)
    assert [e.type for e in plain.events] == ["start", "message", "refusal", "tool_call", "tool_call", "end"]
    assert [e.last_event_id.rpartition(".")[2] for e in plain.events] == ["0", "2", "3", "4", "5", "6"]
    assert plain.data("message") == ["a\nb"]
    assert json.loads(plain.data("tool_call")[0])["function"]["name"] == "f"
    shown = await ask(client, reasoning="1", format="json")
    assert json.loads(shown.data("reasoning")[0]) == {"reasoning": "hm\n"}
    assert json.loads(shown.data("message")[0]) == {"content": "a\r\nb"}
    assert json.loads(shown.data("refusal")[0]) == {"refusal": "no"}
    async with client.get("/chat?q=x&reasoning=1") as response:
        message = (await response.json())["choices"][0]["message"]
    assert message["reasoning_content"] == "hm\n"
    assert message["tool_calls"] == [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


# How a stream fails: what the upstream does, the code of the failure, the reason of the end, the text before it

FAILURES: dict[str, tuple[Sequence[Step], str, str, str]] = {
    "fault_01 JSON error in a 200": (answer(200, {"error": {"message": "no"}}), "upstream_error", "upstream_error", ""),
    "fault_02 a web page": (answer(200, b"<html>", "text/html"), "upstream_misconfigured", "upstream_error", ""),
    "fault_04 an empty body": (answer(200, b"", "text/event-stream"), "upstream_incomplete", "incomplete", ""),
    "fault_05 only [DONE]": (stream(DONE), "upstream_empty", "incomplete", ""),
    "fault_11 error in the stream": (
        stream(delta("a"), event({"error": {"message": "no", "code": "overloaded"}}), Stall()),
        "overloaded",
        "upstream_error",
        "a",
    ),
    "fault_13 error, then [DONE]": (
        stream(delta("a"), event({"error": "no"}), DONE),
        "upstream_error",
        "upstream_error",
        "a",
    ),
    "fault_17 reset": (stream(delta("a"), Reset()), "upstream_incomplete", "incomplete", "a"),
    "fault_17 broken chunks": (stream(delta("a"), Close()), "upstream_incomplete", "incomplete", "a"),
    "fault_19 EOF": (stream(delta("a")), "upstream_incomplete", "incomplete", "a"),
    "fault_16 empty delta, EOF": (stream(delta("a"), event(chunk())), "upstream_incomplete", "incomplete", "a"),
    "fault_22 [DONE]xyz": (stream(delta("a"), b"data: [DONE]xyz\n\n"), "upstream_incomplete", "incomplete", "a"),
    "fault_48 a redirect": (
        answer(302, b"", Location="http://127.0.0.1:1/"),
        "upstream_misconfigured",
        "upstream_error",
        "",
    ),
    "fault_49 a wrong chunk size": (
        [Send(head(Transfer_Encoding="chunked") + chunked(delta("a"))), Pause(0.05), Send(b"zz\r\n")],
        "upstream_incomplete",
        "incomplete",
        "a",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_failures(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    """A failure with its code, then one end that never says complete; text that came before is not lost."""
    script, code, reason, text = FAILURES[case]
    upstream.script(script)
    answer = await ask(await gateway())
    assert answer.failure["error"]["code"] == code
    assert answer.end["reason"] == reason
    assert answer.text == text


@pytest.mark.parametrize("case", FAILURES)
async def test_failures_as_text_and_json(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    """As JSON a failure is a status. As text it is one before the first byte; after it, the body is broken off."""
    script, code, _, text = FAILURES[case]
    upstream.script(script)
    client = await gateway()
    async with client.get("/chat?q=x") as response:
        assert await error_of(response) == (502, code)
    async with client.get("/chat?q=x", headers=TEXT) as response:
        if text:
            with pytest.raises(Exception, match=r"not completed|Connection"):
                await response.read()
        else:
            assert await error_of(response) == (502, code)


COMPLETE = {
    "fault_03 a whole JSON body": answer(
        200, {"model": "m-1", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}
    ),
    "fault_18 EOF after the finish": stream(delta("a"), finish()),
    "fault_18 reset after the finish": stream(delta("a"), finish(), Reset()),
    "fault_20 [DONE] without finish": stream(delta("a"), DONE),
    "fault_21 data after [DONE]": stream(delta("a"), DONE, delta("b"), event({"error": "no"})),
    "fault_21 data in the same read": stream(delta("a") + DONE + delta("b"), Stall()),
    "fault_23 CRLF, no space, no line end": stream(delta("a"), b"data:[DONE]"),
    "fault_23 CRLF": stream(delta("a").replace(b"\n", b"\r\n"), b"data: [DONE]\r\n\r\n"),
}


@pytest.mark.parametrize("case", COMPLETE)
async def test_complete_all_the_same(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    upstream.script(COMPLETE[case])
    answer = await ask(await gateway())
    assert answer.text == "a"
    assert answer.end["reason"] == "complete"
    assert not answer.data("failure")


async def test_fault_21_the_upstream_is_closed_at_done(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Not when it closes itself: some never do."""
    upstream.script(stream(delta("a"), DONE, Stall()))
    assert (await ask(await gateway())).end["reason"] == "complete"
    await upstream.until(left=1, within=1)


async def test_a_connection_whose_response_ended_is_used_again(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), DONE, Pause(0.02)))
    client = await gateway()
    for _ in range(3):
        await ask(client)
        await at_rest(client)  # the end of the response has been read
    assert upstream.connections == 1


async def test_fault_37_an_event_that_is_not_json_is_skipped_and_counted(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), b"data: {oops SECRET\n\n", delta("b"), finish(), DONE))
    answer = await ask(await gateway())
    assert answer.text == "ab"
    assert answer.end["skipped"] == 1
    assert b"SECRET" not in answer.raw


@pytest.mark.parametrize("end", [b"zz\r\n", b"5\r\nhel"], ids=["fault_49 a malformed chunk", "a stalled body"])
async def test_an_error_whose_body_breaks_keeps_its_status(
    gateway: MakeGateway, upstream: ScriptedUpstream, end: bytes
) -> None:
    broken = head(429, "application/json", Transfer_Encoding="chunked", Retry_After="7")
    upstream.script([Send(broken), Pause(0.05), Send(end), Stall()])
    client = await gateway(bounds=Bounds(error_body_seconds=0.2))
    async with client.get("/chat?q=x") as response:
        assert await error_of(response) == (429, "upstream_rate_limited")
        assert response.headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    "script",
    [
        answer(400, {"error": {"message": "key-of-the-upstream at 127.0.0.1 and vllm-backend:8000"}}),
        stream(delta("a"), event({"error": {"message": "key-of-the-upstream", "code": "key-of-the-upstream"}})),
        answer(400, {"error": {"message": "no " * 163 + "key-of-the-upstream", "param": "key-of-the-upstream"}}),
    ],
    ids=["a status", "in the stream", "where the words are cut"],
)
async def test_fault_77_what_the_gateway_itself_sent_never_comes_back(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, script: Sequence[Step]
) -> None:
    upstream.script(script)
    told = (await ask(await gateway())).raw.decode() + caplog.text
    assert "failure" in told
    for secret in ("key-of-the", "127.0.0.1", "vllm-backend"):
        assert secret not in told


async def test_fault_28_an_event_up_to_the_limit_and_one_over_it(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    client = await gateway("[stream]\nmax_event_bytes = 100_000")
    upstream.script(stream(delta("x" * 99_000), finish(), DONE))
    assert len((await ask(client)).text) == 99_000
    upstream.script(stream(delta("a") + b"data: " + b"x" * 200_000, Stall()))
    answer = await ask(client)
    assert (answer.text, answer.failure["error"]["code"]) == ("a", "event_too_large")
    await upstream.until(left=1, within=1)


async def test_an_answer_over_the_limit_is_ended_not_trimmed(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*[delta("x" * 500)] * 10, Stall()))
    answer = await ask(await gateway("[stream]\nmax_bytes = 2000"))
    assert answer.failure["error"]["code"] == "answer_too_large"
    assert answer.end["reason"] == "incomplete"


async def test_fault_46_gzip_is_decoded_as_it_comes(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    import zlib

    gzip = zlib.compressobj(wbits=31)
    first = gzip.compress(delta("a")) + gzip.flush(zlib.Z_SYNC_FLUSH)
    rest = gzip.compress(delta("b") + finish() + DONE) + gzip.flush()
    upstream.script(stream(first, Pause(0.1), rest, Content_Encoding="gzip"))
    assert (await ask(await gateway())).text == "ab"


async def test_fault_46_an_encoding_nobody_asked_for_is_an_error(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(b"xx", Content_Encoding="br"))
    answer = await ask(await gateway())
    assert answer.failure["error"]["code"] == "upstream_misconfigured"


async def test_fault_47_a_decompression_bomb_ends_at_the_limits(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    import zlib

    gzip = zlib.compressobj(9, wbits=31)
    bomb = b"".join([gzip.compress(b"data: " + b"x" * 50_000_000), gzip.flush()])
    upstream.script(stream(bomb, Stall(), Content_Encoding="gzip"))
    assert (await ask(await gateway())).failure["error"]["code"] == "event_too_large"


async def test_fault_50_a_stale_connection_is_replaced_once(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The pooled connection is closed as the next request arrives on it: that one is sent again, on a new one."""
    upstream.script(stream(delta("a"), finish(), DONE), [Close()], stream(delta("b"), finish(), DONE))
    client = await gateway()
    assert (await ask(client)).text == "a"
    assert (await ask(client)).text == "b"
    assert upstream.connections == 2
    assert len(upstream.requests) == 3


async def test_fault_50_a_response_that_had_begun_is_not_asked_for_again(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The upstream has worked on it, and charged: half a head says so."""
    upstream.script(stream(delta("a"), finish(), DONE), [Send(b"HTTP/1.1 200 OK\r\nContent-Ty"), Close()])
    client = await gateway()
    assert (await ask(client)).text == "a"
    assert (await ask(client)).failure["error"]["code"] == "upstream_unreachable"
    assert len(upstream.requests) == 2


async def test_fault_50_a_request_that_its_server_may_have_is_not_sent_again(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The connection was used before, and closes after a while without a byte: the model may be at work."""
    upstream.script(stream(delta("a"), finish(), DONE), [Pause(0.3), Close()])
    client = await gateway(bounds=Bounds(stale_seconds=0.1))
    assert (await ask(client)).text == "a"
    assert (await ask(client)).failure["error"]["code"] == "upstream_unreachable"
    assert len(upstream.requests) == 2


async def test_a_new_connection_that_breaks_is_not_asked_again(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script([Close()])
    assert (await ask(await gateway())).failure["error"]["code"] == "upstream_unreachable"
    assert len(upstream.requests) == 1


async def test_fault_31_an_event_cut_at_every_byte(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    text = delta("é👍\n") + finish() + DONE
    upstream.script(stream(*[text[i : i + 1] for i in range(len(text))]))
    assert (await ask(await gateway())).text == "é👍\n"
