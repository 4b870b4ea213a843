"""The splitter and the parser: however a stream is cut into reads, it gives the same, and what the standard says."""

import re
from collections.abc import Sequence

from gateway.sse import END, Event, EventTooLarge, LineSplitter, Parser
from gateway.upstream.dialects.openai import DATA_FIELDS
from tests.rig.whatwg import interpret

_BOM = b"\xef\xbb\xbf"
_ROOM = 1_048_576
_SHORT = 32  # bytes of a stream that may be fed byte by byte, which takes as long as all else together
_LINE_END = re.compile(b"\r\n|\r|\n")

Reads = Sequence[bytes]
Outcome = tuple[list[Event], bool, int | None]  # the events, whether something was too large, the reconnection time


def cut(data: bytes, number: int) -> Reads:
    """The data in two or three reads, or byte by byte, as `number` decides."""
    way, number = number % 8, number // 8
    if way == 0 and len(data) <= _SHORT:
        return [data[place : place + 1] for place in range(len(data))]
    first, second = sorted((number % (len(data) + 1), number // 7 % (len(data) + 1)))
    if way == 1:
        return data[:first], data[first:]
    return data[:first], data[first:second], b"", data[second:]


# The splitter


def check_splitter(data: bytes, number: int) -> None:
    *expected, unfinished = _LINE_END.split(data.removeprefix(_BOM))
    lines = [line for line in expected if line[:1] != b":"]
    held = 0 if unfinished[:1] == b":" else len(unfinished)
    assert split([data]) == (lines, held)
    assert split(cut(data, number)) == (lines, held)


def split(reads: Reads) -> tuple[list[bytes], int]:
    """The lines, and how many bytes are held. Comments are left out: they are passed on if they came in one read."""
    splitter = LineSplitter()
    lines = [line for read in reads for line in splitter.feed(read)]
    return [line for line in lines if line[:1] != b":"], splitter.held


# The parser


def check_parser(data: bytes, number: int) -> None:
    """With room for all of it, and with a bound that it may exceed."""
    events, too_large, _ = expected = outcome([data], _ROOM)
    assert not too_large
    dispatched = [(event.type, event.data.decode(errors="replace"), event.id) for event in events]
    assert dispatched == [(told.type, told.data, told.last_event_id) for told in interpret(data + END)]
    reads, bound = cut(data, number), 3 + number % 61  # a byte-order mark has three
    fields = DATA_FIELDS if number % 3 else frozenset[bytes]()
    assert outcome(reads, _ROOM) == expected
    assert outcome(reads, bound, fields=fields) == outcome([data], bound, fields=fields)
    check_whole(reads, _ROOM if number % 2 else bound)


def outcome(reads: Reads, bound: int, *, fields: frozenset[bytes] = frozenset()) -> Outcome:
    parser = Parser(max_bytes=bound, data_fields=fields)
    events: list[Event] = []
    try:
        for read in [*reads, END]:
            events.extend(parser.feed(read))  # what came before an error is there
            assert parser.held <= bound
    except EventTooLarge:
        return events, True, parser.retry
    return events, False, parser.retry


def check_whole(reads: Reads, bound: int) -> None:
    """A read that is taken whole gives what it gives when it is fed."""
    quick, thorough = Parser(max_bytes=bound), Parser(max_bytes=bound)
    try:
        for read in reads:
            found, fed = quick.whole(read), thorough.feed(read)
            if found is None:
                assert list(quick.feed(read)) == list(fed)
            else:
                assert [(data, "message") for data in found] == [(event.data, event.type) for event in fed]
    except EventTooLarge:
        return  # neither is of use after it
