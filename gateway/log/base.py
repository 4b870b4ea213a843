"""The port behind which streams are kept.

A log is append-only and whole: no entry is changed or dropped while the log is held. Entries that arrived in one
upstream read are appended as one batch, and followers are told once per batch.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.entries import Entry


class Recording(Protocol):
    """What a generation writes its entries to."""

    @property
    def is_kept(self) -> bool:
        """Can it be read from any place, by many? Else it is passed on to one reader and let go of."""
        ...

    @property
    def last(self) -> int:
        """The number of the last entry; 0 before there is one."""
        ...

    @property
    def size(self) -> int:
        """Bytes of all payloads."""
        ...

    @property
    def ended(self) -> bool:
        """True from the moment the end entry is in; nothing is appended after it."""
        ...

    @property
    def held(self) -> int:
        """Bytes of memory that it takes, as they are counted in its store."""
        ...

    def grow(self, size: int) -> None:
        """Counts `size` bytes that are kept on its behalf elsewhere; a negative number gives them back."""
        ...

    @property
    def full(self) -> bool:
        """Must the upstream not be read until `room` returns?"""
        ...

    async def room(self) -> None:
        """Returns when it is not full."""
        ...

    def abandon(self) -> None:
        """Nobody will read it any more, though it may still be written."""
        ...

    def append(self, batch: Sequence[Entry]) -> None: ...

    def follow(self, wake: Callable[[], None]) -> None:
        """Calls `wake` after every batch until `unfollow`."""
        ...

    def unfollow(self, wake: Callable[[], None]) -> None:
        """May be called twice."""
        ...


class StreamLog(Recording, Protocol):
    """A recording that is kept: entry `n` is `entries[n - 1]`. It is never full; its size is bounded instead."""

    @property
    def entries(self) -> Sequence[Entry]: ...


class StreamStore(Protocol):
    @property
    def full(self) -> bool:
        """Is there no room for one more?"""
        ...

    @property
    def overfull(self) -> bool:
        """Does it hold more than its bound? `relieve` is called with every growth beyond it."""
        ...

    @property
    def bound(self) -> int:
        """Bytes past which no new log is created."""
        ...

    @property
    def size(self) -> int:
        """Bytes that all logs take."""
        ...

    relieve: Callable[[], None]

    def create(self, stream_id: str) -> StreamLog:
        """A new, empty log. Raises Busy when there is no room for one more."""
        ...

    def grow(self, size: int) -> None:
        """Counts bytes of a log that is no stream's own: see Window."""
        ...

    def discard(self, stream_id: str) -> None: ...
