"""Idempotency keys that all processes share: Redis says which stream a key has started, and where.

A process claims a key before it starts the answer, under the id that the answer will have. While Redis is away, each
process knows only its own keys: see `idempotency`. Afterwards it claims those that Redis does not have.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple, Protocol

from gateway.admission.admit import AdmittedRequest
from gateway.errors import IdempotencyConflict, RedisUnavailable
from gateway.shared.base import Command, Connection
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
# Sets the key, unless another process has claimed it. What this process has claimed earlier is replaced.
_RESTORE = """
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 1, #ARGV[1]) ~= ARGV[1] then return end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
"""
# Frees the key, if it still names this stream.
_RELEASE = """
local there = redis.call('GET', KEYS[1])
if there and string.find(there, ' ' .. ARGV[1] .. ' ', 1, true) then redis.call('DEL', KEYS[1]) end
"""
# For the stream of a key that was claimed a moment ago, or whose process is writing it again. Each takes half a second,
# and one and a half in the first seconds of this process. A start takes some milliseconds.
_LOOKS = 4
_ATTEMPTS = 3  # each ends with a claim, unless another process claims the key in the same moment

_CLAIMED_AT_ONCE = 500  # keys in one pipeline: Redis takes them within the time limit of an operation


class Claim(NamedTuple):
    """A key whose stream this process has. `asked` is the fingerprint of its request."""

    key: Key
    stream_id: str
    asked: bytes
    life: float
    """For how many seconds from now it is to be known."""


class Own(Protocol):
    """The streams of this process."""

    def find(self, stream_id: str) -> HeldStream[Any] | None: ...

    def knows(self, key: Key) -> bool:
        """Whether it has started, or is starting, a stream for a key that is not free again."""

    def claims(self) -> Iterator[Claim]: ...


Find = Callable[[str], Awaitable[FollowedStream | None]]


class Claims:
    """`process` is the name of this one. `find` finds streams in Redis."""

    def __init__(self, process: str, connection: Connection, keys: Keys, own: Own, find: Find) -> None:
        self._process = process
        self._connection = connection
        self._keys = keys
        self._find = find
        self._own = own

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
            claim = self._written(stream_id, asked)
            there = await self._connection.run("EVAL", _CLAIM, 1, name, replaced, claim, int(life * 1000))
            if there is None:
                return stream_id
            process, known, other = there.decode().split(" ")
            stream = await (self._forgotten(key, known) if process == self._process else self._started(known))
            if self._own.knows(key):  # and compares what was asked
                return None
            if stream is not None and not is_void(stream):
                if other != asked:
                    raise IdempotencyConflict()
                return stream
            replaced = there
        raise RedisUnavailable()

    async def restore(self) -> None:
        """Claims the keys of this process's streams, as far as no other process has. Raises RedisUnavailable."""
        claims = self._own.claims()
        while some := list(islice(claims, _CLAIMED_AT_ONCE)):
            await self._connection.run_all([self._restoring(claim) for claim in some])

    def _restoring(self, claim: Claim) -> Command:
        name, value = self._keys.idempotency(*claim.key), self._written(claim.stream_id, claim.asked.hex())
        return "EVAL", _RESTORE, 1, name, f"{self._process} ", value, int(claim.life * 1000)

    def _written(self, stream_id: str, asked: str) -> bytes:
        return f"{self._process} {stream_id} {asked}".encode()

    async def release(self, key: Key, stream_id: str) -> None:
        """The stream is deleted: the key may start another one. Raises RedisUnavailable."""
        await self._connection.run("EVAL", _RELEASE, 1, self._keys.idempotency(*key), stream_id)

    async def _forgotten(self, key: Key, stream_id: str) -> FollowedStream | None:
        """A stream for whose key this process has made a claim, if it rests in Redis alone.

        None if this process knows the key, or holds the stream although it does not: then the key is free again.
        """
        if self._own.knows(key) or self._own.find(stream_id) is not None:
            return None
        return await self._find(stream_id)  # another request may have made the claim, and start it meanwhile

    async def _started(self, stream_id: str) -> FollowedStream | None:
        """The stream, which may be about to start. None if its process was killed, or its client left, before that.

        Raises RedisUnavailable.
        """
        for _ in range(_LOOKS):
            with suppress(RedisUnavailable):  # also where Redis is back, and may not have the stream yet
                if (stream := await self._find(stream_id)) is not None:
                    return stream
            if not self._connection.is_up:
                raise RedisUnavailable()
        return None
