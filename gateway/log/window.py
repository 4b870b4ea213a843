"""A stream that is passed on to one viewer and not kept.

Frames wait here until the viewer takes them, and are gone then. When `limit` bytes wait, the upstream is not read until
there is room: TCP slows it down, where a log would grow. That a viewer who takes nothing does not hold it up for ever
is the viewer's own bound, `Bounds.stall_seconds`.
"""

import asyncio
from collections.abc import Callable, Sequence

from gateway.entries import Entry, Kind
from gateway.log.followers import Followers
from gateway.log.views import View

WINDOW_BYTES = 1_048_576  # that a client may lag behind: over a minute of the fastest models
_END = Kind.END  # a name of the module is found faster than an enumeration's
_PIECE = 65_536  # bytes that are taken at once: asyncio's own flow control begins there


class Window(Followers):
    """A Recording and the one Source of it (see `frames`)."""

    is_kept = False

    def __init__(
        self, view: View, *, limit: int = WINDOW_BYTES, count: Callable[[int], None] = lambda size: None
    ) -> None:
        """`count` is told how many more bytes the window holds, or how many less."""
        super().__init__()
        self.last = 0
        self.size = 0
        self.held = 0
        self.ended = False
        self.full = False
        self._count = count
        self._counted = 0  # bytes of `_waiting` that `held` includes
        self._view = view
        self._limit = limit
        self._frames: list[bytes] = []  # not a deque, which takes 0.6 KiB while empty; of the entries behind `_taken`
        self._taken = 0
        self._waiting = 0  # bytes that they hold
        self._abandoned = False
        self._room: asyncio.Future[None] | None = None

    @property
    def recording(self) -> "Window":
        """Not an attribute, which would be a circle that only the collector finds."""
        return self

    def grow(self, size: int) -> None:
        self.held += size
        self._count(size)

    async def room(self) -> None:
        if self.full:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def abandon(self) -> None:
        """The viewer is gone: what comes is counted, and nothing waits for anybody."""
        self._abandoned = True
        self._frames.clear()
        self._waiting = 0
        self._recount()
        self._free()

    def append(self, batch: Sequence[Entry], *, tells: bool = True) -> None:
        if self.ended:
            raise ValueError("a stream that has ended takes no more entries")
        for entry in batch:
            if not self._abandoned:
                frame = self._view(self.last + 1, entry)  # it may refuse the entry, which is not in the stream then
                self._frames.append(frame)
                self._waiting += len(frame)
            self.last += 1
            self.size += len(entry.payload)
        self.full = self._waiting >= self._limit
        if self._waiting - self._counted >= _PIECE:  # a viewer that keeps up costs the count nothing
            self._recount()
        self.ended = bool(batch) and batch[-1].kind is _END
        if tells:
            self.tell()

    def after(self, cursor: int) -> tuple[bytes, int]:
        """The frames behind `cursor`, up to a bounded size, and the cursor behind them. Those before it are let go."""
        frames = self._frames
        if taken := cursor - self._taken:
            self._waiting -= len(frames[0]) if taken == 1 else sum(map(len, frames[:taken]))
            self._taken = cursor
            del frames[:taken]
        if self._counted and self._counted - self._waiting >= _PIECE:
            self._recount()
        if self.full:
            self._free()
        if len(frames) == 1:  # nearly always
            return frames[0], cursor + 1
        pieces, size = [], 0
        for frame in frames:
            if size >= _PIECE:
                break
            pieces.append(frame)
            size += len(frame)
        return b"".join(pieces), cursor + len(pieces)

    def _recount(self) -> None:
        self.grow(self._waiting - self._counted)
        self._counted = self._waiting

    def _free(self) -> None:
        self.full = self._waiting >= self._limit
        if self._room is not None and not self._room.done() and not self.full:
            self._room.set_result(None)
