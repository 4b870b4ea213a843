"""Streams that several processes share through Redis.

Entries of this process's streams are written there, and clients of this process can watch, resume and stop the streams
of others. A client that is attached where its stream is produced depends on nothing of it.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from gateway.admission.admit import AdmittedRequest
from gateway.config import Store
from gateway.entries import EndReason
from gateway.errors import RedisUnavailable
from gateway.log.base import StreamLog
from gateway.log.memory import MemoryStore
from gateway.shared.base import Connection
from gateway.shared.ending import end
from gateway.shared.keys import Keys
from gateway.shared.messages import Message, Subject
from gateway.shared.meta import StreamMeta, write_meta
from gateway.shared.process import CHECK_SECONDS, RENEW_SECONDS, Process
from gateway.shared.publisher import Publisher
from gateway.shared.reader import Reader
from gateway.streams.claims import Claims, Own
from gateway.streams.elsewhere import Elsewhere
from gateway.streams.followed import FollowedStream
from gateway.streams.held import HeldStream
from gateway.streams.idempotency import Key
from gateway.streams.presence import Presence

_NAME_BYTES = 16  # of a process, drawn at random when it starts

logger = logging.getLogger(__name__)


class Sharing:
    """`own` are the streams of this process."""

    def __init__(self, store: Store, connection: Connection, own: Own) -> None:
        self.connection = connection
        self._own = own
        keys = Keys(store.prefix)
        self._process = Process(secrets.token_urlsafe(_NAME_BYTES), connection, keys, self._check)
        self._publisher = Publisher(connection, keys)
        self._presence = Presence(own.find)
        self._reader = Reader(self._process.name, connection, keys, self._hear)
        copies = MemoryStore(max_streams=store.max_streams, max_bytes=store.max_bytes)
        self.elsewhere = Elsewhere(self._process, connection, keys, self._reader, copies)
        self._claims = Claims(self._process.name, connection, keys, own, self.elsewhere.find)
        self._working: set[asyncio.Task[None]] = set()
        connection.listen(self._changed)
        self._keys_may_be_lost = asyncio.Event()
        self._tasks = [
            self._every(RENEW_SECONDS, self._process.renew),
            self._every(CHECK_SECONDS, self._look),
            self._every(0, self._restore_keys),
        ]

    @property
    def visitors(self) -> int:
        """The number of viewers of own streams that stand for those at other processes."""
        return len(self._presence)

    @property
    def unsent(self) -> int:
        """The number of own streams whose end is not in Redis."""
        return len(self._publisher)

    def add(self, stream: HeldStream[StreamLog], *, life: float, keep: float) -> None:
        """Shares a stream of this process. See Publisher."""
        self._publisher.add(_Publication(stream, self._process.name), life=life, keep=keep)

    def remove(self, stream_id: str) -> None:
        """This process forgets the stream. Others can read it for as long as it rests in Redis."""
        self._publisher.remove(stream_id)

    async def delete(self, stream_id: str, key: Key | None) -> None:
        """Nobody finds the stream from now on, by its id or the key that started it. Raises RedisUnavailable."""
        await self._publisher.delete(stream_id)
        if key is not None:
            await self._claims.release(key, stream_id)

    async def publish(self, stream_id: str) -> None:
        """Writes what is new of a stream at once, so that any process finds it. Does nothing while Redis is away."""
        with suppress(RedisUnavailable):
            await self._publisher.publish(stream_id)

    async def find(self, stream_id: str, *, number: int = 0) -> FollowedStream | None:
        """A stream that this process does not hold. Raises RedisUnavailable, RecordingLost or Busy.

        Waits a moment for entry `number`, if it is not yet there.
        """
        return await self.elsewhere.find(stream_id, number=number)

    async def claim(
        self, key: Key, request: AdmittedRequest, epoch: str, *, life: float
    ) -> str | FollowedStream | None:
        """See Claims."""
        return await self._claims.claim(key, request, epoch, life=life)

    def claim_again(self) -> None:
        """Redis may not have the idempotency keys of this process's streams. They are written in the background."""
        self._keys_may_be_lost.set()

    def _hear(self, message: Message) -> None:
        if message.subject is Subject.STOP:
            if (stream := self._own.find(message.stream)) is not None:
                stream.generation.interrupt(EndReason.STOPPED)
        elif message.subject is Subject.DELETE:
            if (stream := self._own.find(message.stream)) is not None:
                self._start(stream.delete())
        elif message.subject is Subject.MISSING:
            self._check()
        else:
            self._presence.hear(message)
            if message.subject is Subject.VISIT:
                self._look_after(message.stream)

    def _look_after(self, stream_id: str) -> None:
        """Viewers elsewhere wait for more of it. If it has ended, Redis may not have its end, or none of it."""
        stream = self._own.find(stream_id)
        if stream is None:
            self._start(self._publisher.abandon(stream_id))
        elif stream.log.ended:
            self._publisher.doubt(stream_id)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        async def run() -> None:
            with suppress(RedisUnavailable):  # the sender has deleted what Redis held; a visit is repeated
                await work

        task = asyncio.get_running_loop().create_task(run())
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _look(self) -> None:
        self._presence.look(hears=self.connection.is_up)
        await self.elsewhere.look()

    def _check(self) -> None:
        """Redis may have lost what this process wrote."""
        self._publisher.check()
        self.claim_again()

    async def _restore_keys(self) -> None:
        """Once for all losses that were noticed meanwhile. If Redis goes away, its return is noticed, too."""
        await self._keys_may_be_lost.wait()
        self._keys_may_be_lost.clear()
        await self._claims.restore()

    def _changed(self, is_up: bool) -> None:
        if is_up:
            self._check()

    def _every(self, seconds: float, work: Callable[[], Any]) -> asyncio.Task[None]:
        async def run() -> None:
            while True:
                try:
                    await work()
                except RedisUnavailable:
                    pass  # the connection has logged it
                except Exception:
                    logger.exception("streams are not shared as they should be")
                await asyncio.sleep(seconds)

        return asyncio.get_running_loop().create_task(run())

    async def close(self) -> None:
        """Writes the ends of this process's streams, and lets others know that there will be no more."""
        await end([*self._tasks, *self._working])
        await self.elsewhere.close()
        await self._reader.close()
        await self._publisher.close()
        with suppress(RedisUnavailable):
            await self._process.resign()


class _Publication:
    """See `progress.Published`."""

    __slots__ = ("_expires_at", "_process", "_stream")

    def __init__(self, stream: HeldStream[StreamLog], process: str) -> None:
        self._stream = stream
        self._process = process
        self._expires_at = time.time() + stream.tickets.expires_in

    @property
    def id(self) -> str:
        return self._stream.id

    @property
    def log(self) -> StreamLog:
        return self._stream.log

    @property
    def version(self) -> int:
        return 2 * self._stream.tickets.issued + self._stream.is_kept

    def fields(self) -> Mapping[str, str | bytes]:
        stream = self._stream
        meta = StreamMeta(self._process, stream.owner, self._expires_at, stream.tickets.hashes)
        more = {"asked_at": stream.asked_at or "", "head": stream.head, "is_kept": stream.is_kept}
        return write_meta(msgspec.structs.replace(meta, opens_to_id=stream.opens_to_id, **more))
