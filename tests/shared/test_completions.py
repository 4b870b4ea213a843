"""One idempotency key of `/v1/chat/completions` at two gateways on one Redis: one answer, with one end."""

import asyncio

import pytest

from gateway.entries import EndReason
from tests.conftest import Client, MakeGateway
from tests.rig.clients import error_of, eventually, remains
from tests.rig.completions import COMPLETION, HI, STREAMED, Body, post, streamed
from tests.rig.inside import streams
from tests.rig.redis import RedisServer
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    ScriptedUpstream,
    Stall,
    Until,
    answer,
    chunk,
    delta,
    event,
    finish,
    stream,
)

KEY = {"Idempotency-Key": "0b9d8c5e-7a54-4ad0-9f7e-3f6a5cf41c0d"}
RESPONSE = {"model": "m", "input": HI["messages"]}
CHUNKS = [
    event(chunk(role="assistant", content="")),
    delta("Hé"),
    event(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}])),
    finish("tool_calls"),
    DONE,
]


@pytest.fixture
async def two(gateway: MakeGateway, redis: RedisServer) -> list[Client]:
    return [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]


@pytest.mark.parametrize("blocks", range(len(CHUNKS)))
async def test_a_cut_behind_each_event_costs_nothing_elsewhere(
    two: list[Client], upstream: ScriptedUpstream, blocks: int
) -> None:
    here, there = two
    upstream.script(stream(*[part for one in CHUNKS for part in (one, Pause(0.005))]))
    before = b""
    async with post(here, STREAMED, **KEY) as response:
        while before.count(b"\n\n") < blocks:
            before += await response.content.readany()
        response.close()
    again = await streamed(there, STREAMED, **KEY)
    assert again == Body(b"".join(CHUNKS), broken=False)
    assert again.raw.startswith(before)
    assert len(upstream.requests) == 1


async def test_a_client_elsewhere_keeps_it_alive(
    gateway: MakeGateway, redis: RedisServer, upstream: ScriptedUpstream
) -> None:
    """Beyond the grace time, which begins when that client has left, too. Then the key is free."""
    toml = f'[store]\nurl = "{redis.url}"\n[stream]\ngrace_seconds = 0.5\n'
    here, there = [await gateway(toml) for _ in range(2)]
    upstream.script(stream(delta("a"), Stall()), stream(delta("b"), finish(), DONE))
    async with post(here, STREAMED, **KEY) as response:
        assert await response.content.readany() == delta("a")
        async with post(there, STREAMED, **KEY) as again:
            assert await again.content.readany() == delta("a")
            response.close()
            await remains(lambda: upstream.left == 0, seconds=1.0)
    await upstream.until(left=1)
    await asyncio.sleep(0.3)  # until the other gateway knows it
    assert delta("b") in (await streamed(there, STREAMED, **KEY)).raw


async def test_one_that_was_stopped_breaks_off_elsewhere(two: list[Client], upstream: ScriptedUpstream) -> None:
    here, there = two
    upstream.script(stream(delta("a"), Stall()))
    asking = [asyncio.ensure_future(streamed(client, STREAMED, **KEY)) for client in two]
    await eventually(lambda: streams(here).viewers + streams(there).viewers > 1)
    (held,) = [stream for client in two for stream in streams(client)]
    await asyncio.sleep(0.3)
    held.generation.interrupt(EndReason.STOPPED)
    assert await asyncio.gather(*asking) == [Body(delta("a"), broken=True)] * 2


async def test_an_early_failure_is_a_status_elsewhere(two: list[Client], upstream: ScriptedUpstream) -> None:
    """For who waits for the same answer. Who asks afterwards gets a new one."""
    go_on = asyncio.Event()
    upstream.script([Until(go_on), *answer(500, {"error": {"message": "no"}})], stream(*CHUNKS))

    async def status(client: Client) -> tuple[int, str]:
        async with post(client, STREAMED, **KEY) as response:
            return await error_of(response)

    asking = [asyncio.ensure_future(status(client)) for client in two]
    await upstream.until(requests=1)
    await asyncio.sleep(0.3)
    go_on.set()
    assert await asyncio.gather(*asking) == [(502, "upstream_error")] * 2
    await asyncio.sleep(0.3)
    assert {(await streamed(client, STREAMED, **KEY)).raw for client in two} == {b"".join(CHUNKS)}
    assert len(upstream.requests) == 2


async def test_a_whole_one_that_failed_may_be_asked_for_elsewhere(
    two: list[Client], upstream: ScriptedUpstream
) -> None:
    here, there = two
    empty = {"choices": [{"index": 0, "message": {"role": "assistant", "content": ""}}]}
    upstream.script(answer(200, empty), answer(200, COMPLETION))
    async with post(here, HI, **KEY) as response:
        assert await error_of(response) == (502, "upstream_empty")
    await asyncio.sleep(0.3)
    for client in (there, here):
        async with post(client, HI, **KEY) as response:
            assert await response.read() == COMPLETION
    assert len(upstream.requests) == 2


async def test_another_question_elsewhere_is_a_conflict(two: list[Client], upstream: ScriptedUpstream) -> None:
    """Also the same one of another API, or for an answer in another form."""
    here, there = two
    upstream.script(stream(*CHUNKS))
    await streamed(here, STREAMED, **KEY)
    usage = {**STREAMED, "stream_options": {"include_usage": True}}
    others = [("/v1/chat/completions", body) for body in (HI, usage, {**STREAMED, "seed": 1})]
    for path, body in (*others, ("/chat", HI), ("/v1/responses", RESPONSE)):
        async with there.post(path, json=body, headers=KEY) as response:
            assert await error_of(response) == (409, "idempotency_conflict")


async def test_a_chat_completion_that_is_not_stored_stays_here(
    two: list[Client], upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """Its key is known here alone. The upstream gets its own `store`, as ever."""
    here, there = two
    upstream.script(stream(*CHUNKS))
    asked = {**STREAMED, "store": False}
    bodies = [await streamed(client, asked, **KEY) for client in (here, here, there)]
    assert {body.raw for body in bodies} == {b"".join(CHUNKS)}
    assert [request.json["store"] for request in upstream.requests] == [False, False]
    await asyncio.sleep(0.2)
    assert b"gateway:" not in (await redis.say("KEYS", "gateway:[si]:*"))
