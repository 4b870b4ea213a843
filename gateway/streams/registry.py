"""The registry of streams: it reserves the limits of an answer, starts it, and holds it until it is forgotten.

`holding` has all streams and bounds their room. `unwatched` has those that wait for a viewer. `recorder` finds recorded
ones again by their idempotency keys.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import msgspec

from gateway.admission.admit import AdmittedRequest
from gateway.admission.budgets import Quote, quote
from gateway.admission.descriptors import Descriptors
from gateway.admission.limits import Allowance, Limiter, Reservation
from gateway.admission.tokens import tokens_to_reserve
from gateway.config import Config
from gateway.entries import EndReason
from gateway.errors import Busy, GatewayError, ShuttingDown, TooManyRunning, TooManyStreams
from gateway.log.base import Recording, StreamLog, StreamStore
from gateway.log.snapshot import Snapshot
from gateway.log.views import View
from gateway.log.window import Window
from gateway.observe.records import StreamEndRecord, StreamRecord, log_stream_end
from gateway.streams.attempts import Attempts
from gateway.streams.bill import NO_BILL, Bill
from gateway.streams.claims import Claim
from gateway.streams.dependencies import Dependencies
from gateway.streams.epoch import new_id
from gateway.streams.generation import Generation
from gateway.streams.held import HeldStream
from gateway.streams.idempotency import Key
from gateway.streams.recorder import Recorder
from gateway.streams.resumed import Resumed
from gateway.streams.retention import Holding
from gateway.streams.sharing import Sharing
from gateway.streams.surfaces import NativeSurface, PassingSurface, Surface
from gateway.streams.tickets import Tickets
from gateway.streams.unwatched import Unwatched
from gateway.streams.watched import Watched
from gateway.upstream.client import UpstreamClient
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.routing import Target
from gateway.upstream.targets import Targets

_CLOSE_SECONDS = 5.0  # to close upstream connections, which is quick; after that the process ends in any case
_GOODBYE_SECONDS = 2.0  # for viewers to read the end at a shutdown; the process ends soon after
_RETRY_SECONDS = "5"  # until there may be room again, or a new process has taken over

R = TypeVar("R", bound=Recording)


class Streams:
    def __init__(
        self,
        *,
        store: StreamStore,
        client: UpstreamClient,
        targets: Targets,
        limiter: Limiter,
        config: Config,
        descriptors: Descriptors,
        ended: Callable[[StreamRecord], None] = lambda record: None,
        epoch: str = "",
    ) -> None:
        """`ended` is called with the record of each stream that has ended. Ids of streams begin with `epoch`."""
        self.limiter = limiter
        self.closing = False
        self._store = store
        self._dependencies = Dependencies(client, targets, descriptors, config)
        self._ended = ended
        self._epoch = epoch
        self._running = 0
        self._recorder = Recorder(self._record, lambda: self._dependencies.config.stream.keep_seconds, epoch)
        self._resumed: set[Resumed] = set()
        self._holding = Holding(store, config, self._recorder.forget)
        self._unwatched = Unwatched(config.stream, self._holding)
        self._loop = asyncio.get_running_loop()
        self._now = self._loop.time  # one object for all streams, not one for each

    def share(self, sharing: Sharing) -> None:
        """Shares all streams that are kept with other processes, from now on."""
        self._recorder.sharing = sharing

    @property
    def sharing(self) -> Sharing | None:
        """None: streams rest in the memory of this process alone."""
        return self._recorder.sharing

    def configure(self, config: Config) -> None:
        """Uses another configuration from now on. Running answers keep theirs, apart from the times for viewers."""
        self._dependencies = replace(self._dependencies, config=config)
        self._holding.config = config
        self._unwatched.limits = config.stream

    # Beginning

    async def check(self, allowance: Allowance) -> None:
        """Raises the errors that `record` and `relay` would raise now. Call it before the body is read."""
        self._check()
        try:
            await self.limiter.check(allowance)
        except TooManyStreams:
            if self._unwatched.oldest_left_by(allowance.scope) is None:
                raise

    async def record(
        self,
        request: AdmittedRequest,
        key: Key | None = None,
        surface: Callable[[StreamLog], Surface] = NativeSurface,
    ) -> Watched:
        """Starts an answer whose entries are kept, or finds the one that the idempotency key started earlier.

        Raises ShuttingDown, Busy, OutOfDescriptors, RateLimited, TooManyStreams or IdempotencyConflict.
        """
        return await self._recorder.record(request, key, surface)

    def knows(self, key: Key) -> bool:
        """Whether a request with this idempotency key would find a stream."""
        return self._recorder.knows(key)

    def claims(self) -> Iterator[Claim]:
        """What other processes are to know of the idempotency keys of this one's streams."""
        return self._recorder.claims()

    async def _record(
        self, request: AdmittedRequest, surface: Callable[[StreamLog], Surface], stream_id: str | None
    ) -> HeldStream[StreamLog]:
        quoted = _quoted(request)
        reservation = await self._reserve(request, quoted)
        stream_id = stream_id or self.new_id()
        log = self._store.create(stream_id)
        return self._start(stream_id, request, log, surface(log), reservation, quoted)

    async def relay(self, request: AdmittedRequest, view: View, surface: Surface) -> HeldStream[Window]:
        """Starts an answer that is passed on, chunk by chunk or as one body. Raises the same errors as `record`."""
        return await self._pass_on(self.new_id(), request, view, surface)

    async def pass_on(self, stream_id: str, request: AdmittedRequest, view: View) -> HeldStream[Window]:
        """Starts an answer whose entries are shown to one client and not kept. Raises the same errors as `record`.

        `view` is used once for each entry, in order, so it may depend on the entries before. `stream_id` is a new one.
        """
        return await self._pass_on(stream_id, request, view, PassingSurface(is_remembered=request.same_answer))

    async def _pass_on(
        self, stream_id: str, request: AdmittedRequest, view: View, surface: Surface
    ) -> HeldStream[Window]:
        quoted = _quoted(request)
        reservation = await self._reserve(request, quoted)
        return self._start(stream_id, request, Window(view, count=self._store.grow), surface, reservation, quoted)

    def resume(self, target: Target, path: str, decoder: Decoder, view: View) -> Resumed:
        """Gets the events of a response again, from the upstream that has it. Raises ShuttingDown, Busy or the like."""
        self._check()
        resumed = Resumed(target, path, decoder, view, dependencies=self._dependencies, count=self._store.grow)
        self._resumed.add(resumed)
        resumed.task.add_done_callback(lambda _: self._resumed.discard(resumed))
        return resumed

    def new_id(self) -> str:
        return new_id(self._epoch)

    async def _reserve(self, request: AdmittedRequest, quoted: Quote | None) -> Reservation:
        self._check()
        self._dependencies.targets.check(request.route)
        tokens = 0
        if request.allowance.tokens_per_minute is not None:
            tokens = tokens_to_reserve(request.payload.fields, request.endpoint)
        wish = None if quoted is None else quoted.wish
        try:
            reservation = await self.limiter.reserve(request.allowance, tokens, wish)
        except TooManyStreams:
            left = self._unwatched.oldest_left_by(request.allowance.scope)
            if left is None:
                raise
            self._unwatched.give_up(left)
            reservation = await self.limiter.reserve(request.allowance, tokens, wish)
        try:
            self._check()  # other requests were admitted meanwhile, and a shutdown may have begun
            self._dependencies.targets.check(request.route)
        except GatewayError:
            await reservation.take_back()
            raise
        return reservation

    def _check(self) -> None:
        """Checks that one more stream can start, and makes room for it. Raises ShuttingDown or Busy."""
        if self.closing:
            raise ShuttingDown(headers={"Retry-After": _RETRY_SECONDS})
        if self._running + len(self._resumed) >= self._dependencies.config.server.max_running:
            raise TooManyRunning(headers={"Retry-After": _RETRY_SECONDS})
        if not self._holding.make_room():
            raise Busy(headers={"Retry-After": _RETRY_SECONDS})
        self._dependencies.descriptors.check_upstream()

    def _start(
        self,
        stream_id: str,
        request: AdmittedRequest,
        log: R,
        surface: Surface,
        reservation: Reservation,
        quoted: Quote | None,
    ) -> HeldStream[R]:
        bill = NO_BILL
        if quoted is not None:
            bound = quoted.bound(reservation.granted)
            bill = Bill(quoted, bound, reservation)
            request = _bounded(request, bound)
        attempts = Attempts(stream_id, request, log, surface, self._dependencies, bill)
        generation = Generation(log, attempts, reservation)
        life = request.route.total + self._dependencies.config.stream.keep_seconds
        tickets = Tickets(life, self._now)
        stream = HeldStream(generation, request, tickets, self)
        self._holding.streams[stream_id] = stream
        self._running += 1
        return stream

    # Viewers

    def find(self, stream_id: str) -> HeldStream[StreamLog] | None:
        """The stream, if it can have several viewers. An answer that is only passed on belongs to its request."""
        stream = self._holding.streams.get(stream_id)
        return stream if stream is not None and stream.log.is_kept else None

    async def seek(self, stream_id: str, *, number: int = 0) -> Watched | None:
        """The stream, whichever process produces it, for a client that has entry `number`.

        Raises RedisUnavailable, RecordingLost or Busy.
        """
        stream = self.find(stream_id)
        if stream is not None or self.sharing is None:
            return stream
        return await self.sharing.find(stream_id, number=number)

    async def learn_tickets(self, stream: Watched) -> None:
        """Admits the tickets that other processes have issued for a stream of this one."""
        if self.sharing is not None and isinstance(stream, HeldStream):
            await self.sharing.elsewhere.learn(stream.tickets, stream.id)

    async def publish(self, stream: HeldStream[Any]) -> None:
        if self.sharing is not None:
            await self.sharing.publish(stream.id)

    def snapshot(self, stream: Watched) -> list[bytes]:
        """The stream as JSON, in parts that all polling clients share."""
        held = self.find(stream.id)
        if held is not None:
            return self._holding.snapshot(held)
        if stream.snapshot is None:
            stream.snapshot = Snapshot(stream.id, stream.log)
        return stream.snapshot.parts()

    def attach(self, stream: HeldStream[Any], cut: Callable[[], None], *, as_guest: bool) -> None:
        stream.cuts.append(cut)
        self._holding.use(stream)
        self._unwatched.visit(stream, as_guest=as_guest)

    def detach(self, stream: HeldStream[Any], cut: Callable[[], None]) -> None:
        stream.cuts.remove(cut)
        if not stream.viewers:
            self._unwatched.leave(stream)

    def expect(self, stream: HeldStream[Any]) -> None:
        stream.is_attended = False
        if not stream.viewers:
            self._unwatched.leave(stream)

    # The end

    async def delete(self, stream: HeldStream[Any]) -> None:
        """Ends the stream, and forgets it. Its viewers get the end. Raises RedisUnavailable."""
        self._recorder.free(stream)
        key = stream.idempotency_key
        stream.is_kept, stream.idempotency_key = False, None
        stream.generation.interrupt(EndReason.STOPPED)
        if self.sharing is not None and stream.is_shared:
            await self.sharing.delete(stream.id, key)
        if stream.is_done and not stream.viewers:
            self._holding.forget(stream)

    def done(self, stream: HeldStream[Any]) -> None:
        self._running -= 1
        if not stream.is_claimed:  # the client left before the stream began
            log_stream_end(StreamEndRecord(key=stream.owner, stream=stream.record))
            stream.is_claimed = True
        self._ended(stream.record)
        self._unwatched.end(stream)

    @property
    def viewers(self) -> int:
        """The number of clients that watch a stream."""
        here = sum([stream.viewers for stream in self._holding.streams.values()])
        return here if self.sharing is None else here - self.sharing.visitors + self.sharing.elsewhere.viewers

    @property
    def held(self) -> int:
        """The number of streams that can be watched, running or ended."""
        return len(self._holding.streams)

    @property
    def held_bytes(self) -> int:
        return self._store.size

    @property
    def orphans(self) -> int:
        """The number of running streams that wait for a viewer."""
        return len(self._unwatched)

    def __len__(self) -> int:
        """The number of running streams."""
        return self._running

    def __iter__(self) -> Iterator[HeldStream[Any]]:
        return iter(list(self._holding.streams.values()))

    async def drain(self, seconds: float, hurry: asyncio.Event) -> None:
        """Refuses new streams, and waits for the running ones: at most for `seconds`, and not after `hurry` is set."""
        self.closing = True
        running = [stream.generation.task for stream in self._holding.streams.values() if not stream.is_done]
        if not running:
            return
        ended = asyncio.ensure_future(asyncio.wait(running))
        hurried = asyncio.ensure_future(hurry.wait())
        try:
            await asyncio.wait([ended, hurried], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            hurried.cancel()

    async def close(self) -> None:
        """Ends all that runs with ShuttingDown, and waits until every upstream connection is closed.

        Viewers get a moment to read the end. Then their connections are closed. Those of streams of other processes are
        closed at once, because these streams go on.
        """
        self.closing = True
        if self.sharing is not None:
            self.sharing.elsewhere.cut_all()
        self._loop.call_later(_GOODBYE_SECONDS, self._cut_all)
        running = [stream.generation for stream in self._holding.streams.values() if not stream.is_done]
        for generation in running:
            generation.interrupt(ShuttingDown())
        resumed = list(self._resumed)
        for one in resumed:
            one.interrupt(ShuttingDown())
        if tasks := [*[generation.task for generation in running], *[one.task for one in resumed]]:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        for stream in self:
            stream.cancel_timer()

    def _cut_all(self) -> None:
        for stream in self:
            stream.cut_all()


def _quoted(request: AdmittedRequest) -> Quote | None:
    """What the request may cost. None without a budget."""
    budget = request.allowance.budget
    if budget is None:
        return None
    prices = [target.prices for target in request.route.targets]
    return quote(request.payload.fields, request.endpoint, budget, prices)


def _bounded(request: AdmittedRequest, bound: int) -> AdmittedRequest:
    """The request with the bound of its answers, if a model writes them."""
    if not request.endpoint.is_written:
        return request
    return msgspec.structs.replace(request, payload=request.payload.bounded(bound, request.endpoint))
