"""The interfaces of logs and of the store that keeps them.

A log is append-only and complete: no entry is changed or dropped while the log is held. Entries that arrived in one
upstream read are appended as one batch, and followers are called once per batch.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.entries import Entry


class Recording(Protocol):
    """The object to which a generation writes its entries."""

    @property
    def is_kept(self) -> bool:
        """Whether many viewers can read it from any entry. Otherwise one reader takes each entry once."""
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
        """Whether the end entry was appended. Nothing is appended after it."""
        ...

    @property
    def held(self) -> int:
        """Bytes of memory that it takes, as counted by its store."""
        ...

    def grow(self, size: int) -> None:
        """Counts `size` bytes that are held for this stream elsewhere. A negative number subtracts them."""
        ...

    @property
    def full(self) -> bool:
        """Whether the upstream must not be read until `room` returns."""
        ...

    async def room(self) -> None:
        """Waits until it is not full."""
        ...

    def abandon(self) -> None:
        """Called when nobody will read it any more. It may still be written."""
        ...

    def append(self, batch: Sequence[Entry], *, tells: bool = True) -> None:
        """Followers that are not told of this batch hear of it with the next one."""
        ...

    def follow(self, wake: Callable[[], None]) -> None:
        """Calls `wake` after every batch until `unfollow`."""
        ...

    def unfollow(self, wake: Callable[[], None]) -> None:
        """May be called twice."""
        ...


class StreamLog(Recording, Protocol):
    """A recording that is kept. Entry `n` is `entries[n - 1]`. It is never full, but its size is bounded."""

    @property
    def entries(self) -> Sequence[Entry]: ...


class StreamStore(Protocol):
    @property
    def full(self) -> bool:
        """Whether there is no room for one more log."""
        ...

    @property
    def overfull(self) -> bool:
        """Whether it holds more than its bound. `relieve` is called at every growth beyond the bound."""
        ...

    @property
    def bound(self) -> int:
        """Bytes beyond which no new log is created."""
        ...

    @property
    def size(self) -> int:
        """Bytes that all logs take."""
        ...

    relieve: Callable[[], None]

    def create(self, stream_id: str) -> StreamLog:
        """Creates an empty log. Raises Busy if there is no room."""
        ...

    def grow(self, size: int) -> None:
        """Counts bytes of a log that the store did not create: see Window."""
        ...

    def discard(self, stream_id: str) -> None: ...
