"""What OpenAI-compatible servers stream, as entries: https://platform.openai.com/docs/api-reference/chat-streaming

The textbook shape is decoded straight into typed structs. Whatever those refuse (content as a list of parts, a NaN, a
lone surrogate, bytes that are not UTF-8, choices that are no list) is read again by a slower, forgiving reader that
makes the same structs of it, so that there is one place where a chunk is given its meaning: `Decoder.decode`.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamEmpty, UpstreamError, UpstreamIncomplete, UpstreamRateLimited
from gateway.redaction import cleaned
from gateway.sse import Event

DATA_FIELDS = frozenset({b"error"})  # old llama.cpp: `error: {...}` as a field of its own

_MAX_DIGITS = 4300  # of an integer: Python's own guard against quadratic time
_MAX_USAGE = 16_384  # bytes: the longest known are under 1 KiB, and it goes into every end and log line
_MAX_CODE = 64  # characters of an upstream's error code; longer ones are prose, not codes


class Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: Delta | None = None
    message: Delta | None = None  # where a whole answer came although a stream was asked for
    finish_reason: str | None = None
    usage: msgspec.Raw = msgspec.Raw()  # Moonshot


class XGroq(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw()


class Chunk(msgspec.Struct, gc=False):
    id: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None
    x_groq: XGroq | None = None


_TEXT = Kind.TEXT  # a name of the module is found faster than an enumeration's; this one is asked for once per event
_decode_chunk: Callable[[bytes], Chunk] = msgspec.json.Decoder(Chunk).decode


class Decoder:
    """One attempt's events become entries; what is not an entry is kept here as it comes.

    Shapes: `usage` is the last usage object seen, as JSON, or None; `skipped` counts events that were not JSON.
    """

    def __init__(self) -> None:
        self.id: str | None = None
        self.created: int | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.done = False  # `[DONE]` was seen: nothing after it counts
        self.skipped = 0
        self._usage: bytes | None = None
        self._answered = False  # has any content come?

    @property
    def complete(self) -> bool:
        """Has the upstream said, one way or the other, that the answer is whole?"""
        return self.done or self.finish_reason is not None

    @property
    def usage(self) -> dict[str, Any] | None:
        """Decoded only when it is asked for, once per stream: some servers send it with every chunk."""
        return None if self._usage is None else _as_object(_read_json(self._usage))

    def decode(self, event: Event, entries: list[Entry]) -> None:
        """Adds to `entries` what the event holds.

        Raises UpstreamError when the event reports an error, in any of the shapes in which servers do.
        """
        if event.data == b"[DONE]":
            self.done = True
            return
        try:
            chunk = _decode_chunk(event.data)
        except (ValueError, RecursionError):  # msgspec's errors and a bad UTF-8 byte are ValueErrors
            self._decode_odd(event, entries)
            return
        self._take(chunk, entries)
        if not chunk.choices or chunk.error or chunk.x_groq or event.type == "error" or self.finish_reason == "error":
            self._raise_error(event)

    def decode_completion(self, body: bytes, entries: list[Entry]) -> None:
        """A whole JSON body that came where a stream was asked for: an error, or one delta and the end."""
        self.decode(Event(body), entries)
        if self._answered and self.finish_reason is None:
            self.done = True  # a whole message is whole, even where nobody says why it ended

    def finish(self) -> None:
        """To be called where the upstream ended. Raises UpstreamIncomplete or UpstreamEmpty."""
        if not self.complete:
            raise UpstreamIncomplete()
        if not self._answered and self.finish_reason is None:
            raise UpstreamEmpty()

    # What a chunk means

    def _take(self, chunk: Chunk, entries: list[Entry]) -> None:
        if chunk.choices:
            for choice in chunk.choices:
                if not choice.index:  # the native surface asks for one choice, so another is nobody's
                    self._take_choice(choice, entries)
        if chunk.model:
            self.model = chunk.model
        if self.id is None and chunk.id:
            self.id, self.created = chunk.id, chunk.created
        if chunk.usage:
            self._take_usage(chunk.usage)
        if chunk.x_groq and chunk.x_groq.usage:
            self._take_usage(chunk.x_groq.usage)

    def _take_choice(self, choice: Choice, entries: list[Entry]) -> None:
        delta = choice.delta or choice.message
        if delta is not None:
            if reasoning := delta.reasoning_content or delta.reasoning:
                entries.append((Kind.REASONING, reasoning.encode()))
            if delta.content:
                entries.append((_TEXT, delta.content.encode()))
                self._answered = True
            if delta.refusal:
                entries.append((Kind.REFUSAL, delta.refusal.encode()))
                self._answered = True
            if delta.tool_calls and (calls := _objects(delta.tool_calls)):
                entries.extend([(Kind.TOOL, call) for call in calls])
                self._answered = True
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        if choice.usage:
            self._take_usage(choice.usage)

    def _take_usage(self, raw: msgspec.Raw) -> None:
        usage = bytes(raw)
        if usage.startswith(b"{") and len(usage) <= _MAX_USAGE:  # not null, nor something else that calls itself usage
            self._usage = usage

    # What the structs refused

    def _decode_odd(self, event: Event, entries: list[Entry]) -> None:
        value = _read_json(event.data)
        if isinstance(value, dict):
            self._take(_chunk(value), entries)
            self._raise_error(event)
        elif event.data.strip(b" ") == b"[DONE]":  # Mistral has been seen to put two spaces after the colon
            self.done = True
        elif event.type == "error":
            raise _error(event.data.decode(errors="replace"))
        elif value is None:
            self.skipped += 1

    def _raise_error(self, event: Event) -> None:
        """Looks closely at an event that may be an error, and raises it if it is."""
        value = _as_object(_read_json(event.data)) or {}
        found = value.get("error") or (_as_object(value.get("x_groq")) or {}).get("error")
        if not found and (event.type == "error" or value.get("object") == "error" or _is_flat_error(value)):
            raise _error(value)
        if found:
            raise _error(found)
        if self.finish_reason == "error":
            raise UpstreamError()


def _is_flat_error(value: dict[str, Any]) -> bool:
    return "choices" not in value and "message" in value and "code" in value


def _error(found: Any) -> UpstreamError:
    """The error that a server put into its stream: an object with a message, or just a string."""
    if not isinstance(found, dict):
        return UpstreamError(cleaned(found) if isinstance(found, str) else None)
    found = _as_object(found.get("error")) or found
    message, code = found.get("message"), found.get("code")
    words = cleaned(message) if isinstance(message, str) else None
    if code in (429, "429", "rate_limit_exceeded"):
        return UpstreamRateLimited(words)
    known = isinstance(code, str) and code.isascii() and code.isprintable() and 0 < len(code) <= _MAX_CODE
    return UpstreamError(words, code=cleaned(code) if known else None)


# The forgiving reader: from any JSON value to the same structs


def _chunk(value: dict[str, Any]) -> Chunk:
    groq = value.get("x_groq")
    choices = value.get("choices")
    return Chunk(
        id=_as_text(value.get("id")),
        created=value["created"] if isinstance(value.get("created"), int) else None,
        model=_as_text(value.get("model")),
        choices=[_choice(c) for c in choices if isinstance(c, dict)] if isinstance(choices, list) else None,
        usage=_as_raw(value.get("usage")),
        x_groq=XGroq(usage=_as_raw(groq.get("usage"))) if isinstance(groq, dict) else None,
    )


def _choice(value: dict[str, Any]) -> Choice:
    index = value.get("index")
    return Choice(
        index=index if isinstance(index, int) else 0,
        delta=_delta(value.get("delta")),
        message=_delta(value.get("message")),
        finish_reason=_as_text(value.get("finish_reason")),
        usage=_as_raw(value.get("usage")),
    )


def _delta(value: Any) -> Delta | None:
    if not isinstance(value, dict):
        return None
    content = value.get("content")
    calls = value.get("tool_calls")
    return Delta(
        content=_as_text(content) or _parts(content, "text"),
        reasoning_content=_as_text(value.get("reasoning_content")) or _parts(content, "thinking"),
        reasoning=_as_text(value.get("reasoning")),
        refusal=_as_text(value.get("refusal")),
        tool_calls=[_as_raw(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else None,
    )


def _parts(content: Any, kind: str) -> str | None:
    """The text of a list of parts, as Mistral sends it.

    Shapes: `{"type": "text", "text": "..."}`, `{"type": "thinking", "thinking": [{"type": "text", "text": "..."}]}`.
    """
    if not isinstance(content, list):
        return None
    found = [part.get(kind) for part in content if isinstance(part, dict) and part.get("type", "text") == kind]
    if kind == "thinking":
        found = [_parts(part, "text") or part for part in found]
    return "".join([_as_text(part) or "" for part in found]) or None


def _read_json(data: bytes) -> Any:
    """Any JSON, and the near-JSON that servers send (NaN, lone surrogates, bytes that are not UTF-8), or None."""
    try:
        return json.loads(data.decode(errors="replace"), parse_constant=_nothing, parse_float=_float, parse_int=_int)
    except (ValueError, RecursionError):
        return None


def _nothing(_: str) -> None:
    """NaN and the infinities are not JSON, so they are not passed on."""


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def _as_text(value: Any) -> str | None:
    """A string that can be encoded: a surrogate without its other half becomes U+FFFD."""
    if not isinstance(value, str):
        return None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _as_object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _as_raw(value: Any) -> msgspec.Raw:
    """The value as JSON; nothing for None, and for what is nested too deeply to be written again."""
    try:
        return msgspec.Raw() if value is None else msgspec.Raw(_dump(value))
    except RecursionError:
        return msgspec.Raw()


def _dump(value: Any) -> bytes:
    """JSON that any client can read. (`ensure_ascii` writes a lone surrogate as an escape.)"""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _objects(values: list[msgspec.Raw]) -> list[bytes]:
    """Those of the values that are objects, as valid UTF-8."""
    found = [data for data in map(bytes, values) if data.startswith(b"{")]
    return [data if data.isascii() else data.decode(errors="replace").encode() for data in found]
