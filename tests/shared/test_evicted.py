"""Redis has evicted a part of a stream, or never got its end, and viewers at another gateway wait for more of it."""

import asyncio

import pytest

from gateway.entries import Entry, Kind
from gateway.shared.batches import batches
from tests.conftest import Client, MakeGateway
from tests.rig.clients import eventually
from tests.rig.inside import held, streams
from tests.rig.redis import RedisServer
from tests.rig.scripted_upstream import ScriptedUpstream, stream
from tests.shared.test_redis_trouble import REST, WHOLE
from tests.shared.test_two_gateways import created, read

((_, FIRST),) = batches([Entry(Kind.TEXT, b"one ")], 1, 1)


async def recorded(client: Client, upstream: ScriptedUpstream) -> tuple[dict[str, str], bytes]:
    """A stream that has ended, and its bytes. Redis has all of it."""
    upstream.script(stream(*WHOLE, *REST))
    one = await created(client)
    whole = await read(client, one["url"])
    sharing = streams(client).sharing
    assert sharing is not None
    await eventually(lambda: sharing.unsent == 0)
    return one, whole


async def test_fault_72_entries_that_redis_has_evicted_are_written_again_for_those_who_wait(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """Of an answer that has ended, so nothing else brings its producer to look. What it is remains in Redis."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    one, whole = await recorded(here, upstream)
    assert await redis.say("DEL", f"gateway:s:{{{one['id']}}}:log") == b":1\r\n"
    async with asyncio.timeout(6):
        assert await read(there, one["url"]) == whole


@pytest.mark.parametrize("rest", [(), ("1-0", "b", FIRST)], ids=["nothing", "a beginning"])
@pytest.mark.parametrize("has_told", [False, pytest.param(True, marks=pytest.mark.long)], ids=["gone", "gone and told"])
async def test_fault_72_what_redis_has_left_of_a_stream_that_nobody_holds_goes(
    gateway: MakeGateway,
    upstream: ScriptedUpstream,
    redis: RedisServer,
    rest: tuple[str | bytes, ...],
    has_told: bool,
) -> None:
    """Its producer lives, so its viewers would wait for ever. They are told after ten seconds without it."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    one, _ = await recorded(here, upstream)
    log, meta = f"gateway:s:{{{one['id']}}}:log", f"gateway:s:{{{one['id']}}}:meta"
    streams(here)._holding.forget(held(here, one["id"]))
    await redis.say("DEL", log)
    if rest:
        await redis.say("XADD", log, *rest)
    following = asyncio.create_task(read(there, one["url"]))
    async with asyncio.timeout(6):
        while await redis.say("EXISTS", log, meta) != b":0\r\n":  # noqa: ASYNC110 - the state of another system
            await asyncio.sleep(0.05)
    if has_told:
        async with asyncio.timeout(30):
            assert b"recording_lost" in await following
    else:
        following.cancel()


async def test_a_visit_removes_nothing_of_a_stream_that_is_whole_or_deleted(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """Although its producer does not hold it any more."""
    here = await gateway(f'[store]\nurl = "{redis.url}"\n')
    one, _ = await recorded(here, upstream)
    log, meta = f"gateway:s:{{{one['id']}}}:log", f"gateway:s:{{{one['id']}}}:meta"
    streams(here)._holding.forget(held(here, one["id"]))
    sharing = streams(here).sharing
    assert sharing is not None
    await sharing._publisher.abandon(one["id"])
    assert await redis.say("EXISTS", log, meta) == b":2\r\n"
    await redis.say("DEL", log)
    await redis.say("HSET", meta, "deleted", "1")
    await sharing._publisher.abandon(one["id"])
    assert await redis.say("EXISTS", meta) == b":1\r\n"
