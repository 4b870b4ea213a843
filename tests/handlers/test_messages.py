"""Anthropic's Messages API over real sockets: what its SDKs get to see, and what the model's server is asked."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import ClientResponse

from gateway.entries import EndReason
from tests.conftest import Client, MakeGateway
from tests.messages.judge import judge, read
from tests.rig.clients import EVENTS, api_key, bearer, eventually, exchange
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
    stream,
    usage,
)

both_ways = pytest.mark.usefixtures("both_ways")  # for tests of what an entry can do to the reading of an upstream

HI = {"model": "m", "max_tokens": 7, "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**HI, "stream": True}
HELLO = stream(delta("Hel"), delta("lo"), finish(), usage(prompt_tokens=1, completion_tokens=2), DONE)
PING = {"type": "ping"}
SOON = "[stream]\nheartbeat_seconds = 0.1"
ROLE = event(chunk(role="assistant", content=""))
KEYS = '[[keys]]\nname = "team"\nkey = "gw-key-of-team-0123456789"\n'
KEY = "gw-key-of-team-0123456789"


def ask(client: Client, body: object = HI, path: str = "/v1/messages", **headers: str) -> Any:
    return client.post(path, json=body, headers=headers)


async def streamed(client: Client, body: object = STREAMED) -> list[dict[str, Any]]:
    """The events of an answer whose body ends cleanly."""
    async with ask(client, body) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        return read(await response.read())


async def whole(client: Client, body: object = HI) -> dict[str, Any]:
    async with ask(client, body) as response:
        assert response.status == 200, await response.text()
        value: dict[str, Any] = await response.json()
        return value


async def error_of(response: ClientResponse) -> tuple[int, str, str]:
    """The status, the type and the code of an error. Asserts the form that all errors of these paths have."""
    value = await response.json()
    assert set(value) == {"type", "error", "request_id"}
    assert set(value["error"]) == {"type", "message", "code"}
    assert value["type"] == "error"
    assert value["request_id"] == response.headers["Request-ID"] == response.headers["X-Request-ID"]
    return response.status, value["error"]["type"], value["error"]["code"]


# Answers


@both_ways
async def test_the_same_answer_streamed_and_whole(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO, HELLO)
    client = await gateway()
    message = judge(await streamed(client))
    assert message is not None
    same = await whole(client)
    assert message.pop("id").startswith("msg_")
    assert same.pop("id").startswith("msg_")
    assert message == same
    assert same == {
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 1,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 2,
        },
    }


@pytest.mark.parametrize("body", [HI, STREAMED], ids=["whole", "streamed"])
async def test_the_models_server_is_asked_for_a_stream(
    gateway: MakeGateway, upstream: ScriptedUpstream, body: dict[str, object]
) -> None:
    """The header fields and the query of Anthropic's SDKs are not its own."""
    upstream.script(HELLO)
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "x-2026-01-01"}
    async with ask(await gateway(), body, "/v1/messages?beta=true", **headers) as response:
        assert response.status == 200
        await response.read()
    (request,) = upstream.requests
    assert request.path == "/v1/chat/completions"
    assert request.json == {**HI, "stream": True, "stream_options": {"include_usage": True}}
    assert not [name for name in request.headers if name.startswith("anthropic")]


@both_ways
async def test_arguments_that_are_split_everywhere(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    arguments = '{"city": "Xi\'an 西安 \\"}"}'
    calls = [
        [{"index": 0, "id": "c0", "function": {"name": "weather", "arguments": ""}}],
        *[[{"index": 0, "function": {"arguments": piece}}] for piece in arguments],
        [{"index": 1, "id": "c1", "function": {"name": "time", "arguments": "{}"}}],
    ]
    upstream.script(stream(delta("I look."), *[event(chunk(tool_calls=call)) for call in calls], finish("tool_calls")))
    message = judge(await streamed(await gateway()))
    assert message is not None
    assert message["content"] == [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c0", "name": "weather", "input": arguments},
        {"type": "tool_use", "id": "c1", "name": "time", "input": "{}"},
    ]
    assert message["stop_reason"] == "tool_use"


@pytest.mark.parametrize("body", [HI, STREAMED], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("parts", "types", "reason"),
    [
        ([event(chunk(reasoning_content="hm")), delta("a"), finish()], ["thinking", "text"], "end_turn"),
        ([delta("a"), finish("length")], ["text"], "max_tokens"),
        ([event(chunk(refusal="No.")), finish()], ["text"], "refusal"),
        ([delta("a"), finish("content_filter")], ["text"], "refusal"),
        ([delta("a"), DONE], ["text"], "end_turn"),
    ],
    ids=["thinking", "length", "refusal", "a filter", "no reason"],
)
async def test_other_ends_of_answers(
    gateway: MakeGateway,
    upstream: ScriptedUpstream,
    body: dict[str, object],
    parts: list[bytes],
    types: list[str],
    reason: str,
) -> None:
    upstream.script(stream(*parts, DONE))
    client = await gateway()
    message = await whole(client) if body is HI else judge(await streamed(client))
    assert message is not None
    assert [block["type"] for block in message["content"]] == types
    assert message["stop_reason"] == reason


async def test_a_json_body_in_place_of_a_stream(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}
    upstream.script(answer(200, said))
    message = judge(await streamed(await gateway()))
    assert message is not None
    assert message["content"] == [{"type": "text", "text": "a"}]


async def test_the_default_is_asked_where_no_model_is_named(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    body = {name: value for name, value in HI.items() if name != "model"}
    assert (await whole(await gateway(), body))["model"] == "default-model"


@both_ways
async def test_another_target_goes_on_with_the_same_answer(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(
        stream(delta("Hel"), delta("lo"), Pause(0.05), Reset()), stream(delta("Hello"), delta(" you"), finish(), DONE)
    )
    targets = '[[models]]\nname = "m"\ntargets = [{upstream = "up", model = "a"}, {upstream = "up", model = "b"}]\n'
    client = await gateway(f"{targets}[retry]\nattempts = 2")
    message = judge(await streamed(client, {**STREAMED, "temperature": 0}))
    assert message is not None
    assert message["content"] == [{"type": "text", "text": "Hello you"}]


# Heartbeats, and when the header is sent


async def test_fault_25_heartbeats_are_pings(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Before the answer, and in each silence of it."""
    upstream.script([Pause(0.25), *stream(ROLE, delta("a"), Pause(0.25), finish(), DONE)])
    told = await streamed(await gateway(SOON))
    types = [one["type"] for one in told]
    assert types[:3] == ["message_start", "ping", "ping"]
    assert "ping" in types[types.index("content_block_delta") :]
    assert judge(told) is not None


async def test_reasoning_that_is_not_shown_is_a_silence(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(event(chunk(reasoning_content="hm")), Pause(0.25), delta("a"), finish(), DONE))
    told = await streamed(await gateway(SOON), {**STREAMED, "thinking": {"type": "disabled"}})
    assert told[0] == PING
    message = judge(told)
    assert message is not None
    assert message["content"] == [{"type": "text", "text": "a"}]


async def test_an_error_behind_the_first_heartbeat_is_an_event(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script([Pause(0.2), *answer(500, {"error": {"message": "no"}})])
    told = await streamed(await gateway(SOON))
    assert [one["type"] for one in told if one != PING] == ["message_start", "error"]
    assert judge(told) is None


# What fails

FAILURES: dict[str, tuple[Sequence[bytes | Step], str, str]] = {
    "an error": ([event({"error": {"message": "boom"}})], "api_error", "upstream_error"),
    "an error behind a finish reason": (
        [finish(), event({"error": {"message": "boom"}})],
        "api_error",
        "upstream_error",
    ),
    "a clean end without a reason": ([], "api_error", "upstream_incomplete"),
    "a reset": ([Pause(0.05), Reset()], "api_error", "upstream_incomplete"),
    "a body that breaks off": ([Close()], "api_error", "upstream_incomplete"),
    "silence": ([Stall()], "timeout_error", "idle_timeout"),
    "half a call": (
        [event(chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{"}}])), finish("tool_calls")],
        "api_error",
        "upstream_error",
    ),
}


@both_ways
@pytest.mark.parametrize("case", FAILURES)
async def test_what_fails_behind_the_first_content_is_an_error_event(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """The body ends cleanly behind it, and there is no `message_stop`."""
    parts, kind, code = FAILURES[case]
    upstream.script(stream(delta("a"), *parts))
    told = await streamed(await gateway("[timeouts]\nidle = 0.3"))
    assert judge(told) is None
    assert (told[-1]["error"]["type"], told[-1]["error"]["code"]) == (kind, code)
    assert told[2]["delta"]["text"] == "a"


@pytest.mark.parametrize("case", FAILURES)
async def test_a_whole_answer_that_fails_is_a_status(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    parts, kind, code = FAILURES[case]
    upstream.script(stream(delta("a"), *parts))
    async with ask(await gateway("[timeouts]\nidle = 0.3")) as response:
        assert await error_of(response) == (504 if kind == "timeout_error" else 502, kind, code)


@both_ways
async def test_an_answer_that_is_stopped_does_not_look_whole(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    async with ask(client, STREAMED) as response:
        start = await response.content.readuntil(b'"a"}}\n\n')
        (held,) = streams(client)
        held.generation.interrupt(EndReason.STOPPED)
        told = read(start + await response.read())
    assert judge(told) is None
    assert told[-1]["error"]["code"] == "stopped"


@both_ways
async def test_a_part_behind_the_end_of_a_call_ends_the_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """It is refused while the upstream is still talking, and the upstream is left."""
    first, rest = (
        [{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}],
        [{"index": 0, "function": {"arguments": "{}"}}],
    )
    upstream.script(stream(event(chunk(tool_calls=first)), delta("b"), event(chunk(tool_calls=rest)), Stall()))
    client = await gateway()
    told = await streamed(client)
    assert judge(told) is None
    assert "behind its end" in told[-1]["error"]["message"]
    await upstream.until(left=1, within=1)


WORDS = {"error": {"message": "Too long by 7 tokens.", "code": "context_length_exceeded", "param": "messages"}}

STATUSES: dict[str, tuple[Sequence[Step], tuple[int, str, str]]] = {
    "fault_06 400": (answer(400, WORDS), (400, "invalid_request_error", "context_length_exceeded")),
    "fault_06 413": (answer(413, WORDS), (413, "request_too_large", "context_length_exceeded")),
    "fault_07 401": (answer(401, WORDS), (502, "api_error", "upstream_misconfigured")),
    "fault_09 429": (answer(429, WORDS, Retry_After="7"), (429, "rate_limit_error", "upstream_rate_limited")),
    "fault_08 500": (answer(500, WORDS), (502, "api_error", "upstream_error")),
    "fault_01 an error in a 200": (answer(200, {"error": {"message": "boom"}}), (502, "api_error", "upstream_error")),
    "fault_16 an end before content": (stream(ROLE), (502, "api_error", "upstream_incomplete")),
    "fault_26 silence": (stream(ROLE, Stall()), (504, "timeout_error", "first_token_timeout")),
}


@pytest.mark.parametrize("body", [HI, STREAMED], ids=["whole", "streamed"])
@pytest.mark.parametrize("case", STATUSES)
async def test_what_fails_before_the_first_content_is_a_status(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str, body: dict[str, object]
) -> None:
    script, wanted = STATUSES[case]
    upstream.script(script)
    async with ask(await gateway("[timeouts]\nfirst_token = 0.3"), body) as response:
        assert await error_of(response) == wanted
        assert response.headers.get("Retry-After") == ("7" if response.status == 429 else None)
        assert response.headers.get("X-Should-Retry") == ("false" if "misconfigured" in wanted[2] else None)
        assert response.headers["X-Gateway-Attempts"] == "1"


# What the gateway refuses


async def test_keys_are_taken_as_both_of_anthropics_variables_send_them(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(HELLO, HELLO)
    client = await gateway(KEYS)
    for headers in (api_key(KEY), bearer(KEY)):
        async with ask(client, **headers) as response:
            assert response.status == 200
    for headers in ({}, api_key("wrong")):
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            async with ask(client, HI, path, **headers) as response:
                assert await error_of(response) == (401, "authentication_error", "invalid_api_key")


async def test_errors_have_anthropics_form_wherever_they_come_from(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    client = await gateway('[[models]]\nname = "large"\ntargets = [{upstream = "up"}]')
    async with ask(client) as response:
        assert await error_of(response) == (404, "not_found_error", "model_not_found")
        assert "large" in await response.text()
    async with ask(client, HI, "/v1/messages/batches") as response:
        assert await error_of(response) == (404, "not_found_error", "not_found")
    async with client.get("/v1/messages") as response:
        assert await error_of(response) == (405, "invalid_request_error", "method_not_allowed")
        assert response.headers["Allow"] == "POST"
    async with client.post("/v1/messages", data=b"{}") as response:
        assert await error_of(response) == (415, "invalid_request_error", "media_type_not_supported")
    async with ask(client, HI, Origin="https://evil.example") as response:
        assert await error_of(response) == (403, "permission_error", "origin_not_allowed")
    async with client.post("/v1/messages", data=b"{", headers={"Content-Type": "application/json"}) as response:
        assert await error_of(response) == (400, "invalid_request_error", "invalid_json")
    assert not upstream.requests


async def test_fault_85_a_body_over_32_mib_is_413(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    lines = b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    said = await exchange(await gateway(), lines + b"Content-Length: 33554433\r\n\r\n", until=b'"request_id"')
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b'"request_too_large"' in said


async def test_what_has_no_place_in_a_chat_is_named(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    async with ask(await gateway(), {**HI, "messages": [{"role": "user", "content": [document]}]}) as response:
        assert await error_of(response) == (400, "invalid_request_error", "unsupported_value")
        message = (await response.json())["error"]["message"]
    assert message.startswith("messages[0].content[0]: ")
    assert not upstream.requests


async def test_limits(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    client = await gateway(f"{KEYS}requests_per_minute = 1")
    async with ask(client, **api_key(KEY)) as response:
        assert response.status == 200
        assert response.headers["x-ratelimit-remaining-requests"] == "0"
    async with ask(client, **api_key(KEY)) as response:
        assert await error_of(response) == (429, "rate_limit_error", "rate_limit_exceeded")
        assert int(response.headers["Retry-After"]) > 0


async def test_no_room(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway("[server]\nmax_running = 1")
    async with ask(client, STREAMED) as running:
        await running.content.readuntil(b'"a"}}\n\n')
        async with ask(client) as response:
            assert await error_of(response) == (503, "overloaded_error", "too_many_running")
            assert response.headers["Retry-After"]


# Counting


async def test_a_count_is_an_estimate_and_asks_nobody(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "four" * 1000}], "system": "abcd" * 500}
    client = await gateway()
    async with ask(client, body, "/v1/messages/count_tokens?beta=true") as response:
        assert response.status == 200
        assert await response.json() == {"input_tokens": 1500}
    async with ask(client, {**body, "messages": []}, "/v1/messages/count_tokens") as response:
        assert await error_of(response) == (400, "invalid_request_error", "question_missing")
    assert not upstream.requests


# Leaving


@pytest.mark.parametrize("body", [HI, STREAMED], ids=["whole", "streamed"])
async def test_who_leaves_cancels_the_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, body: dict[str, object]
) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    asking = asyncio.create_task(ask(client, body).__aenter__())
    await eventually(lambda: len(upstream.requests) == 1)
    if body is STREAMED:
        (await asking).close()
    else:
        asking.cancel()
    await upstream.until(left=1, within=1)
    await eventually(lambda: not streams(client))


async def test_an_answer_can_be_drained(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Pause(0.2), delta("b"), finish(), DONE))
    client = await gateway()
    response = await ask(client, STREAMED, "/v1/messages?on_disconnect=drain")
    await response.content.readuntil(b'"a"}}\n\n')
    (held,) = streams(client)
    response.close()
    await eventually(lambda: held.record.end is not None)
    assert held.record.end is EndReason.COMPLETE


async def test_a_streamed_answer_is_not_kept(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    client = await gateway()
    message = judge(await streamed(client))
    assert message is not None
    name = message["id"].removeprefix("msg_")
    async with client.get(f"/streams/{name}", headers=EVENTS) as response:
        assert response.status == 404
    async with client.get(f"/v1/responses/resp_{name}") as response:
        assert response.status == 404


async def test_http_1_0_gets_a_stream_that_ends_with_the_connection(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script([*HELLO, Send(b"")])
    body = json.dumps(STREAMED).encode()
    lines = b"POST /v1/messages HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    raw = await exchange(await gateway(), lines + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert judge(read(raw.partition(b"\r\n\r\n")[2])) is not None
