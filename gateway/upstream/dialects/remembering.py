"""A decoder for answers that nothing else holds, if another target may go on with them."""

from gateway.entries import Entry, Kind
from gateway.sse import Event
from gateway.upstream.dialects.chunks import Chunk
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.prefix import PassedText


class RememberingDecoder(Decoder):
    """Remembers the text of its entries. `RememberingRelay` does the same for chunks."""

    def __init__(self) -> None:
        super().__init__()
        self._passed = PassedText()

    @property
    def passed_text(self) -> bytes | None:
        """The text. None if there was anything else, or too much of it."""
        return self._passed.known

    def decode(self, event: Event, entries: list[Entry], chunk: Chunk | None = None) -> Chunk | None:
        before = len(entries)
        try:
            return super().decode(event, entries, chunk)
        finally:  # the entries before an error are passed on, too
            for entry in entries[before:]:
                self._passed.add(entry.payload)
                if entry.kind is not Kind.TEXT:
                    self._passed.forget()

    def _take_text(self, payload: bytes, data: bytes, entries: list[Entry]) -> None:
        self._passed.add(payload)
        super()._take_text(payload, data, entries)
