"""The port behind which streams are kept.

A log is append-only and whole: no entry is changed or dropped while the log is held. Entries that arrived in one
upstream read are appended as one batch, and followers are told once per batch.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.entries import Entry


class StreamLog(Protocol):
    """The numbered entries of one stream: entry `n` is `entries[n - 1]`."""

    @property
    def entries(self) -> Sequence[Entry]: ...

    @property
    def size(self) -> int:
        """Bytes of all payloads."""
        ...

    @property
    def ended(self) -> bool:
        """True from the moment the end entry is in; nothing is appended after it."""
        ...

    def append(self, batch: Sequence[Entry]) -> None: ...

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` after every batch until the function that it returns is called."""
        ...


class StreamStore(Protocol):
    def create(self, stream_id: str) -> StreamLog:
        """A new, empty log. Raises Busy when there is no room for one more."""
        ...

    def discard(self, stream_id: str) -> None: ...
