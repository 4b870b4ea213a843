"""A body is what its first byte says, whatever its label says."""

import pytest

from gateway.upstream.shapes import Shape, is_told, shape_of, stripped

LABELS = ["text/event-stream", "application/json", "text/html", "text/plain", "application/octet-stream", ""]
MARK = b"\xef\xbb\xbf"

BODIES = {
    b'{"error":': Shape.JSON,
    b"[{": Shape.JSON,
    b"data: {}": Shape.EVENTS,
    b"data:{}": Shape.EVENTS,
    b": keep-alive": Shape.EVENTS,
    b"event: error": Shape.EVENTS,
    b"error: {}": Shape.EVENTS,
    b"id: 1": Shape.EVENTS,
    b"retry: 1": Shape.EVENTS,
    b"<html>": Shape.PAGE,
    b"<!DOCTYPE html>": Shape.PAGE,
}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("body", BODIES)
def test_the_first_byte_outranks_the_label(body: bytes, label: str) -> None:
    assert shape_of(body, label) is BODIES[body]


@pytest.mark.parametrize("start", [b"", b"Hello", b"\xef", b"7"])
def test_the_label_decides_where_the_first_byte_does_not(start: bytes) -> None:
    assert shape_of(start, "application/json") is Shape.JSON
    assert shape_of(start, "application/problem+json") is Shape.JSON
    assert shape_of(start, "text/html") is Shape.PAGE
    assert shape_of(start, "text/event-stream") is Shape.EVENTS
    assert shape_of(start, "application/octet-stream") is Shape.EVENTS


@pytest.mark.parametrize("blank", [b"", b"\n\n", b" \t", b"\r\n\r\n", MARK, MARK + b"\n", b"\n" + MARK + b" "])
@pytest.mark.parametrize("body", [b"{}", b"data: {}", b"<html>"])
def test_white_space_and_a_mark_come_in_any_pieces(blank: bytes, body: bytes) -> None:
    """Nothing is told before the first byte behind them."""
    start = b""
    for n in range(len(blank)):
        start = stripped(start + blank[n : n + 1])
        assert not is_told(start)
        assert len(start) < len(MARK)
    start = stripped(start + body[:1])
    assert is_told(start)
    assert start == body[:1]
