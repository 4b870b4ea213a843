"""Views: pure functions from a numbered entry to the bytes that one kind of client sees, or to none.

A view's frame depends on nothing but the stream's id, the entry's number and the entry. That is what lets all viewers
of a stream share the bytes, and what makes a resumed stream the same to the byte as one that was never cut. Numbers
belong to entries, so a view that leaves some out has gaps in its ids.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from gateway.entries import Entry, Kind
from gateway.sse import Event, encode, encode_data

View = Callable[[str, int, Entry], bytes]
"""`view(stream_id, number, entry)`: the frame, or `b""` where this view shows nothing of the entry."""

_encode_json = msgspec.json.Encoder().encode


class Format(StrEnum):
    """How an SSE view puts text into `data`: bare, or as JSON for clients that need every carriage return."""

    TEXT = "text"
    JSON = "json"


def start_block(stream_id: str, *, retry_ms: int) -> bytes:
    """The block before any entry: with it, the client can come back before the upstream has said a word."""
    data = _encode_json({"stream": stream_id})
    return encode(Event(data, "start", f"{stream_id}.0"), retry=retry_ms)


def sse_view(*, format: Format, reasoning: bool) -> View:
    """Server-sent events. Reasoning is shown only where it was asked for."""
    view = _SSE_VIEWS[format]
    return view if reasoning else _without_reasoning(view)


def text_view(stream_id: str, number: int, entry: Entry) -> bytes:
    """The bare answer. A refusal is part of it: without it, a refused question would look like an empty answer."""
    kind, payload = entry
    return payload if kind is Kind.TEXT or kind is Kind.REFUSAL else b""


def _text_events(stream_id: str, number: int, entry: Entry) -> bytes:
    kind, payload = entry
    if kind is Kind.TEXT:  # first, being nearly all there is
        if b"\n" not in payload and b"\r" not in payload:
            return b"id: %b.%d\ndata: %b\n\n" % (stream_id.encode(), number, payload)
        return b"id: %b.%d\n%b\n" % (stream_id.encode(), number, encode_data(payload))
    return b"id: %b.%d\nevent: %b\n%b\n" % (
        stream_id.encode(),
        number,
        _EVENT_TYPES[kind],
        encode_data(payload),
    )


def _json_events(stream_id: str, number: int, entry: Entry) -> bytes:
    kind, payload = entry
    name = _JSON_NAMES.get(kind)
    if name is not None:
        payload = _encode_json({name: payload.decode()})
    event = b"" if kind is Kind.TEXT else b"event: %b\n" % _EVENT_TYPES[kind]
    return b"id: %b.%d\n%b%b\n" % (stream_id.encode(), number, event, encode_data(payload))


def _without_reasoning(view: View) -> View:
    def without_reasoning(stream_id: str, number: int, entry: Entry) -> bytes:
        return b"" if entry[0] is Kind.REASONING else view(stream_id, number, entry)

    return without_reasoning


_SSE_VIEWS = {Format.TEXT: _text_events, Format.JSON: _json_events}
_EVENT_TYPES = {
    Kind.REASONING: b"reasoning",
    Kind.REFUSAL: b"refusal",
    Kind.TOOL: b"tool_call",
    Kind.FAILURE: b"failure",
    Kind.END: b"end",
}
_JSON_NAMES = {Kind.TEXT: "content", Kind.REASONING: "reasoning", Kind.REFUSAL: "refusal"}
