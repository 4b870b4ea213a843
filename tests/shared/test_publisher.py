"""What a publisher has written to Redis, also where one of its pipelines has failed."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from gateway.entries import Entry, Kind
from gateway.errors import RedisUnavailable
from gateway.log.memory import MemoryStore
from gateway.shared.base import Command
from gateway.shared.connection import RedisConnection
from gateway.shared.keys import Keys
from gateway.shared.publisher import Publisher
from tests.rig.redis import RedisServer

KEYS = Keys("x:")
META, LOG = KEYS.meta("one"), KEYS.log("one")
END = Entry(Kind.END, b"{}")


class Failing(RedisConnection):
    """`failures` of its pipelines fail, and Redis sees nothing of them. `delay` goes before each of the others."""

    failures = 0
    delay = 0.0

    async def run_all(self, commands: Sequence[Command]) -> list[Any]:
        if self.failures:
            self.failures -= 1
            raise RedisUnavailable()
        await asyncio.sleep(self.delay)
        return await super().run_all(commands)


class One:
    """See `progress.Published`."""

    id = "one"

    def __init__(self) -> None:
        self.log = MemoryStore(max_streams=1, max_bytes=1_000_000).create("one")
        self.version = 0

    def fields(self) -> Mapping[str, str | bytes]:
        return {"version": str(self.version)}


@pytest.fixture
async def connection(redis: RedisServer) -> AsyncIterator[Failing]:
    connection = Failing(redis.url)
    yield connection
    await connection.close()


@pytest.fixture
async def publisher(connection: Failing) -> AsyncIterator[Publisher]:
    publisher = Publisher(connection, KEYS)
    yield publisher
    await publisher.close()


async def becomes(connection: Failing, fields: dict[bytes, bytes]) -> None:
    async with asyncio.timeout(2):
        while await connection.run("HGETALL", META) != fields:  # noqa: ASYNC110 - the state of another system
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("is_ended", [False, True])
async def test_fields_whose_pipeline_failed_are_written_by_a_later_one(
    connection: Failing, publisher: Publisher, is_ended: bool
) -> None:
    one = One()
    one.log.append([Entry(Kind.TEXT, b"a"), *([END] if is_ended else [])])
    publisher.add(one, life=60, keep=60)
    await publisher.publish("one")
    await becomes(connection, {b"version": b"0"})
    one.version = 1
    connection.failures = 1
    with pytest.raises(RedisUnavailable):
        await publisher.publish("one")
    await becomes(connection, {b"version": b"1"})
    assert 0 < await connection.run("PTTL", META) <= 60_000
    assert len(publisher) == (0 if is_ended else 1)


async def test_what_others_have_written_of_a_stream_outlives_its_rewriting(
    connection: Failing, publisher: Publisher
) -> None:
    """Tickets, and the word that it is deleted. Redis has lost its entries alone."""
    one = One()
    one.log.append([Entry(Kind.TEXT, b"a")])
    publisher.add(one, life=60, keep=60)
    await publisher.publish("one")
    await connection.run("HSET", META, "t:00", "1", "deleted", "1")
    await connection.run("DEL", LOG)
    one.version = 1
    one.log.append([Entry(Kind.TEXT, b"b")])
    await becomes(connection, {b"version": b"1", b"t:00": b"1", b"deleted": b"1"})
    async with asyncio.timeout(2):
        while not await connection.run("XRANGE", LOG, "-", "+"):  # noqa: ASYNC110 - the state of another system
            await asyncio.sleep(0.02)
    assert await connection.run("HLEN", META) == 3


async def test_what_is_sent_at_once_is_behind_what_is_on_its_way(connection: Failing, publisher: Publisher) -> None:
    """Each entry is written once, and in order: two pipelines may overtake each other."""
    one = One()
    publisher.add(one, life=60, keep=60)
    connection.delay = 0.4  # longer than all that follows takes on a busy machine
    sending = []
    for number in range(4):
        one.log.append([Entry(Kind.TEXT, b"%d" % number)])
        sending.append(asyncio.create_task(publisher.publish("one")))
        await asyncio.sleep(0.03)
    await asyncio.gather(*sending)
    connection.delay = 0.0
    numbers = [number for number, _ in await connection.run("XRANGE", LOG, "-", "+")]
    assert numbers == [b"1-0", b"4-0"]
