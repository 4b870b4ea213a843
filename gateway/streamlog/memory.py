"""Streams in this process's memory."""

from collections.abc import Callable, Sequence

from gateway.entries import Entry, Kind
from gateway.errors import Busy

_ENTRY = 100  # bytes that an entry takes beside its payload: a tuple, a bytes object, a place in a list


class MemoryStore:
    """See StreamStore. `max_bytes` bounds the entries of all streams together, `max_streams` their number."""

    def __init__(self, *, max_streams: int, max_bytes: int) -> None:
        self.size = 0  # bytes that all entries take
        self._logs: dict[str, MemoryLog] = {}
        self._max_streams = max_streams
        self._max_bytes = max_bytes

    def create(self, stream_id: str) -> "MemoryLog":
        full = len(self._logs) >= self._max_streams or self.size >= self._max_bytes
        if full:
            raise Busy(headers={"Retry-After": "5"})
        log = self._logs[stream_id] = MemoryLog(self)
        return log

    def discard(self, stream_id: str) -> None:
        log = self._logs.pop(stream_id, None)
        if log is not None:
            self.size -= log.size + _ENTRY * len(log.entries)

    def __len__(self) -> int:
        return len(self._logs)


class MemoryLog:
    """See StreamLog."""

    __slots__ = ("_followers", "_store", "ended", "entries", "size")

    def __init__(self, store: MemoryStore) -> None:
        self.entries: list[Entry] = []
        self.size = 0
        self.ended = False
        self._store = store
        self._followers: tuple[Callable[[], None], ...] = ()  # replaced, not changed: one that is told may leave

    def append(self, batch: Sequence[Entry]) -> None:
        if self.ended:
            raise ValueError("a stream that has ended takes no more entries")
        self.entries += batch
        grown = 0
        for _, payload in batch:
            grown += len(payload)
        self.size += grown
        self._store.size += grown + _ENTRY * len(batch)
        self.ended = bool(batch) and batch[-1][0] is Kind.END
        for wake in self._followers:
            wake()

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        self._followers += (wake,)
        return lambda: self._unfollow(wake)

    def _unfollow(self, wake: Callable[[], None]) -> None:
        self._followers = tuple(other for other in self._followers if other is not wake)
