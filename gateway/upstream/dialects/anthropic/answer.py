"""Translates the answer of `POST /messages`: its events, or a whole message, become chunks of a chat completion.

https://platform.claude.com/docs/en/api/messages-streaming

The blocks of a message come one after the other, so what is known of the open one is all that is kept. The signature of
a thought is passed on as `thinking_blocks`: a client that sends it back lets the model go on thinking after a call.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.entries import Entry
from gateway.errors import GatewayError
from gateway.sse import Event
from gateway.upstream.dialects.chunks import as_object, dump, read_json
from gateway.upstream.dialects.error_reasons import reason_in
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.reported_errors import error_from
from gateway.upstream.dialects.status import error_from_status

Object = dict[str, Any]


class _Block(msgspec.Struct, gc=False):
    type: str = ""
    id: str | None = None
    name: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    input: dict[str, Any] | None = None


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    citation: Any = None
    stop_reason: str | None = None


class _Message(msgspec.Struct, gc=False):
    id: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    message: _Message | None = None
    content_block: msgspec.Raw = msgspec.Raw()
    delta: _Delta | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class _Whole(_Message, gc=False):
    type: str = ""
    content: list[msgspec.Raw] = []
    stop_reason: str | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode
_decode_block = msgspec.json.Decoder(_Block).decode
_encode_json = msgspec.json.Encoder().encode

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # the server stopped in the middle of a long turn, and can be asked to go on
    "refusal": "content_filter",
}
_STATUSES = {  # of errors that mean within a stream what they mean as a status; the others are moments' faults
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
}


class Answer:
    """Decodes the body of one response into a decoder of OpenAI's dialect, which has all that is known of the answer.

    `created` is the time, in seconds since 1970, that the chunks have: Anthropic's API does not tell it.
    """

    __slots__ = ("_calls", "_created", "_decoder", "_head", "_input", "_is_call", "_usage")

    def __init__(self, decoder: Decoder, *, created: int) -> None:
        self._decoder = decoder
        self._created = created
        self._head = self._head_of(_Message())
        self._usage: Object = {}
        self._calls = 0  # of tools, that have begun
        self._is_call = False  # whether the open block is one of them
        self._input: Object | None = None  # of the open call, as long as no part of it has come

    @property
    def done(self) -> bool:
        return self._decoder.done

    @property
    def complete(self) -> bool:
        return self._decoder.complete

    def decode_data(self, data: bytes, entries: list[Entry]) -> None:
        self.decode(Event(data), entries)

    def decode(self, event: Event, entries: list[Entry]) -> None:
        """Adds the entries of the event to `entries`. Raises a GatewayError if the event reports an error.

        Events of unknown types are ignored, as Anthropic's documents ask for. What is no object, the decoder skips.
        """
        told = _read(event.data)
        if told is None:
            self._decoder.decode(event, entries)
        elif told.error or told.type == "error":
            raise error_in(as_object(read_json(event.data)) or {})
        elif told.type == "message_stop":
            self._tell(b"[DONE]", entries)
        else:
            for chunk in self._chunks(told):
                self._tell(chunk, entries)

    def decode_completion(self, body: bytes, entries: list[Entry]) -> None:
        """Decodes a whole message, which a server may send in place of a stream, or an error."""
        value = as_object(read_json(body))
        if value is not None and (value.get("error") or value.get("type") == "error"):
            raise error_in(value)
        try:
            whole = _decode_whole(body)
        except (ValueError, RecursionError):
            whole = _Whole()
        if whole.type == "message":
            body = _encode_json(self._completion(whole))
        self._decoder.decode_completion(body, entries)

    def _tell(self, chunk: bytes, entries: list[Entry]) -> None:
        self._decoder.decode_data(chunk, entries)

    # Events

    def _chunks(self, told: _Event) -> Iterator[bytes]:
        match told.type:
            case "content_block_delta" if told.delta is not None:
                yield from self._of_delta(told.delta)
            case "content_block_start":
                yield from self._of_start(told.content_block)
            case "content_block_stop":
                if self._input is not None:
                    yield self._arguments(_encode_json(self._input).decode())
                self._is_call = False
            case "message_start" if told.message is not None:
                self._head = self._head_of(told.message)
                self._count(told.message.usage)
                yield self._chunk({"role": "assistant", "content": ""})
            case "message_delta":
                yield from self._of_end(told.delta or _Delta(), told.usage)

    def _of_start(self, raw: msgspec.Raw) -> Iterator[bytes]:
        """Text and thoughts may begin with some content. A call has none yet, or, on some servers, all of it."""
        block = _block(raw)
        self._input = None
        self._is_call = block.type == "tool_use"
        match block.type:
            case "tool_use":
                self._calls += 1
                self._input = block.input or {}
                yield self._fragment({"id": block.id or "", "type": "function"}, name=block.name or "", arguments="")
            case "text" | "thinking":
                yield from self._of_delta(_Delta(block.text, block.thinking, block.signature))
            case "redacted_thinking":
                yield self._chunk({"thinking_blocks": [raw]})
            case _ if block.type:  # of tools of Anthropic's server, for which nobody has asked
                yield self._chunk({"provider_specific_fields": {"content_block": raw}})

    def _of_delta(self, delta: _Delta) -> Iterator[bytes]:
        if delta.text:
            yield self._chunk({"content": delta.text})
        if delta.thinking:
            yield self._chunk({"reasoning_content": delta.thinking})
        if delta.signature:
            yield self._chunk({"thinking_blocks": [{"type": "thinking", "signature": delta.signature}]})
        if delta.partial_json and self._is_call:  # tools of Anthropic's server get their input in the same form
            yield self._arguments(delta.partial_json)
        if delta.citation:
            yield self._chunk({"citations": [delta.citation]})

    def _of_end(self, delta: _Delta, usage: Mapping[str, Any] | None) -> Iterator[bytes]:
        if delta.stop_reason:
            yield self._chunk({}, _FINISHES.get(delta.stop_reason, delta.stop_reason))
        if usage:
            self._count(usage)
            yield _encode_json({**self._head, "choices": [], "usage": counts(self._usage)})

    def _arguments(self, part: str) -> bytes:
        self._input = None
        return self._fragment({}, arguments=part)

    def _fragment(self, head: Object, **function: str) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls - 1, **head, "function": function}]})

    def _chunk(self, delta: Object, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _encode_json({**self._head, "choices": [choice]})

    def _head_of(self, message: _Message) -> Object:
        model = message.model or ""
        return {"id": message.id or "msg", "object": "chat.completion.chunk", "created": self._created, "model": model}

    def _count(self, usage: Mapping[str, Any] | None) -> None:
        """Later counts replace earlier ones: they are those of the whole answer."""
        self._usage |= {name: value for name, value in (usage or {}).items() if value is not None}

    # A whole message

    def _completion(self, whole: _Whole) -> Object:
        message: Object = {"role": "assistant", "content": None}
        calls: list[Object] = []
        thoughts: list[msgspec.Raw] = []
        for raw in whole.content:
            block = _block(raw)
            if block.type == "tool_use":
                function = {"name": block.name or "", "arguments": _encode_json(block.input or {}).decode()}
                calls.append({"id": block.id or "", "type": "function", "function": function})
            elif block.type in ("thinking", "redacted_thinking"):
                thoughts.append(raw)
            for name, text in (("content", block.text), ("reasoning_content", block.thinking)):
                if text:
                    message[name] = (message.get(name) or "") + text
        message |= {"tool_calls": calls} if calls else {}
        message |= {"thinking_blocks": thoughts} if thoughts else {}
        reason = _FINISHES.get(whole.stop_reason or "end_turn", whole.stop_reason)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        head = {**self._head_of(whole), "object": "chat.completion"}
        return {**head, "choices": [choice], "usage": counts(whole.usage or {})}


def counts(usage: Mapping[str, Any]) -> Object:
    """Usage in OpenAI's form, where tokens of the cache are part of those of the prompt."""
    cached, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    prompt, answer = _count(usage, "input_tokens") + cached + written, _count(usage, "output_tokens")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_creation_tokens": written},
    }


def error_in(value: Object) -> GatewayError:
    """The error for `{"type": "error", "error": {"type", "message"}}` within a body whose status was a success."""
    kind = (as_object(value.get("error")) or {}).get("type")
    status = _STATUSES.get(kind) if isinstance(kind, str) else None
    if status is None or reason_in(value).words is None:
        return error_from(value)
    return error_from_status(status, {}, dump(value))


def _count(usage: Mapping[str, Any], name: str) -> int:
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _read(data: bytes) -> _Event | None:
    """None for data that are not an object. Near-JSON is encoded again, and an event of another form has no type."""
    try:
        return _decode_event(data)
    except (ValueError, RecursionError):
        value = as_object(read_json(data))
    if value is None:
        return None
    try:
        return _decode_event(dump(value))
    except (ValueError, RecursionError):
        return _Event(type=str(value.get("type")) if value.get("type") == "error" else "", error=value.get("error"))


def _block(raw: msgspec.Raw) -> _Block:
    try:
        return _decode_block(raw)
    except (ValueError, RecursionError):
        return _Block()
