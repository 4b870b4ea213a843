"""One stream that the registry holds: its generation, its viewers, and who may watch and stop it."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from gateway.admission.admit import AdmittedRequest
from gateway.entries import EndReason
from gateway.errors import GatewayError
from gateway.log.base import Recording
from gateway.log.snapshot import Snapshot
from gateway.observe.records import StreamRecord
from gateway.streams.frames import SharedFrames
from gateway.streams.generation import Generation
from gateway.streams.life import Next, when_unwatched
from gateway.streams.tickets import Tickets
from gateway.upstream.dialects.completion import Outcome

R = TypeVar("R", bound=Recording)


class Keeper(Protocol):
    """The registry, as a stream sees it."""

    def attach(self, stream: "HeldStream[Any]", cut: Callable[[], None], *, as_guest: bool) -> None: ...

    def detach(self, stream: "HeldStream[Any]", cut: Callable[[], None]) -> None: ...

    def expect(self, stream: "HeldStream[Any]") -> None: ...

    async def publish(self, stream: "HeldStream[Any]") -> None: ...

    async def delete(self, stream: "HeldStream[Any]") -> None: ...

    def done(self, stream: "HeldStream[Any]") -> None:
        """The stream's task has finished."""
        ...


class HeldStream(Generic[R]):
    """A stream in the registry, which is its `keeper`. `request` is the one that started it. See Watched."""

    __slots__ = (
        "_has_told",
        "_keeper",
        "asked_at",
        "cuts",
        "dying",
        "expires_at",
        "frames",
        "generation",
        "head",
        "id",
        "idempotency_key",
        "is_attended",
        "is_claimed",
        "is_kept",
        "is_shared",
        "left_at",
        "on_disconnect",
        "opens_to_id",
        "owner",
        "scope",
        "snapshot",
        "tickets",
        "timer",
        "unwatched",
    )

    def __init__(
        self,
        generation: Generation[R],
        request: AdmittedRequest,
        tickets: Tickets,
        keeper: Keeper,
    ) -> None:
        self.generation = generation
        self._keeper = keeper
        self.owner = request.owner
        self.on_disconnect = request.on_disconnect
        self.is_kept = request.is_kept  # a client can resume it after its end
        self.is_shared = False  # its entries are written for other processes, too
        self.asked_at = request.asked_at
        self.opens_to_id = request.opens_to_id
        self.head = request.head
        generation.log.grow(len(request.head))
        self.tickets = tickets
        self.idempotency_key: tuple[str, str] | None = None
        self.scope = request.allowance.scope
        self.is_attended = False  # a viewer who may stop it has come, or the time for that has passed
        self.id = generation.id
        self.is_claimed = False  # the request that started it has its record
        self.cuts: list[Callable[[], None]] = []  # one for each viewer: closes its connection at once
        self.left_at: float | None = None  # on the loop's clock, since when it has waited for a viewer
        self.unwatched = 0.0  # seconds without any viewer since the last viewer who may stop it
        self.timer: asyncio.TimerHandle | None = None  # fires if no viewer comes in time
        self.expires_at: float | None = None  # on the loop's clock; None until it is kept after its end
        self.frames: SharedFrames = []
        self.snapshot: Snapshot | None = None
        self.dying = 0  # bytes that it held when it was ended to make room
        self._has_told = False  # its keeper knows that its task has finished
        generation.task.add_done_callback(self._tell)

    @property
    def log(self) -> R:
        return self.generation.log

    @property
    def record(self) -> StreamRecord:
        return self.generation.record

    @property
    def viewers(self) -> int:
        return len(self.cuts)

    @property
    def is_done(self) -> bool:
        """Whether its task has finished, which includes closing the upstream connection."""
        return self.generation.task.done()

    @property
    def is_whole(self) -> bool:
        return self.generation.is_whole

    @property
    def has_content(self) -> bool:
        return self.generation.has_content

    @property
    def passed_finish(self) -> bool:
        return self.generation.passed_finish

    @property
    def reason(self) -> str | None:
        """Why it ended. None while it runs."""
        return self.record.end

    @property
    def failure(self) -> GatewayError | None:
        return self.generation.failure

    def _tell(self, _task: asyncio.Task[None]) -> None:
        self._has_told = True
        self._keeper.done(self)

    def attach(self, cut: Callable[[], None], *, as_guest: bool = False) -> None:
        self._keeper.attach(self, cut, as_guest=as_guest)

    def detach(self, cut: Callable[[], None]) -> None:
        self._keeper.detach(self, cut)

    def claim(self) -> "HeldStream[R] | None":
        if self.is_claimed:
            return None
        self.is_claimed = True
        return self

    def count_resume(self) -> None:
        self.record.resumes += 1

    def outcome(self) -> Outcome:
        return self.generation.outcome()

    def expect(self) -> None:
        self._keeper.expect(self)

    async def publish(self) -> None:
        await self._keeper.publish(self)

    async def stop(self) -> None:
        self.generation.interrupt(EndReason.STOPPED)

    async def delete(self) -> None:
        await self._keeper.delete(self)

    def when_unwatched(self) -> Next:
        return when_unwatched(
            is_done=self._has_told,  # a last viewer who leaves before that would have it kept or forgotten twice
            has_ended=self.log.ended,
            is_attended=self.is_attended,
            policy=self.on_disconnect,
            can_be_resumed=self.is_kept or self.idempotency_key is not None,
        )

    def drop_snapshot(self) -> None:
        if self.snapshot is not None:
            self.log.grow(-self.snapshot.size)
            self.snapshot = None

    def cut_all(self) -> None:
        """Closes the connections of all viewers."""
        for cut in list(self.cuts):
            cut()

    def cancel_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
