"""Events from bytes, however the bytes are cut into reads, held against the tables and against the standard."""

import itertools
import sys
import tracemalloc
from collections.abc import Iterable
from types import FrameType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import END, Event, EventTooLarge, Parser
from tests.rig.whatwg import Dispatched, interpret
from tests.sse.cases import LIMIT_CASES, PARSER_CASES, WAYS, byte_by_byte, cut_soups

_ROOM = 1_048_576


def parse(reads: Iterable[bytes], *, max_bytes: int = _ROOM) -> tuple[list[Event], bool]:
    """What came, the end of the stream included, and whether something was too large."""
    parser = Parser(max_bytes=max_bytes)
    events: list[Event] = []
    try:
        for read in reads:
            events.extend(parser.feed(read))
        events.extend(parser.feed(END))
    except EventTooLarge:
        return events, True
    return events, False


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", PARSER_CASES)
def test_events(case: str, way: str) -> None:
    expected = PARSER_CASES[case]
    assert parse(WAYS[way](expected.stream)) == (expected.events, False), expected.rule


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", PARSER_CASES)
def test_events_with_trailing_data(case: str, way: str) -> None:
    """What comes first is not changed by what comes behind it, and the other way round."""
    expected = PARSER_CASES[case]
    events, _ = parse(WAYS[way](expected.stream + b"\n\nid: x\ndata: next\n\n"))
    assert events == [*expected.events, Event(b"next", id="x")]


# The same as the standard


def dispatched(events: Iterable[Event]) -> list[Dispatched]:
    return [Dispatched(event.type, event.data.decode(errors="replace"), event.id) for event in events]


@given(cut_soups())
def test_the_events_are_those_that_a_browser_dispatches(soup: tuple[bytes, list[bytes]]) -> None:
    stream, reads = soup
    parser = Parser(max_bytes=_ROOM)
    assert dispatched(event for read in reads for event in parser.feed(read)) == interpret(stream)


@given(cut_soups())
def test_the_end_adds_what_a_blank_line_would_have_added(soup: tuple[bytes, list[bytes]]) -> None:
    """A browser drops what the end cut off; a server that forgets the last blank line is understood all the same."""
    stream, reads = soup
    events, _ = parse(reads)
    assert dispatched(events) == interpret(stream + b"\n\n")


@given(cut_soups(), st.integers(3, 40))  # the length of a byte-order mark is the least limit that means anything
def test_any_cut_gives_the_same_outcome_whatever_the_limit(soup: tuple[bytes, list[bytes]], max_bytes: int) -> None:
    """Not only the events: whether a line or an event is too large does not depend on the cuts either."""
    stream, reads = soup
    outcome = parse([stream], max_bytes=max_bytes)
    assert parse(reads, max_bytes=max_bytes) == outcome
    assert parse(byte_by_byte(stream), max_bytes=max_bytes) == outcome


# Reads that are taken in one go

_PARTS = [b"data: a\n\n", b"data: b\n\ndata: {}\n\n", b"data: \n\n", b"data: a\ndata: b\n\n", b"data: data: \n\n"]
_PARTS += [b"data: " + b"x" * 40 + b"\n\n", b": c\n\n", b"data:a\n\n", b"data\n\n", b"event: t\n", b"id: 1\n\n"]
_PARTS += [b"data: a\r\n\r\n", b"data: a\r", b"data: ", b":", b"a", b"\n", b"\r"]
_PARTS += [b"", b"\xef", b"\xef\xbb\xbf", b"\xbb\xbfdata: a\n\n"]
_reads = st.lists(st.lists(st.sampled_from(_PARTS), min_size=1, max_size=4).map(b"".join), max_size=8)


@given(_reads, st.integers(3, 60))
def test_a_read_that_is_taken_whole_gives_what_it_gives_when_fed(reads: list[bytes], max_bytes: int) -> None:
    """Whatever came before it, and whatever comes behind it."""
    taking, feeding = Parser(max_bytes=max_bytes), Parser(max_bytes=max_bytes)
    too_large = False
    for read in [*reads, END]:
        if not too_large:  # else the parser is of no use
            whole, (fed, too_large) = taking.whole(read), outcome(feeding, read)
            if whole is None:
                assert outcome(taking, read) == (fed, too_large)
            else:
                assert ([(data, "message") for data in whole], False) == ([(e.data, e.type) for e in fed], too_large)


def outcome(parser: Parser, read: bytes) -> tuple[list[Event], bool]:
    events: list[Event] = []
    try:
        events.extend(parser.feed(read))
    except EventTooLarge:
        return events, True
    return events, False


def test_reads_that_are_taken_whole() -> None:
    parser = Parser(max_bytes=30)
    for _ in range(2):
        assert parser.whole(b"data: a\n\n") == [b"a"]
    assert parser.whole(b"data: a\n\ndata:  b\n\n") == [b"a", b" b"]
    for other in (
        b"data:a\n\n",
        b"data: a\n",
        b"data: a\ndata: b\n\n",
        b"data: a\r\n\n",
        b"data: " + b"a" * 40 + b"\n\n",
    ):
        assert parser.whole(other) is None
    parser = Parser(max_bytes=30)
    assert parser.whole(b"\xef\xbb\xbfdata: a\n\n") is None
    assert list(parser.feed(b"\xef\xbb")) == []
    assert parser.whole(b"data: a\n\n") is None  # what is held may be a byte-order mark, or not
    for held in (b"d", b":", b"event: t\n", b"data: a\n", b"\r"):
        parser = Parser(max_bytes=30)
        list(parser.feed(b": x\n\n" + held))
        assert parser.whole(b"data: a\n\n") is None


# When an event comes


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_fault_32_an_event_comes_with_the_byte_that_ends_it(end: str) -> None:
    """Behind CR, nobody waits to see whether an LF follows."""
    stream = f"data: a{end}{end}".encode()
    parser = Parser(max_bytes=_ROOM)
    counts = [len(list(parser.feed(byte))) for byte in byte_by_byte(stream)]
    at = len(f"data: a{end}") + 1
    assert counts == [int(n == at) for n in range(1, len(stream) + 1)]


def test_an_event_is_there_before_the_next_one_is_asked_for() -> None:
    """Whoever stops at `[DONE]` does not pay for what stands behind it in the same read."""
    events = Parser(max_bytes=10).feed(b"data: a\n\ndata: b\n\ndata: too large\n\n")
    assert next(events) == Event(b"a")
    assert next(events) == Event(b"b")
    with pytest.raises(EventTooLarge):
        next(events)


# Retry and foreign fields


@pytest.mark.parametrize(
    ("value", "retry"),
    [
        (b"retry: 2000", 2000),
        (b"retry:0", 0),
        (b"retry: 0010", 10),
        (b"retry: 999999999", 999_999_999),
        (b"retry: 9999999999", None),
        (b"retry: " + b"9" * 10_000, None),
        (b"retry", None),
        (b"retry: ", None),
        (b"retry:  1", None),
        (b"retry: 1 ", None),
        (b"retry: +1", None),
        (b"retry: -1", None),
        (b"retry: 1.5", None),
        (b"retry: 1_000", None),
        (b"retry: 0x10", None),
        ("retry: ١٢".encode(), None),
        ("retry: ²".encode(), None),
        (b"retry: 1\0", None),
        (b"Retry: 1", None),
    ],
)
def test_retry_is_ascii_digits_only(value: bytes, retry: int | None) -> None:
    parser = Parser(max_bytes=_ROOM)
    assert list(parser.feed(value + b"\n\n")) == []
    assert parser.retry == retry


def test_a_bad_retry_leaves_the_last_good_one() -> None:
    parser = Parser(max_bytes=_ROOM)
    assert list(parser.feed(b"retry: 5\nretry: x\n\n")) == []
    assert parser.retry == 5


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b'error: {"code":500}\n\n', [Event(b'{"code":500}', "error")]),
        (b"error:a\nerror: b\n\n", [Event(b"a\nb", "error")]),
        (b"errors: a\n\n", []),
        (b"error: a\n\ndata: b\n\n", [Event(b"a", "error"), Event(b"b")]),
    ],
)
def test_fault_15_a_field_that_should_have_been_data(stream: bytes, events: list[Event]) -> None:
    parser = Parser(max_bytes=_ROOM, data_fields=frozenset({b"error"}))
    assert list(parser.feed(stream)) == events
    assert all(event.type == "message" for event in parse([stream])[0])


# Bounds


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", LIMIT_CASES)
def test_limits(case: str, way: str) -> None:
    """What came whole before is there; a line and an event are bounded together, in whatever reads they come."""
    expected = LIMIT_CASES[case]
    events, too_large = parse(WAYS[way](expected.stream), max_bytes=expected.max_bytes)
    assert [event.data for event in events] == expected.events
    assert too_large is expected.too_large


def test_an_unfinished_line_and_an_unfinished_event_are_bounded_together() -> None:
    """As soon as they are too large, not only when the line ends."""
    parser = Parser(max_bytes=8)
    assert list(parser.feed(b"data: a\ndata: ")) == []
    with pytest.raises(EventTooLarge):
        list(parser.feed(b"b"))


def test_what_is_too_large_says_how_large_is_allowed() -> None:
    with pytest.raises(EventTooLarge, match="larger than 10 bytes") as raised:
        list(Parser(max_bytes=10).feed(b"data: 45678\n\n"))
    assert raised.value.limit == 10


@pytest.mark.parametrize(
    "read", [b"x" * 65_536, b"data: " + b"x" * 65_529 + b"\n", b"data\n" * 13_107], ids=["line", "lines", "empty lines"]
)
def test_fault_29_what_never_ends_fails_at_the_limit(read: bytes) -> None:
    """An infinite line, and an event of infinitely many lines: memory stays in the order of the limit."""
    limit = 4 * len(read)
    tracemalloc.start()
    outcome = parse(itertools.repeat(read, 25), max_bytes=limit)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert outcome == ([], True)
    assert peak < 16 * limit


def test_fault_30_an_endless_comment_is_read_for_ever() -> None:
    parser = Parser(max_bytes=100)
    read = b": " + b"x" * 65_536
    tracemalloc.start()
    for _ in range(1_000):
        assert list(parser.feed(read)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(read)
    assert list(parser.feed(b"\ndata: a\n\n")) == [Event(b"a")]


def test_fault_30_comments_without_end_are_too() -> None:
    parser = Parser(max_bytes=100)
    for _ in range(10_000):
        assert list(parser.feed(b": keep-alive\n\n")) == []


@pytest.mark.parametrize("lines", [1, 64])
def test_fault_28_an_event_of_64_mib(lines: int) -> None:
    size = 67_108_864
    value = b"x" * (size // lines)
    read = 1_048_576
    parser = Parser(max_bytes=size + 6 + lines)
    for _ in range(lines):
        assert list(parser.feed(b"data: ")) == []
        for start in range(0, len(value), read):
            assert list(parser.feed(value[start : start + read])) == []
        assert list(parser.feed(b"\n")) == []
    (event,) = parser.feed(b"\n")
    assert event.data == b"\n".join([value] * lines)


# Work


def test_fault_31_a_hundred_thousand_tiny_events() -> None:
    count = 100_000
    assert parse([b"data: x\n\n" * count]) == ([Event(b"x")] * count, False)


def test_fault_31_work_grows_with_the_bytes_and_no_faster() -> None:
    """Counted in calls of functions, one byte per read; what a call copies is counted in the tests of the splitter."""
    once, four_times = calls_for(b"data: x\n\n" * 250), calls_for(b"data: x\n\n" * 1_000)
    assert once > 2_250
    assert four_times <= 4 * once
    long_line, longer_line = calls_for(b"data: " + b"x" * 2_000), calls_for(b"data: " + b"x" * 8_000)
    assert longer_line <= 4 * long_line


def calls_for(stream: bytes) -> int:
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    parser = Parser(max_bytes=_ROOM)
    reads = byte_by_byte(stream)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for read in reads:
            list(parser.feed(read))
    finally:
        sys.setprofile(before)
    return calls
