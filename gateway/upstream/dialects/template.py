"""The bytes of a chunk around its text: in most streams, they are the same in every chunk.

Where they are, the text is read without decoding JSON: 0.15 µs instead of 0.5 for an event.
"""

from typing import NamedTuple

from gateway.upstream.dialects.chunks import decode_chunk, only_text

_QUOTE, _BACKSLASH = b'"\\'


class Template(NamedTuple):
    head: bytes
    tail: bytes
    size: int  # of both

    def text_in(self, data: bytes) -> bytes:
        """The text of a chunk that differs in nothing else, as UTF-8; else, and where the text is escaped, `b""`."""
        head, tail, size = self
        text = data.removeprefix(head).removesuffix(tail)
        if len(text) + size != len(data) or _QUOTE in text or _BACKSLASH in text:
            return b""
        try:
            return text if text.decode().isprintable() else b""  # JSON wants control characters to be escaped
        except UnicodeDecodeError:
            return b""


def template_of(data: bytes, text: bytes) -> Template | None:
    """The template of a chunk that says `text` and nothing else; None where the text cannot be found in it."""
    start = data.find(b'"%b"' % text, data.find(b'"content"') + len('"content"')) + 1
    head, tail = data[:start], data[start + len(text) :]
    if not start or _text(head + b"?" + tail) != "?":
        return None
    return Template(head, tail, len(head) + len(tail))


def _text(data: bytes) -> str | None:
    try:
        return only_text(decode_chunk(data))
    except (ValueError, RecursionError):
        return None
