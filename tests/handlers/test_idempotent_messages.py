"""`/v1/messages` with an `Idempotency-Key`: asking again gives the same message, and the model is asked once."""

import asyncio
from typing import Any

import pytest

from gateway.entries import EndReason
from tests.conftest import Client, MakeGateway
from tests.handlers.test_messages import HELLO, HI, KEYS, SOON, STREAMED, ask, error_of
from tests.messages.judge import judge, read
from tests.rig.clients import bearer, eventually
from tests.rig.inside import streams
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    ScriptedUpstream,
    Stall,
    Step,
    Until,
    answer,
    chunk,
    delta,
    event,
    finish,
    stream,
    usage,
)

KEY = {"Idempotency-Key": "6f1f2c1e-6a6b-4b0e-8f63-0d2c9a6d2c11"}
RICH = [
    event(chunk(role="assistant", content="")),
    event(chunk(reasoning_content="hm")),
    delta("Hé"),
    event(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}])),
    event(chunk(tool_calls=[{"index": 0, "function": {"arguments": "}"}}])),
    finish("tool_calls"),
    usage(prompt_tokens=1, completion_tokens=2),
    DONE,
]
HALF = [event(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]))]
FORMS = pytest.mark.parametrize("asked", [HI, STREAMED], ids=["whole", "streamed"])


async def told(client: Client, asked: dict[str, Any] = STREAMED, caller: dict[str, str] | None = None) -> bytes:
    """The body of an answer that ends cleanly."""
    async with ask(client, asked, **KEY, **(caller or {})) as response:
        assert response.status == 200, await response.text()
        data: bytes = await response.read()
        return data


async def refused(client: Client, asked: dict[str, Any] = STREAMED) -> tuple[int, str]:
    async with ask(client, asked, **KEY) as response:
        status, _, code = await error_of(response)
        return status, code


@FORMS
async def test_an_answer_is_replayed(gateway: MakeGateway, upstream: ScriptedUpstream, asked: dict[str, Any]) -> None:
    upstream.script(stream(*RICH))
    client = await gateway()
    first = await told(client, asked)
    assert await told(client, asked) == first
    if asked is STREAMED:
        message = judge(read(first))
        assert message is not None
        assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert len(upstream.requests) == 1


@FORMS
async def test_two_at_once_share_an_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, asked: dict[str, Any]
) -> None:
    go_on = asyncio.Event()
    upstream.script(stream(delta("a"), Until(go_on), delta("b"), finish(), DONE))
    client = await gateway()
    asking = [asyncio.ensure_future(told(client, asked)) for _ in range(3)]
    await eventually(lambda: streams(client).viewers == 3)
    go_on.set()
    assert len(set(await asyncio.gather(*asking))) == 1
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("blocks", range(12))
async def test_a_cut_behind_each_event_costs_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, blocks: int
) -> None:
    upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.003))]))
    client = await gateway()
    before = b""
    async with ask(client, STREAMED, **KEY) as response:
        while before.count(b"\n\n") < blocks:
            before += await response.content.readany()
        response.close()
    again = await told(client)
    assert again.startswith(before)
    assert judge(read(again)) is not None
    assert len(upstream.requests) == 1


async def test_nobody_comes_back(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The answer is cancelled after `grace_seconds`, and its key is free."""
    upstream.script(stream(delta("a"), Stall()), HELLO)
    client = await gateway("[stream]\ngrace_seconds = 0.1\n")
    async with ask(client, STREAMED, **KEY) as response:
        await response.content.readuntil(b'"a"}}\n\n')
        response.close()
    await upstream.until(left=1)
    assert b'"Hel"' in await told(client)


async def test_a_whole_answer_waits_for_its_client_too(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    go_on = asyncio.Event()
    upstream.script([Until(go_on), *HELLO])
    client = await gateway()
    asking = asyncio.ensure_future(told(client, HI))
    await upstream.until(requests=1)
    asking.cancel()
    await eventually(lambda: streams(client).viewers == 0)
    again = asyncio.ensure_future(told(client, HI))
    await eventually(lambda: streams(client).viewers == 1)
    go_on.set()
    assert b'"Hello"' in await again
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "other",
    [{**STREAMED, "temperature": 1}, {**STREAMED, "model": "x"}, {**STREAMED, "thinking": {"type": "disabled"}}, HI],
    ids=["another parameter", "another model", "without thinking", "whole, not streamed"],
)
async def test_another_request_is_refused(
    gateway: MakeGateway, upstream: ScriptedUpstream, other: dict[str, Any]
) -> None:
    upstream.script(HELLO)
    client = await gateway()
    await told(client)
    async with ask(client, other, **KEY) as response:
        assert await error_of(response) == (409, "conflict_error", "idempotency_conflict")
        assert response.headers["X-Should-Retry"] == "false"  # Anthropic's SDKs would try again
    assert len(upstream.requests) == 1


async def test_each_api_has_answers_of_its_own(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    client = await gateway()
    await told(client)
    (held,) = streams(client)
    for path in ("/v1/chat/completions", "/chat", "/v1/responses"):
        body = {"model": "m", "max_tokens": 7, ("input" if "responses" in path else "messages"): HI["messages"]}
        async with client.post(path, json=body, headers=KEY) as response:
            assert response.status == 409
    async with client.get(f"/v1/responses/resp_{held.id}") as response:
        assert response.status == 404


async def test_a_key_in_the_query(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    client = await gateway()
    path = f"/v1/messages?beta=true&idempotency_key={KEY['Idempotency-Key']}"
    async with ask(client, STREAMED, path) as response:
        first = await response.read()
    assert await told(client) == first
    async with ask(client, STREAMED, "/v1/messages?idempotency_key=a") as response:
        assert (await error_of(response))[0] == 400


async def test_callers_do_not_share_keys(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE), stream(delta("b"), finish(), DONE))
    client = await gateway(KEYS + KEYS.replace("team", "other"))
    a, b = [await told(client, caller=bearer(f"gw-key-of-{name}-0123456789")) for name in ("team", "other")]
    assert (b'"a"' in a, b'"b"' in b) == (True, True)


async def test_one_who_asks_again_is_not_limited(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    client = await gateway(f"{KEYS}requests_per_minute = 1\n")
    caller = bearer("gw-key-of-team-0123456789")
    assert await told(client, caller=caller) == await told(client, caller=caller)


# What fails


async def test_a_failure_before_any_content_frees_the_key(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(500, {"error": {"message": "no"}}), HELLO)
    client = await gateway("[retry]\nattempts = 1\n")
    assert await refused(client) == (502, "upstream_error")
    assert judge(read(await told(client))) is not None


@pytest.mark.parametrize(
    "failing",
    [
        answer(500, {"error": {"message": "no"}}),
        stream(delta("a"), Close()),
        stream(delta("a"), *HALF, finish("tool_calls"), DONE),
    ],
    ids=["refused", "a stream that breaks off", "half a call"],
)
async def test_a_whole_answer_that_fails_frees_the_key(
    gateway: MakeGateway, upstream: ScriptedUpstream, failing: list[Step]
) -> None:
    upstream.script(failing, HELLO)
    client = await gateway("[retry]\nattempts = 1\n")
    assert (await refused(client, HI))[0] == 502
    assert b'"Hello"' in await told(client, HI)
    assert len(upstream.requests) == 2


BEHIND = [
    event(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}])),
    delta("b"),
    event(chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}])),
]


@pytest.mark.parametrize(
    ("steps", "code"),
    [
        ([delta("a"), Close()], "upstream_incomplete"),
        ([delta("a"), event({"error": {"message": "boom"}})], "upstream_error"),
        ([delta("a"), *HALF, finish("tool_calls"), DONE], "upstream_error"),
        ([*BEHIND, delta("c"), finish("tool_calls"), DONE], "upstream_error"),
        ([delta("a"), delta("x" * 2000), Stall()], "answer_too_large"),
    ],
    ids=["cut", "an error", "half a call", "a part behind the end of a call", "too large"],
)
async def test_a_broken_answer_is_broken_again(
    gateway: MakeGateway, upstream: ScriptedUpstream, steps: list[bytes | Step], code: str
) -> None:
    """The same events, and one error at the end. Only the id of the request in it is another one."""
    upstream.script(stream(*steps))
    client = await gateway("[stream]\nmax_bytes = 1_024\n")
    first, again = [read(await told(client)) for _ in range(2)]
    assert first[-1]["error"]["code"] == code
    assert first[-1]["request_id"] != again[-1]["request_id"]
    assert first[:-1] == again[:-1]
    assert first[-1]["error"] == again[-1]["error"]
    assert judge(first) is None
    assert len(upstream.requests) == 1


async def test_one_that_was_stopped_is_stopped_again(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    asking = asyncio.ensure_future(told(client))
    await eventually(lambda: len(streams(client)) == 1)
    (held,) = streams(client)
    await eventually(lambda: held.has_content)
    held.generation.interrupt(EndReason.STOPPED)
    for raw in (await asking, await told(client)):
        assert read(raw)[-1]["error"]["code"] == "stopped"


async def test_silence_is_filled_with_pings(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The one who comes later gets the same events without them."""
    upstream.script([Pause(0.25), *HELLO])
    client = await gateway(SOON)
    first, again = [read(await told(client)) for _ in range(2)]
    assert [one["type"] for one in first[:2]] == ["message_start", "ping"]
    assert [one for one in first if one["type"] != "ping"] == again
