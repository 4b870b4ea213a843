"""Views: pure functions from a numbered entry to the bytes for one kind of client. The bytes may be empty.

A view's frame depends only on the stream's id, the entry's number and the entry. So all viewers of a stream can share
the bytes, and a resumed stream has the same bytes as one that was never interrupted. Numbers belong to entries, so a
view that leaves some entries out has gaps in its ids.
"""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from gateway.entries import EndReason, Entry, Kind, is_lost
from gateway.sse import Event, encode, encode_data

View = Callable[[int, Entry], bytes]
"""`view(number, entry)`: the frame of the entry, or `b""` if this view does not show it."""

_EVENT_ID = re.compile(r"([A-Za-z0-9_-]{22}(?:[A-Za-z0-9_-]{4})?)\.(0(?=[1-9]))?(0|[1-9][0-9]{0,8})", re.ASCII)
_encode_json = msgspec.json.Encoder().encode
_LF, _CR = b"\n\r"  # as numbers: bytes look for one three times as fast as for bytes of one
_CHUNK, _FAILURE, _END = Kind.CHUNK, Kind.FAILURE, Kind.END
_TEXT = Kind.TEXT  # a module's name is looked up faster than an enum's member, and this is done once per event


class Format(StrEnum):
    """The form of text in `data` of an SSE view: bare, or as JSON for clients that must keep carriage returns."""

    TEXT = "text"
    JSON = "json"


def start_block(stream_id: str, *, retry_ms: int, ticket: str | None = None) -> bytes:
    """The block before all entries. With its id, the client can resume before the first entry.

    `ticket` is only for the client that started the stream.
    """
    data = _encode_json({"stream": stream_id} if ticket is None else {"stream": stream_id, "ticket": ticket})
    return encode(Event(data, "start", str(EventId(stream_id, 0))), retry=retry_ms)


class EventId(NamedTuple):
    """`is_lost`: of one of the two events that end a lost stream. A zero before the number tells it apart.

    The stream's own process may have sent another event with that number, which no other process knows.
    """

    stream: str
    number: int
    is_lost: bool = False

    def __str__(self) -> str:
        return f"{self.stream}.{'0' * self.is_lost}{self.number}"


def read_event_id(text: str) -> EventId | None:
    """None if the gateway did not make the id."""
    match = _EVENT_ID.fullmatch(text)
    return None if match is None else EventId(match[1], int(match[3]), match[2] is not None)


def sse_view(stream_id: str, *, format: Format, reasoning: bool) -> View:
    """Server-sent events. Reasoning is left out unless `reasoning` is set. The id is the last line of each block."""
    return _EventView(f"id: {stream_id}.".encode(), format is Format.JSON, reasoning).frame


class _EventView:
    """`name` is the line of the id up to the number. An object takes less memory than a function with these values."""

    __slots__ = ("_as_json", "_name", "_reasoning")

    def __init__(self, name: bytes, as_json: bool, reasoning: bool) -> None:
        self._name = name
        self._as_json = as_json
        self._reasoning = reasoning

    def frame(self, number: int, entry: Entry) -> bytes:
        kind, payload, name = entry.kind, entry.payload, self._name
        if self._as_json and kind in _JSON_NAMES:
            payload = _encode_json({_JSON_NAMES[kind]: payload.decode()})
        if kind is _TEXT:
            if _LF in payload or _CR in payload:
                return b"%b%b%d\n\n" % (encode_data(payload), name, number)
            return b"data: %b\n%b%d\n\n" % (payload, name, number)
        if kind in _THOUGHTS and not self._reasoning:
            return b""
        if (kind is _END or kind is _FAILURE) and is_lost(entry):
            name += b"0"
        return b"event: %b\n%b%b%d\n\n" % (_EVENT_TYPES[kind], encode_data(payload), name, number)


def text_view(number: int, entry: Entry) -> bytes:
    """The bare answer. It includes a refusal, because a refused question would otherwise look like an empty answer."""
    kind, payload = entry.kind, entry.payload
    return payload if kind is Kind.TEXT or kind is Kind.REFUSAL else b""


def chunk_view(number: int, entry: Entry) -> bytes:
    """The chunks that the upstream sent, framed as by OpenAI's own servers.

    These are bare `data` lines, because some SDKs fail at an `id`, `event` or `retry` line. `[DONE]` is sent only if
    the answer is complete.
    """
    kind, payload = entry.kind, entry.payload
    if kind is _CHUNK:
        return encode_data(payload) + b"\n" if _LF in payload or _CR in payload else b"data: %b\n\n" % payload
    if kind is Kind.FAILURE:
        return encode_data(_encode_json({"error": msgspec.json.decode(payload)["error"]})) + b"\n"
    return b"data: [DONE]\n\n" if msgspec.json.decode(payload)["reason"] == EndReason.COMPLETE else b""


def response_view(number: int, entry: Entry) -> bytes:
    """The events of a response as the upstream sent them. Its numbers of events count from 0.

    A failure is the `error` event of the Responses API. The official SDKs raise it by the `error` that it has, too.
    """
    kind, payload = entry.kind, entry.payload
    if kind is _CHUNK:
        return payload
    failure = msgspec.json.decode(payload)
    if kind is not Kind.FAILURE or failure.get("is_told"):
        return b""
    error = failure["error"]
    words = {name: error[name] for name in ("code", "message", "param")}
    fields = {"type": "error", **words, "sequence_number": number - 1, "error": error}
    return encode(Event(_encode_json(fields), "error"))


def body_view(number: int, entry: Entry) -> bytes:
    """A whole answer as the upstream sent it."""
    kind, payload = entry.kind, entry.payload
    return payload if kind is Kind.CHUNK else b""


_EVENT_TYPES = {
    Kind.REASONING: b"reasoning",
    Kind.REFUSAL: b"refusal",
    Kind.TOOL: b"tool_call",
    Kind.EXTRA: b"extra",
    Kind.REASONING_EXTRA: b"extra",
    Kind.FAILURE: b"failure",
    Kind.END: b"end",
}
_THOUGHTS = frozenset({Kind.REASONING, Kind.REASONING_EXTRA})
_JSON_NAMES = {Kind.TEXT: "content", Kind.REASONING: "reasoning", Kind.REFUSAL: "refusal"}
