"""Passes text completions on: https://platform.openai.com/docs/api-reference/completions

Their chunks differ from those of chats in one thing: each choice has a `text` in place of a delta. It is read apart,
because one more field of `chunks.Choice` would cost chats up to 3 % of the time to decode a chunk.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.entries import Entry
from gateway.sse import Event
from gateway.upstream.dialects.chunks import Choice, Chunk, Delta, as_object, as_text, read_json
from gateway.upstream.dialects.relay import Relay


class TextRelay(Relay):
    """See `Relay`. `choices` counts those of all prompts."""

    chunk_object = "text_completion"
    is_joined = False

    def __init__(self, *, whole: bool, hide_usage: bool, choices: int) -> None:
        super().__init__(whole=whole, hide_usage=hide_usage, choices=choices)
        self._texts: Iterator[str | None] = iter(())  # of the choices of the event that is being decoded

    def decode_data(self, data: bytes, entries: list[Entry]) -> None:
        """Without the template, which looks for the text of a delta."""
        self.decode(Event(data), entries)

    def decode(self, event: Event, entries: list[Entry], chunk: Chunk | None = None) -> Chunk | None:
        self._texts = iter(_texts_in(event.data))
        return super().decode(event, entries, chunk)

    def _take_choice(self, choice: Choice, entries: list[Entry]) -> None:
        if text := next(self._texts, None):
            choice.delta = Delta(content=text)
        super()._take_choice(choice, entries)

    def _as_part(self, choice: dict[str, Any]) -> dict[str, Any]:
        return choice


class _Choice(msgspec.Struct, gc=False):
    text: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


def _texts_in(data: bytes) -> list[str | None]:
    """The text of each choice, in the order in which the chunk is read."""
    try:
        return [choice.text for choice in _decode(data).choices or ()]
    except (ValueError, RecursionError):
        choices = (as_object(read_json(data)) or {}).get("choices")
    own = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    return [as_text(choice.get("text")) for choice in own]
