"""Answers that are recorded: they are started, found again by their idempotency keys, and shared with other processes.

Without a key, an answer is shared if its client can resume it. With one, its client may ask again at any process.
"""

from collections.abc import Awaitable, Callable, Iterator

from gateway.admission.admit import AdmittedRequest
from gateway.errors import RedisUnavailable
from gateway.log.base import StreamLog
from gateway.streams.claims import Claim
from gateway.streams.followed import FollowedStream
from gateway.streams.held import HeldStream
from gateway.streams.idempotency import Key, Once
from gateway.streams.sharing import Sharing
from gateway.streams.surfaces import Surface
from gateway.streams.watched import Watched

SurfaceOf = Callable[[StreamLog], Surface]
Start = Callable[[AdmittedRequest, SurfaceOf, str | None], Awaitable[HeldStream[StreamLog]]]
"""Starts an answer under this id, or under a new one."""


class Recorder:
    """`keep_seconds` is how long a stream is kept after its end. Ids of streams begin with `epoch`."""

    def __init__(self, start: Start, keep_seconds: Callable[[], float], epoch: str) -> None:
        self.sharing: Sharing | None = None  # None: streams rest in the memory of this process alone
        self._start = start
        self._keep_seconds = keep_seconds
        self._epoch = epoch
        self._once = Once()

    async def record(self, request: AdmittedRequest, key: Key | None, surface: SurfaceOf) -> Watched:
        """See `Streams.record`."""
        if key is None:
            stream = await self._start(request, surface, None)
            if request.is_kept:
                self._share(stream, request)
            return stream
        stream_id = None
        if self.sharing is not None and request.is_stored and key not in self._once:
            claimed = await self._claim(self.sharing, key, request)
            if isinstance(claimed, FollowedStream):
                return claimed
            stream_id = claimed
        stream = await self._once.get(key, request, lambda request: self._start_expecting(request, surface, stream_id))
        if request.is_kept and not stream.is_kept:  # this client can resume it, although the first could not
            stream.is_kept, stream.on_disconnect = True, request.on_disconnect
        return stream

    def knows(self, key: Key) -> bool:
        """Whether a request with this idempotency key would find a stream."""
        return key in self._once

    def claims(self) -> Iterator[Claim]:
        """What other processes are to know of the idempotency keys of this one's streams. See Once.begun."""
        keep = self._keep_seconds()
        for key, stream, asked, longest in self._once.begun():
            if stream.is_shared:
                yield Claim(key, stream.id, asked, keep if stream.log.ended else longest + keep)

    def free(self, stream: HeldStream[StreamLog]) -> None:
        """Its idempotency key may start another stream at this process."""
        self._once.forget(stream)

    def forget(self, stream: HeldStream[StreamLog]) -> None:
        self._once.forget(stream)
        if self.sharing is not None:
            self.sharing.remove(stream.id)

    async def _claim(self, sharing: Sharing, key: Key, request: AdmittedRequest) -> str | FollowedStream | None:
        """The id for a new stream, or one that is in Redis. None if this process has one, or if nobody can tell."""
        life = request.route.total + self._keep_seconds()
        try:
            return await sharing.claim(key, request, self._epoch, life=life)
        except RedisUnavailable:
            return None  # this process alone knows its keys, as it would without Redis

    async def _start_expecting(
        self, request: AdmittedRequest, surface: SurfaceOf, stream_id: str | None
    ) -> HeldStream[StreamLog]:
        """Starts the answer and waits for its owner, because the client may have left already."""
        stream = await self._start(request, surface, stream_id)
        if not request.in_background:
            stream.expect()
        self._share(stream, request)
        if self.sharing is not None and stream.is_shared and stream_id is None:
            self.sharing.claim_again()  # Redis was away when the key was to be claimed, and may be back
        return stream

    def _share(self, stream: HeldStream[StreamLog], request: AdmittedRequest) -> None:
        if self.sharing is not None and request.is_stored:
            stream.is_shared = True
            keep = self._keep_seconds()
            self.sharing.add(stream, life=request.route.total + keep, keep=keep)
