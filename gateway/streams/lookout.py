"""Looks in Redis for streams of other processes, which may have been started a moment ago.

Nobody else knows when such a stream gets there, so an id that is unknown is looked for again.
"""

import asyncio

from gateway.shared.base import Connection
from gateway.shared.keys import Keys
from gateway.shared.meta import StreamMeta, read_meta

# Seconds before each look for a stream that may have been started a moment ago and is not yet in Redis. Its process
# writes every 45 ms, and later if it or Redis is busy. An id that is unknown gets its 404 after all of them.
_LOOKS = (0.0, 0.06, 0.06, 0.12, 0.24)
# For so long after Redis is back, it may lack streams: a producer asks twice a second whether it is back, with a time
# limit of 0.8 s, and then writes. The same holds for so long after this process has started, which cannot know whether
# Redis was away. It then looks more often.
_BACK_SECONDS = 2.0
_EARLY_LOOKS = (0.5, 0.5)


class Lookout:
    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._loop = asyncio.get_running_loop()
        self._started_at = self._loop.time()
        self._back_at = -_BACK_SECONDS  # on the loop's clock, when Redis was back from being away
        connection.listen(self._redis_changed)

    async def meta(self, stream_id: str) -> StreamMeta | None:
        """None if there is no such stream after all looks. Raises RedisUnavailable."""
        is_early = self._loop.time() < self._started_at + _BACK_SECONDS
        for pause in _LOOKS + _EARLY_LOOKS if is_early else _LOOKS:
            await asyncio.sleep(pause)
            fields = await self._connection.run("HGETALL", self._keys.meta(stream_id))
            if (meta := read_meta(fields)) is not None:
                return meta
        return None

    @property
    def may_miss(self) -> bool:
        """Whether Redis may not have a stream that there is, because it was away."""
        return self._loop.time() < self._back_at + _BACK_SECONDS

    def _redis_changed(self, is_up: bool) -> None:
        if is_up:
            self._back_at = self._loop.time()
