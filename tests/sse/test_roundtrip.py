"""Events to bytes and back, by our parser and by the standard's rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import HEARTBEAT, Event, Parser, encode, encode_data
from tests.rig.whatwg import Dispatched, interpret
from tests.sse.cases import with_line_feeds

_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=20)
_lines = st.lists(st.one_of(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: ", b":"]), st.binary(max_size=5)))
_data = _lines.map(b"".join)
_events = st.builds(Event, data=_data, type=_text.filter(bool), id=_text)


def parsed(stream: bytes) -> list[Event]:
    return list(Parser(max_bytes=1_000_000).feed(stream))


@given(_events)
def test_what_is_encoded_is_parsed_again(event: Event) -> None:
    assert parsed(encode(event)) == [Event(with_line_feeds(event.data), event.type, event.id)]


@given(st.lists(_events, max_size=5))
def test_events_in_a_row_stay_apart_and_the_standard_agrees(events: list[Event]) -> None:
    """An event without an id has the last one's: that is the format."""
    expected: list[Dispatched] = []
    last_id = ""
    for event in events:
        last_id = event.id or last_id
        data = with_line_feeds(event.data).decode(errors="replace")
        expected.append(Dispatched(event.type, data, last_id))
    assert interpret(HEARTBEAT.join(encode(event) for event in events)) == expected


@pytest.mark.parametrize(
    ("event", "retry", "block"),
    [
        (Event(b"a"), None, b"data: a\n\n"),
        (Event(b""), None, b"data: \n\n"),
        (Event(b" a"), None, b"data:  a\n\n"),
        (Event(b"a\n"), None, b"data: a\ndata: \n\n"),
        (Event(b"a\r\nb\rc\nd"), None, b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        (Event(b"a", "t", "i"), None, b"event: t\ndata: a\nid: i\n\n"),
        (Event(b"a", "t", "i"), 2000, b"retry: 2000\nevent: t\ndata: a\nid: i\n\n"),
        (Event(b"a"), 0, b"retry: 0\ndata: a\n\n"),
        (Event("é\u2028".encode(), "é", "好"), None, "event: é\ndata: é\u2028\nid: 好\n\n".encode()),
    ],
)
def test_blocks(event: Event, retry: int | None, block: bytes) -> None:
    """What a client assumes anyway is left out."""
    assert encode(event, retry=retry) == block


@pytest.mark.parametrize("bad", ["\n", "\r", "\0", "a\nevent: end"])
@pytest.mark.parametrize("field", ["id", "type"])
def test_fault_76_line_ends_and_nul_in_an_id_or_type_are_refused(field: str, bad: str) -> None:
    with pytest.raises(ValueError, match=f"an event's {field} must not hold CR, LF or NUL"):
        encode(Event(b"", **{field: bad}))


@given(_data)
def test_every_line_of_data_has_a_field_of_its_own(data: bytes) -> None:
    lines = with_line_feeds(data).split(b"\n")
    assert encode_data(data) == b"".join(b"data: " + line + b"\n" for line in lines)


def test_a_heartbeat_is_no_event_and_disturbs_none() -> None:
    assert interpret(HEARTBEAT * 3) == []
    assert parsed(HEARTBEAT + b"id: 1\ndata: a\n\n" + HEARTBEAT + b"data: b\n\n") == [
        Event(b"a", id="1"),
        Event(b"b", id="1"),
    ]
