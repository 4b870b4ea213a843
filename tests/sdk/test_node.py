"""The official JavaScript client and the Vercel AI SDK, unmodified, in Node before a running gateway."""

import json
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    ScriptedUpstream,
    Stall,
    answer,
    chunk,
    delta,
    event,
    finish,
    stream,
    usage,
)
from tests.sdk.answers import CUTS, HELLO, STUMBLING_BLOCKS, USAGE, completion, refusal
from tests.sdk.conftest import KEY
from tests.sdk.node import needs, running, script

pytestmark = needs("openai", "ai", "@ai-sdk/openai-compatible")


async def call(address: str, action: str, *, options: dict[str, object] | None = None, **request: object) -> Any:
    """One call of the official client, as `openai_node.mjs` has it."""
    options = {"apiKey": KEY, **(options or {})}
    async with running(script("openai_node.mjs"), address, action, json.dumps(options), json.dumps(request)) as result:
        return result


async def serve(gateway: MakeGateway, toml: str = "") -> str:
    return str((await gateway(toml)).make_url("/v1"))


# The official client


async def test_a_whole_answer(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(completion())
    result = await call(await serve(gateway), "ask", temperature=0.5, top_k=5)
    assert result == {"text": "Hello", "finish": "stop", "usage": USAGE, "error": None}
    assert {"temperature": 0.5, "top_k": 5}.items() <= upstream.requests[0].json.items()


async def test_a_stream(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The upstream sends usage, but nobody asked for it."""
    upstream.script(HELLO)
    result = await call(await serve(gateway), "read")
    assert result == {"text": "Hello", "finish": "stop", "usage": None, "error": None}


async def test_a_stream_with_usage(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    result = await call(await serve(gateway), "read", stream_options={"include_usage": True})
    assert result == {"text": "Hello", "finish": "stop", "usage": USAGE, "error": None}


async def test_what_clients_stumble_over_does_not_reach_them(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(STUMBLING_BLOCKS)
    result = await call(await serve(gateway), "read")
    assert result == {"text": "Hello\ufffd", "finish": "stop", "usage": None, "error": None}


async def test_the_clients_own_helper_assembles_a_tool_call(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city"'}}
    rest = {"index": 0, "function": {"arguments": ': "西安"}'}}
    role = event(chunk(role="assistant"))
    parts = [event(chunk(tool_calls=[part])) for part in (head, rest)]
    upstream.script(stream(role, *parts, finish("tool_calls"), DONE))
    result = await call(await serve(gateway), "assemble")
    assert result["error"] is None
    assert result["calls"] == [["weather", '{"city": "西安"}']]
    assert result["finish"] == "tool_calls"


async def test_the_models(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, {"data": []}))
    model = '[[models]]\nname = "{}"\ntargets = [{{upstream = "up", model = "m-1"}}]\n'
    address = await serve(gateway, model.format("small") + model.format("vendor/large"))
    assert (await call(address, "models", model="vendor/large"))["text"] == "small vendor/large model"
    assert (await call(address, "models", model="no-such-model"))["error"]["kind"] == "NotFoundError"


async def test_heartbeats_break_nothing(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(Pause(0.2), delta("Hel"), Pause(0.2), delta("lo"), finish(), DONE))
    result = await call(await serve(gateway, "[stream]\nheartbeat_seconds = 0.05"), "read")
    assert (result["error"], result["text"]) == (None, "Hello")


async def test_aborting_lets_the_upstream_go(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    address = await serve(gateway)
    async with running(script("openai_node.mjs"), address, "abort", json.dumps({"apiKey": KEY}), "{}") as result:
        assert result["text"] == "Hel"
        await upstream.until(left=1, within=1)


@pytest.mark.parametrize("case", CUTS)
async def test_a_cut_stream_throws(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    script, code = CUTS[case]
    upstream.script(script)
    result = await call(await serve(gateway, "[stream]\nheartbeat_seconds = 0.05"), "read")
    assert (result["text"], result["finish"]) == ("Hel", None)
    assert result["error"]["kind"] == "APIError"
    assert result["error"]["code"] == code


STATUSES = {
    400: ("BadRequestError", 400),
    404: ("NotFoundError", 404),
    429: ("RateLimitError", 429),
    500: ("InternalServerError", 502),
}


@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_of_the_upstream(gateway: MakeGateway, upstream: ScriptedUpstream, status: int) -> None:
    upstream.script(refusal(status, Retry_After="7"))
    error = (await call(await serve(gateway), "read"))["error"]
    assert (error["kind"], error["status"]) == STATUSES[status]
    assert error["code"]
    if status == 429:
        assert error["retry_after"] == "7"


async def test_a_wrong_key(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    address = await serve(gateway, f'[[keys]]\nname = "team"\nkey = "{KEY}"')
    error = (await call(address, "read", options={"apiKey": "wrong-key-1234567890abcd"}))["error"]
    assert (error["kind"], error["status"]) == ("AuthenticationError", 401)


async def test_a_foreign_page(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    options: dict[str, object] = {"defaultHeaders": {"Origin": "https://evil.example"}}
    error = (await call(await serve(gateway), "read", options=options))["error"]
    assert (error["kind"], error["code"]) == ("PermissionDeniedError", "origin_not_allowed")


async def test_the_clients_retry_recovers_from_an_early_failure(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(refusal(500), HELLO)
    result = await call(await serve(gateway), "read", options={"maxRetries": 1})
    assert (result["error"], result["text"]) == (None, "Hello")
    assert len(upstream.requests) == 2


# The Vercel AI SDK


async def test_a_chat_model_of_the_ai_sdk(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """To the end, with usage, over heartbeats."""
    upstream.script(stream(Pause(0.2), delta("Hel"), Pause(0.2), delta("lo"), finish(), usage(**USAGE), DONE))
    async with running(script("ai_sdk.mjs"), await serve(gateway, "[stream]\nheartbeat_seconds = 0.05")) as result:
        assert result == {"text": "Hello", "finish": "stop", "tokens": 3, "error": None}


@pytest.mark.parametrize("case", ["closed inside the body", "a clean end without a finish reason", "an error object"])
async def test_the_ai_sdk_reports_a_cut_stream(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    upstream.script(CUTS[case][0])
    async with running(script("ai_sdk.mjs"), await serve(gateway)) as result:
        assert result["text"] == "Hel"
        assert result["error"]
        assert result["finish"] != "stop"
