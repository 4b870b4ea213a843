"""What each kind of client sees of an entry: tables of frames, and what a browser makes of them."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import Entry, Kind
from gateway.log.views import EventId, Format, View, read_event_id, sse_view, start_block, text_view
from gateway.sse import HEARTBEAT
from tests.rig.whatwg import Dispatched, interpret
from tests.sse.cases import with_line_feeds

FAILURE = b'{"error":{"message":"no"},"retryable":true}'
END = b'{"reason":"complete"}'
LOST_END = b'{"reason":"incomplete","is_lost":true}'
LOST_FAILURE = b'{"error":{"code":"producer_lost"},"is_lost":true}'

FRAMES = {
    # entry: as text, as JSON
    Entry(Kind.TEXT, b"Hello"): (b"data: Hello\nid: s.7\n\n", b'data: {"content":"Hello"}\nid: s.7\n\n'),
    Entry(Kind.TEXT, b" a "): (b"data:  a \nid: s.7\n\n", b'data: {"content":" a "}\nid: s.7\n\n'),
    Entry(Kind.TEXT, "好\u2028".encode()): (
        "data: 好\u2028\nid: s.7\n\n".encode(),
        'data: {"content":"好\u2028"}\nid: s.7\n\n'.encode(),
    ),
    Entry(Kind.TEXT, b"a\n"): (b"data: a\ndata: \nid: s.7\n\n", b'data: {"content":"a\\n"}\nid: s.7\n\n'),
    Entry(Kind.TEXT, b"a\r\nb\rc"): (
        b"data: a\ndata: b\ndata: c\nid: s.7\n\n",
        b'data: {"content":"a\\r\\nb\\rc"}\nid: s.7\n\n',
    ),
    Entry(Kind.REASONING, b"hm"): (
        b"event: reasoning\ndata: hm\nid: s.7\n\n",
        b'event: reasoning\ndata: {"reasoning":"hm"}\nid: s.7\n\n',
    ),
    Entry(Kind.REFUSAL, b"no"): (
        b"event: refusal\ndata: no\nid: s.7\n\n",
        b'event: refusal\ndata: {"refusal":"no"}\nid: s.7\n\n',
    ),
    Entry(Kind.TOOL, b'{"index":0}'): (b'event: tool_call\ndata: {"index":0}\nid: s.7\n\n',) * 2,
    Entry(Kind.TOOL, b'{"index":\n0}'): (b'event: tool_call\ndata: {"index":\ndata: 0}\nid: s.7\n\n',) * 2,
    Entry(Kind.FAILURE, FAILURE): (b"event: failure\ndata: " + FAILURE + b"\nid: s.7\n\n",) * 2,
    Entry(Kind.END, END): (b"event: end\ndata: " + END + b"\nid: s.7\n\n",) * 2,
    Entry(Kind.FAILURE, LOST_FAILURE): (b"event: failure\ndata: " + LOST_FAILURE + b"\nid: s.07\n\n",) * 2,
    Entry(Kind.END, LOST_END): (b"event: end\ndata: " + LOST_END + b"\nid: s.07\n\n",) * 2,
}


@pytest.mark.parametrize("entry", FRAMES, ids=lambda entry: f"{entry.kind} {entry.payload!r}")
def test_frames(entry: Entry) -> None:
    as_text, as_json = FRAMES[entry]
    assert sse_view("s", format=Format.TEXT, reasoning=True)(7, entry) == as_text
    assert sse_view("s", format=Format.JSON, reasoning=True)(7, entry) == as_json


@pytest.mark.parametrize("format", Format)
@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CHUNK])
def test_reasoning_alone_is_left_out_where_it_was_not_asked_for(kind: Kind, format: Format) -> None:
    entry = Entry(kind, b"{}")
    shown = sse_view("s", format=format, reasoning=True)(1, entry)
    hidden = sse_view("s", format=format, reasoning=False)(1, entry)
    assert shown
    assert hidden == (b"" if kind in (Kind.REASONING, Kind.REASONING_EXTRA) else shown)


@pytest.mark.parametrize("kind", Kind)
def test_bare_text_is_text_and_refusals(kind: Kind) -> None:
    shown = kind in (Kind.TEXT, Kind.REFUSAL)
    assert text_view(1, Entry(kind, b"a\r\n")) == (b"a\r\n" if shown else b"")


@pytest.mark.parametrize(
    ("number", "read"),
    [("0", (0, False)), ("7", (7, False)), ("07", (7, True)), ("00", None), ("007", None), ("", None), ("-7", None)],
)
def test_ids_are_read_as_they_were_written(number: str, read: tuple[int, bool] | None) -> None:
    stream = "a" * 22
    place = read_event_id(f"{stream}.{number}")
    assert place == (None if read is None else EventId(stream, *read))
    assert place is None or str(place) == f"{stream}.{number}"


def test_the_start_block_names_the_stream_before_any_entry() -> None:
    block = start_block("s", retry_ms=2000)
    assert block == b'retry: 2000\nevent: start\ndata: {"stream":"s"}\nid: s.0\n\n'
    assert interpret(block) == [Dispatched("start", '{"stream":"s"}', "s.0")]


# What a browser reads of it

_texts = st.text(
    st.one_of(st.sampled_from("\r\n: \ufeff\0\u2028"), st.characters(exclude_categories=["Cs"])), max_size=30
)
_payloads = {
    Kind.TEXT: _texts.map(str.encode),
    Kind.REASONING: _texts.map(str.encode),
    Kind.REFUSAL: _texts.map(str.encode),
    Kind.TOOL: st.dictionaries(_texts, _texts, max_size=2).map(lambda value: json.dumps(value, indent=1).encode()),
    Kind.FAILURE: st.just(FAILURE),
    Kind.END: st.just(END),
}
_entries = st.lists(
    st.one_of([st.builds(Entry, st.just(kind), payload) for kind, payload in _payloads.items()]), max_size=8
)
_VIEWS = [sse_view("s", format=format, reasoning=reasoning) for format, reasoning in product(Format, (True, False))]
_TYPES = {Kind.TEXT: "message", Kind.TOOL: "tool_call"}
_NAMES = {Kind.TEXT: "content", Kind.REASONING: "reasoning", Kind.REFUSAL: "refusal"}


def stream(view: View, entries: list[Entry]) -> list[bytes]:
    return [start_block("s", retry_ms=1), *[view(number, entry) for number, entry in enumerate(entries, 1)]]


@pytest.mark.parametrize("reasoning", [True, False])
@pytest.mark.parametrize("format", Format)
@given(entries=_entries)
def test_fault_76_whatever_the_text_every_entry_is_one_event(
    format: Format, reasoning: bool, entries: list[Entry]
) -> None:
    """Its own type, its own number, its own text, and nothing that the text brought along."""
    view = sse_view("s", format=format, reasoning=reasoning)
    seen = interpret(b"".join(stream(view, entries)))[1:]
    shown = [
        (n, entry.kind, entry.payload)
        for n, entry in enumerate(entries, 1)
        if reasoning or entry.kind is not Kind.REASONING
    ]
    assert [event.type for event in seen] == [_TYPES.get(kind, kind.value) for _, kind, _ in shown]
    assert [event.last_event_id for event in seen] == [f"s.{number}" for number, _, _ in shown]
    for event, (_, kind, payload) in zip(seen, shown, strict=True):
        if format is Format.JSON and kind in _NAMES:
            assert json.loads(event.data) == {_NAMES[kind]: payload.decode()}
        else:
            assert event.data == with_line_feeds(payload).decode()


@pytest.mark.parametrize("view", _VIEWS)
@given(entries=_entries)
def test_frames_are_blocks_of_their_own(view: View, entries: list[Entry]) -> None:
    """Heartbeats between them change nothing, and what is resumed behind any of them is the rest of the events."""
    frames = stream(view, entries)
    events = interpret(b"".join(frames))
    assert interpret(HEARTBEAT.join(frames)) == events
    for cursor in range(len(frames)):
        before, behind = interpret(b"".join(frames[:cursor])), interpret(b"".join(frames[cursor:]))
        assert before + behind == events


def test_fault_76_text_that_looks_like_an_event_is_text() -> None:
    text = "a\n\nid: s.99\nevent: end\ndata: {}\n\n"
    view = sse_view("s", format=Format.TEXT, reasoning=False)
    assert interpret(view(1, Entry(Kind.TEXT, text.encode()))) == [Dispatched("message", text, "s.1")]
