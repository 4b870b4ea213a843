"""Idempotency keys that all processes share: Redis says which stream a key has started, and where.

A process claims a key before it starts the answer, under the id that the answer will have. While Redis is away, each
process knows only its own keys: see `idempotency`.
"""

from collections.abc import Awaitable, Callable

from gateway.admission.admit import AdmittedRequest
from gateway.entries import EndReason
from gateway.errors import IdempotencyConflict, RedisUnavailable
from gateway.shared.base import Connection
from gateway.shared.keys import Keys
from gateway.streams.epoch import new_id
from gateway.streams.followed import FollowedStream
from gateway.streams.idempotency import Key, fingerprint

# Sets the key, if it is free or has the value that may be replaced. Returns the value that it has otherwise.
_CLAIM = """
local there = redis.call('GET', KEYS[1])
if there and there ~= ARGV[1] then return there end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return false
"""
_ATTEMPTS = 3  # each ends with a claim, unless another process claims the key in the same moment

Find = Callable[[str], Awaitable[FollowedStream | None]]


class Claims:
    """`process` is the name of this one. `find` finds streams of others, and `is_held` says whether it has a stream."""

    def __init__(
        self, process: str, connection: Connection, keys: Keys, find: Find, is_held: Callable[[str], bool]
    ) -> None:
        self._process = process
        self._connection = connection
        self._keys = keys
        self._find = find
        self._is_held = is_held

    async def claim(self, key: Key, request: AdmittedRequest, epoch: str, *, life: float) -> str | FollowedStream:
        """The id under which this process starts the answer, or the stream that another one has started for the key.

        A claim lasts for `life` seconds. Raises IdempotencyConflict, RedisUnavailable, RecordingLost or Busy.
        """
        name, asked, replaced = self._keys.idempotency(*key), fingerprint(request).hex(), b""
        for _ in range(_ATTEMPTS):
            stream_id = new_id(epoch)
            own = f"{self._process} {stream_id} {asked}".encode()
            there = await self._connection.run("EVAL", _CLAIM, 1, name, replaced, own, int(life * 1000))
            if there is None:
                return stream_id
            process, known, other = there.decode().split(" ")
            if other != asked:
                raise IdempotencyConflict()
            if process == self._process:
                if not self._is_held(known):
                    return str(known)  # claimed a moment ago, by a request that has not started it
            elif (stream := await self._find(known)) is not None and not _is_void(stream):
                return stream
            replaced = there
        raise RedisUnavailable()


def _is_void(stream: FollowedStream) -> bool:
    """Whether the answer failed before any client saw content, or was cancelled: a retry starts a new one."""
    if not stream.log.ended:
        return False
    return stream.reason == EndReason.CLIENT_GONE or (stream.failure is not None and not stream.has_content)
