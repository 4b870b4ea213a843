"""What a publisher has written to Redis, also where one of its pipelines has failed."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from gateway.entries import Entry, Kind
from gateway.errors import RedisUnavailable
from gateway.log.memory import MemoryStore
from gateway.shared.base import Command
from gateway.shared.batches import batches, read_batch
from gateway.shared.connection import RedisConnection
from gateway.shared.keys import Keys
from gateway.shared.publisher import Publisher
from tests.rig.ports import HOST
from tests.rig.redis import RedisServer, packed

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


@pytest.mark.parametrize("buffered", [2, 5], ids=["as many as theirs", "more than theirs"])
@pytest.mark.parametrize("is_at_once", [False, True], ids=["at the next tick", "at once"])
async def test_an_end_that_others_wrote_while_the_process_stood_still_is_replaced(
    redis: RedisServer, connection: Failing, publisher: Publisher, buffered: int, is_at_once: bool
) -> None:
    """They took it for dead. Nobody reads an end in the middle of a stream that goes on."""
    one = One()
    one.log.append([Entry(Kind.TEXT, b"0")])
    publisher.add(one, life=60, keep=60)
    await publisher.publish("one")
    one.log.append([Entry(Kind.TEXT, b"%d" % number) for number in range(buffered)])
    lost = [Entry(Kind.FAILURE, b"{}"), END]
    stand_still(redis, [*one.log.entries[:1], *lost])
    if is_at_once:
        await asyncio.sleep(0)  # the clock of the loop goes on
        await publisher.publish("one")
    else:
        await asyncio.sleep(0.5)
    one.log.append([END])
    async with asyncio.timeout(2):
        while await entries(connection) != list(one.log.entries):  # noqa: ASYNC110 - the state of another system
            await asyncio.sleep(0.02)


def stand_still(redis: RedisServer, entries: Sequence[Entry]) -> None:
    """Stops this process for more than three seconds. Meanwhile another one writes the last two of the entries."""
    ((number, data),) = batches(entries, len(entries) - 1, 1_000_000)
    with socket.create_connection((HOST, redis.port)) as there:
        there.sendall(packed("XADD", LOG, f"{number}-0", "b", data))
        assert there.recv(100).endswith(b"3-0\r\n")
    time.sleep(3.2)


async def entries(connection: Failing) -> list[Entry]:
    """Those that a reader takes: up to the end."""
    read: list[Entry] = []
    for _, fields in await connection.run("XRANGE", LOG, "-", "+"):
        first, some = read_batch(fields[b"b"])
        if END not in read:
            read += some[len(read) + 1 - first :]
    return read


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
