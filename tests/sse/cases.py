"""Streams of bytes, what they hold, and the section of the standard that says so. The tests feed each in every way."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hypothesis import strategies as st

from gateway.sse import Event

_STANDARD = "https://html.spec.whatwg.org/multipage/server-sent-events.html"
SYNTAX = f"{_STANDARD}#parsing-an-event-stream"
INTERPRETATION = f"{_STANDARD}#event-stream-interpretation"
UTF8_DECODE = "https://encoding.spec.whatwg.org/#utf-8-decode"  # what drops the byte-order mark

BOM = b"\xef\xbb\xbf"


# Feeding a stream


def whole(stream: bytes) -> list[bytes]:
    return [stream]


def byte_by_byte(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


WAYS: dict[str, Callable[[bytes], list[bytes]]] = {"whole": whole, "byte by byte": byte_by_byte}


# Lines


@dataclass(frozen=True)
class Lines:
    """`lines` are those that `stream` completes, `unfinished` the one that it leaves without an end."""

    stream: bytes
    lines: list[bytes]
    unfinished: bytes = b""
    rule: str = SYNTAX


SPLITTER_CASES = {
    "nothing": Lines(b"", []),
    "LF": Lines(b"a\nb\n", [b"a", b"b"]),
    "CR": Lines(b"a\rb\r", [b"a", b"b"]),
    "CRLF": Lines(b"a\r\nb\r\n", [b"a", b"b"]),
    "fault_32 LF, CR and CRLF mixed": Lines(b"a\nb\rc\r\nd\n\re\r\r\n", [b"a", b"b", b"c", b"d", b"", b"e", b""]),
    "CR CR LF is two ends, CR LF LF too": Lines(b"a\r\r\nb\r\n\nc\n", [b"a", b"", b"b", b"", b"c"]),
    "only ends": Lines(b"\n\r\n\r", [b"", b"", b""]),
    "no end": Lines(b"a\nbc", [b"a"], b"bc"),
    "a colon in a cut line is no comment": Lines(b"a:b", [], b"a:b"),
    "fault_36 U+2028 and U+2029 are text": Lines("a\u2028b\u2029c\n".encode(), ["a\u2028b\u2029c".encode()]),
    "fault_36 NEL is text": Lines("a\x85b\n".encode(), ["a\x85b".encode()]),
    "fault_36 VT, FF, FS, GS, RS are text": Lines(b"a\x0b\x0c\x1c\x1d\x1eb\n", [b"a\x0b\x0c\x1c\x1d\x1eb"]),
    "NUL is text": Lines(b"\0\n", [b"\0"]),
    "fault_35 bytes that are not UTF-8 stay as they are": Lines(
        b"\xff\xc3\n\xed\xa0\x80\n", [b"\xff\xc3", b"\xed\xa0\x80"]
    ),
    "fault_33 one byte-order mark is not text": Lines(BOM + b"a\n", [b"a"], rule=UTF8_DECODE),
    "fault_33 a second one is": Lines(BOM + BOM + b"a\n", [BOM + b"a"], rule=UTF8_DECODE),
    "fault_33 a later one is": Lines(b"a\n" + BOM + b"b\n", [b"a", BOM + b"b"], rule=UTF8_DECODE),
    "fault_33 only a mark": Lines(BOM, [], rule=UTF8_DECODE),
    "fault_33 a mark and an end": Lines(BOM + b"\n", [b""], rule=UTF8_DECODE),
    "fault_33 half a mark is text": Lines(BOM[:2] + b"a\n", [BOM[:2] + b"a"], rule=UTF8_DECODE),
    "fault_33 half a mark, then nothing": Lines(BOM[:2], [], BOM[:2], rule=UTF8_DECODE),
    "a mark, then CRLF": Lines(BOM + b"\r\na\r\n", [b"", b"a"], rule=UTF8_DECODE),
}


# Events


@dataclass(frozen=True)
class Events:
    stream: bytes
    events: list[Event]
    rule: str = INTERPRETATION


def _text(*lines: str, type: str = "message", id: str = "") -> Event:
    return Event("\n".join(lines).encode(), type, id)


_PARAGRAPHS = [_text("YHOO", "+2", "10")]

PARSER_CASES = {
    # The standard's own examples, in its order
    "example: three data lines": Events(b"data: YHOO\ndata: +2\ndata: 10\n\n", _PARAGRAPHS),
    "example: four blocks": Events(
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [_text("first event", id="1"), _text("second event"), _text(" third event")],
    ),
    "example: empty data, and an unfinished block": Events(
        b"data\n\ndata\ndata\n\ndata:", [_text(""), _text("", ""), _text("")]
    ),
    "example: with and without a space": Events(b"data:test\n\ndata: test\n\n", [_text("test"), _text("test")]),
    # Line ends
    "fault_32 CR": Events(b"data: YHOO\rdata: +2\rdata: 10\r\r", _PARAGRAPHS),
    "fault_32 CRLF": Events(b"data: YHOO\r\ndata: +2\r\ndata: 10\r\n\r\n", _PARAGRAPHS),
    "fault_32 every end in one block": Events(b"data: YHOO\rdata: +2\ndata: 10\r\n\n", _PARAGRAPHS),
    "fault_32 CR, then CRLF": Events(b"data: a\r\r\ndata: b\n\r", [_text("a"), _text("b")]),
    "many blank lines": Events(b"\n\r\n\rdata: a\n\n\r\n\r\rdata: b\n\n", [_text("a"), _text("b")]),
    # Fields
    "one space after the colon belongs to it": Events(b"data:  a \n\n", [_text(" a ")]),
    "a tab does not": Events(b"data:\ta\n\n", [_text("\ta")]),
    "a colon in the value": Events(b"data: a: b\n\n", [_text("a: b")]),
    "a space before the colon makes another field": Events(b"data : a\n\n data: b\n\n", []),
    "names are case-sensitive": Events(b"Data: a\nEVENT: b\n\n", []),
    "empty data lines are lines": Events(b"data:\ndata: a\ndata\n\n", [_text("", "a", "")]),
    "an event without data is none": Events(b"event: a\nid: 1\n\ndata: b\n\n", [_text("b", id="1")]),
    "a type holds for one event": Events(b"event: a\ndata: 1\n\ndata: 2\n\n", [_text("1", type="a"), _text("2")]),
    "a type of an event without data is dropped": Events(b"event: a\n\ndata: 1\n\n", [_text("1")]),
    "the last type counts, an empty one is `message`": Events(
        b"event: a\nevent: b\ndata: 1\n\nevent: c\nevent\ndata: 2\n\n", [_text("1", type="b"), _text("2")]
    ),
    "an id holds on": Events(b"id: 1\ndata: a\n\ndata: b\n\n", [_text("a", id="1"), _text("b", id="1")]),
    "an empty id resets it": Events(b"id: 1\ndata: a\n\nid\ndata: b\n\n", [_text("a", id="1"), _text("b")]),
    "an id after the data counts": Events(b"data: a\nid: 1\n\n", [_text("a", id="1")]),
    "an id with NUL is ignored": Events(b"id: 1\nid: \0\nid: 2\x003\ndata: a\n\n", [_text("a", id="1")]),
    "unknown fields are ignored": Events(b"foo: bar\nfoo\n:\nda: ta\ndata: a\n\n", [_text("a")]),
    "retry is no event": Events(b"retry: 10\n\n", []),
    "type and id may hold anything": Events(
        "event: é\u2028\nid: 好 \ndata: a\n\n".encode(), [_text("a", type="é\u2028", id="好 ")]
    ),
    "fault_35 type and id are UTF-8 as far as they can be": Events(
        b"event: \xff\nid: \xc3\ndata: a\n\n", [_text("a", type="\ufffd", id="\ufffd")]
    ),
    # Comments
    "fault_24 comments are no events": Events(
        b": keep-alive\n\n: OPENROUTER PROCESSING\n\n:\n\n:data: a\n\ndata: b\n: c\ndata: d\n\n", [_text("b", "d")]
    ),
    # What servers that know no better send
    "fault_23 no blank line at the end": Events(b"data: a\n\ndata: [DONE]\n", [_text("a"), _text("[DONE]")]),
    "fault_23 no line end at the end": Events(b"data: a\r\n\r\ndata:[DONE]", [_text("a"), _text("[DONE]")]),
    "an unfinished comment": Events(b"data: a\n\n: b", [_text("a")]),
    # Bytes
    "fault_33 a byte-order mark": Events(BOM + b"data: a\n\n", [_text("a")], UTF8_DECODE),
    "fault_33 a second mark makes another field": Events(BOM + BOM + b"data: a\n\n", [], UTF8_DECODE),
    "fault_33 a mark in the text": Events(b"data: " + BOM + b"a\n\n", [_text("\ufeffa")], UTF8_DECODE),
    "fault_34 characters of every length": Events("data: aé好👍\n\n".encode(), [_text("aé好👍")]),
    "fault_35 bytes that are not UTF-8": Events(b"data: \xff\xc3(\n\n", [Event(b"\xff\xc3(")]),
    "fault_36 separators that are no line ends": Events(
        "data: a\u2028b\u2029c\x85d\x0c\x0b\x1c\x1d\x1ee\n\n".encode(),
        [_text("a\u2028b\u2029c\x85d\x0c\x0b\x1c\x1d\x1ee")],
    ),
    "NUL in data": Events(b"data: a\0b\n\n", [_text("a\0b")]),
}


@dataclass(frozen=True)
class Limit:
    """What comes of `stream` when no line and event may be larger than `max_bytes`."""

    stream: bytes
    max_bytes: int
    events: list[bytes]
    too_large: bool


LIMIT_CASES = {
    "a line of just the size": Limit(b"data: 4567\n\n", 10, [b"4567"], False),
    "a line that is a byte larger": Limit(b"data: 45678\n\n", 10, [], True),
    "an unfinished line of just the size": Limit(b"data: 4567", 10, [b"4567"], False),
    "an unfinished line that is larger": Limit(b"data: 45678", 10, [], True),
    "an unknown field of just the size": Limit(b"aaaaaaaaaa\n\n", 10, [], False),
    "an unknown field that is larger": Limit(b"aaaaaaaaaaa\n\n", 10, [], True),
    "lines that make an event larger": Limit(b"data: a\ndata: b\ndata: c\ndata: d\n\n", 12, [], True),
    "lines that just fit": Limit(b"data: a\ndata: b\ndata: c\n\n", 12, [b"a\nb\nc"], False),
    "empty data lines count too": Limit(b"data\n" * 10, 12, [], True),
    "the next event begins at nothing": Limit(b"data: 4567\n\n" * 5, 10, [b"4567"] * 5, False),
    "fault_29 what came whole is kept": Limit(b"data: a\n\ndata: b\n\ndata: 45678\n\n", 10, [b"a", b"b"], True),
    "fault_30 a comment may be larger": Limit(
        b":" + b"x" * 50 + b"\ndata: 4567\n\n:" + b"x" * 50, 10, [b"4567"], False
    ),
}


# For properties


def with_line_feeds(data: bytes) -> bytes:
    """What a client reads: every line end in data is an LF to it."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


_TOKENS = [
    b"data:",
    b"data",
    b"id:",
    b"event:",
    b"retry:",
    b" ",
    b":",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"\0",
    b"x",
    b"7",
]
_ODD = [BOM, BOM[:1], BOM[1:], "\u2028".encode(), "\x85".encode(), "é".encode()[:1], b"\xff", b"\xed\xa0\x80"]

soups: st.SearchStrategy[bytes] = st.lists(
    st.one_of(st.sampled_from(_TOKENS), st.sampled_from(_TOKENS), st.sampled_from(_ODD), st.binary(max_size=3)),
    max_size=40,
).map(b"".join)
"""Arbitrary bytes that often look like a stream."""


@st.composite
def cut_soups(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A soup, and the same cut into reads, some of them empty."""
    soup = draw(soups)
    places = sorted(draw(st.lists(st.integers(0, len(soup)), max_size=12)))
    return soup, list(_cut(soup, places))


def _cut(stream: bytes, places: list[int]) -> Iterator[bytes]:
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        yield stream[start:end]
