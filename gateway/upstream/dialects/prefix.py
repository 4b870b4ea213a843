"""Cuts from an answer the part that a client has already, if both are equal, character for character.

An answer that broke off may go on with that of another target only if the latter begins with the same text. Nothing of
a text that differs is passed on.
"""

from collections.abc import Sequence

from gateway.entries import Entry, Kind
from gateway.upstream.dialects.chunks import Chunk, Delta, as_object, decode_chunk, dump, read_chunk, read_json

_LONGEST = 8_388_608  # bytes of text that is remembered: as many as `stream.max_bytes` has for an answer that is kept


class Diverged(Exception):
    """The answer is not the one that the client has."""


class Prefix:
    """`text` is what the client has, as UTF-8. `is_over`: all of it has come again, and what follows is new."""

    __slots__ = ("_at", "_text")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at == len(self._text)

    def cut(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries without the text that the client has. Raises Diverged."""
        left: list[Entry] = []
        for entry in entries:
            if self.is_over:
                left.append(entry)
            elif entry.kind is Kind.TEXT:
                if rest := self._behind(entry.payload):
                    left.append(Entry(Kind.TEXT, rest))
            elif entry.kind is Kind.CHUNK:
                left += self._cut_chunk(entry)
            else:
                raise Diverged
        return left

    def _behind(self, text: bytes) -> bytes:
        """The part of `text` that the client does not have."""
        known = self._text[self._at : self._at + len(text)]
        if not text.startswith(known):
            raise Diverged
        self._at += len(known)
        return text[len(known) :]

    def _cut_chunk(self, entry: Entry) -> list[Entry]:
        chunk = _decoded(entry.payload)
        if not chunk.choices:
            return []  # usage, or a remark before the answer
        choice, more = chunk.choices[0], chunk.choices[1:]
        delta = choice.delta or choice.message or Delta()
        if more or delta.reasoning_content or delta.reasoning or delta.refusal or delta.tool_calls or delta.extra:
            raise Diverged
        rest = self._behind((delta.content or "").encode())
        if choice.finish_reason is not None and not self.is_over:
            raise Diverged
        if rest or choice.finish_reason is not None:
            return [Entry(Kind.CHUNK, _with_content(entry.payload, rest.decode()))]
        return []


def _decoded(data: bytes) -> Chunk:
    try:
        return decode_chunk(data)
    except (ValueError, RecursionError):
        return read_chunk(as_object(read_json(data)) or {})


def _with_content(data: bytes, content: str) -> bytes:
    """The chunk with another text. All other fields stay as they are."""
    value = as_object(read_json(data)) or {}
    choice = value["choices"][0]
    choice["delta"] = {**(as_object(choice.get("delta")) or {}), "content": content}
    return dump(value)


class PassedText:
    """The text that was passed on, as UTF-8, as long as it is nothing but text and not too long."""

    __slots__ = ("_text",)

    def __init__(self) -> None:
        self._text: bytearray | None = bytearray()

    @property
    def known(self) -> bytes | None:
        return None if self._text is None else bytes(self._text)

    def add(self, text: bytes) -> None:
        if self._text is None:
            return
        if len(self._text) + len(text) > _LONGEST:
            self._text = None
        else:
            self._text += text

    def forget(self) -> None:
        """Something else was passed on. Nothing is remembered from now on."""
        self._text = None


def text_of(entries: Sequence[Entry]) -> bytes | None:
    """The text of the entries. None if there is anything else among them."""
    if any(entry.kind is not Kind.TEXT for entry in entries):
        return None
    return b"".join([entry.payload for entry in entries])
