"""What a viewer is shown of a log: the frames of one view, in pieces that all viewers share."""

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.entries import Entry
from gateway.log.base import Recording, StreamLog
from gateway.log.views import Format, View

# Bytes of one write: asyncio's own flow control begins there, and a stall is measured from write to write.
_PIECE = 65_536
_ENTRIES = 1_000  # of one piece, because a view that depends on earlier ones may show nothing for many


class Source(Protocol):
    """What a viewer follows: frames, by the numbers of their entries."""

    @property
    def recording(self) -> Recording:
        """What is shown. Where it is full, asking for what comes after a cursor makes room up to that."""
        ...

    def after(self, cursor: int) -> tuple[bytes, int]:
        """The frames of the entries behind `cursor`, up to a bounded size, and the cursor behind them."""
        ...


class Frames:
    """A Source: what one view shows of one log, piece by piece.

    The last piece is kept: viewers that keep up ask for the same one, and share its bytes. Older ones are encoded again
    for whoever comes late; keeping every frame would more than double what a stream costs in memory, for the rare case.
    """

    __slots__ = ("_behind", "_cursor", "_piece", "_piece_bytes", "_view", "recording")

    def __init__(self, log: StreamLog, view: View, *, piece_bytes: int = _PIECE) -> None:
        self.recording = log
        self._piece_bytes = piece_bytes
        self._view = view
        self._piece = b""
        self._cursor = self._behind = 0  # the piece is of the entries after the one, up to the other

    def after(self, cursor: int) -> tuple[bytes, int]:
        entries = self.recording.entries
        if cursor != self._cursor or self._behind < len(entries):
            self._cursor = cursor
            if cursor + 1 == len(entries):  # nearly always: one new entry, needing no loop
                self._piece, self._behind = self._view(cursor + 1, entries[cursor]), cursor + 1
            else:
                self._piece, self._behind = self._encode(cursor, entries)
        return self._piece, self._behind

    def _encode(self, cursor: int, entries: Sequence[Entry]) -> tuple[bytes, int]:
        frames, size = [], 0
        while cursor < len(entries) and size < self._piece_bytes:
            frame = self._view(cursor + 1, entries[cursor])
            frames.append(frame)
            size += len(frame)
            cursor += 1
        return b"".join(frames), cursor


class SequentialFrames:
    """A Source for one viewer, whose view of an entry depends on the entries before: each is shown to it once.

    `cursor` is the last entry that `show` has seen.
    """

    __slots__ = ("_behind", "_piece", "_show", "recording")

    def __init__(self, log: StreamLog, show: Callable[[Entry], bytes], *, cursor: int = 0) -> None:
        self.recording = log
        self._show = show
        self._piece = b""
        self._behind = cursor

    def after(self, cursor: int) -> tuple[bytes, int]:
        """A viewer that could not write a piece asks for it again, with the cursor before it."""
        if cursor == self._behind:
            self._piece, self._behind = self._next(cursor, self.recording.entries)
        return self._piece, self._behind

    def _next(self, cursor: int, entries: Sequence[Entry]) -> tuple[bytes, int]:
        if cursor + 1 == len(entries):  # nearly always
            return self._show(entries[cursor]), cursor + 1
        frames, size, behind = [], 0, min(len(entries), cursor + _ENTRIES)
        while cursor < behind and size < _PIECE:
            frame = self._show(entries[cursor])
            frames.append(frame)
            size += len(frame)
            cursor += 1
        return b"".join(frames), cursor


SharedFrames = list[tuple[Format, bool, Frames]]
"""The frames of each view of a stream that has viewers. There is nearly always one."""
