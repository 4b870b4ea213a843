"""The registry of streams: the one place where an answer is charged and begins, and where its life is decided.

    running, watched ──last viewer leaves──> orphan ──grace is over──> ended
           │          <──somebody comes back──┘                          │
           └────────────────────── it ends ──────────────────────────────┴─> kept ──keep_seconds, or no room──> gone

What happens to a stream whose last viewer left is its policy: `cancel` ends it at once, `drain` lets it finish for the
record, `detach` waits for somebody to come back. Orphans are bounded in number: past that, the one that has waited
longest is ended. Ended streams make room for new ones, those first that nobody has looked at for longest; one that runs
never does, nor one that is watched.
"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from gateway.admission import Completion, Order
from gateway.config import Config, OnDisconnect
from gateway.dialects.openai import Decoder
from gateway.dialects.relay import Relay
from gateway.entries import EndReason
from gateway.errors import Busy, GatewayError, ShuttingDown, TooManyStreams
from gateway.generation import Generation
from gateway.idempotency import Key, Once
from gateway.limits import Charge, Limiter
from gateway.observe import StreamEndRecord, log_stream_end
from gateway.stream import HeldStream
from gateway.streamlog.base import Recording, StreamLog, StreamStore
from gateway.streamlog.window import Window
from gateway.tickets import Tickets
from gateway.tokens import reservation
from gateway.upstream import UpstreamClient
from gateway.views import View

_ID_BYTES = 16  # 128 random bits: an id is not a secret, but it must not be guessable either
_CLOSE_SECONDS = 5.0  # for closing upstream connections, which takes moments; then the process goes regardless
_RETRY_SECONDS = "5"  # until there may be room again, or another process in this one's place

R = TypeVar("R", bound=Recording)


class Streams:
    def __init__(self, *, store: StreamStore, client: UpstreamClient, limiter: Limiter, config: Config) -> None:
        self.limiter = limiter
        self.closing = False
        self._store = store
        self._client = client
        self._config = config
        self._limits = config.stream
        self._held: dict[str, HeldStream[Any]] = {}
        self._orphans: OrderedDict[str, HeldStream[Any]] = OrderedDict()  # running, and waiting for somebody to come
        self._idle: OrderedDict[str, HeldStream[Any]] = OrderedDict()  # ended, with nobody watching
        self._once = Once()
        self._loop = asyncio.get_running_loop()
        store.relieve = self._relieve

    # Beginning

    async def record(self, order: Order, key: Key | None = None) -> HeldStream[StreamLog]:
        """Starts an answer whose entries are kept, or finds the one that the idempotency key has started before.

        Raises ShuttingDown, Busy, RateLimited, TooManyStreams or IdempotencyConflict.
        """
        if key is None:
            return await self._record(order)
        stream = await self._once.get(key, order, self._record_expecting)
        if order.is_kept and not stream.is_kept:  # who comes second can come back, though the first one could not
            stream.is_kept, stream.on_disconnect = True, order.on_disconnect
        return stream

    async def _record(self, order: Order) -> HeldStream[StreamLog]:
        charge = await self._charged(order)
        stream_id = _new_id()
        return self._start(stream_id, order, self._store.create(stream_id), Decoder(), charge)

    async def _record_expecting(self, order: Order) -> HeldStream[StreamLog]:
        """Whoever asked may have left by now."""
        stream = await self._record(order)
        self.expect(stream)
        return stream

    async def relay(self, asked: Completion, view: View) -> HeldStream[Window]:
        """Starts an answer that is passed on, chunk by chunk or as one body. Raises as `record` does."""
        charge = await self._charged(asked.order)
        decoder = Relay(whole=not asked.stream, hide_usage=asked.hide_usage, choices=asked.choices)
        return self._start(_new_id(), asked.order, Window(view), decoder, charge)

    async def _charged(self, order: Order) -> Charge:
        self._check()
        tokens = 0 if order.allowance.tokens_per_minute is None else reservation(order.body)
        try:
            charge = await self.limiter.charge(order.allowance, tokens)
        except TooManyStreams:
            if not self._give_up_one_of(order.allowance.scope):
                raise
            charge = await self.limiter.charge(order.allowance, tokens)
        try:
            self._check()  # others were admitted meanwhile, and a shutdown may have begun
        except GatewayError:
            await charge.take_back()
            raise
        return charge

    def _check(self) -> None:
        """Is it the time, and is there room, for one more?"""
        if self.closing:
            raise ShuttingDown(headers={"Retry-After": _RETRY_SECONDS})
        self._make_room()
        if self._is_full:
            raise Busy(headers={"Retry-After": _RETRY_SECONDS})

    def _start(self, stream_id: str, order: Order, log: R, decoder: Decoder, charge: Charge) -> HeldStream[R]:
        generation = Generation(
            stream_id, order, log=log, decoder=decoder, charge=charge, client=self._client, limits=self._limits
        )
        life = (order.target.timeouts.total or 0) + self._limits.keep_seconds
        tickets = Tickets(life, self._loop.time)
        stream = HeldStream(generation, order, tickets)
        self._held[stream_id] = stream
        generation.task.add_done_callback(lambda _: self._over(stream))
        return stream

    # Who watches

    def find(self, stream_id: str) -> HeldStream[StreamLog] | None:
        """One that can be watched: what is only passed on is nobody else's."""
        stream = self._held.get(stream_id)
        return None if stream is None or isinstance(stream.log, Window) else stream

    def attach(self, stream: HeldStream[Any], *, as_guest: bool = False) -> None:
        """A guest may read and not stop."""
        stream.viewers += 1
        stream.is_attended |= not as_guest
        stream.cancel_timer()
        self._orphans.pop(stream.id, None)
        self._idle.pop(stream.id, None)

    def detach(self, stream: HeldStream[Any]) -> None:
        stream.viewers -= 1
        if not stream.viewers:
            self._left(stream)

    def expect(self, stream: HeldStream[Any]) -> None:
        """Its owner is still to come: if nobody does in time, that is as if the last viewer had left."""
        stream.is_attended = False
        if not stream.viewers:
            self._left(stream)

    def _left(self, stream: HeldStream[Any]) -> None:
        """Nobody watches: its policy says what becomes of it, or, if its owner is still to come, will say so later."""
        stream.cancel_timer()
        stream.frames.clear()
        if stream.is_over:
            self._keep(stream)
            return
        if stream.log.ended:
            return  # its upstream is being put away, and `_over` follows
        if not stream.is_attended:
            self._orphan(stream, self._limits.attach_seconds, self._unattended)
        elif stream.on_disconnect is OnDisconnect.DETACH:
            self._orphan(stream, self._limits.grace_seconds, self._give_up)
        elif stream.on_disconnect is OnDisconnect.DRAIN:
            stream.log.abandon()
        else:
            self._give_up(stream)

    def _orphan(self, stream: HeldStream[Any], seconds: float, then: Callable[[HeldStream[Any]], None]) -> None:
        self._orphans[stream.id] = stream
        stream.timer = self._loop.call_later(seconds, then, stream)
        if len(self._orphans) > self._limits.max_orphans:
            self._give_up(next(iter(self._orphans.values())))

    def _unattended(self, stream: HeldStream[Any]) -> None:
        self._orphans.pop(stream.id, None)
        stream.is_attended = True
        self._left(stream)

    def _give_up(self, stream: HeldStream[Any]) -> None:
        stream.cancel_timer()
        self._orphans.pop(stream.id, None)
        stream.generation.interrupt(EndReason.CLIENT_GONE)

    def _give_up_one_of(self, scope: str) -> bool:
        """Ends the answer that the caller has left longest ago, so that a page that was reloaded may ask again."""
        for stream in self._orphans.values():
            if stream.scope == scope and stream.is_attended:
                self._give_up(stream)
                return True
        return False

    # The end

    def _over(self, stream: HeldStream[Any]) -> None:
        """Nothing of it runs any more."""
        if not stream.is_claimed:  # whoever asked had left before it began
            log_stream_end(StreamEndRecord(key=stream.owner, stream=stream.record))
            stream.is_claimed = True
        stream.cancel_timer()
        self._orphans.pop(stream.id, None)
        if not stream.viewers:
            self._keep(stream)

    def _keep(self, stream: HeldStream[Any]) -> None:
        """For those who come back, until its time is over or others need the room."""
        if not (stream.is_kept or stream.idempotency_key):
            self._forget(stream)
            return
        if stream.expires_at is None:
            stream.expires_at = self._loop.time() + self._limits.keep_seconds
        self._idle[stream.id] = stream
        stream.timer = self._loop.call_at(stream.expires_at, self._forget, stream)
        self._relieve()

    @property
    def _is_full(self) -> bool:
        return self._store.full or len(self._held) >= self._config.store.max_streams

    def _make_room(self) -> None:
        """For one more."""
        while self._idle and self._is_full:
            self._forget(next(iter(self._idle.values())))

    def _relieve(self) -> None:
        """The store holds more than it should, since what runs has grown."""
        while self._idle and self._store.overfull:
            self._forget(next(iter(self._idle.values())))

    def _forget(self, stream: HeldStream[Any]) -> None:
        stream.cancel_timer()
        self._idle.pop(stream.id, None)
        self._held.pop(stream.id, None)
        self._store.discard(stream.id)
        self._once.forget(stream)

    def __len__(self) -> int:
        """How many are being made."""
        return sum(not stream.is_over for stream in self._held.values())

    def __iter__(self) -> Iterator[HeldStream[Any]]:
        return iter(list(self._held.values()))

    async def close(self) -> None:
        """Ends what runs, with a failure that says so, and waits until every upstream connection is closed."""
        self.closing = True
        running = [stream.generation for stream in self._held.values() if not stream.is_over]
        for generation in running:
            generation.interrupt(ShuttingDown())
        if running:
            await asyncio.wait([generation.task for generation in running], timeout=_CLOSE_SECONDS)
        for stream in self:
            stream.cancel_timer()


def _new_id() -> str:
    return secrets.token_urlsafe(_ID_BYTES)
