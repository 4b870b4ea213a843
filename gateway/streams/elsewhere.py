"""The streams that other processes produce, and that clients of this process watch.

Each is read once, however many clients watch it. It is dropped some seconds after its last viewer has left.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from gateway.endpoints import Endpoint
from gateway.errors import ProducerLost, RecordingLost, RedisUnavailable
from gateway.log.base import StreamStore
from gateway.shared.base import Connection
from gateway.shared.keys import Keys
from gateway.shared.messages import Message, Subject
from gateway.shared.meta import StreamMeta, read_meta
from gateway.shared.meta_commands import adding, deletion
from gateway.shared.process import Process
from gateway.shared.reader import Reader
from gateway.streams.followed import FollowedStream
from gateway.streams.lookout import Lookout
from gateway.streams.losses import Losses
from gateway.streams.tickets import Tickets
from gateway.streams.viewer import until

_IDLE_SECONDS = 5.0  # that a stream is held without viewers: a client that polls comes back within them
_ON_ITS_WAY_SECONDS = 1.0  # that an entry may take to come here; the usual time is 0.1
_LOST_SECONDS = 3.0  # that a producer may take to write again what Redis has lost; it looks every 1.5 seconds
_STOP_SECONDS = 5.0  # for the end of a stream that was stopped; it takes 200 ms
_INBOX_SECONDS = 2.0  # until a process that lives has an inbox again, if Redis has lost it; it looks every 1.5 seconds
_VISIT_SECONDS = 4.0  # between two messages that a stream has viewers here


class Elsewhere:
    """See `followed.Host`. `store` holds the copies, apart from the streams of this process."""

    def __init__(
        self, process: Process, connection: Connection, keys: Keys, reader: Reader, store: StreamStore
    ) -> None:
        self._process = process
        self._connection = connection
        self._keys = keys
        self._reader = reader
        self._store = store
        self._losses = Losses(process, connection, keys, self._holds)
        self._streams: dict[str, FollowedStream] = {}
        self._loading: dict[str, asyncio.Task[FollowedStream]] = {}
        self._sought = Counter[str]()  # by how many requests, which are about to watch it
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._visited_at = 0.0
        self._lookout = Lookout(connection, keys)
        connection.listen(self._redis_changed)
        store.relieve = self._relieve

    @property
    def viewers(self) -> int:
        return sum([len(stream.cuts) for stream in self._streams.values()])

    def _holds(self, stream: FollowedStream) -> bool:
        return self._streams.get(stream.id) is stream

    def __len__(self) -> int:
        """The number of streams that are followed or held."""
        return len(self._streams)

    # Finding

    async def find(self, stream_id: str, *, number: int = 0) -> FollowedStream | None:
        """The stream, with all of it that Redis has. Raises RedisUnavailable, RecordingLost or Busy.

        A client may have read entry `number` at the process that produces it, before it was in Redis.
        """
        self._sought[stream_id] += 1
        try:
            return await self._find(stream_id, number)
        finally:
            self._sought[stream_id] -= 1
            if not self._sought[stream_id]:
                del self._sought[stream_id]

    async def _find(self, stream_id: str, number: int) -> FollowedStream | None:
        meta = await self._lookout.meta(stream_id)
        if meta is None:
            return self._unknown(stream_id)
        if meta.is_deleted:
            return None
        stream = self._streams.get(stream_id)
        if stream is None:
            loading = self._loading.get(stream_id)
            if loading is None:
                loading = self._loading[stream_id] = self._loop.create_task(self._load(stream_id, meta))
                loading.add_done_callback(lambda _: self._loading.pop(stream_id))
            stream = await asyncio.shield(loading)
        issued = stream.tickets.hashes  # some may not be in Redis yet
        stream.tickets, stream.is_kept = _tickets(meta), meta.is_kept
        stream.tickets.restore(issued)
        stream.missing_since = None
        self._expire(stream)
        if stream.log.last < number and not stream.log.ended:
            log = stream.log
            if not await until(log, lambda: log.last >= number or log.ended, within=_ON_ITS_WAY_SECONDS):
                await self._connection.run("EXISTS", self._keys.meta(stream_id))  # else Redis is why it has not come
        return stream

    def _unknown(self, stream_id: str) -> FollowedStream | None:
        """Raises RedisUnavailable if Redis may not have the stream yet, because it was away."""
        copy = self._lost(stream_id)
        if copy is None and self._lookout.may_miss:
            raise RedisUnavailable()
        return copy

    def _redis_changed(self, is_up: bool) -> None:
        if is_up:
            for stream in self._streams.values():
                stream.missing_since = None  # nobody could look meanwhile

    def _lost(self, stream_id: str) -> FollowedStream | None:
        """The copy of a stream that Redis does not have. Its producer writes it again, unless its time has passed."""
        copy = self._streams.get(stream_id)
        if copy is None:
            return None
        now = self._loop.time()
        if copy.missing_since is None:
            copy.missing_since = now
        return copy if now < copy.missing_since + _LOST_SECONDS else None

    async def _load(self, stream_id: str, meta: StreamMeta) -> FollowedStream:
        stream = FollowedStream(
            stream_id,
            self._store.create(stream_id),
            process=meta.process,
            owner=meta.owner,
            asked_at=Endpoint(meta.asked_at) if meta.asked_at else None,
            opens_to_id=meta.opens_to_id,
            head=meta.head,
            tickets=_tickets(meta),
            host=self,
        )
        try:
            await self._reader.load(stream_id, stream.take)
        except BaseException:
            self._store.discard(stream_id)
            raise
        if isinstance(stream.failure, RecordingLost):
            self._store.discard(stream_id)
            raise RecordingLost()
        self._streams[stream_id] = stream
        self._expire(stream)  # those who asked for it may have left
        if not stream.log.ended:
            self._reader.follow(stream_id, stream.log.last, stream.take)
            self._process.wake()
        return stream

    # Viewers

    def attach(self, stream: FollowedStream, cut: Callable[[], None], *, as_guest: bool) -> None:
        stream.cancel_timer()
        stream.cuts.append(cut)
        if not self._holds(stream) and not stream.log.ended:  # it was dropped before its viewer came, and is not read
            self._loop.call_soon(self._cut, stream)  # the viewer comes back
        elif len(stream.cuts) == 1 or not (as_guest or stream.is_attended):
            stream.is_attended |= not as_guest
            self._tell(stream, Subject.VISIT)

    def detach(self, stream: FollowedStream, cut: Callable[[], None]) -> None:
        stream.cuts.remove(cut)
        if not stream.cuts:
            self._tell(stream, Subject.LEAVE)
            stream.is_attended = False
            stream.frames.clear()
            self._expire(stream)

    async def learn(self, tickets: Tickets, stream_id: str) -> None:
        """Admits the tickets that other processes have issued for a stream of this one, if Redis answers."""
        with suppress(RedisUnavailable):
            fields = await self._connection.run("HGETALL", self._keys.meta(stream_id))
            if (meta := read_meta(fields)) is not None:
                tickets.restore(meta.tickets)

    async def publish(self, stream: FollowedStream) -> None:
        """Lets all processes know the tickets that this one has issued, if Redis answers and has the stream."""
        tickets = stream.tickets.hashes
        if not tickets:
            return
        with suppress(RedisUnavailable):
            await self._connection.run(*adding(self._keys.meta(stream.id), tickets))

    async def stop(self, stream: FollowedStream) -> None:
        """Asks the producer, and waits for the end. Raises RedisUnavailable."""
        if stream.log.ended:
            return
        await self._process.send(stream.process, self._message(stream, Subject.STOP))
        if not await until(stream.log, lambda: stream.log.ended, within=_STOP_SECONDS):
            raise RedisUnavailable()

    async def delete(self, stream: FollowedStream) -> None:
        """Asks the producer, which may be dead, and has Redis forget the stream. Raises RedisUnavailable.

        A producer that lives and was not told would go on with the stream, and write it again.
        """
        message = self._message(stream, Subject.DELETE)
        if not await self._process.send(stream.process, message) and not isinstance(stream.failure, ProducerLost):
            await asyncio.sleep(_INBOX_SECONDS)
            if not await self._process.send(stream.process, message) and await self._process.lives(stream.process):
                raise RedisUnavailable()
        await self._connection.run_all(deletion(self._keys, stream.id))

    def _tell(self, stream: FollowedStream, subject: Subject) -> None:
        if self._holds(stream) and not stream.log.ended:
            self._start(self._process.send(stream.process, self._message(stream, subject)))

    def _message(self, stream: FollowedStream, subject: Subject) -> Message:
        return Message(subject, stream.id, self._process.name, as_guest=not stream.is_attended)

    def _start(self, work: Coroutine[Any, Any, Any]) -> None:
        async def run() -> None:
            with suppress(RedisUnavailable):  # a visit is repeated; one who left counts as such after a while
                await work

        task = self._loop.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Leaving

    def _expire(self, stream: FollowedStream) -> None:
        if not stream.cuts and self._holds(stream):
            stream.cancel_timer()
            stream.timer = self._loop.call_later(_IDLE_SECONDS, self._forget, stream)

    def _forget(self, stream: FollowedStream) -> None:
        stream.cancel_timer()
        if self._holds(stream):
            del self._streams[stream.id]
            self._reader.unfollow(stream.id)
            self._store.discard(stream.id)

    def _relieve(self) -> None:
        """The copies take more than their bound. Streams without viewers are dropped; then the largest is cut."""
        idle = [stream for stream in self._streams.values() if not stream.cuts and stream.id not in self._sought]
        for stream in idle:
            if not self._store.overfull:
                return
            self._forget(stream)
        if self._store.overfull and self._streams:
            largest = max(self._streams.values(), key=lambda stream: stream.log.held)
            self._loop.call_soon(self._cut, largest)  # not now: this may be called within an append

    def _cut(self, stream: FollowedStream) -> None:
        for cut in list(stream.cuts):
            cut()

    # Producers

    async def look(self) -> None:
        """Ends the streams that are lost, and repeats which streams have viewers. Call it every second.

        Raises RedisUnavailable.
        """
        running = [stream for stream in self._streams.values() if not stream.log.ended]
        await self._losses.look(running)
        if (now := self._loop.time()) >= self._visited_at + _VISIT_SECONDS:
            self._visited_at = now
            for stream in running:
                if stream.cuts:
                    self._tell(stream, Subject.VISIT)

    def cut_all(self) -> None:
        """Closes the connections of all viewers, who come back at another process."""
        for stream in list(self._streams.values()):
            self._cut(stream)

    async def close(self) -> None:
        for stream in list(self._streams.values()):
            self._forget(stream)
        if self._tasks:
            await asyncio.wait(self._tasks)  # each is one operation, which has a time limit


def _tickets(meta: StreamMeta) -> Tickets:
    tickets = Tickets(meta.expires_at - time.time(), asyncio.get_running_loop().time)
    tickets.restore(meta.tickets)
    return tickets
