"""A stream as one JSON object, for clients that poll. Each entry is encoded once, however often they ask."""

import msgspec

from gateway.entries import Kind
from gateway.log.base import StreamLog
from gateway.log.views import event_id, text_view

_encode_json = msgspec.json.Encoder().encode


class Snapshot:
    """Holds the text so far as a JSON string, which the log counts as its own."""

    def __init__(self, stream_id: str, log: StreamLog) -> None:
        self._id = stream_id
        self._log = log
        self._text = bytearray(b'"')
        self._taken = 0  # entries whose text is in there

    def body(self) -> bytes:
        """`{"id", "state", "text", "events", "last_event_id", "end"}` as it is now."""
        entries = self._log.entries
        self._take(len(entries))
        kind, payload = entries[-1] if entries else (None, b"")
        return _encode_json(
            {
                "id": self._id,
                "state": "ended" if self._log.ended else "running",
                "text": msgspec.Raw(self._text + b'"'),
                "events": len(entries),
                "last_event_id": event_id(self._id, len(entries)),
                "end": msgspec.Raw(payload) if kind is Kind.END else None,
            }
        )

    def _take(self, number: int) -> None:
        """The texts up to entry `number`."""
        before = len(self._text)
        for index in range(self._taken, number):
            if text := text_view(index + 1, self._log.entries[index]):
                self._text += _encode_json(text.decode())[1:-1]
        self._taken = number
        self._log.grow(len(self._text) - before)
