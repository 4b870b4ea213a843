"""The receipt of an answer is the sum of what any client has assembled, whatever its entries and its view."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import Entry, Kind
from gateway.log.base import StreamLog
from gateway.log.memory import MemoryStore
from gateway.log.receipt import Receipt
from gateway.log.snapshot import Snapshot
from gateway.log.views import Format, sse_view, text_view
from tests.rig.receipts import EMPTY, sum_of
from tests.rig.whatwg import interpret

STREAM = "7XbqJ0k2QnUe8d3Lw5vRtA"
KINDS = [Kind.TEXT, Kind.REFUSAL, Kind.REASONING, Kind.TOOL, Kind.EXTRA]


def text(words: str) -> Entry:
    return Entry(Kind.TEXT, words.encode())


def log_of(entries: Sequence[Entry]) -> StreamLog:
    log = MemoryStore(max_streams=1, max_bytes=1_000_000).create(STREAM)
    log.append(entries)
    return log


def assembled(entries: Sequence[Entry], format: Format) -> str:
    """The text that a client of this format has."""
    view = sse_view(STREAM, format=format, reasoning=True)
    events = interpret(b"".join([view(number, entry) for number, entry in enumerate(entries, 1)]))
    texts = [event for event in events if event.type in ("message", "refusal")]
    if format is Format.TEXT:
        return "".join(event.data for event in texts)
    return "".join(value for event in texts for value in json.loads(event.data).values())


PIECES = st.text(st.sampled_from("a é好👋\r\n\u2028\x0b\x1c\0:") | st.characters(exclude_categories=["Cs"]), max_size=6)
ENTRIES = st.lists(st.builds(lambda kind, words: Entry(kind, words.encode()), st.sampled_from(KINDS), PIECES))


@given(ENTRIES, st.lists(st.integers(0, 9)))
def test_it_is_the_sum_of_what_each_client_assembles(entries: list[Entry], batches: list[int]) -> None:
    """In whichever batches they come, and however often they are summed up in between."""
    log = MemoryStore(max_streams=1, max_bytes=1_000_000).create(STREAM)
    receipt = Receipt(log)
    left = list(entries)
    for size in batches:
        log.append(left[:size])
        del left[:size]
        receipt.take()
    log.append(left)
    fields = receipt.fields()
    bare = fields.pop("line_feeds", fields)
    assert fields == sum_of(assembled(entries, Format.JSON))
    assert bare == sum_of(assembled(entries, Format.TEXT))
    assert fields == sum_of(b"".join([text_view(1, entry) for entry in entries]).decode())
    assert fields == sum_of(json.loads(b"".join(Snapshot(STREAM, log).parts()))["text"])


CASES: dict[str, tuple[list[Entry], dict[str, Any]]] = {
    "nothing": ([], EMPTY),
    "an empty text": ([text("")], EMPTY),
    "several pieces": ([text("Hel"), text("lo")], sum_of("Hello")),
    "a length in bytes": ([text("é👋")], {"bytes": 6} | sum_of("é👋")),
    "a refusal": ([text("a"), Entry(Kind.REFUSAL, b"No.")], sum_of("aNo.")),
    "thoughts and tools": ([Entry(Kind.REASONING, b"hm"), Entry(Kind.TOOL, b"{}")], sum_of("")),
    "line feeds": ([text("a\n\nb")], sum_of("a\n\nb")),
    "carriage returns": ([text("a\r"), text("\r\nb")], sum_of("a\r\r\nb") | {"line_feeds": sum_of("a\n\nb")}),
    "a CRLF cut in two": ([text("a\r"), text("\nb")], sum_of("a\r\nb") | {"line_feeds": sum_of("a\n\nb")}),
}


@pytest.mark.parametrize("case", CASES)
def test_cases(case: str) -> None:
    entries, expected = CASES[case]
    assert Receipt(log_of(entries)).fields() == expected


def test_nothing_else_of_the_answer_is_in_it() -> None:
    entries = [text("a"), Entry(Kind.FAILURE, b'{"error":{}}'), Entry(Kind.END, b"{}")]
    assert Receipt(log_of(entries)).fields() == sum_of("a")
