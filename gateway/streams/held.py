"""One stream that the registry holds: its generation, its viewers, and who may watch and stop it."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from gateway.admission.admit import AdmittedRequest
from gateway.log.base import Recording, StreamLog
from gateway.log.snapshot import Snapshot
from gateway.log.views import Format, sse_view
from gateway.observe.records import StreamRecord
from gateway.streams.frames import Frames
from gateway.streams.generation import Generation
from gateway.streams.life import Next, when_unwatched
from gateway.streams.tickets import Tickets

R = TypeVar("R", bound=Recording)


class HeldStream(Generic[R]):
    """A stream in the registry. `request` is the one that started it. `done` is called when its task has finished."""

    __slots__ = (
        "_done",
        "cuts",
        "dying",
        "expires_at",
        "frames",
        "generation",
        "id",
        "idempotency_key",
        "is_attended",
        "is_claimed",
        "is_kept",
        "left_at",
        "on_disconnect",
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
        done: Callable[["HeldStream[R]"], None],
    ) -> None:
        self.generation = generation
        self._done = done
        self.owner = request.owner
        self.on_disconnect = request.on_disconnect
        self.is_kept = request.is_kept  # a client can resume it after its end
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
        self.frames: list[tuple[Format, bool, Frames]] = []  # there is nearly always one
        self.snapshot: Snapshot | None = None
        self.dying = 0  # bytes that it held when it was ended to make room
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

    def _tell(self, _task: asyncio.Task[None]) -> None:
        self._done(self)

    def when_unwatched(self) -> Next:
        return when_unwatched(
            is_done=self.is_done,
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


def shared_frames(stream: HeldStream[StreamLog], format: Format, reasoning: bool) -> Frames:
    """The frames of a view, which all its viewers share."""
    for known_format, has_reasoning, frames in stream.frames:
        if known_format is format and has_reasoning == reasoning:
            return frames
    frames = Frames(stream.log, sse_view(stream.id, format=format, reasoning=reasoning))
    stream.frames.append((format, reasoning, frames))
    return frames
