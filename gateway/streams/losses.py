"""Ends the followed streams of which nothing more can come: their process is dead, or Redis has lost them.

Redis loses a stream while it is away, or evicts it. The stream's process is told so, and writes the stream again unless
it has forgotten it meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence

from gateway.shared.base import Connection
from gateway.shared.batches import batches
from gateway.shared.keys import Keys
from gateway.shared.messages import Message, Subject
from gateway.shared.process import Process
from gateway.streams.followed import FollowedStream

_GONE_SECONDS = 10.0  # without a stream in Redis, until its viewers are told; its process needs two to write it again
_CHECKED_AT_ONCE = 500  # streams about which one pipeline asks


class Losses:
    """`is_held` tells whether a stream is still followed, which may have changed with each operation of Redis."""

    def __init__(
        self, process: Process, connection: Connection, keys: Keys, is_held: Callable[[FollowedStream], bool]
    ) -> None:
        self._process = process
        self._is_held = is_held
        self._connection = connection
        self._keys = keys
        self._loop = asyncio.get_running_loop()

    async def look(self, running: Sequence[FollowedStream]) -> None:
        """Call it every second. Raises RedisUnavailable."""
        dead = await self._process.dead_among({stream.process for stream in running})
        for stream in running:
            if stream.process in dead and self._is_open(stream):
                await self._end(stream)
        silent = []  # only those can be lost
        for stream in running:
            if stream.log.last != stream.looked_at:
                stream.looked_at, stream.missing_since = stream.log.last, None
            elif not stream.log.ended:
                silent.append(stream)
        for start in range(0, len(silent), _CHECKED_AT_ONCE):
            await self._find(silent[start : start + _CHECKED_AT_ONCE])

    async def _find(self, streams: Sequence[FollowedStream]) -> None:
        replies = await self._connection.run_all([("EXISTS", self._keys.meta(stream.id)) for stream in streams])
        now = self._loop.time()
        for stream, is_there in zip(streams, replies, strict=True):
            if is_there:
                stream.missing_since = None
            elif stream.log.last != stream.looked_at or not self._is_open(stream):
                stream.missing_since = None  # an entry came meanwhile
            elif stream.missing_since is None:
                stream.missing_since = now
                await self._process.send(stream.process, Message(Subject.MISSING, stream.id, self._process.name))
            elif now >= stream.missing_since + _GONE_SECONDS:
                stream.lose_recording()

    def _is_open(self, stream: FollowedStream) -> bool:
        return self._is_held(stream) and not stream.log.ended

    async def _end(self, stream: FollowedStream) -> None:
        """Writes the end for others, too. If the process was only slow, Redis refuses the same numbers."""
        known = stream.log.last
        stream.lose_producer()
        log = self._keys.log(stream.id)
        for number, data in batches(stream.log.entries, known + 1, 1):
            await self._connection.run_all([("XADD", log, "NOMKSTREAM", f"{number}-0", "b", data)])
