"""Ends the followed streams of which nothing more can come: their process is dead, or Redis has lost them.

Redis loses a stream while it is away, and the stream's process writes it again unless it has forgotten it meanwhile.
"""

import asyncio
from collections.abc import Sequence

from gateway.shared.base import Connection
from gateway.shared.batches import batches
from gateway.shared.keys import Keys
from gateway.shared.process import Process
from gateway.streams.followed import FollowedStream

_GONE_SECONDS = 10.0  # without a stream in Redis, until its viewers are told; its process needs two to write it again
_CHECKED_AT_ONCE = 500  # streams about which one pipeline asks


class Losses:
    def __init__(self, process: Process, connection: Connection, keys: Keys) -> None:
        self._process = process
        self._connection = connection
        self._keys = keys
        self._loop = asyncio.get_running_loop()

    async def look(self, running: Sequence[FollowedStream]) -> None:
        """Call it every second. Raises RedisUnavailable."""
        dead = await self._process.dead_among({stream.process for stream in running})
        for stream in running:
            if stream.process in dead and not stream.log.ended:
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
            elif stream.missing_since is None:
                stream.missing_since = now
            elif now >= stream.missing_since + _GONE_SECONDS and not stream.log.ended:
                stream.lose_recording()

    async def _end(self, stream: FollowedStream) -> None:
        """Writes the end for others, too. If the process was only slow, Redis refuses the same numbers."""
        known = stream.log.last
        stream.lose_producer()
        log = self._keys.log(stream.id)
        for number, data in batches(stream.log.entries, known + 1, 1):
            await self._connection.run_all([("XADD", log, "NOMKSTREAM", f"{number}-0", "b", data)])
