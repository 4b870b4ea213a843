"""The OpenAI surface over real sockets: what SDKs get to see, byte for byte, and what they send on."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.endpoints import Endpoint
from gateway.entries import EndReason
from tests.conftest import MakeGateway
from tests.rig.clients import error_of, eventually, exchange
from tests.rig.completions import COMPLETION, HI, JSON, STREAMED, Body, post, read, streamed
from tests.rig.inside import streams
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
    delta,
    event,
    finish,
    head,
    stream,
    usage,
)

WITH_USAGE = {**STREAMED, "stream_options": {"include_usage": True}}
ROLE = event(chunk(role="assistant", content=""))


# What passes


async def test_a_stream_passes_to_the_byte(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Spaces, escapes, unknown fields, several choices: as they are, and nothing between them."""
    parts = [
        ROLE,
        b'data: {"id" : "x",  "choices":[{"index":0,"delta":{"content":"\\u00e9"},"logprobs":null}], "y":1.0 }\n\n',
        event(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}])),
        event(chunk(reasoning_content="hm\n")),
        event({"choices": [{"index": 1, "delta": {"content": "é👍"}, "finish_reason": "stop"}]}),
        finish("length"),
        usage(total_tokens=5),
    ]
    upstream.script(stream(*parts, DONE))
    body = await streamed(await gateway(), WITH_USAGE)
    assert body == Body(b"".join([*parts, DONE]), broken=False)


async def test_a_whole_answer_passes_to_the_byte(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, COMPLETION))
    client = await gateway()
    for body in (HI, {**HI, "stream": False}, {**HI, "stream": None}):
        async with post(client, body) as response:
            assert await response.read() == COMPLETION
            assert response.status == 200
            assert response.content_type == "application/json"
            assert response.headers["Content-Length"] == str(len(COMPLETION))
    assert upstream.requests[0].headers["accept"] == "application/json"
    assert "stream_options" not in upstream.requests[0].json


@pytest.mark.parametrize("body", [HI, STREAMED], ids=["whole", "streamed"])
async def test_what_every_response_carries(
    gateway: MakeGateway, upstream: ScriptedUpstream, body: dict[str, object]
) -> None:
    upstream.script(answer(200, COMPLETION) if body is HI else stream(delta("a"), finish(), DONE))
    async with post(await gateway(), body) as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Request-ID"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "Set-Cookie" not in response.headers
        await response.read()


async def test_only_data_lines_are_sent_whatever_the_upstream_sends(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """SDKs stumble over an `id`, an `event` or a `retry`; its comments are its own, and what is no JSON is nobody's."""
    noisy = b"\xef\xbb\xbf: OPENROUTER PROCESSING\n\nid: 7\nretry: 1\nevent: chunk\n" + delta("a").replace(
        b"\n", b"\r\n"
    )
    upstream.script(stream(noisy, b"event: ping\ndata: {\n\n", b"id: 8\n" + delta("b"), finish(), DONE))
    assert (await streamed(await gateway())).raw == delta("a") + delta("b") + finish() + DONE


async def test_what_comes_behind_done_is_not_passed_on(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE + delta("b"), DONE))
    assert (await streamed(await gateway())).raw == delta("a") + finish() + DONE


async def test_fault_18_done_is_said_where_the_upstream_forgot_it(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), finish()))
    assert await streamed(await gateway()) == Body(delta("a") + finish() + DONE, broken=False)


async def test_usage_is_hidden_from_who_did_not_ask(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), usage(total_tokens=5), DONE))
    client = await gateway()
    assert (await streamed(client)).raw == delta("a") + finish() + DONE
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}


async def test_fault_03_json_where_a_stream_was_asked_for_is_one_chunk(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(answer(200, COMPLETION))
    body = await streamed(await gateway())
    chunk_block, done = body.blocks
    assert json.loads(chunk_block.removeprefix(b"data: "))["choices"][0]["delta"] == {"content": "é"}
    assert done == b"data: [DONE]"


# When the header is sent


async def test_the_header_waits_for_the_first_content(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A role is none: what fails behind it is a status yet, which SDKs retry."""
    upstream.script(
        stream(ROLE, Pause(0.1), event({"error": {"message": "boom"}})),
        stream(ROLE, Pause(0.1), Reset()),
        stream(ROLE, Pause(0.1), Close()),
        stream(ROLE, Stall()),
        stream(ROLE, Pause(0.1), delta("a"), finish(), DONE),
    )
    client = await gateway("[timeouts]\nfirst_token = 0.3")
    for status, code in (
        (502, "upstream_error"),
        (502, "upstream_incomplete"),
        (502, "upstream_incomplete"),
        (504, "first_token_timeout"),
    ):
        async with post(client, STREAMED) as response:
            assert await error_of(response) == (status, code)
            assert response.content_type == "application/json"
    assert (await streamed(client)).raw == ROLE + delta("a") + finish() + DONE


async def test_fault_25_the_first_heartbeat_opens_the_body(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """And others fill every silence; each is a comment of its own."""
    upstream.script([Pause(0.25), *stream(ROLE, delta("a"), Pause(0.25), finish(), DONE)])
    body = await streamed(await gateway("[stream]\nheartbeat_seconds = 0.1"))
    assert body.raw.startswith(b":\n\n:\n\n" + ROLE + delta("a") + b":\n\n")
    assert body.raw.replace(b":\n\n", b"") == ROLE + delta("a") + finish() + DONE
    assert not body.broken


async def test_an_error_behind_the_first_heartbeat_is_an_event(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script([Pause(0.2), *answer(500, {"error": {"message": "no"}})])
    body = await streamed(await gateway("[stream]\nheartbeat_seconds = 0.1"))
    assert body.raw.startswith(b":\n\n")
    assert body.error["code"] == "upstream_error"
    assert not body.broken


# What fails behind the first byte

FAILURES: dict[str, tuple[Sequence[bytes | Step], str]] = {
    "fault_11 an error": ([event({"error": {"message": "boom"}})], "upstream_error"),
    "fault_13 an error and [DONE]": ([event({"error": {"message": "boom"}}), DONE], "upstream_error"),
    "fault_12 a flat one": ([b"event: error\n" + event({"message": "boom"})], "upstream_error"),
    "fault_14 an error beside choices": ([event(chunk("error") | {"error": {"code": 502}})], "upstream_error"),
    "fault_15 Groq": ([event(chunk() | {"x_groq": {"error": "boom"}})], "upstream_error"),
    "fault_16 an end without a reason": ([], "upstream_incomplete"),
    "fault_17 a reset": ([Pause(0.05), Reset()], "upstream_incomplete"),
    "fault_17 a body that breaks off": ([Close()], "upstream_incomplete"),
    "fault_26 silence": ([Stall()], "idle_timeout"),
    "fault_29 an endless line": ([b"data: " + b"x" * 20_000], "event_too_large"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_what_fails_behind_the_first_byte_is_an_event_and_no_done(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """`data: {"error": {...}}` is the last event, and the body ends cleanly: the AI SDK tells a broken one twice."""
    parts, code = FAILURES[case]
    upstream.script(stream(delta("a"), *parts))
    body = await streamed(await gateway("[timeouts]\nidle = 0.3\n[stream]\nmax_event_bytes = 10_000"))
    assert body.error["code"] == code
    assert not body.broken
    assert body.blocks[0] + b"\n\n" == delta("a")
    assert b"[DONE]" not in body.raw
    assert b'"finish_reason": "' not in body.raw


# What fails behind a finish reason that has been passed on
LATE_FAILURES: dict[str, Sequence[bytes | Step]] = {
    "an error": [event({"error": {"message": "boom"}})],
    "a finish reason that means given up": [event(chunk("error"))],
    "more content": [delta("b")],
    "more content and a reset": [delta("b"), Pause(0.05), Reset()],
}


@pytest.mark.parametrize("case", LATE_FAILURES)
async def test_a_failure_behind_a_finish_reason_breaks_the_body_off(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """A client that ignores the error has seen `stop`, and would take a clean end for a whole answer."""
    upstream.script(stream(delta("a"), finish(), *LATE_FAILURES[case]))
    body = await streamed(await gateway())
    assert body.raw.startswith(delta("a") + finish())
    assert body.error["message"]
    assert body.broken
    assert b"[DONE]" not in body.raw


async def test_an_empty_body_that_becomes_a_chunk_breaks_the_body_off(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """A chunk that was made of a whole answer has a finish reason, also where there is no answer in it."""
    upstream.script(answer(200, {"choices": [{"index": 0, "message": {"content": ""}}]}))
    body = await streamed(await gateway())
    assert b'"finish_reason":"stop"' in body.blocks[0]
    assert body.error["code"] == "upstream_empty"
    assert body.broken


async def test_an_answer_that_is_stopped_breaks_the_body_off(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """There is no error that a client could read."""
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    async with post(client, STREAMED) as response:
        assert await response.content.readuntil(b"\n\n") == delta("a")
        (held,) = streams(client)
        held.generation.interrupt(EndReason.STOPPED)
        assert await read(response) == Body(b"", broken=True)


async def test_fault_57_what_fails_behind_a_backlog_is_told_too(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """All that was said comes first, in its order."""
    deltas = [delta(f"{n:04}" + "x" * 10_000) for n in range(300)]
    upstream.script(stream(*deltas, event({"error": {"message": "boom"}})))
    client = await gateway()
    async with post(client, STREAMED) as response:
        await eventually(lambda: all(one.log.full or one.log.ended for one in streams(client)))
        body = await read(response)
    assert body.raw.startswith(b"".join(deltas))
    assert body.error["message"] == "boom"
    assert not body.broken


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    body = json.dumps(STREAMED).encode()
    lines = b"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    raw = await exchange(await gateway(), lines + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert raw.partition(b"\r\n\r\n")[2] == delta("a") + finish() + DONE


# What fails before it

WORDS = {"error": {"message": "Too long by 7 tokens.", "code": "context_length_exceeded", "param": "messages"}}
HTML = [Send(head(200, "text/html", Content_Length="6")), Send(b"<html>")]

STATUSES: dict[str, tuple[Sequence[Step], int, str]] = {
    **{f"fault_06 {n}": (answer(n, WORDS), n, "context_length_exceeded") for n in (400, 404, 413, 422)},
    **{f"fault_07 {n}": (answer(n, WORDS), 502, "upstream_misconfigured") for n in (401, 403)},
    "a path that is not there": (answer(404, b"nothing", "text/plain"), 502, "upstream_misconfigured"),
    "fault_09 429": (answer(429, WORDS, Retry_After="7"), 429, "upstream_rate_limited"),
    "fault_08 500": (answer(500, WORDS), 502, "upstream_error"),
    "fault_08 503": (answer(503, b"busy", "text/plain"), 502, "upstream_error"),
    "fault_48 a redirect": (answer(302, b"", Location="http://elsewhere/"), 502, "upstream_misconfigured"),
    "fault_02 a web page": (HTML, 502, "upstream_misconfigured"),
    "fault_01 an error in a 200": (answer(200, {"error": {"message": "boom"}}), 502, "upstream_error"),
    "fault_17 half a head": ([Send(b"HTTP/1.1 200 OK\r\nConte"), Close()], 502, "upstream_unreachable"),
}


@pytest.mark.parametrize("body", [HI, STREAMED], ids=["whole", "streamed"])
@pytest.mark.parametrize("case", STATUSES)
async def test_what_fails_before_the_first_byte_is_a_status(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str, body: dict[str, object]
) -> None:
    script, status, code = STATUSES[case]
    upstream.script(script)
    async with post(await gateway(), body) as response:
        told = await response.text()
        assert await error_of(response) == (status, code)
        assert response.headers.get("Retry-After") == ("7" if status == 429 else None)
    assert ("Too long by 7 tokens." in told) is (status in (400, 404, 413, 422, 429))
    assert ("messages" in told) is (status in (400, 404, 413, 422))
    assert "html" not in told
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("body", [HI, STREAMED], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("said", "content_type"),
    [(b"", "text/event-stream"), (b"", "application/json"), (b": hi\n\n", "text/event-stream")],
)
async def test_fault_04_an_empty_200_is_no_success(
    gateway: MakeGateway, upstream: ScriptedUpstream, body: dict[str, object], said: bytes, content_type: str
) -> None:
    upstream.script(answer(200, said, content_type))
    async with post(await gateway(), body) as response:
        status, _ = await error_of(response)
        assert status == 502


async def test_fault_05_done_alone_is_no_answer(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(DONE))
    async with post(await gateway(), STREAMED) as response:
        assert await error_of(response) == (502, "upstream_empty")


NO_ANSWERS: dict[str, tuple[Sequence[Step], str]] = {
    "prose": (answer(200, b"Hello"), "upstream_error"),
    "half a body": (
        [Send(head(200, "application/json", Content_Length="99") + b'{"choices":'), Close()],
        "upstream_incomplete",
    ),
    "a list": (answer(200, b"[]"), "upstream_error"),
    "no choices": (answer(200, b"{}"), "upstream_empty"),
}


@pytest.mark.parametrize("case", NO_ANSWERS)
async def test_a_whole_answer_that_is_none_is_502(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    script, code = NO_ANSWERS[case]
    upstream.script(script)
    async with post(await gateway(), HI) as response:
        assert await error_of(response) == (502, code)


async def test_a_whole_answer_may_be_silent_up_to_the_total(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """No other limit holds for it: it says nothing until it is whole."""
    upstream.script([Pause(0.3), *answer(200, COMPLETION)], [Stall()])
    client = await gateway("[timeouts]\nfirst_token = 0.1\nidle = 0.1\ntotal = 0.6")
    async with post(client, HI) as response:
        assert await response.read() == COMPLETION
    async with post(client, HI) as response:
        assert await error_of(response) == (504, "total_timeout")
    await upstream.until(left=1, within=1)


# What is sent on


async def test_what_is_posted_is_what_came_but_for_the_model(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Of duplicate names the last one wins; numbers survive to the digit; unknown fields pass."""
    upstream.script(answer(200, COMPLETION))
    client = await gateway('[[models]]\nname = "small"\ntargets = [{upstream = "up", model = "m-small"}]')
    sent = (
        b'{"model":"large","model":"small","seed":123456789012345678901234567890,"temperature":0.10,"stop":"a",'
        b'"stop":["b"],"messages":[{"role":"user","content":"\\u00e9"}],"n":2,"x":{"y": 1e400 },"user":null}'
    )
    async with post(client, sent) as response:
        assert response.status == 200
    (request,) = upstream.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == (
        b'{"model":"m-small","seed":123456789012345678901234567890,"temperature":0.10,"stop":["b"],'
        b'"messages":[{"role":"user","content":"\\u00e9"}],"n":2,"x":{"y": 1e400 },"user":null}'
    )
    assert request.headers["authorization"] == "bearer key-of-the-upstream"


async def test_the_default_is_asked_where_no_model_is_named(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, COMPLETION))
    client = await gateway()
    async with post(client, {"messages": []}) as response:
        assert response.status == 200
    assert upstream.requests[0].json["model"] == "default-model"


STREAM_OPTIONS: dict[str, tuple[dict[str, object], object]] = {
    # what the client sends, what is posted
    "nothing": ({}, {"include_usage": True}),
    "null": ({"stream_options": None}, {"include_usage": True}),
    "an empty object": ({"stream_options": {}}, {"include_usage": True}),
    "no usage": ({"stream_options": {"include_usage": False}}, {"include_usage": True}),
    "obfuscation": (
        {"stream_options": {"include_obfuscation": False}},
        {"include_obfuscation": False, "include_usage": True},
    ),
    "what is no object is the upstream's to refuse": ({"stream_options": "x"}, "x"),
}


@pytest.mark.parametrize("case", STREAM_OPTIONS)
async def test_stream_options_are_merged(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    fields, posted = STREAM_OPTIONS[case]
    await streamed(await gateway(), STREAMED | fields)
    assert upstream.requests[0].json["stream_options"] == posted


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({**HI, "stream": "yes"}, "stream"),
        ({**HI, "stream": 1}, "stream"),
        ({**HI, "model": 7}, "model"),
        ({**HI, "model": "a\r\nX-Evil: 1"}, "model"),
        ({**HI, "model": "a\0"}, "model"),
        ({**HI, "model": "\x1b[2J"}, "model"),
        ({**HI, "model": "m" * 201}, "model"),
        (b"{", None),
        (b"[]", None),
        (b"", None),
        (b'{"model":"\xff"}', None),
        (b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", None),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_fault_75_85_what_makes_no_request_asks_nobody(
    gateway: MakeGateway, upstream: ScriptedUpstream, body: object, param: str | None
) -> None:
    async with post(await gateway(), body) as response:
        assert (await response.json())["error"]["param"] == param
        status, _ = await error_of(response)
        assert status == 400
    assert not upstream.requests


async def test_a_body_of_2_mib_is_taken(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Pictures travel inside of requests."""
    upstream.script(answer(200, COMPLETION))
    async with post(await gateway(), {**HI, "x": "A" * 2_097_152}) as response:
        assert response.status == 200
    assert len(upstream.requests[0].body) > 2_097_152


async def test_fault_85_a_body_over_32_mib_is_413(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(33):
            yield b"x" * 1_048_576

    client = await gateway()
    lines = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    said = await exchange(client, lines + b"Content-Length: 33554433\r\n\r\n", until=b'"body_too_large"')
    assert said.startswith(b"HTTP/1.1 413 ")
    async with client.post("/v1/chat/completions", data=parts(), headers=JSON) as response:
        assert await error_of(response) == (413, "body_too_large")
    assert not upstream.requests


async def test_what_is_no_json_by_its_type_is_415(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    async with post(await gateway(), HI, **{"Content-Type": "text/plain"}) as response:
        assert await error_of(response) == (415, "media_type_not_supported")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_other_methods_are_405(gateway: MakeGateway, upstream: ScriptedUpstream, method: str) -> None:
    client = await gateway()
    async with client.request(method, "/v1/chat/completions") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"


async def test_fault_80_a_foreign_page_asks_nobody(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    async with post(await gateway(), HI, Origin="https://evil.example") as response:
        assert await error_of(response) == (403, "origin_not_allowed")
    assert not upstream.requests


@pytest.mark.parametrize("query", ["a=1", "a=1&a=2", "a", "model=x&model=y", "q=1&q=2&last_event_id=x&lastEventId=y"])
async def test_a_query_is_ignored(gateway: MakeGateway, upstream: ScriptedUpstream, query: str) -> None:
    """As by OpenAI's server; SDKs let their users add to it, and Azure's adds a version."""
    upstream.script(stream(delta("a"), finish(), DONE), answer(200, {"data": []}))
    client = await gateway()
    async with client.post(f"/v1/chat/completions?{query}", json=STREAMED) as response:
        assert response.status == 200
        assert (await read(response)).blocks[-1] == b"data: [DONE]"
    assert upstream.requests[0].json["model"] == "m"
    async with client.get(f"/v1/models?{query}") as response:
        assert response.status == 200
    assert [request.path for request in upstream.requests] == ["/v1/chat/completions", "/v1/models"]


async def test_the_one_field_that_a_query_may_have_is_given_once(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    client = await gateway()
    async with client.post("/v1/chat/completions?on_disconnect=drain&on_disconnect=cancel", json=HI) as response:
        assert await error_of(response) == (400, "invalid_query")
    assert not upstream.requests


# Models


async def test_the_models_that_are_configured(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Whatever their upstream lists: that may add fields, as `test_catalogue.py` shows, and no models."""
    upstream.script(answer(200, {"data": [{"id": "other"}]}))
    client = await gateway(
        '[[models]]\nname = "org/small:7b"\ntargets = [{upstream = "up"}]\n'
        '[[models]]\nname = "large"\ntargets = [{upstream = "up"}]'
    )
    async with client.get("/v1/models") as response:
        value = await response.json()
    assert value["object"] == "list"
    assert [model["id"] for model in value["data"]] == ["org/small:7b", "large"]
    assert all(model["object"] == "model" for model in value["data"])
    async with client.get("/v1/models/org/small:7b") as response:
        assert await response.json() == value["data"][0]
    async with client.get("/v1/models/none") as response:
        assert await error_of(response) == (404, "model_not_found")
    assert [request.path for request in upstream.requests] == ["/v1/models"]


async def test_the_upstreams_models_where_none_are(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Requests for them are passed on at every endpoint, whatever the upstream has there."""
    data: list[dict[str, object]] = [{"id": "a", "object": "model", "x": {"y": [1.5]}}, {"id": "b"}]
    upstream.script(answer(200, {"object": "list", "data": data, "more": 1}))
    client = await gateway()
    every = {"endpoints": list(Endpoint)}
    async with client.get("/v1/models") as response:
        assert await response.json() == {"object": "list", "data": [{**model, **every} for model in data]}
    async with client.get("/v1/models/b") as response:
        assert await response.json() == {"id": "b", **every}
    async with client.get("/v1/models/c") as response:
        assert "a, b" in (await response.json())["error"]["message"]
        assert await error_of(response) == (404, "model_not_found")
    (request, *_) = upstream.requests
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert request.headers["authorization"] == "bearer key-of-the-upstream"


@pytest.mark.parametrize(
    ("script", "status"),
    [
        (answer(401, WORDS), 502),
        (answer(500, WORDS), 502),
        (answer(429, WORDS), 429),
        (answer(200, b"<html>", "text/html"), 502),
        (answer(200, b"{}"), 502),
        (answer(200, {"data": ["a"]}), 502),
        (answer(200, b'{"data":' + b"[" * 50_000), 502),
        ([Close()], 502),
    ],
)
async def test_an_upstream_that_does_not_say_its_models(
    gateway: MakeGateway, upstream: ScriptedUpstream, script: Sequence[Step], status: int
) -> None:
    upstream.script(script)
    client = await gateway()
    async with client.get("/v1/models") as response:
        assert (await error_of(response))[0] == status
        assert "127.0.0.1" not in await response.text()


@pytest.mark.parametrize("listed", [{"data": [{"id": 7}, {}]}, {"data": [{"id": "a\ud800"}]}], ids=["ids", "surrogate"])
async def test_fault_38_odd_models_break_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, listed: object
) -> None:
    upstream.script(answer(200, listed))
    client = await gateway()
    async with client.get("/v1/models") as response:
        assert response.status in (200, 502)
    async with client.get("/v1/models/a") as response:
        assert response.status in (404, 502)


PATHS = [
    "/v1/../admin",
    "/v1/%2e%2e/admin",
    "/v1/..%2fadmin",
    "/v1/models/..%2f..%2fadmin",
    "/v1/models/../admin",
    "/v1/models/%2e%2e/admin",
    "/v1/models/%0d%0aX-Evil:%201",
    "/v1/models/a?b=c%23",
    "/v1/chat/completions/../admin",
    "/v1/embeddings",
    "/v1//models",
    "//v1/models",
]


@pytest.mark.parametrize("path", PATHS)
async def test_fault_83_no_path_of_a_client_reaches_the_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str
) -> None:
    upstream.script(answer(200, {"data": []}))
    client = await gateway()
    raw = await exchange(client, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert raw.split(b"\r\n")[0].split(b" ")[1] in (b"404", b"405")
    assert {request.path for request in upstream.requests} <= {"/v1/models"}
    assert b"X-Evil" not in raw.partition(b"\r\n\r\n")[0]


# What only came to light when it was tried to break it


async def test_one_chunk_that_fills_the_window_does_not_hold_up_the_next(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """A picture is passed on, and what follows it with the next read, not with the next heartbeat."""
    picture = "x" * 2_000_000
    upstream.script(stream(delta("a"), Pause(0.1), delta(picture), Pause(0.2), delta("b"), finish(), DONE))
    client = await gateway("[stream]\nmax_event_bytes = 4194304")
    async with asyncio.timeout(5), post(client, STREAMED) as response:
        assert (await read(response)).blocks[-1] == b"data: [DONE]"


async def test_fault_43_an_answer_that_never_began_is_missed(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Two were asked for, and one came: the upstream that breaks off has not finished."""
    upstream.script(stream(delta("a"), finish(), Reset()))
    client = await gateway()
    async with post(client, {**STREAMED, "n": 2}) as response:
        body = await read(response)
    assert body.broken
    assert body.error["code"] == "upstream_incomplete"


async def test_fault_77_words_about_models_are_cleaned_too(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(400, {"error": {"message": f"bad key-of-the-upstream at {upstream.url}"}}))
    client = await gateway()
    async with client.get("/v1/models") as response:
        assert response.status == 400
        assert (await response.json())["error"]["message"] == "bad [redacted] at [address]"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat", "/streams"])
async def test_fault_85_who_may_ask_nothing_sends_no_body(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str
) -> None:
    """A refusal comes before the body is asked for."""
    client = await gateway('[[keys]]\nname = "one"\nkey = "gw-key-of-one-0123456789"')
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 900000"]
    request = "\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode()
    assert (await exchange(client, request, until=b'"invalid_api_key"')).startswith(b"HTTP/1.1 401 ")
