"""Translates the entries of a stream to the events of a response, each with its number.

https://platform.openai.com/docs/api-reference/responses-streaming

A state machine: what an entry becomes depends on those before it. It depends on nothing else, so whoever reads the same
entries makes the same events, and a client can resume behind any of them.

    created ─> in_progress ─> items ─> completed, incomplete or failed

Items follow each other, as clients expect. The fragments of several function calls may alternate, though. So what comes
while the arguments of a call are not whole, and is not of that call, waits until they are.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from gateway.entries import EndReason, Entry, Kind
from gateway.responses.head import Head, response_id
from gateway.responses.output import Event, FunctionCall, Item, Message, Object, Reasoning
from gateway.upstream.dialects.chunks import as_object, read_json
from gateway.upstream.dialects.tool_calls import Call, Calls
from gateway.upstream.dialects.usage import measured

_encode_json = msgspec.json.Encoder().encode
_TEXT = Kind.TEXT  # a module's name is looked up faster than an enum's member, and this is done once per event
_NO_LOGPROBS = b',"logprobs":[]'

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_CANCELLED = frozenset({EndReason.STOPPED, EndReason.CLIENT_GONE})
_RATE_LIMITED = frozenset({"rate_limit_error", "rate_limit_exceeded", "insufficient_quota"})


class ResponseEvents:
    """The events with a number above `after`, as bytes, and the response as it is so far.

    Call `begin` first, and then `add` for each entry, in order.
    """

    def __init__(self, stream_id: str, head: Head, *, after: int = -1) -> None:
        self._stream_id = stream_id
        self._head = head
        self._after = after
        self._number = 0  # of the next event
        self._out: list[bytes] = []
        self._items: list[Item] = []
        self._open: Item | None = None  # the item that grows
        self._delta: tuple[bytes, bytes] | None = None  # the bytes around a delta of the open message or reasoning
        self._delta_kind = Kind.END
        self._grow: Callable[[bytes], None] = lambda piece: None  # adds to the open part
        self._calls = Calls()
        self._called: dict[int, FunctionCall] = {}  # those that have begun
        self._waiting: list[tuple[Call | None, Callable[[], None]]] = []  # for the end of the open call, in order
        self._status = "queued" if head.background else "in_progress"
        self._error: Object | None = None
        self._incomplete: Object | None = None
        self._usage: Object | None = None
        self._failure: Mapping[str, Any] | None = None

    @property
    def number(self) -> int:
        """That of the next event."""
        return self._number

    # The response

    def response(self) -> Object:
        """The response object: https://platform.openai.com/docs/api-reference/responses/object"""
        return {
            "id": response_id(self._stream_id),
            "object": "response",
            "created_at": self._head.created_at,
            "status": self._status,
            "error": self._error,
            "incomplete_details": self._incomplete,
            "output": [item.value() for item in self._items],
            "usage": self._usage,
            **self._head.fields,
        }

    # Events

    def begin(self) -> bytes:
        self._emit("response.created", {"response": self.response()})
        if self._head.background:
            self._emit("response.queued", {"response": self.response()})
        self._status = "in_progress"
        self._emit("response.in_progress", {"response": self.response()})
        if self._head.background:
            self._status = "queued"  # until there is an entry
        return self._taken()

    def add(self, entry: Entry) -> bytes:
        kind = entry.kind
        if kind is self._delta_kind and self._delta is not None:
            payload, number = entry.payload, self._number
            self._number = number + 1
            self._grow(payload)
            if number <= self._after:
                return b""
            head, tail = self._delta
            return b"%b%b%b%d}\n\n" % (head, _encode_json(payload.decode()), tail, number)
        self._status = "in_progress"
        self._add(kind, entry.payload)
        return self._taken()

    def _add(self, kind: Kind, payload: bytes) -> None:
        match kind:
            case Kind.TEXT:
                self._in_turn(lambda: self._say(payload, is_refusal=False))
            case Kind.REFUSAL:
                self._in_turn(lambda: self._say(payload, is_refusal=True))
            case Kind.REASONING:
                self._in_turn(lambda: self._think(payload))
            case Kind.TOOL:
                self._tool(payload)
            case Kind.EXTRA:
                self._extra(payload)
            case Kind.FAILURE:
                self._failure = msgspec.json.decode(payload)["error"]
            case Kind.END:
                self._finish(payload)
            case _:
                pass  # fields about the reasoning that only their provider can read

    def _taken(self) -> bytes:
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _emit(self, event_type: str, fields: Object) -> None:
        number = self._number
        self._number = number + 1
        if number > self._after:
            data = _encode_json({"type": event_type, **fields, "sequence_number": number})
            self._out.append(b"event: %b\ndata: %b\n\n" % (event_type.encode(), data))

    def _emit_all(self, events: Iterable[Event]) -> None:
        for event_type, fields in events:
            self._emit(event_type, fields)

    # One item after the other

    def _in_turn(self, step: Callable[[], None], call: Call | None = None) -> None:
        """Takes the step, which may be about a call, or lets it wait."""
        item = self._open
        if isinstance(item, FunctionCall) and item.call is not call and (self._waiting or not item.call.is_whole()):
            self._waiting.append((call, step))
        else:
            step()

    def _go_on(self) -> None:
        """Ends the open item, and takes the steps that waited for that."""
        self._close()
        waiting, self._waiting = self._waiting, []
        for call, step in waiting:
            self._in_turn(step, call)

    def _begin(self, item: Item) -> None:
        """Ends the open item, and adds another one."""
        self._close()
        self._items.append(item)
        self._open = item
        self._emit("response.output_item.added", {"output_index": item.index, "item": item.value()})

    def _close(self, *, is_whole: bool = True) -> None:
        item, self._open, self._delta = self._open, None, None
        if item is not None:
            self._emit_all(item.end())
            item.status = "completed" if is_whole else "incomplete"
            self._emit("response.output_item.done", {"output_index": item.index, "item": item.value()})

    def _name(self) -> str:
        return f"{self._stream_id}_{len(self._items)}"

    # Messages and reasoning

    def _say(self, payload: bytes, *, is_refusal: bool) -> None:
        message = self._open
        if not isinstance(message, Message):
            message = Message(self._name(), len(self._items))
            self._begin(message)
        kind = Kind.REFUSAL if is_refusal else _TEXT
        if self._delta is None or self._delta_kind is not kind:
            self._emit_all(message.open(is_refusal=is_refusal))
            name = "response.refusal.delta" if is_refusal else "response.output_text.delta"
            tail = b"" if is_refusal else _NO_LOGPROBS
            self._expect(kind, name, message.place, message.parts[-1].add, tail=tail)
        self._out.append(self.add(Entry(kind, payload)))

    def _think(self, payload: bytes) -> None:
        item = self._open
        if not isinstance(item, Reasoning):
            item = Reasoning(self._name(), len(self._items))
            self._begin(item)
            self._emit_all(item.open())
            self._expect(Kind.REASONING, "response.reasoning_summary_text.delta", item.place, item.add)
        self._out.append(self.add(Entry(Kind.REASONING, payload)))

    def _expect(
        self, kind: Kind, event_type: str, place: Object, grow: Callable[[bytes], None], *, tail: bytes = b""
    ) -> None:
        """More entries of this kind are nearly always next. All of their events but the delta is made once."""
        head = _encode_json({"type": event_type, **place})[:-1]
        self._delta = (
            b'event: %b\ndata: %b,"delta":' % (event_type.encode(), head),
            tail + b',"sequence_number":',
        )
        self._delta_kind, self._grow = kind, grow

    def _extra(self, payload: bytes) -> None:
        """Annotations of a text are shown. A response has no place for other fields."""
        message = self._open
        if not isinstance(message, Message) or self._delta_kind is not _TEXT:
            return
        fields = as_object(read_json(payload)) or {}
        given = fields.get("annotations")
        part = message.parts[-1]
        for annotation in filter(None, map(_citation, given if isinstance(given, list) else [])):
            place = {**message.place, "annotation_index": len(part.annotations)}
            part.annotations.append(annotation)
            self._emit("response.output_text.annotation.added", {**place, "annotation": annotation})

    # Function calls

    def _tool(self, payload: bytes) -> None:
        call = self._calls.add(payload)
        if call.name:  # it has to come first in the events of a call
            self._in_turn(lambda: self._call(call), call)
            if self._waiting and self._is_open(call) and call.is_whole():
                self._go_on()

    def _call(self, call: Call) -> None:
        item = self._called.get(id(call))
        if item is None:
            item = self._called[id(call)] = FunctionCall(
                call, self._name(), len(self._items), self._head.qualified.get(call.name)
            )
            self._begin(item)
        if item is self._open:  # else its arguments were whole, and what comes behind them is not of them
            self._emit_all(item.argue())

    def _is_open(self, call: Call) -> bool:
        return isinstance(self._open, FunctionCall) and self._open.call is call

    # The end

    def _finish(self, payload: bytes) -> None:
        end = msgspec.json.decode(payload)
        reason, finish = end["reason"], end.get("finish_reason")
        is_whole = reason == EndReason.COMPLETE and finish not in _INCOMPLETE
        while self._waiting:
            self._go_on()
        for call in self._calls.all:
            if id(call) not in self._called:  # it never got a name
                self._call(call)
        self._close(is_whole=is_whole)
        if (usage := as_object(end.get("usage"))) is not None:
            self._usage = _usage(usage)
        self._emit(self._final(reason, finish), {"response": self.response()})

    def _final(self, reason: str, finish: str | None) -> str:
        """Sets the last status. Returns the type of the last event."""
        if reason == EndReason.COMPLETE:
            if finish not in _INCOMPLETE:
                self._status = "completed"
                return "response.completed"
            self._incomplete = {"reason": _INCOMPLETE[finish]}
        if reason == EndReason.COMPLETE or reason in _CANCELLED:
            self._status = "cancelled" if reason in _CANCELLED else "incomplete"
            return "response.incomplete"
        self._status, self._error = "failed", _error(self._failure or {})
        return "response.failed"


def _error(failure: Mapping[str, Any]) -> Object:
    """`code` is one of OpenAI's, which its SDKs know. `cause` is the gateway's own."""
    is_limit = failure.get("type") in _RATE_LIMITED or failure.get("code") in _RATE_LIMITED
    code = "rate_limit_exceeded" if is_limit else "server_error"
    return {"code": code, "message": failure.get("message", ""), "cause": failure.get("code")}


def _usage(usage: dict[str, Any]) -> Object:
    tokens = measured(usage)
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.all,
    }


def _citation(annotation: Any) -> Object | None:
    """An annotation of a chat's message as one of a response's text."""
    fields = as_object(annotation) or {}
    cited = as_object(fields.get("url_citation"))
    if fields.get("type") != "url_citation" or cited is None:
        return None
    places = {name: value if isinstance(value := cited.get(name), int) else 0 for name in ("start_index", "end_index")}
    texts = {name: value if isinstance(value := cited.get(name), str) else "" for name in ("url", "title")}
    return {"type": "url_citation", **texts, **places}
