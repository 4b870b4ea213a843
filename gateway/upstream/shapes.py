"""Distinguishes one JSON value, a stream of events and a web page by the first byte of a body.

Some servers label them wrongly: streams as `application/json` or `text/html`, errors as `text/event-stream`. The label
is used only if the first byte does not decide.
"""

from enum import Enum

_MARK = b"\xef\xbb\xbf"  # a byte-order mark: RFC 8259 (section 8.1) lets a reader ignore it
_BLANKS = b" \t\r\n"
_OF_EVENTS = b":deir"  # a comment, `data`, `error` or `event`, `id`, `retry`
_PAGES = ("text/html", "application/xhtml+xml")


class Shape(Enum):
    JSON = "one JSON value"
    EVENTS = "a stream of events"
    PAGE = "a web page"


def shape_of(start: bytes, label: str) -> Shape:
    """The shape of a body that begins with `start`, a result of `stripped`. `label` is its `Content-Type`."""
    if start.startswith((b"{", b"[")):
        return Shape.JSON
    if start.startswith(b"<"):
        return Shape.PAGE
    if start[:1] and start[:1] in _OF_EVENTS:
        return Shape.EVENTS
    media_type = label.partition(";")[0].strip().lower()
    if media_type in _PAGES:
        return Shape.PAGE
    return Shape.JSON if media_type == "application/json" or media_type.endswith("+json") else Shape.EVENTS


def stripped(start: bytes) -> bytes:
    """The bytes without a byte-order mark and white space at their start."""
    return start.lstrip(_BLANKS).removeprefix(_MARK).lstrip(_BLANKS)


def is_told(start: bytes) -> bool:
    """Whether the first byte after a byte-order mark has arrived. The mark may come in pieces."""
    return not _MARK.startswith(start)


def without_mark(text: bytes) -> bytes:
    """The text without a byte-order mark, which JSON parsers refuse."""
    return text.removeprefix(_MARK)
