"""`/v1/chat/completions` with an `Idempotency-Key`: asking again gives the same bytes, and the model is asked once."""

import asyncio
from typing import Any

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import bearer, error_of
from tests.rig.completions import COMPLETION, HI, STREAMED, Body, post, read, streamed
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

KEY = {"Idempotency-Key": "0f8fad5b-d9cb-469f-a165-70867728950e"}
SHORT = "[stream]\ngrace_seconds = 0.1\n"
RICH = [
    event(chunk(role="assistant", content="")),
    event(chunk(reasoning_content="hm")),
    delta("Hé"),
    event(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}])),
    event(chunk(tool_calls=[{"index": 0, "function": {"arguments": "}"}}])),
    finish("tool_calls"),
    DONE,
]


async def whole(client: Client, body: object = HI, **headers: str) -> bytes:
    async with post(client, body, **headers) as response:
        assert response.status == 200, await response.text()
        data: bytes = await response.read()
        return data


async def refused(client: Client, body: object, **headers: str) -> tuple[int, str]:
    async with post(client, body, **headers) as response:
        return await error_of(response)


async def test_a_stream_is_replayed(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    client = await gateway()
    first = await streamed(client, **KEY)
    assert first == Body(b"".join(RICH), broken=False)
    assert await streamed(client, **KEY) == first
    assert len(upstream.requests) == 1


async def test_a_whole_answer_is_replayed(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, COMPLETION))
    client = await gateway()
    assert [await whole(client, **KEY) for _ in range(2)] == [COMPLETION] * 2
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("asked", [HI, STREAMED], ids=["whole", "streamed"])
async def test_two_at_once_share_an_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, asked: dict[str, Any]
) -> None:
    go_on = asyncio.Event()
    if asked is HI:
        upstream.script([Until(go_on), *answer(200, COMPLETION)])
    else:
        upstream.script(stream(delta("a"), Until(go_on), delta("b"), finish(), DONE))
    client = await gateway()
    asking = [asyncio.ensure_future(whole(client, asked, **KEY)) for _ in range(3)]
    await upstream.until(requests=1)
    await asyncio.sleep(0.05)
    go_on.set()
    assert len(set(await asyncio.gather(*asking))) == 1
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("blocks", range(len(RICH)))
async def test_a_cut_behind_each_event_costs_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, blocks: int
) -> None:
    upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.005))]))
    client = await gateway()
    before = b""
    async with post(client, STREAMED, **KEY) as response:
        while before.count(b"\n\n") < blocks:
            before += await response.content.readany()
        response.close()
    again = await streamed(client, **KEY)
    assert again == Body(b"".join(RICH), broken=False)
    assert again.raw.startswith(before)
    assert len(upstream.requests) == 1


async def test_nobody_comes_back(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The answer is cancelled after `grace_seconds`, and its key is free."""
    upstream.script(stream(delta("a"), Stall()), stream(delta("b"), finish(), DONE))
    client = await gateway(SHORT)
    async with post(client, STREAMED, **KEY) as response:
        await response.content.readany()
        response.close()
    await upstream.until(left=1)
    assert (await streamed(client, **KEY)).raw == delta("b") + finish() + DONE


async def test_a_policy_of_its_own(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    async with post(client, {**STREAMED, "on_disconnect": "cancel"}, **KEY) as response:
        await response.content.readany()
        response.close()
    await upstream.until(left=1)


@pytest.mark.parametrize(
    "other",
    [
        {**STREAMED, "temperature": 1},
        {**STREAMED, "model": "another"},
        {**STREAMED, "stream_options": {"include_usage": True}},
        HI,
    ],
    ids=["another parameter", "another model", "with usage", "whole, not streamed"],
)
async def test_another_request_is_refused(
    gateway: MakeGateway, upstream: ScriptedUpstream, other: dict[str, Any]
) -> None:
    upstream.script(stream(*RICH))
    client = await gateway()
    await streamed(client, **KEY)
    assert await refused(client, other, **KEY) == (409, "idempotency_conflict")


async def test_each_api_has_answers_of_its_own(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The bodies for the upstream are the same. What a client gets is not."""
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway()
    native = {"model": "m", "messages": HI["messages"]}
    async with client.post("/chat", json=native, headers={**KEY, "Accept": "application/json"}) as response:
        assert response.status == 200
    for body in (STREAMED, {**STREAMED, "stream_options": {"include_usage": True}}):
        assert await refused(client, body, **KEY) == (409, "idempotency_conflict")
    asked = {"model": "m", "input": HI["messages"]}
    async with client.post("/v1/responses", json=asked, headers=KEY) as response:
        assert await error_of(response) == (409, "idempotency_conflict")


async def test_a_recorded_answer_has_no_address(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    key = {"Authorization": "Bearer test-key-of-a-12345"}
    client = await gateway('[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\n')
    await streamed(client, **KEY, **key)
    (held,) = streams(client)
    async with client.get(f"/streams/{held.id}", headers=key) as response:
        assert await error_of(response) == (404, "stream_not_found")
    async with client.get("/chat?q=hi", headers={**key, "Last-Event-ID": f"{held.id}.0"}) as response:
        assert await error_of(response) == (404, "stream_not_found")


async def test_callers_do_not_share_keys(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE), stream(delta("b"), finish(), DONE))
    client = await gateway(
        '[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\n[[keys]]\nname = "b"\nkey = "test-key-of-b-12345"\n'
    )
    a, b = [await streamed(client, **KEY, **bearer(f"test-key-of-{name}-12345")) for name in "ab"]
    assert (delta("a") in a.raw, delta("b") in b.raw) == (True, True)


async def test_a_failure_before_any_content_frees_the_key(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(500, {"error": {"message": "no"}}), stream(delta("a"), finish(), DONE))
    client = await gateway("[retry]\nattempts = 1\n")
    assert (await refused(client, STREAMED, **KEY))[0] == 502
    assert delta("a") in (await streamed(client, **KEY)).raw


@pytest.mark.parametrize(
    ("steps", "broken"),
    [([delta("a")], False), ([delta("a"), Close()], False), ([delta("a"), finish(), event({"error": "x"})], True)],
    ids=["truncated", "closed", "an error behind a finish reason"],
)
async def test_a_broken_answer_is_broken_again(
    gateway: MakeGateway, upstream: ScriptedUpstream, steps: list[bytes | Step], broken: bool
) -> None:
    """The same error, without `[DONE]`, and the same end of the body."""
    upstream.script(stream(*steps))
    client = await gateway()
    first = await streamed(client, **KEY)
    assert first.error
    assert first.broken is broken
    assert await streamed(client, **KEY) == first
    assert len(upstream.requests) == 1


async def test_usage_is_hidden_again(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), usage(total_tokens=5), DONE))
    client = await gateway()
    for _ in range(2):
        assert b"total_tokens" not in (await streamed(client, **KEY)).raw


async def test_silence_is_filled(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(Pause(0.3), delta("a"), finish(), DONE))
    client = await gateway("[stream]\nheartbeat_seconds = 0.1\n")
    async with post(client, STREAMED, **KEY) as response:
        body = await read(response)
    assert body.raw.startswith(b":")
    assert not body.broken


async def test_the_upstreams_own_store_passes(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, COMPLETION))
    await whole(await gateway(), {**HI, "store": False}, **KEY)
    assert upstream.requests[0].json["store"] is False


@pytest.mark.parametrize("key", ["a", "k" * 256, "é" * 20], ids=["too short", "too long", "not ASCII"])
async def test_a_bad_key(gateway: MakeGateway, upstream: ScriptedUpstream, key: str) -> None:
    client = await gateway()
    async with client.post("/v1/chat/completions", params={"idempotency_key": key}, json=HI) as response:
        assert await error_of(response) == (400, "invalid_request")
    assert not upstream.requests
