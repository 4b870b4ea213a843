"""Answers with an idempotency key, at two gateways whose Redis is away, slow, or empty.

A client that asks again pays the model a second time only while the gateways cannot know of each other. Most tests run
on both surfaces.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from gateway.shared.messages import Message, Subject
from gateway.streams.sharing import Sharing
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, eventually
from tests.rig.completions import STREAMED, post
from tests.rig.inside import streams
from tests.rig.redis import RedisServer, SlowProxy
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Until, answer, delta, finish, stream

KEY = {"Idempotency-Key": "0b9d8c5e-7a54-4ad0-9f7e-3f6a5cf41c0d"}
ANSWER = stream(delta("one "), delta("two"), finish("stop"), DONE)
OTHER = stream(delta("another"), finish("stop"), DONE)

Ask = Callable[[Client], Coroutine[Any, Any, bytes]]


async def chat(client: Client) -> bytes:
    """The answer without its start, which has a ticket of its own each time."""
    async with client.post("/chat", json={"question": "hi"}, headers={**EVENTS, **KEY}) as response:
        assert response.status == 200
        return (await response.read()).partition(b"\n\n")[2]


async def completion(client: Client) -> bytes:
    async with post(client, STREAMED, **KEY) as response:
        assert response.status == 200
        return bytes(await response.read())


@pytest.fixture(params=[chat, completion])
def ask(request: pytest.FixtureRequest) -> Ask:
    asking: Ask = request.param
    return asking


async def two(gateway: MakeGateway, url: str) -> tuple[Client, Client]:
    here, there = [await gateway(f'[store]\nurl = "{url}"\n') for _ in range(2)]
    return here, there


async def has_keys(redis: RedisServer, number: int = 1) -> None:
    async with asyncio.timeout(5):
        while (await redis.say("KEYS", "*")).count(b"gateway:i:") != number:  # noqa: ASYNC110 - the state of Redis
            await asyncio.sleep(0.05)


def sharing_of(client: Client) -> Sharing:
    sharing = streams(client).sharing
    assert sharing is not None
    return sharing


async def know(clients: Sequence[Client], *, is_up: bool) -> None:
    """The gateways know how Redis is."""
    for client in clients:
        connection = sharing_of(client).connection
        await eventually(lambda connection=connection: connection.is_up == is_up)  # type: ignore[misc] # of this turn


async def failed(client: Client) -> None:
    async with post(client, STREAMED, **KEY) as response:
        assert response.status == 502


async def test_fault_70_redis_is_away_in_the_middle(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, ask: Ask
) -> None:
    """The answer goes on, and can be asked for again where it is produced; from Redis' return on, at any gateway."""
    here, there = await two(gateway, redis.url)
    gate = asyncio.Event()
    upstream.script(stream(delta("one "), Until(gate), delta("two"), finish("stop"), DONE))
    asking = asyncio.create_task(ask(here))
    await upstream.until(requests=1)
    await redis.stop()
    await know([here], is_up=False)
    gate.set()
    whole = await asking
    assert b"two" in whole
    assert await ask(here) == whole
    await redis.start()  # empty
    await know([here, there], is_up=True)
    await has_keys(redis)
    assert await ask(there) == whole
    assert len(upstream.requests) == 1


async def test_fault_70_an_answer_that_began_while_redis_was_away(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, ask: Ask
) -> None:
    here, there = await two(gateway, redis.url)
    await redis.stop()
    upstream.script(ANSWER)
    whole = await ask(here)
    await redis.start()
    await know([here, there], is_up=True)
    await has_keys(redis)
    assert await ask(there) == whole
    assert len(upstream.requests) == 1


async def test_fault_70_two_answers_for_one_key(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, ask: Ask
) -> None:
    """Both gateways were asked while Redis was away. Each keeps to its own answer, and a third one has one of them."""
    here, there = await two(gateway, redis.url)
    await redis.stop()
    upstream.script(ANSWER, OTHER)
    answers = [await ask(here), await ask(there)]
    assert answers[0] != answers[1]
    await redis.start()
    await know([here, there], is_up=True)
    await has_keys(redis)
    third = await gateway(f'[store]\nurl = "{redis.url}"\n')
    assert await ask(third) in answers
    assert [await ask(here), await ask(there)] == answers
    assert len(upstream.requests) == 2


async def test_fault_71_a_slow_redis(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, proxy: SlowProxy, ask: Ask
) -> None:
    """The first request waits for one operation, until its time limit, and later ones for none."""
    here, there = await two(gateway, proxy.url)
    upstream.script(ANSWER)
    proxy.delay = 1.0
    async with asyncio.timeout(2):
        whole = await ask(here)
    assert b"two" in whole
    proxy.delay = 0.0
    await know([here, there], is_up=True)
    await has_keys(redis)
    assert await ask(there) == whole
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("before", ["nothing", "one that failed"])
async def test_fault_71_a_redis_that_takes_a_claim_too_late(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, before: str
) -> None:
    """It comes back with a claim for a stream that was never started, or for one that failed."""
    here, there = await two(gateway, redis.url)
    if before == "one that failed":
        upstream.script(answer(500, {}))
        await failed(here)
        await know([here, there], is_up=True)
        await asyncio.sleep(0.2)
    upstream.script(ANSWER)
    calls = len(upstream.requests)
    redis.freeze()
    try:
        whole = await completion(here)
    finally:
        redis.thaw()
    assert b"two" in whole
    await know([here, there], is_up=True)
    await eventually(lambda: not sharing_of(here)._keys_may_be_lost.is_set())
    assert await completion(there) == whole
    assert len(upstream.requests) == calls + 1


async def test_fault_72_redis_is_flushed(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, ask: Ask
) -> None:
    here, there = await two(gateway, redis.url)
    gate = asyncio.Event()
    upstream.script(stream(delta("one "), Until(gate), delta("two"), finish("stop"), DONE))
    asking = asyncio.create_task(ask(here))
    await upstream.until(requests=1)
    await has_keys(redis)
    await redis.say("FLUSHALL")
    await has_keys(redis)
    again = asyncio.create_task(ask(there))
    await asyncio.sleep(0.2)
    gate.set()
    assert await again == await asking
    assert len(upstream.requests) == 1


async def test_fault_72_a_key_that_was_free_stays_free(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """A failed answer, whose key may start another one, does not take it again."""
    here, there = await two(gateway, redis.url)
    upstream.script(answer(500, {}), ANSWER)
    await failed(here)
    await redis.say("FLUSHALL")
    await sharing_of(here)._claims.restore()
    await has_keys(redis, 0)
    assert b"two" in await completion(there)


async def test_many_losses_at_once_are_one_look(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each viewer elsewhere may tell of one, and each look asks for all keys."""
    here, _ = await two(gateway, redis.url)
    upstream.script(ANSWER)
    await completion(here)
    sharing, looks = sharing_of(here), 0
    restore = sharing._claims.restore

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await restore()

    monkeypatch.setattr(sharing._claims, "restore", counted)
    for _ in range(300):
        sharing._hear(Message(Subject.MISSING, "x" * 22, "another"))
    await eventually(lambda: looks > 0)
    await asyncio.sleep(0.1)
    assert looks == 1


async def test_fault_74_a_key_whose_time_has_passed_is_free(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, ask: Ask
) -> None:
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n[stream]\nkeep_seconds = 1\n') for _ in range(2)]
    upstream.script(ANSWER, OTHER)
    assert b"two" in await ask(here)
    await eventually(lambda: len(streams(here)) == 0)
    await asyncio.sleep(1.1)
    for client in (there, here):
        assert b"another" in await ask(client)
    assert len(upstream.requests) == 2
