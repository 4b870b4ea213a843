"""What OpenAI-compatible servers stream, as entries: events in, entries out, and what else is to be known of an answer.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from typing import Any

import msgspec

from gateway.dialects.chunks import Choice, Chunk, as_object, decode_chunk, read_chunk, read_json
from gateway.entries import Entry, Kind
from gateway.errors import UpstreamEmpty, UpstreamError, UpstreamIncomplete, UpstreamRateLimited
from gateway.redaction import cleaned
from gateway.sse import Event

DATA_FIELDS = frozenset({b"error"})  # old llama.cpp: `error: {...}` as a field of its own

_MAX_USAGE = 16_384  # bytes: the longest known are under 1 KiB, and it goes into every end
_MAX_CODE = 64  # characters of an upstream's error code; longer ones are prose, not codes
_TEXT = Kind.TEXT  # a name of the module is found faster than an enumeration's; this one is asked for once per event


class Decoder:
    """One attempt's events become entries; what is not an entry is kept here as it comes.

    Shapes: `usage` is the last usage object seen, as JSON, or None; `skipped` counts events that were not JSON;
    `said` is how many bytes of content there were, as UTF-8.
    """

    whole = False  # is the answer asked for as one JSON body, and not as a stream?

    def __init__(self) -> None:
        self.id: str | None = None
        self.created: int | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.done = False  # `[DONE]` was seen: nothing after it counts
        self.skipped = 0
        self.begun = False  # has the answer begun, be it with a thought?
        self.said = 0
        self._usage: bytes | None = None
        self._answered = False  # has any content come?

    @property
    def complete(self) -> bool:
        """Has the upstream said, one way or the other, that the answer is whole?"""
        return self.done or self.finish_reason is not None

    @property
    def usage(self) -> dict[str, Any] | None:
        """Decoded only when it is asked for, once per stream: some servers send it with every chunk."""
        return None if self._usage is None else as_object(read_json(self._usage))

    def decode(self, event: Event, entries: list[Entry]) -> Chunk | None:
        """Adds to `entries` what the event holds; returns its chunk, if it is one.

        Raises UpstreamError when the event reports an error, in any of the shapes in which servers do.
        """
        if event.data == b"[DONE]":
            self.done = True
            return None
        try:
            chunk = decode_chunk(event.data)
        except (ValueError, RecursionError):  # msgspec's errors and a bad UTF-8 byte are ValueErrors
            return self._decode_odd(event, entries)
        self._take(chunk, entries)
        if not chunk.choices or chunk.error or chunk.x_groq or event.type == "error" or self.finish_reason == "error":
            self._raise_error(event)
        return chunk

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
        if choice.index:
            return  # one choice is asked for, so another is nobody's
        delta = choice.delta or choice.message
        if delta is not None:
            if reasoning := delta.reasoning_content or delta.reasoning:
                self._add(Kind.REASONING, reasoning.encode(), entries)
            if delta.content:
                payload = delta.content.encode()
                entries.append((_TEXT, payload))
                self.said += len(payload)
                self._answered = self.begun = True
            if delta.refusal:
                self._add(Kind.REFUSAL, delta.refusal.encode(), entries)
                self._answered = True
            if delta.tool_calls and (calls := _objects(delta.tool_calls)):
                for call in calls:
                    self._add(Kind.TOOL, call, entries)
                self._answered = True
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
        if choice.usage:
            self._take_usage(choice.usage)

    def _add(self, kind: Kind, payload: bytes, entries: list[Entry]) -> None:
        entries.append((kind, payload))
        self.said += len(payload)
        self.begun = True

    def _take_usage(self, raw: msgspec.Raw) -> None:
        usage = bytes(raw)
        if usage.startswith(b"{") and len(usage) <= _MAX_USAGE:  # not null, nor something else that calls itself usage
            self._usage = usage

    # What the structs refused

    def _decode_odd(self, event: Event, entries: list[Entry]) -> Chunk | None:
        value = read_json(event.data)
        if isinstance(value, dict):
            chunk = read_chunk(value)
            self._take(chunk, entries)
            self._raise_error(event)
            return chunk
        if event.data.strip(b" ") == b"[DONE]":  # Mistral has been seen to put two spaces after the colon
            self.done = True
        elif event.type == "error":
            raise _error(event.data.decode(errors="replace"))
        elif value is None:
            self.skipped += 1
        return None

    def _raise_error(self, event: Event) -> None:
        """Looks closely at an event that may be an error, and raises it if it is."""
        value = as_object(read_json(event.data)) or {}
        found = value.get("error") or (as_object(value.get("x_groq")) or {}).get("error")
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
    found = as_object(found.get("error")) or found
    message, code = found.get("message"), found.get("code")
    words = cleaned(message) if isinstance(message, str) else None
    if code in (429, "429", "rate_limit_exceeded"):
        return UpstreamRateLimited(words)
    known = isinstance(code, str) and code.isascii() and code.isprintable() and 0 < len(code) <= _MAX_CODE
    return UpstreamError(words, code=cleaned(code) if known else None)


def _objects(values: list[msgspec.Raw]) -> list[bytes]:
    """Those of the values that are objects, as valid UTF-8."""
    found = [data for data in map(bytes, values) if data.startswith(b"{")]
    return [data if data.isascii() else data.decode(errors="replace").encode() for data in found]
