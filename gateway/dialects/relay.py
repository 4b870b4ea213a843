"""An upstream's chunks, passed on as they are: for clients that speak the dialect themselves.

Each is looked at for what the gateway must know of it (an error, an end, usage, the beginning), and its bytes go on
untouched. What cannot go on as it is: an error, which becomes a failure; an event that is not JSON, which is skipped;
near-JSON (a NaN, a lone surrogate, bytes that are not UTF-8), which is written again so that any client can read it;
and a usage chunk that the gateway asked for and the client did not.
"""

from typing import Any

import msgspec

from gateway.dialects.chunks import Choice, Chunk, Delta, as_object, dump, read_json
from gateway.dialects.openai import Decoder
from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError
from gateway.sse import Event

_CHUNK = Kind.CHUNK


class Relay(Decoder):
    """`whole`: the answer was asked for as one JSON body. `hide_usage`: a chunk of only usage is not passed on."""

    def __init__(self, *, whole: bool, hide_usage: bool, choices: int = 1) -> None:
        super().__init__()
        self.whole = whole
        self._choices = choices  # that were asked for
        self._hide_usage = hide_usage
        self._is_odd = False  # was the event that was read last refused by the structs?
        self._seen: set[int | None] = set()  # the indexes of the choices that have begun
        self._finished: set[int | None] = set()  # and of those that have ended

    @property
    def complete(self) -> bool:
        return self.done or (len(self._finished) >= self._choices and self._seen <= self._finished)

    def decode(self, event: Event, entries: list[Entry]) -> Chunk | None:
        self._is_odd = False
        chunk = super().decode(event, entries)
        if chunk is None or (not chunk.choices and self._hide_usage and _has_usage(chunk)):
            return chunk
        data = event.data
        if self._is_odd:
            data = _readable(data)
        elif not data.isascii():
            data = data.decode(errors="replace").encode()
        entries.append((_CHUNK, data))
        return chunk

    def decode_completion(self, body: bytes, entries: list[Entry]) -> None:
        """A whole JSON body: as it is where it was asked for, else as the one chunk of a stream."""
        passed: list[Entry] = []
        if self.decode(Event(body), passed) is None:
            raise UpstreamError("The model's server answered with something that is not a JSON object.")
        self.begun = self.done = True
        entries.extend(passed if self.whole else [(_CHUNK, self._as_chunk(body))])

    def _take_choice(self, choice: Choice, entries: list[Entry]) -> None:
        """Deltas are not taken apart here, only counted."""
        delta = choice.delta or choice.message
        if delta is not None:
            content = delta.content
            if content:
                self.said += len(content) if content.isascii() else len(content.encode())
                self.begun = True
            if not content or delta.tool_calls or delta.reasoning_content or delta.reasoning or delta.refusal:
                size = _size(delta)
                self.said += size
                self.begun |= size > 0
        self._answered = True
        self._seen.add(choice.index)
        if choice.finish_reason:
            self.finish_reason = choice.finish_reason
            self._finished.add(choice.index)
            self.begun = True
        if choice.usage:
            self._take_usage(choice.usage)

    def _decode_odd(self, event: Event, entries: list[Entry]) -> Chunk | None:
        self._is_odd = True
        return super()._decode_odd(event, entries)

    def _as_chunk(self, body: bytes) -> bytes:
        value = dict(as_object(read_json(body)) or {})
        value["object"] = "chat.completion.chunk"
        choices = value.get("choices")
        value["choices"] = [_as_delta(c) for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []
        if self._hide_usage:
            value.pop("usage", None)
        return dump(value)


def _has_usage(chunk: Chunk) -> bool:
    return bytes(chunk.usage).startswith(b"{")


def _size(delta: Delta) -> int:
    """Of a delta without its content, in bytes, and roughly: it is for estimates, where no usage is told."""
    size = 0
    for text in (delta.reasoning_content or delta.reasoning, delta.refusal):
        if text:
            size += len(text.encode())
    if delta.tool_calls:
        size += sum([len(bytes(call)) for call in delta.tool_calls])
    for raw in (delta.function_call, delta.audio, delta.images, delta.reasoning_details):
        if raw:
            size += len(bytes(raw))
    return size


def _readable(data: bytes) -> bytes:
    """As it is, if it is JSON that only our structs refused; near-JSON is written again."""
    try:
        msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return dump(read_json(data))
    return data


def _as_delta(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice of a whole answer as that of a chunk; in a chunk, tool calls are numbered."""
    delta = dict(as_object(choice.get("message")) or as_object(choice.get("delta")) or {})
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [{"index": n} | call for n, call in enumerate(calls) if isinstance(call, dict)]
    rest = {name: value for name, value in choice.items() if name not in ("message", "delta")}
    return {**rest, "delta": delta, "finish_reason": choice.get("finish_reason") or "stop"}
