"""Where responses are that upstreams made, as several processes know it through one Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.responses.places import Places
from gateway.shared.connection import RedisConnection
from gateway.shared.keys import Keys
from gateway.streams.upstream_places import UpstreamPlaces
from tests.rig.redis import RedisServer

KEYS = Keys("test:")
Make = Callable[..., UpstreamPlaces]


class Looking(RedisConnection):
    """Tells of its first reply. The second command waits for `go_on`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.replied, self.go_on = asyncio.Event(), asyncio.Event()

    async def run(self, *command: str | bytes | int | float) -> Any:
        if self.replied.is_set():
            await self.go_on.wait()
        reply = await super().run(*command)
        self.replied.set()
        return reply


@pytest.fixture
async def make(redis: RedisServer) -> AsyncIterator[Make]:
    """`make(most=...)`: the places of one process."""
    made: list[tuple[UpstreamPlaces, RedisConnection]] = []

    def make(most: int = 10, connection: RedisConnection | None = None) -> UpstreamPlaces:
        connection = connection or RedisConnection(redis.url)
        places = UpstreamPlaces(Places(asyncio.get_running_loop().time, most=most), connection, KEYS)
        made.append((places, connection))
        return places

    yield make
    for places, connection in made:
        await places.close()
        await connection.close()


async def test_an_id_stays_with_its_first_owner(make: Make) -> None:
    here, there = make(), make()
    here.add("resp_1", "a", "up")
    await here.close()  # waits for what is on its way
    there.add("resp_1", "b", "other")
    await there.close()
    third = make()
    assert await third.find("resp_1", "a", may_come=False) == "up"
    assert await third.find("resp_1", "b", may_come=False) is None


async def test_what_is_forgotten_to_make_room_is_forgotten_in_redis(make: Make, redis: RedisServer) -> None:
    here, there = make(most=2), make()
    for number in range(4):
        here.add(f"resp_{number}", None, "up")
        await here.close()
    found = [await there.find(f"resp_{number}", None, may_come=False) for number in range(4)]
    assert found == [None, None, "up", "up"]
    assert await redis.say("DBSIZE") == b":2\r\n"


@pytest.mark.parametrize("may_come", [True, False])
async def test_an_id_that_is_on_its_way_is_waited_for(make: Make, redis: RedisServer, may_come: bool) -> None:
    connection = Looking(redis.url)
    here, there = make(), make(connection=connection)
    seeking = asyncio.create_task(there.find("resp_1", "a", may_come=may_come))
    await connection.replied.wait()
    here.add("resp_1", "a", "up")
    await here.close()
    connection.go_on.set()
    assert await seeking == ("up" if may_come else None)


async def test_without_redis_a_process_knows_its_own() -> None:
    places = UpstreamPlaces(Places(asyncio.get_running_loop().time), None, KEYS)
    places.add("resp_1", "a", "up")
    assert await places.find("resp_1", "a", may_come=True) == "up"
    await places.remove("resp_1")
    assert await places.find("resp_1", "a", may_come=True) is None
    await places.close()
