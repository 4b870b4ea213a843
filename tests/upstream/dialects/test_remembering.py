"""What is remembered of an answer that nothing holds: its text, as long as it is nothing but text."""

import json
import tracemalloc
from collections.abc import Callable

import pytest

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError
from gateway.sse import Event
from gateway.upstream.dialects.relay import RememberingRelay
from gateway.upstream.dialects.remembering import RememberingDecoder


def data(**delta: object) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()


def decoded(*parts: bytes) -> tuple[bytes | None, list[Entry]]:
    decoder, entries = RememberingDecoder(), list[Entry]()
    for part in parts:
        decoder.decode_data(part, entries)
    return decoder.passed_text, entries


def test_the_text_of_all_entries() -> None:
    """However the decoder reads them: by its template, by structs, or from near-JSON."""
    odd = b'{"choices":[{"delta":{"content":"c","x":NaN}}]}'
    escaped = data(content='"\n')
    text, entries = decoded(data(role="assistant"), data(content="a"), data(content="é"), escaped, odd, b"[DONE]")
    assert text == b"".join([entry.payload for entry in entries]) == 'aé"\nc'.encode()


@pytest.mark.parametrize(
    "other",
    [
        {"reasoning_content": "hm"},
        {"refusal": "no"},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
        {"audio": {"data": "x"}},
    ],
)
def test_with_anything_else_there_is_no_text_to_go_on_from(other: dict[str, object]) -> None:
    text, entries = decoded(data(content="a"), data(**other))
    assert text is None
    assert {entry.kind for entry in entries} > {Kind.TEXT}


def test_a_number_is_text() -> None:
    decoder, entries = RememberingRelay(hide_usage=False), list[Entry]()
    for part in (data(content="It costs "), data(content=6)):
        decoder.decode_data(part, entries)
    assert decoder.passed_text == b"It costs 6"


def test_text_before_an_error_is_remembered() -> None:
    """It is passed on, too."""
    decoder, entries = RememberingDecoder(), list[Entry]()
    event = {"choices": [{"delta": {"content": "a"}}], "error": {"message": "No."}}
    with pytest.raises(UpstreamError):
        decoder.decode(Event(json.dumps(event).encode()), entries)
    assert decoder.passed_text == b"".join([entry.payload for entry in entries])


MAKES: list[Callable[[], RememberingDecoder | RememberingRelay]] = [
    RememberingDecoder,
    lambda: RememberingRelay(hide_usage=False),
]


@pytest.mark.parametrize("make", MAKES, ids=["decoder", "relay"])
@pytest.mark.parametrize("is_plain", [True, False])
def test_what_is_remembered_has_a_bound(
    make: Callable[[], RememberingDecoder | RememberingRelay], is_plain: bool
) -> None:
    """An answer that is passed on may be endless. Beyond the bound, and behind anything else, nothing is held."""
    decoder, part = make(), data(content="x" * 262_144)
    if not is_plain:
        decoder.decode_data(data(reasoning_content="hm"), [])
    tracemalloc.start()
    try:
        for number in range(36):
            decoder.decode_data(part, [])
            if not is_plain:
                assert decoder.passed_text is None
                assert tracemalloc.get_traced_memory()[0] < 2_000_000
            elif number == 31:  # 8 MiB
                assert decoder.passed_text == b"x" * 8_388_608
        assert decoder.passed_text is None
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()
