"""Where responses are that upstreams made, for all processes of the gateway: `Places` of this one, and those in Redis.

Redis has a small record of each id, for as long as this process would remember it, and not of more ids. Without Redis,
this process knows only what it passed on itself.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from gateway.errors import RedisUnavailable
from gateway.responses.places import Places
from gateway.shared.base import Connection
from gateway.shared.keys import Keys

# An id may be asked for elsewhere in the moment in which it is written. Such a look costs nothing but time.
_LOOKS = 2
_LOOK_SECONDS = 0.06  # between them


class _Place(msgspec.Struct, array_like=True):
    owner: str | None
    upstream: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Place).decode


class UpstreamPlaces:
    """`own` are those of this process. `connection` is None without Redis."""

    def __init__(self, own: Places, connection: Connection | None, keys: Keys) -> None:
        self._own = own
        self._connection = connection
        self._keys = keys
        self._writing: set[asyncio.Task[None]] = set()

    def add(self, name: str, owner: str | None, upstream: str) -> None:
        """See `Places.add`. Returns at once: what is written to Redis is on its way."""
        forgotten = self._own.add(name, owner, upstream)
        if self._connection is None or forgotten is None:
            return
        self._start(self._write(self._connection, name, _Place(owner, upstream)))
        if forgotten:
            self._start(self._erase(self._connection, forgotten))

    async def find(self, name: str, owner: str | None, *, may_come: bool) -> str | None:
        """The name of the upstream that has it. None if the owner has no such response. Raises RedisUnavailable.

        `may_come`: waits a moment for one that is not there.
        """
        upstream = self._own.find(name, owner)
        if upstream is not None or self._connection is None:
            return upstream
        for look in range(_LOOKS if may_come else 1):
            if look:
                await asyncio.sleep(_LOOK_SECONDS)
            if (found := await self._connection.run("GET", self._keys.place(name))) is not None:
                place = _decode(found)
                return place.upstream if place.owner == owner else None
        return None

    async def remove(self, name: str) -> None:
        """Does what it can while Redis is away: the upstream itself does not have the response any more."""
        self._own.remove(name)
        if self._connection is not None:
            with suppress(RedisUnavailable):
                await self._erase(self._connection, [name])

    async def _write(self, connection: Connection, name: str, place: _Place) -> None:
        """One that is known stays with its first owner."""
        milliseconds = int(self._own.seconds * 1000)
        await connection.run("SET", self._keys.place(name), _encode(place), "NX", "PX", milliseconds)

    async def _erase(self, connection: Connection, names: list[str]) -> None:
        await connection.run_all([("DEL", self._keys.place(name)) for name in names])

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            with suppress(RedisUnavailable):  # the connection has logged it; this process knows the place
                await work

        task = asyncio.get_running_loop().create_task(run())
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def close(self) -> None:
        if self._writing:
            await asyncio.wait(self._writing)  # each is one operation, which has a time limit
