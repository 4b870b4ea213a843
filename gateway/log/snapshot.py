"""A stream as one JSON object, for clients that poll. Each entry is encoded once for all polls."""

import msgspec

from gateway.entries import Kind, is_lost
from gateway.log.base import StreamLog
from gateway.log.views import EventId, text_view

_PIECE = 65_536  # bytes of a shared piece; each client gets a copy of the last one only, which is smaller

_encode_json = msgspec.json.Encoder().encode


class Snapshot:
    """Holds the text so far as pieces of a JSON string. The log counts their bytes.

    Pieces never change, so clients that read slowly share them.
    """

    def __init__(self, stream_id: str, log: StreamLog) -> None:
        self.size = 0  # bytes of the text
        self._id = stream_id
        self._log = log
        self._pieces: list[bytes] = []
        self._last = bytearray()
        self._taken = 0  # entries whose text is in the pieces

    def parts(self) -> list[bytes]:
        """The current JSON object `{"id", "state", "events", "last_event_id", "end", "text"}`, in parts."""
        entries = self._log.entries
        self._take(len(entries))
        last = entries[-1] if entries else None
        head = _encode_json(
            {
                "id": self._id,
                "state": "ended" if self._log.ended else "running",
                "events": len(entries),
                "last_event_id": str(EventId(self._id, len(entries), last is not None and is_lost(last))),
                "end": msgspec.Raw(last.payload) if last is not None and last.kind is Kind.END else None,
            }
        )
        return [head.removesuffix(b"}") + b',"text":"', *self._pieces, bytes(self._last) + b'"}']

    def _take(self, number: int) -> None:
        """Adds the texts up to entry `number`."""
        before = self.size
        for index in range(self._taken, number):
            if text := text_view(index + 1, self._log.entries[index]):
                self._last += _encode_json(text.decode())[1:-1]
                if len(self._last) >= _PIECE:
                    self._pieces.append(bytes(self._last))
                    self.size += len(self._last)
                    self._last.clear()
        self._taken = number
        self._log.grow(self.size - before)
