"""Streams in this process's memory."""

from collections.abc import Callable, Sequence

from gateway.entries import Entry, Kind
from gateway.errors import Busy
from gateway.log.followers import Followers

_STREAM = 6144  # bytes that a stream takes beside its entries, once it has ended: measured, as 5,900
_END = Kind.END  # a name of the module is found faster than an enumeration's
_ENTRY = 80  # bytes that an entry takes beside its payload: a struct, a bytes object, a place in a list


class MemoryStore:
    """See StreamStore. `max_bytes` bounds the entries of all streams together, `max_streams` their number."""

    def __init__(self, *, max_streams: int, max_bytes: int) -> None:
        self.size = 0
        self.bound = max_bytes
        self._logs: dict[str, MemoryLog] = {}
        self._max_streams = max_streams
        self.relieve: Callable[[], None] = lambda: None

    @property
    def full(self) -> bool:
        return len(self._logs) >= self._max_streams or self.size >= self.bound

    def create(self, stream_id: str) -> "MemoryLog":
        if self.full:
            raise Busy(headers={"Retry-After": "5"})
        log = self._logs[stream_id] = MemoryLog(self)
        log.grow(_STREAM)
        return log

    @property
    def overfull(self) -> bool:
        return self.size > self.bound

    def grow(self, size: int) -> None:
        self.size += size
        if self.size > self.bound:  # `overfull`, without a call
            self.relieve()

    def discard(self, stream_id: str) -> None:
        log = self._logs.pop(stream_id, None)
        if log is not None:
            self.size -= log.held

    def __len__(self) -> int:
        return len(self._logs)


class MemoryLog(Followers):
    """See StreamLog."""

    __slots__ = ("_store", "ended", "entries", "held", "last", "size")

    full = False
    is_kept = True

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self.last = 0
        self.size = 0
        self.held = 0
        self.ended = False
        self._store = store

    def grow(self, size: int) -> None:
        self.held += size
        self._store.grow(size)

    async def room(self) -> None:
        """There always is."""

    def abandon(self) -> None:
        """It is discarded when it is over."""

    def append(self, batch: Sequence[Entry], *, tells: bool = True) -> None:
        if self.ended:
            raise ValueError("a stream that has ended takes no more entries")
        self.entries += batch
        self.last = len(self.entries)
        grown = 0
        for entry in batch:
            grown += len(entry.payload)
        self.size += grown
        grown += _ENTRY * len(batch)
        self.held += grown
        store = self._store
        store.size += grown  # `grow`, without two calls
        if store.size > store.bound:
            store.relieve()
        self.ended = bool(batch) and batch[-1].kind is _END
        if tells:
            self.tell()
