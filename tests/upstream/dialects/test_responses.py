"""Responses that are passed on: any cut of their bytes gives the same events, and each end is told as what it is."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError, UpstreamIncomplete
from gateway.log.views import response_view
from gateway.sse import END, Parser
from gateway.upstream.dialects.responses import ResponseRelay, stored

MADE: dict[str, Any] = {"id": "resp_1", "model": "m-1", "created_at": 7, "status": "in_progress", "output": []}


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


CREATED = event("response.created", response=MADE)
ITEM = event("response.output_item.added", item={"type": "mcp_call"})
DELTA = event("response.output_text.delta", delta="Hé👍")
COMPLETED = event("response.completed", response={**MADE, "status": "completed", "usage": {"input_tokens": 3}})
WHOLE = CREATED + ITEM + DELTA + COMPLETED


def relayed(data: bytes, *cuts: int, relay: ResponseRelay | None = None) -> tuple[bytes, ResponseRelay]:
    relay, entries = relay or ResponseRelay(whole=False), list[Entry]()
    parser = Parser(max_bytes=65_536)
    edges = [0, *sorted(cuts), len(data)]
    for piece in [*[data[start:end] for start, end in pairwise(edges)], END]:
        if (found := parser.whole(piece)) is not None:
            for one in found:
                relay.decode_data(one, entries)
        else:
            for one_event in parser.feed(piece):
                relay.decode(one_event, entries)
    relay.finish()
    return b"".join([response_view(number, entry) for number, entry in enumerate(entries, 1)]), relay


@given(st.lists(st.integers(0, len(WHOLE)), max_size=5))
def test_any_cut_gives_the_same_bytes(cuts: list[int]) -> None:
    passed, relay = relayed(WHOLE, *cuts)
    assert passed == WHOLE
    assert (relay.id, relay.model, relay.created, relay.finish_reason) == ("resp_1", "m-1", 7, "completed")
    assert relay.said == len("Hé👍".encode())
    assert relay.usage is not None
    assert relay.usage["prompt_tokens"] == 3


@pytest.mark.parametrize("count", range(3))
def test_what_has_no_end_is_not_whole(count: int) -> None:
    with pytest.raises(UpstreamIncomplete):
        relayed(b"".join([CREATED, ITEM, DELTA][: count + 1]))


@pytest.mark.parametrize(
    ("event_bytes", "begins"),
    [
        (CREATED, False),
        (event("response.queued", response=MADE), False),
        (event("keepalive"), False),
        (ITEM, True),
        (event("response.created", response={**MADE, "background": True}), True),
    ],
)
def test_what_is_content(event_bytes: bytes, begins: bool) -> None:
    relay = ResponseRelay(whole=False)
    with pytest.raises(UpstreamIncomplete):
        relayed(event_bytes, relay=relay)
    assert relay.has_content is begins


ODD: dict[str, tuple[bytes, bytes, int]] = {
    "other ends of lines": (WHOLE.replace(b"\n", b"\r\n"), WHOLE, 0),
    "without events' names": (
        WHOLE.replace(b"event: response.output_text.delta\n", b""),
        WHOLE.replace(b"event: response.output_text.delta\n", b""),
        0,
    ),
    "ids": (b"id: 7\n" + WHOLE, WHOLE, 0),
    "not JSON": (CREATED + b"data: no\n\n" + ITEM + COMPLETED, CREATED + ITEM + COMPLETED, 1),
    "the end of a chat": (CREATED + b"data: [DONE]\n\n" + COMPLETED, CREATED + COMPLETED, 0),
    "not UTF-8": (
        CREATED + b'data: {"type":"response.x","y":"\xff"}\n\n' + COMPLETED,
        CREATED + 'data: {"type":"response.x","y":"\ufffd"}\n\n'.encode() + COMPLETED,
        0,
    ),
    "a number that JSON has not": (
        CREATED + b'data: {"type":"response.x","y":NaN}\n\n' + COMPLETED,
        CREATED + b'data: {"type":"response.x","y":null}\n\n' + COMPLETED,
        0,
    ),
    "fields of other types": (
        CREATED + b'data: {"type":7,"response":"y"}\n\n' + COMPLETED,
        CREATED + b'data: {"type":7,"response":"y"}\n\n' + COMPLETED,
        0,
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_events(case: str) -> None:
    data, expected, skipped = ODD[case]
    passed, relay = relayed(data)
    assert passed == expected
    assert relay.skipped == skipped


@pytest.mark.parametrize(
    "data", [b"event: error\ndata: Too full.\n\n", b'data: {"error": {"message": "Too full."}}\n\n']
)
def test_errors_of_other_forms(data: bytes) -> None:
    with pytest.raises(UpstreamError, match=r"Too full\."):
        relayed(CREATED + data)


def test_it_is_told_where_a_response_is_made() -> None:
    """Once, and not of one that is not stored."""
    names: list[str] = []
    for data in (WHOLE, WHOLE.replace(b'"output"', b'"store": false, "output"')):
        relayed(data, relay=ResponseRelay(whole=False, made=names.append))
    assert names == ["resp_1"]


def test_a_body_passes_as_it_is() -> None:
    body, relay, entries = json.dumps(MADE, indent=3).encode(), ResponseRelay(whole=True), list[Entry]()
    relay.decode_completion(body, entries)
    relay.finish()
    assert entries == [Entry(Kind.CHUNK, body)]
    assert (relay.id, relay.finish_reason) == ("resp_1", "in_progress")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{ "id": "resp_1", "deleted": true }', b'{ "id": "resp_1", "deleted": true }'),
        (b'{"output":[],"error":{"message":"bad words"}}', b'{"output":[],"error":{"message":"good words"}}'),
        (b'{"output":[],"x":NaN}', b'{"output":[],"x":null}'),
    ],
)
def test_what_is_said_of_a_stored_response(body: bytes, expected: bytes) -> None:
    assert stored(body, lambda words: words.replace("bad", "good")) == expected
