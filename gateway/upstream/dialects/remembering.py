"""A decoder for answers that nothing else holds, if another target may go on with them."""

from gateway.entries import Entry, Kind
from gateway.sse import Event
from gateway.upstream.dialects.chunks import Chunk
from gateway.upstream.dialects.openai import Decoder


class RememberingDecoder(Decoder):
    """Remembers the text of its entries. `RememberingRelay` does the same for chunks."""

    def __init__(self) -> None:
        super().__init__()
        self._text = bytearray()
        self._is_plain = True  # there was nothing but text

    @property
    def passed_text(self) -> bytes | None:
        """The text. None if there was anything else."""
        return bytes(self._text) if self._is_plain else None

    def decode(self, event: Event, entries: list[Entry], chunk: Chunk | None = None) -> Chunk | None:
        before = len(entries)
        try:
            return super().decode(event, entries, chunk)
        finally:  # the entries before an error are passed on, too
            for entry in entries[before:]:
                self._is_plain &= entry.kind is Kind.TEXT
                self._text += entry.payload

    def _take_text(self, payload: bytes, data: bytes, entries: list[Entry]) -> None:
        self._text += payload
        super()._take_text(payload, data, entries)
