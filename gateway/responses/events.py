"""Translates the entries of a stream to the events of a response, each with its number.

https://platform.openai.com/docs/api-reference/responses-streaming

A state machine: what an entry becomes depends on those before it. It depends on nothing else, so whoever reads the same
entries makes the same events, and a client can resume behind any of them.

    created ─> in_progress ─> items ─> completed, incomplete or failed

Items follow each other, as clients expect. So what comes in the middle of a function call waits for its end.

Clients make a call that is completed. So one whose arguments are half is never that, and an answer with calls that
cannot be made fails at its end, whatever the end says.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from gateway.entries import EndReason, Entry, Kind
from gateway.errors import ProducerLost, UpstreamError
from gateway.responses.ends import ending_of, is_cut, usage_of
from gateway.responses.head import Head, response_id
from gateway.responses.output import Event, FunctionCall, Item, Message, Object, Reasoning, citation
from gateway.upstream.dialects.chunks import as_object, read_json
from gateway.upstream.dialects.tool_calls import Call
from gateway.upstream.dialects.turns import Part, Turns

_encode_json = msgspec.json.Encoder().encode
_NO_LOGPROBS = b',"logprobs":[]'


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
        self._delta_kind: Kind | None = None  # that of the entries which add to the open part
        self._around = b"", b""  # the bytes around such a delta
        self._grow: Callable[[bytes], None] = lambda piece: None  # adds to the open part
        self._turns = Turns()
        self._is_complete = False
        self._status = "queued" if head.background else "in_progress"
        self._error: Object | None = None
        self._incomplete: Object | None = None
        self._usage: Object | None = None
        self._failure: Mapping[str, Any] | None = None
        self._fault: Mapping[str, Any] | None = None  # of the calls: the answer cannot be complete

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
        if entry.kind is self._delta_kind:  # nearly always
            return self._delta(entry.payload)
        self._status = "in_progress"
        match entry.kind:
            case Kind.TEXT | Kind.REFUSAL | Kind.REASONING | Kind.EXTRA | Kind.TOOL:
                self._take(entry)
            case Kind.FAILURE:
                self._failure = msgspec.json.decode(entry.payload)["error"]
            case Kind.END:
                self._finish(entry.payload)
            case _:
                pass  # fields about the reasoning that only their provider can read
        return self._taken()

    def _delta(self, payload: bytes) -> bytes:
        """The event of one more entry of the kind that was expected."""
        number = self._number
        self._number = number + 1
        self._grow(payload)
        if number <= self._after:
            return b""
        head, tail = self._around
        return b"%b%b%b%d}\n\n" % (head, _encode_json(payload.decode()), tail, number)

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

    def _take(self, entry: Entry) -> None:
        try:
            self._tell(self._turns.add(entry))
        except UpstreamError as error:
            self._fault = self._fault or error.body()["error"]

    def _tell(self, parts: Iterable[Part]) -> None:
        for part in parts:
            match part:
                case Entry(Kind.REASONING, payload):
                    self._think(payload)
                case Entry(Kind.EXTRA, payload):
                    self._extra(payload)
                case Entry(kind, payload):
                    self._say(kind, payload)
                case Call():
                    self._call(part)
                case arguments:
                    self._argue(arguments)

    def _begin(self, item: Item) -> None:
        """Ends the open item, and adds another one."""
        self._close()
        self._items.append(item)
        self._open = item
        self._emit("response.output_item.added", {"output_index": item.index, "item": item.value()})

    def _close(self, *, is_whole: bool = True) -> None:
        item, self._open, self._delta_kind = self._open, None, None
        if item is not None:
            is_made = not isinstance(item, FunctionCall) or item.is_made(if_empty=self._is_complete)
            item.status = "completed" if is_whole and is_made else "incomplete"
            self._emit_all(item.end())
            self._emit("response.output_item.done", {"output_index": item.index, "item": item.value()})

    def _name(self) -> str:
        return f"{self._stream_id}_{len(self._items)}"

    # Messages and reasoning

    def _say(self, kind: Kind, payload: bytes) -> None:
        message, is_refusal = self._open, kind is Kind.REFUSAL
        if not isinstance(message, Message):
            message = Message(self._name(), len(self._items))
            self._begin(message)
        if self._delta_kind is not kind:
            self._emit_all(message.open(is_refusal=is_refusal))
            name = "response.refusal.delta" if is_refusal else "response.output_text.delta"
            tail = b"" if is_refusal else _NO_LOGPROBS
            self._expect(kind, name, message.place, message.parts[-1].add, tail=tail)
        self._out.append(self._delta(payload))

    def _think(self, payload: bytes) -> None:
        item = self._open
        if not isinstance(item, Reasoning):
            item = Reasoning(self._name(), len(self._items))
            self._begin(item)
            self._emit_all(item.open())
            self._expect(Kind.REASONING, "response.reasoning_summary_text.delta", item.place, item.add)
        self._out.append(self._delta(payload))

    def _expect(
        self, kind: Kind, event_type: str, place: Object, grow: Callable[[bytes], None], *, tail: bytes = b""
    ) -> None:
        """More entries of this kind are nearly always next. All of their events but the delta is made once."""
        head = _encode_json({"type": event_type, **place})[:-1]
        self._around = (
            b'event: %b\ndata: %b,"delta":' % (event_type.encode(), head),
            tail + b',"sequence_number":',
        )
        self._delta_kind, self._grow = kind, grow

    def _extra(self, payload: bytes) -> None:
        """Annotations of a text are shown. A response has no place for other fields."""
        message = self._open
        if not isinstance(message, Message) or self._delta_kind is not Kind.TEXT:
            return
        fields = as_object(read_json(payload)) or {}
        given = fields.get("annotations")
        part = message.parts[-1]
        for annotation in filter(None, map(citation, given if isinstance(given, list) else [])):
            place = {**message.place, "annotation_index": len(part.annotations)}
            part.annotations.append(annotation)
            self._emit("response.output_text.annotation.added", {**place, "annotation": annotation})

    # Function calls

    def _call(self, call: Call) -> None:
        self._begin(FunctionCall(call, self._name(), len(self._items), self._head.qualified.get(call.name)))

    def _argue(self, arguments: str) -> None:
        assert isinstance(self._open, FunctionCall)
        self._emit(*self._open.argue(arguments))

    # The end

    def _finish(self, payload: bytes) -> None:
        end = msgspec.json.decode(payload)
        reason, finish = end["reason"], end.get("finish_reason")
        if reason == EndReason.COMPLETE and (fault := self._checked(finish)) is not None:
            reason, self._failure = EndReason.UPSTREAM_ERROR, fault
        ending = ending_of(reason, finish, self._failure)
        self._is_complete = ending.status == "completed"
        self._tell(self._turns.end())
        self._close(is_whole=self._is_complete)
        if (usage := as_object(end.get("usage"))) is not None:
            self._usage = usage_of(usage)
        self._status, self._error, self._incomplete = ending.status, ending.error, ending.incomplete
        if self._is_lost:
            self._number = max(self._number, self._after + 1)
        self._emit(ending.event_type, {"response": self.response()})

    @property
    def _is_lost(self) -> bool:
        """Whether a client may have had more than was recorded, so that the end has to come behind what it has."""
        return self._failure is not None and self._failure["code"] == ProducerLost.code

    def _checked(self, finish: str | None) -> Mapping[str, Any] | None:
        """What is wrong with the calls. Those of an answer that was cut may be half."""
        if self._fault is None and not is_cut(finish):
            try:
                self._turns.check()
            except UpstreamError as error:
                self._fault = error.body()["error"]
        return self._fault
