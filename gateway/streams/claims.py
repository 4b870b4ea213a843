"""Idempotency keys that all processes share: Redis says which stream a key has started, and where.

A process claims a key before it starts the answer, under the id that the answer will have. While Redis is away, each
process knows only its own keys: see `idempotency`.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from gateway.admission.admit import AdmittedRequest
from gateway.errors import IdempotencyConflict, RedisUnavailable
from gateway.shared.base import Connection
from gateway.shared.keys import Keys
from gateway.streams.epoch import new_id
from gateway.streams.followed import FollowedStream
from gateway.streams.held import HeldStream
from gateway.streams.idempotency import Key, fingerprint, is_void

# Sets the key, if it is free or has the value that may be replaced. Returns the value that it has otherwise.
_CLAIM = """
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[1] then return there end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
"""
# Frees the key, if it still names this stream.
_RELEASE = """
local there = redis.call('GET', KEYS[1])
if there and string.find(there, ' ' .. ARGV[1] .. ' ', 1, true) then redis.call('DEL', KEYS[1]) end
"""
_LOOKS = 10  # for the stream of a key that was claimed a moment ago; each takes 0.2 s, a start takes some milliseconds
_ATTEMPTS = 3  # each ends with a claim, unless another process claims the key in the same moment

Own = Callable[[str], HeldStream[Any] | None]
"""Finds a stream of this process."""

Knows = Callable[[Key], bool]
"""Whether this process has started, or is starting, a stream for a key that is not free again."""

Find = Callable[[str], Awaitable[FollowedStream | None]]


class Claims:
    """`process` is the name of this one. `own` finds its streams, and `find` those in Redis."""

    def __init__(self, process: str, connection: Connection, keys: Keys, own: Own, knows: Knows, find: Find) -> None:
        self._process = process
        self._connection = connection
        self._keys = keys
        self._find = find
        self._own = own
        self._knows = knows

    async def claim(
        self, key: Key, request: AdmittedRequest, epoch: str, *, life: float
    ) -> str | FollowedStream | None:
        """The new id under which this process starts the answer, or the stream in Redis that the key has started.

        None if this process knows the key by now. A claim lasts for `life` seconds. Raises IdempotencyConflict,
        RedisUnavailable, RecordingLost or Busy.
        """
        name, asked, replaced = self._keys.idempotency(*key), fingerprint(request).hex(), b""
        for _ in range(_ATTEMPTS):
            stream_id = new_id(epoch)
            own = f"{self._process} {stream_id} {asked}".encode()
            there = await self._connection.run("EVAL", _CLAIM, 1, name, replaced, own, int(life * 1000))
            if there is None:
                return stream_id
            process, known, other = there.decode().split(" ")
            stream = await (self._forgotten(key, known) if process == self._process else self._started(known))
            if self._knows(key):  # and compares what was asked
                return None
            if stream is not None and not is_void(stream):
                if other != asked:
                    raise IdempotencyConflict()
                return stream
            replaced = there
        raise RedisUnavailable()

    async def release(self, key: Key, stream_id: str) -> None:
        """The stream is deleted: the key may start another one. Raises RedisUnavailable."""
        await self._connection.run("EVAL", _RELEASE, 1, self._keys.idempotency(*key), stream_id)

    async def _forgotten(self, key: Key, stream_id: str) -> FollowedStream | None:
        """A stream for whose key this process has made a claim, if it rests in Redis alone.

        None if this process knows the key, or holds the stream although it does not: then the key is free again.
        """
        if self._knows(key) or self._own(stream_id) is not None:
            return None
        return await self._find(stream_id)  # another request may have made the claim, and start it meanwhile

    async def _started(self, stream_id: str) -> FollowedStream | None:
        """The stream, which may be about to start. None if its process was killed, or its client left, before that."""
        for _ in range(_LOOKS):
            if (stream := await self._find(stream_id)) is not None:
                return stream
        return None
