"""Decodes the streams of OpenAI-compatible servers: events in, entries out. It also collects data such as usage.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamEmpty, UpstreamError, UpstreamIncomplete
from gateway.sse import Event
from gateway.upstream.dialects.chunks import (
    Choice,
    Chunk,
    as_object,
    as_raw,
    decode_chunk,
    dump,
    only_text,
    read_chunk,
    read_json,
)
from gateway.upstream.dialects.deltas import objects, size
from gateway.upstream.dialects.error_reasons import only_one, reason_in
from gateway.upstream.dialects.extras import are_answer, by_kind
from gateway.upstream.dialects.finishes import gave_up, says_nothing
from gateway.upstream.dialects.halves import Halves
from gateway.upstream.dialects.reported_errors import error_from, error_in
from gateway.upstream.dialects.template import Template, template_of
from gateway.upstream.dialects.tool_calls import is_empty
from gateway.upstream.dialects.usage import has_counts

DATA_FIELDS = frozenset({b"error"})  # old llama.cpp: `error: {...}` as a field of its own

_MAX_USAGE = 16_384  # bytes: the longest known are under 1 KiB, and each end entry contains it
_TEXT = Kind.TEXT  # a module's name is looked up faster than an enum's member, and this is done once per event
_NOTHING = (b"", b"null")  # empty events only keep the connection open


class Decoder:
    """Turns the events of one attempt into entries, and keeps the other data of the answer as attributes.

    `usage` is the last usage object with a count, or None. `skipped` counts events that were not JSON. `said` counts
    the bytes of content, as UTF-8.
    """

    whole = False  # the answer was asked for as one JSON body, and not as a stream
    choices = 1  # that were asked for
    finishes = True  # an answer says why it ended
    is_joined = True  # a stream in place of a JSON body becomes one; see `assembled`
    passed_finish = False  # the client got a finish reason that means that the answer is complete

    def __init__(self) -> None:
        self.id: str | None = None
        self.created: int | None = None
        self.model: str | None = None
        self.done = False  # `[DONE]` was seen: nothing after it counts
        self.skipped = 0
        self.has_content = False  # the answer has begun, perhaps with reasoning
        self.said = 0
        self._usage: bytes | None = None
        self._answered = False  # an answer has begun; reasoning alone does not count
        self._reason: str | None = None  # the last finish reason
        self._finished = False  # it came, and no content after it
        self._finishes_early = False  # content came after one, so a reason alone says nothing here
        self._gave_up = False  # it means that the server did not complete the answer
        self._others: set[int | None] | None = None  # indexes of choices that are not the answer; nearly always none
        self._began_at_zero = False  # a choice with the index 0 or without an index came
        self._halves = Halves(single=True)
        self._holds_half = False  # of a character
        self._template: Template | None = None  # of the last chunk, if that was nothing but text
        self.may_skip = True  # an event that is not JSON; otherwise it is an error, since another target can go on
        self._misses = 0  # of a template, among chunks that were nothing but text

    @property
    def finish_reason(self) -> str | None:
        """The last finish reason. None while the answer is not complete."""
        return self._reason if self.may_be_whole else None

    @property
    def complete(self) -> bool:
        """Whether the upstream has marked the answer as complete.

        The mark is `[DONE]`, or a finish reason without content after it. Some servers send a reason with every chunk
        (su-kaka/gcli2api#403), so where content has followed one, only `[DONE]` is a mark.
        """
        return self.done or (self._finished and not self._finishes_early)

    @property
    def passed_text(self) -> bytes | None:
        """The text that the client has. None if it is not known, or if the client has anything else."""
        return None

    @property
    def may_be_whole(self) -> bool:
        """Whether the answer is complete if the stream ends cleanly here."""
        return self.complete

    @property
    def usage(self) -> dict[str, Any] | None:
        """Decodes the object only when it is needed, because some servers send one with every chunk."""
        return None if self._usage is None else as_object(read_json(self._usage))

    def decode(self, event: Event, entries: list[Entry], chunk: Chunk | None = None) -> Chunk | None:
        """Adds the entries of the event to `entries`. Returns the event's chunk, or None.

        `chunk` is that chunk, if it is decoded already. Raises UpstreamError if the event reports an error, in any of
        the known forms.
        """
        self._template = None
        if event.data == b"[DONE]":
            self.done = True
            return None
        try:
            chunk = chunk or decode_chunk(event.data)
        except (ValueError, RecursionError):  # msgspec's errors and a bad UTF-8 byte are ValueErrors
            return self._decode_odd(event, entries)
        if self._holds_half:
            return self._decode_odd(event, entries)
        self._take(chunk, entries)
        if not chunk.choices or chunk.error or chunk.x_groq or event.type == "error" or self._gave_up:
            self._raise_error(event, as_object(read_json(event.data)) or {})
        return chunk

    def decode_data(self, data: bytes, entries: list[Entry]) -> None:
        """A faster `decode` for the data of an event without a type. Nearly all such events contain only text.

        With `Parser.whole`, it takes 0.7 µs to read an event instead of 2.0 µs.
        """
        if self._template is not None and (payload := self._template.text_in(data)):
            self._take_text(payload, data, entries)
            return
        if data == b"[DONE]":
            self._template, self.done = None, True
            return
        try:
            chunk = decode_chunk(data)
        except (ValueError, RecursionError):
            self.decode(Event(data), entries)
            return
        text = only_text(chunk)
        if not text or self._holds_half:
            self.decode(Event(data), entries, chunk)
            return
        self._take_head(chunk)
        self.has_content = self._answered = True
        payload = text.encode()
        self._take_text(payload, data, entries)
        self._learn(data, payload)

    def decode_completion(self, body: bytes, entries: list[Entry]) -> None:
        """Decodes a whole JSON body: an error, or a complete answer. It may be the only value of a list."""
        body = only_one(body)
        chunk = self.decode(Event(body), entries)
        if chunk is None:
            if body.strip()[:1] in (b"", b"{"):  # an empty body, or part of an object
                raise UpstreamIncomplete()
            raise UpstreamError("The model's server answered with something that is not a JSON object.")
        if not chunk.choices and (words := reason_in(read_json(body)).words):
            raise UpstreamError(words, note=words)
        if not self.complete:
            self.done = True  # a whole message is complete, even without a finish reason

    def finish(self) -> None:
        """Checks the answer after a clean end of the upstream. Raises UpstreamIncomplete or UpstreamEmpty."""
        if not self.may_be_whole:
            raise UpstreamIncomplete()
        if not self._answered and self._reason is None:
            raise UpstreamEmpty()

    def rest(self) -> list[Entry]:
        """The entries that remain when the stream has ended in any way: halves of characters."""
        self._template = None
        entries: list[Entry] = []
        for _, delta in self._halves.rest():
            self._take(read_chunk({"choices": [{"delta": delta}]}), entries)
        return entries

    # Chunks

    def _take(self, chunk: Chunk, entries: list[Entry]) -> None:
        if chunk.choices:
            for choice in chunk.choices if len(chunk.choices) == 1 else self._of_the_answer(chunk.choices):
                self._take_choice(choice, entries)
        self._take_head(chunk)
        if chunk.x_groq and chunk.x_groq.usage:
            self._take_usage(chunk.x_groq.usage)

    def _take_head(self, chunk: Chunk) -> None:
        """Takes what a chunk says of the answer, apart from its choices."""
        if chunk.model:
            self.model = chunk.model
        if self.id is None and chunk.id:
            self.id, self.created = chunk.id, chunk.created
        if chunk.usage:
            self._take_usage(chunk.usage)

    def _learn(self, data: bytes, text: bytes) -> None:
        """Learns from the first, second, fourth, eighth chunk and so on, since all may differ."""
        self._misses += 1
        self._template = template_of(data, text) if self._misses.bit_count() == 1 else None

    def _take_text(self, payload: bytes, data: bytes, entries: list[Entry]) -> None:
        """Adds the entry for `payload`, which is the only content of the chunk `data`."""
        entries.append(Entry(_TEXT, payload))
        self.said += len(payload)
        if self._finished:
            self._take_finish_back()
        self._began_at_zero = True

    def _of_the_answer(self, choices: list[Choice]) -> list[Choice]:
        """One choice was asked for. If a chunk contains several, the answer is that with the lowest index."""
        indexes = {choice.index or 0 for choice in choices}
        lowest = min(indexes, default=0)
        self._leave_out(indexes - {lowest})
        return [choice for choice in choices if (choice.index or 0) == lowest]

    def _is_another(self, choice: Choice) -> bool:
        """Whether a choice with an index belongs to a second answer, which was not asked for.

        Some servers increment the index with every chunk, or begin at 1, although there is one answer. A second answer
        begins with a role of its own, or in the same chunk as the first.
        """
        if self._began_at_zero and choice.delta is not None and choice.delta.role and not size(choice.delta):
            self._leave_out({choice.index})
        return self._others is not None and choice.index in self._others

    def _leave_out(self, indexes: Iterable[int | None]) -> None:
        self._others = set() if self._others is None else self._others
        self._others.update(indexes)

    def _take_choice(self, choice: Choice, entries: list[Entry]) -> None:
        if not choice.index:
            self._began_at_zero = True
        elif self._is_another(choice):
            return
        delta = choice.delta or choice.message
        if delta is not None:
            if reasoning := delta.reasoning_content or delta.reasoning:
                self._add(Kind.REASONING, reasoning.encode(), entries)
            if delta.content:
                payload = delta.content.encode()
                entries.append(Entry(_TEXT, payload))
                self.said += len(payload)
                self._answered = self.has_content = True
                if self._finished:
                    self._take_finish_back()
            if delta.refusal:
                self._add(Kind.REFUSAL, delta.refusal.encode(), entries)
                self._answered = True
            if delta.tool_calls:
                self._take_calls(delta.tool_calls, entries)
            if delta.extra:
                self._take_extra(delta.extra, entries)
        if choice.error:
            self._gave_up = True
        if choice.finish_reason:
            self._take_reason(choice.finish_reason, choice.native_finish_reason)
        if choice.usage:
            self._take_usage(choice.usage)

    def _take_calls(self, fragments: list[msgspec.Raw], entries: list[Entry]) -> None:
        """Adds fragments of tool calls. An empty one, such as the last of Qwen's calls, does not cancel a finish."""
        for call in objects(fragments):
            self._add(Kind.TOOL, call, entries, continues=not is_empty(call))
            self._answered = True

    def _take_reason(self, reason: str, native: Any) -> None:
        """`native` is the reason that a router got, where it tells. It may pass a failure on as `stop`."""
        if not says_nothing(reason):
            reason = native if isinstance(native, str) and gave_up(native) else reason
            self._reason, self._finished = reason, True
            self._gave_up |= gave_up(reason)

    def _take_extra(self, fields: dict[str, Any], entries: list[Entry]) -> None:
        """Adds the fields that have no kind of their own. Remarks on an answer do not cancel its finish."""
        is_answer = are_answer(fields)
        for kind, part in by_kind(fields):
            if payload := bytes(as_raw(part)):
                self._add(kind, payload, entries, continues=is_answer)
        self._answered |= is_answer

    def _add(self, kind: Kind, payload: bytes, entries: list[Entry], *, continues: bool = True) -> None:
        entries.append(Entry(kind, payload))
        self.said += len(payload)
        self.has_content = True
        if self._finished and continues:
            self._take_finish_back()

    def _take_finish_back(self) -> None:
        self._finished, self._finishes_early = False, True

    def _take_usage(self, raw: msgspec.Raw) -> None:
        usage = bytes(raw)
        if not usage.startswith(b"{") or len(usage) > _MAX_USAGE:  # null, or not a usage object
            return
        if self._usage is None or has_counts(usage):  # zeros do not replace a count
            self._usage = usage

    # Chunks that the structs refused

    def _decode_odd(self, event: Event, entries: list[Entry]) -> Chunk | None:
        value = read_json(event.data)
        if isinstance(value, dict):
            if self._halves.mend(value):
                event.data = dump(value)
            self._holds_half = bool(self._halves.held)
            chunk = read_chunk(value)
            self._take(chunk, entries)
            self._raise_error(event, value)
            return chunk
        if event.data.strip(b" ") == b"[DONE]":  # Mistral sometimes sends two spaces after the colon
            self.done = True
        elif event.type == "error":
            raise error_from(event.data.decode(errors="replace") if value is None else value)
        elif isinstance(value, list) and len(value) == 1 and (as_object(value[0]) or {}).get("error"):
            raise error_from(value[0])  # Google's errors have this form
        elif value is None and event.data.strip() not in _NOTHING:
            self.skipped += 1
            if not self.may_skip:
                raise UpstreamIncomplete()
        return None

    def _raise_error(self, event: Event, value: dict[str, Any]) -> None:
        """Raises the error that the event reports, if it reports one. `value` is its decoded data."""
        if error := error_in(event.type, value):
            raise error
        if self._gave_up:
            reason = "" if self._reason == "error" else f" (`{self._reason}`)"
            raise UpstreamError(f"The model's server gave up on the answer{reason}. Ask again in a moment.")
