"""Passes an upstream's chunks on unchanged, for clients that use the same dialect.

The gateway searches each chunk for an error, an end, usage and the first content. The bytes pass unchanged, with these
exceptions. An error becomes a failure. An event that is not JSON is skipped. Near-JSON (a NaN, a lone surrogate, bytes
that are not UTF-8) is encoded again so that any client can read it. So is a chunk with half a character, or with a
finish reason that means null. A usage chunk is left out if the gateway asked for it and the client did not.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.entries import Entry, Kind
from gateway.sse import Event
from gateway.upstream.dialects.chunks import Choice, Chunk, Delta, as_object, dump, read_chunk, read_json
from gateway.upstream.dialects.deltas import answers, size, speaks
from gateway.upstream.dialects.error_reasons import only_one
from gateway.upstream.dialects.finishes import says_nothing
from gateway.upstream.dialects.halves import Halves
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.prefix import PassedText

_CHUNK = Kind.CHUNK
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"')


class Relay(Decoder):
    """`whole`: the answer was asked for as one JSON body. `hide_usage`: a chunk with only usage is not passed on.

    `choices` is the number that was asked for. With one, all indexes mean the same answer; see `Decoder`.
    """

    chunk_object = "chat.completion.chunk"

    def __init__(self, *, whole: bool, hide_usage: bool, choices: int = 1) -> None:
        super().__init__()
        self.whole = whole
        self.choices = choices
        self._hide_usage = hide_usage
        self._is_odd = False  # the structs refused the last event
        self._is_mute = False  # the last event had a finish reason that means null
        self._begun_ones: set[int] = set()  # the indexes of the choices that have begun
        self._ended_ones: set[int] = set()  # the indexes of those with a finish reason and no content after it
        self._is_in_text = False  # the first choice has begun and not ended
        self._halves = Halves(single=choices == 1)

    @property
    def complete(self) -> bool:
        return self.done or (len(self._ended_ones) >= self.choices and self._all_ended)

    @property
    def may_be_whole(self) -> bool:
        """A clean end is also complete if the upstream sent fewer choices than were asked for."""
        return self.done or (bool(self._ended_ones) and self._all_ended)

    @property
    def _all_ended(self) -> bool:
        return self._begun_ones <= self._ended_ones and not self._finishes_early

    def decode(self, event: Event, entries: list[Entry], chunk: Chunk | None = None) -> Chunk | None:
        self._is_odd = self._is_mute = False
        chunk = super().decode(event, entries, chunk)
        if chunk is None or (not chunk.choices and self._hide_usage and _has_usage(chunk)):
            return chunk
        data = event.data
        if self._is_odd:
            data = _readable(data)
        elif not data.isascii():
            data = data.decode(errors="replace").encode()
        entries.append(Entry(_CHUNK, _without_mute_reasons(data) if self._is_mute else data))
        return chunk

    def decode_completion(self, body: bytes, entries: list[Entry]) -> None:
        """Passes a whole JSON body on: unchanged if it was asked for, and otherwise as the only chunk of a stream."""
        body = only_one(body)
        passed: list[Entry] = []
        super().decode_completion(body, passed)
        self.has_content = True
        self.passed_finish = True  # `_as_chunk` gives each choice a reason
        entries.extend(passed if self.whole else [Entry(_CHUNK, self._as_chunk(body))])

    def rest(self) -> list[Entry]:
        """A chunk for each choice that ends with half a character."""
        self._template = None
        if self.whole:
            return []
        head = {"id": self.id, "object": self.chunk_object, "created": self.created, "model": self.model}
        choices = [{"index": n or 0, "delta": delta, "finish_reason": None} for n, delta in self._halves.rest()]
        return [Entry(_CHUNK, dump({**head, "choices": [choice]})) for choice in choices]

    def _take_text(self, payload: bytes, data: bytes, entries: list[Entry]) -> None:
        self.said += len(payload)
        if not self._is_in_text:
            self._begun_ones.add(0)
            self._go_on(0)
            self._is_in_text = True
        entries.append(Entry(_CHUNK, data if data.isascii() else data.decode(errors="replace").encode()))

    def _of_the_answer(self, choices: list[Choice]) -> list[Choice]:
        return choices  # all of them are passed on

    def _take_choice(self, choice: Choice, entries: list[Entry]) -> None:
        """Counts the content of a choice. The deltas do not become entries of their own."""
        index = (choice.index or 0) if self.choices > 1 else 0
        self._begun_ones.add(index)
        delta = choice.delta or choice.message
        if delta is not None:
            content = delta.content
            if content:
                self.said += len(content) if content.isascii() else len(content.encode())
                self.has_content = self._answered = True
            if not content or delta.tool_calls or delta.reasoning_content or delta.reasoning or delta.refusal:
                self._take_others(delta)
            if self._ended_ones and speaks(delta):
                self._go_on(index)
        if choice.error:
            self._gave_up = True
        if choice.finish_reason is not None:
            self._take_finish(index, choice.finish_reason, choice.native_finish_reason)
        if choice.usage:
            self._take_usage(choice.usage)

    def _go_on(self, index: int) -> None:
        """The choice has content, also if it had a finish reason before."""
        if index in self._ended_ones:
            self._ended_ones.discard(index)
            self._finishes_early = True

    def _take_others(self, delta: Delta) -> None:
        said = size(delta) - len((delta.content or "").encode())
        self.said += said
        self.has_content |= said > 0
        self._answered |= answers(delta)

    def _take_finish(self, index: int, reason: str, native: Any) -> None:
        if says_nothing(reason):
            self._is_mute = True
            return
        self._take_reason(reason, native)
        self.passed_finish |= not self._gave_up  # otherwise the chunk becomes an error and is not passed on
        self._ended_ones.add(index)
        self._is_in_text = False
        self.has_content = True

    def _decode_odd(self, event: Event, entries: list[Entry]) -> Chunk | None:
        self._is_odd = True
        return super()._decode_odd(event, entries)

    def _as_chunk(self, body: bytes) -> bytes:
        value = dict(as_object(read_json(body)) or {})
        value["object"] = self.chunk_object
        choices = value.get("choices")
        own = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
        value["choices"] = [_with_reason(self._as_part(choice)) for choice in own]
        if self._hide_usage:
            value.pop("usage", None)
        return dump(value)

    def _as_part(self, choice: dict[str, Any]) -> dict[str, Any]:
        return _as_delta(choice)


class RememberingRelay(Relay):
    """Remembers the text that it has passed on, so that another target can go on with the same answer."""

    def __init__(self, *, hide_usage: bool) -> None:
        super().__init__(whole=False, hide_usage=hide_usage)
        self._passed = PassedText()

    @property
    def passed_text(self) -> bytes | None:
        """The text. None if anything else was passed on, or too much of it."""
        return self._passed.known

    def decode(self, event: Event, entries: list[Entry], chunk: Chunk | None = None) -> Chunk | None:
        """Of an event that reports an error nothing is passed on, and nothing is remembered."""
        said = self.said
        chunk = super().decode(event, entries, chunk)
        if chunk is not None:
            deltas = [choice.delta or choice.message or Delta() for choice in chunk.choices or []]
            text = "".join([delta.content or "" for delta in deltas]).encode()
            self._passed.add(text)
            if self.said - said != len(text) or self.passed_finish:
                self._passed.forget()
        return chunk

    def _take_text(self, payload: bytes, data: bytes, entries: list[Entry]) -> None:
        self._passed.add(payload)
        super()._take_text(payload, data, entries)


def passed_finish(entries: Sequence[Entry]) -> bool:
    """Whether a chunk among the entries has a finish reason that a client takes for the end of a whole answer.

    The same as `Relay.passed_finish`, where nothing but the entries is known. Nearly always the reason is null, and a
    pattern leaves the chunk out, in a twentieth of the time that it takes to read it.
    """
    return any(entry.kind is _CHUNK and _FINISH.search(entry.payload) and _finishes(entry) for entry in entries)


def _finishes(entry: Entry) -> bool:
    choices = read_chunk(as_object(read_json(entry.payload)) or {}).choices or []
    return any(choice.finish_reason and not says_nothing(choice.finish_reason) for choice in choices)


def _has_usage(chunk: Chunk) -> bool:
    return bytes(chunk.usage).startswith(b"{")


def _without_mute_reasons(data: bytes) -> bytes:
    """Replaces finish reasons that mean null by null, because strict clients accept only OpenAI's values."""
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    choices = msgspec.json.decode(fields["choices"], type=list[msgspec.Raw])
    return msgspec.json.encode({**fields, "choices": [_without_mute_reason(choice) for choice in choices]})


def _without_mute_reason(choice: msgspec.Raw) -> msgspec.Raw | dict[str, msgspec.Raw]:
    if not bytes(choice).startswith(b"{"):
        return choice
    fields = msgspec.json.decode(choice, type=dict[str, msgspec.Raw])
    reason = msgspec.json.decode(fields.get("finish_reason", b"null"))
    if isinstance(reason, str) and says_nothing(reason):
        fields["finish_reason"] = msgspec.Raw(b"null")
    return fields


def _readable(data: bytes) -> bytes:
    """The data unchanged if they are JSON that only the structs refused. Near-JSON is encoded again."""
    try:
        msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return dump(read_json(data))
    return data


def _as_delta(choice: dict[str, Any]) -> dict[str, Any]:
    """Turns a choice of a whole answer into one of a chunk, where tool calls have an index."""
    delta = dict(as_object(choice.get("message")) or as_object(choice.get("delta")) or {})
    calls = delta.get("tool_calls")
    if isinstance(calls, list):
        delta["tool_calls"] = [{"index": n} | call for n, call in enumerate(calls) if isinstance(call, dict)]
    rest = {name: value for name, value in choice.items() if name not in ("message", "delta")}
    return {**rest, "delta": delta}


def _with_reason(choice: dict[str, Any]) -> dict[str, Any]:
    """A whole answer is complete, also where its finish reason is missing."""
    reason = choice.get("finish_reason")
    said = isinstance(reason, str) and not says_nothing(reason)
    return {**choice, "finish_reason": reason if said else "stop"}
