"""The registry of streams: it reserves the limits of an answer, starts it, and holds it until it is forgotten.

`life` decides what happens to a stream whose last viewer has left. A stream that waits for a viewer is an orphan. The
number of orphans is bounded: beyond it, the registry ends the oldest orphan of the caller with the most. Ended streams
are forgotten to make room for new ones, beginning with those that had no viewer for the longest time. A running stream
is never ended for a new one. Running streams have a bound of their own in bytes; beyond it `room` chooses which end.
"""

import asyncio
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from gateway.admission.admit import AdmittedRequest, Completion
from gateway.admission.descriptors import Descriptors
from gateway.admission.limits import Allowance, Limiter, Reservation
from gateway.admission.tokens import tokens_to_reserve
from gateway.config import Config
from gateway.entries import EndReason
from gateway.errors import AnswerTooLarge, Busy, GatewayError, ShuttingDown, TooManyRunning, TooManyStreams
from gateway.log.base import Recording, StreamLog, StreamStore
from gateway.log.snapshot import Snapshot
from gateway.log.views import View
from gateway.log.window import Window
from gateway.observe.records import StreamEndRecord, log_stream_end
from gateway.streams.generation import Generation
from gateway.streams.held import HeldStream
from gateway.streams.idempotency import Key, Once
from gateway.streams.life import Next
from gateway.streams.room import first_to_go
from gateway.streams.tickets import Tickets
from gateway.upstream.client import UpstreamClient
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.relay import Relay

_ID_BYTES = 16  # 128 random bits: an id is not a secret, but nobody must be able to guess it
_CLOSE_SECONDS = 5.0  # to close upstream connections, which is quick; after that the process ends in any case
_HARD = 2  # times `store.max_bytes`, for all living streams: running ones cannot be forgotten to make room
_LOOKS = 8  # checks of all streams per `store.max_bytes` beyond that bound; a check of 20,000 streams takes 2 ms
_SHED = "The gateway is full, and no other answer was larger than this one. Ask for a shorter one."
_LAST_WORDS_SECONDS = 5.0  # for viewers of such an answer to read its end; then their connections are closed
_RETRY_SECONDS = "5"  # until there may be room again, or a new process has taken over

R = TypeVar("R", bound=Recording)


class Streams:
    def __init__(
        self,
        *,
        store: StreamStore,
        client: UpstreamClient,
        limiter: Limiter,
        config: Config,
        descriptors: Descriptors,
    ) -> None:
        self.limiter = limiter
        self.closing = False
        self._store = store
        self._client = client
        self._descriptors = descriptors
        self._config = config
        self._limits = config.stream
        self._held: dict[str, HeldStream[Any]] = {}
        self._running = 0
        self._shed_at = 0  # bytes held at which all streams are checked again
        self._orphans: OrderedDict[str, HeldStream[Any]] = OrderedDict()  # running, without viewers, waiting for one
        self._idle: OrderedDict[str, HeldStream[Any]] = OrderedDict()  # ended, without viewers
        self._polled: OrderedDict[str, HeldStream[StreamLog]] = OrderedDict()  # with a snapshot
        self._dying = 0  # bytes of streams that were ended to make room, and are still held
        self._once = Once()
        self._loop = asyncio.get_running_loop()
        store.relieve = self._relieve

    # Beginning

    async def check(self, allowance: Allowance) -> None:
        """Raises the errors that `record` and `relay` would raise now. Call it before the body is read."""
        self._check()
        try:
            await self.limiter.check(allowance)
        except TooManyStreams:
            if self._oldest_left_by(allowance.scope) is None:
                raise

    async def record(self, request: AdmittedRequest, key: Key | None = None) -> HeldStream[StreamLog]:
        """Starts an answer whose entries are kept, or finds the one that the idempotency key started earlier.

        Raises ShuttingDown, Busy, OutOfDescriptors, RateLimited, TooManyStreams or IdempotencyConflict.
        """
        if key is None:
            return await self._record(request)
        stream = await self._once.get(key, request, self._record_expecting)
        if request.is_kept and not stream.is_kept:  # this client can resume it, although the first could not
            stream.is_kept, stream.on_disconnect = True, request.on_disconnect
        return stream

    async def _record(self, request: AdmittedRequest) -> HeldStream[StreamLog]:
        reservation = await self._reserve(request)
        stream_id = _new_id()
        return self._start(stream_id, request, self._store.create(stream_id), Decoder(), reservation)

    async def _record_expecting(self, request: AdmittedRequest) -> HeldStream[StreamLog]:
        """Records the answer and waits for its owner, because the client may have left already."""
        stream = await self._record(request)
        self.expect(stream)
        return stream

    async def relay(self, asked: Completion, view: View) -> HeldStream[Window]:
        """Starts an answer that is passed on, chunk by chunk or as one body. Raises the same errors as `record`."""
        reservation = await self._reserve(asked.request)
        decoder = Relay(whole=not asked.stream, hide_usage=asked.hide_usage, choices=asked.choices)
        window = Window(view, count=self._store.grow)
        return self._start(_new_id(), asked.request, window, decoder, reservation)

    async def _reserve(self, request: AdmittedRequest) -> Reservation:
        self._check()
        tokens = 0 if request.allowance.tokens_per_minute is None else tokens_to_reserve(request.body)
        try:
            reservation = await self.limiter.reserve(request.allowance, tokens)
        except TooManyStreams:
            left = self._oldest_left_by(request.allowance.scope)
            if left is None:
                raise
            self._give_up(left)
            reservation = await self.limiter.reserve(request.allowance, tokens)
        try:
            self._check()  # other requests were admitted meanwhile, and a shutdown may have begun
        except GatewayError:
            await reservation.take_back()
            raise
        return reservation

    def _check(self) -> None:
        """Checks that one more stream can start, and makes room for it. Raises ShuttingDown or Busy."""
        if self.closing:
            raise ShuttingDown(headers={"Retry-After": _RETRY_SECONDS})
        if self._running >= self._config.server.max_running:
            raise TooManyRunning(headers={"Retry-After": _RETRY_SECONDS})
        self._make_room()
        if self._is_full:
            raise Busy(headers={"Retry-After": _RETRY_SECONDS})
        self._descriptors.check_upstream()

    def _start(
        self, stream_id: str, request: AdmittedRequest, log: R, decoder: Decoder, reservation: Reservation
    ) -> HeldStream[R]:
        generation = Generation(
            stream_id,
            request,
            log=log,
            decoder=decoder,
            reservation=reservation,
            client=self._client,
            limits=self._limits,
        )
        life = (request.target.timeouts.total or 0) + self._limits.keep_seconds
        tickets = Tickets(life, self._loop.time)
        stream = HeldStream(generation, request, tickets)
        self._held[stream_id] = stream
        self._running += 1
        self._descriptors.add_upstream()
        generation.task.add_done_callback(lambda _: self._done(stream))
        return stream

    # Viewers

    def find(self, stream_id: str) -> HeldStream[StreamLog] | None:
        """The stream, if it can have several viewers. An answer that is only passed on belongs to its request."""
        stream = self._held.get(stream_id)
        return stream if stream is not None and stream.log.is_kept else None

    def snapshot(self, stream: HeldStream[StreamLog]) -> list[bytes]:
        """The stream as JSON, in parts that all polling clients share."""
        if stream.snapshot is None:
            stream.snapshot = Snapshot(stream.id, stream.log)
        self._polled[stream.id] = stream
        self._polled.move_to_end(stream.id)
        return stream.snapshot.parts()  # the log counts them, so snapshots or streams may be dropped

    def attach(self, stream: HeldStream[Any], cut: Callable[[], None], *, as_guest: bool = False) -> None:
        """Adds a viewer. `cut` closes the viewer's connection at once. A guest may read the stream but not stop it."""
        stream.cuts.append(cut)
        self._dying -= stream.dying  # with a new viewer, the stream counts as living again
        stream.dying = 0
        stream.is_attended |= not as_guest
        stream.cancel_timer()
        if stream.left_at is not None:
            stream.unwatched += self._loop.time() - stream.left_at
            stream.left_at = None
        if not as_guest:
            stream.unwatched = 0.0
        self._orphans.pop(stream.id, None)
        self._idle.pop(stream.id, None)

    def detach(self, stream: HeldStream[Any], cut: Callable[[], None]) -> None:
        stream.cuts.remove(cut)
        if not stream.viewers:
            self._left(stream)

    def expect(self, stream: HeldStream[Any]) -> None:
        """Waits for the owner. If no viewer comes in time, the stream is treated as if its last viewer had left."""
        stream.is_attended = False
        if not stream.viewers:
            self._left(stream)

    def _left(self, stream: HeldStream[Any]) -> None:
        """Handles a stream that has no viewers."""
        stream.cancel_timer()
        stream.frames.clear()
        match stream.when_unwatched():
            case Next.AWAIT_OWNER:
                self._orphan(stream, self._limits.attach_seconds, self._unattended)
            case Next.AWAIT_VIEWER:
                self._orphan(stream, self._limits.grace_seconds, self._give_up)
            case Next.FINISH:
                stream.log.abandon()
            case Next.CANCEL:
                self._give_up(stream)
            case Next.KEEP:
                self._keep(stream)
            case Next.FORGET:
                self._forget(stream)
            case Next.NOTHING:
                pass

    def _orphan(self, stream: HeldStream[Any], seconds: float, then: Callable[[HeldStream[Any]], None]) -> None:
        """Calls `then` after `seconds` without a viewer. A guest's visit interrupts the time and does not reset it."""
        self._orphans[stream.id] = stream
        stream.left_at = self._loop.time()
        stream.timer = self._loop.call_later(max(0.0, seconds - stream.unwatched), then, stream)
        if len(self._orphans) > self._limits.max_orphans:
            self._give_up(self._oldest_of_the_most())

    def _oldest_of_the_most(self) -> HeldStream[Any]:
        """The oldest orphan of the caller with the most, so that no caller displaces another who has fewer."""
        most, _ = Counter(stream.scope for stream in self._orphans.values()).most_common(1)[0]
        return next(stream for stream in self._orphans.values() if stream.scope == most)

    def _unattended(self, stream: HeldStream[Any]) -> None:
        self._orphans.pop(stream.id, None)
        stream.is_attended = True
        stream.unwatched = 0.0
        self._left(stream)

    def _give_up(self, stream: HeldStream[Any]) -> None:
        stream.cancel_timer()
        self._orphans.pop(stream.id, None)
        stream.generation.interrupt(EndReason.CLIENT_GONE)

    def _oldest_left_by(self, scope: str) -> HeldStream[Any] | None:
        """The answer that the caller left longest ago. It is ended so that a reloaded page can ask again."""
        own = (stream for stream in self._orphans.values() if stream.scope == scope and stream.is_attended)
        return next(own, None)

    # The end

    def _done(self, stream: HeldStream[Any]) -> None:
        """Called when the stream's task has finished."""
        self._running -= 1
        self._descriptors.drop_upstream()
        if not stream.is_claimed:  # the client left before the stream began
            log_stream_end(StreamEndRecord(key=stream.owner, stream=stream.record))
            stream.is_claimed = True
        stream.cancel_timer()
        self._orphans.pop(stream.id, None)
        if not stream.viewers:
            self._left(stream)

    def _keep(self, stream: HeldStream[Any]) -> None:
        """Keeps an ended stream for clients that come back, until its time has passed or its room is needed."""
        if stream.expires_at is None:
            stream.expires_at = self._loop.time() + self._limits.keep_seconds
        self._idle[stream.id] = stream
        stream.timer = self._loop.call_at(stream.expires_at, self._forget, stream)
        self._relieve()

    @property
    def _is_full(self) -> bool:
        return self._store.full or len(self._held) >= self._config.store.max_streams

    def _make_room(self) -> None:
        """Forgets ended streams without viewers until one more stream fits, as far as possible."""
        while self._idle and self._is_full:
            self._forget(next(iter(self._idle.values())))

    def _relieve(self) -> None:
        """Called when the store holds more than its bound. Drops snapshots, then ended streams, then running ones."""
        while self._polled and self._store.overfull:
            _, polled = self._polled.popitem(last=False)
            polled.drop_snapshot()
        while self._idle and self._store.overfull:
            self._forget(next(iter(self._idle.values())))
        living, bound = self._store.size - self._dying, self._store.bound
        if living <= _HARD * bound:
            self._shed_at = _HARD * bound
        elif living > self._shed_at:
            self._shed_at = living + bound // _LOOKS
            self._loop.call_soon(self._shed)  # not now: this may be called within an append to a stream

    def _shed(self) -> None:
        """Ends streams until the remaining ones are within the bound."""
        excess = self._store.size - self._dying - _HARD * self._store.bound
        for stream in list(first_to_go(self._held.values(), excess)):
            self._make_die(stream)

    def _make_die(self, stream: HeldStream[Any]) -> None:
        stream.dying = stream.log.held
        self._dying += stream.dying
        wait = 0.0 if stream.log.ended else _LAST_WORDS_SECONDS
        stream.generation.interrupt(AnswerTooLarge(_SHED))  # does nothing if it has ended
        self._loop.call_later(wait, stream.cut_all)

    def _forget(self, stream: HeldStream[Any]) -> None:
        stream.cancel_timer()
        self._idle.pop(stream.id, None)
        self._polled.pop(stream.id, None)
        if self._held.pop(stream.id, None) is not None:
            self._dying -= stream.dying
        stream.log.abandon()
        self._store.discard(stream.id)
        self._once.forget(stream)

    def __len__(self) -> int:
        """The number of running streams."""
        return self._running

    def __iter__(self) -> Iterator[HeldStream[Any]]:
        return iter(list(self._held.values()))

    async def close(self) -> None:
        """Ends all running streams with ShuttingDown, and waits until every upstream connection is closed."""
        self.closing = True
        running = [stream.generation for stream in self._held.values() if not stream.is_done]
        for generation in running:
            generation.interrupt(ShuttingDown())
        if running:
            await asyncio.wait([generation.task for generation in running], timeout=_CLOSE_SECONDS)
        for stream in self:
            stream.cancel_timer()


def _new_id() -> str:
    return secrets.token_urlsafe(_ID_BYTES)
