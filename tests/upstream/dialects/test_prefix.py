"""Prefix-verified failover: only the part behind an equal text is passed on, whatever the cuts of the two answers."""

import json
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import Entry, Kind
from gateway.upstream.dialects.prefix import Diverged, Prefix, text_of

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *[cut % (len(text) + 1) for cut in cuts]})
    return [text[a:b] for a, b in pairwise(places)]


def as_text(part: str) -> Entry:
    return Entry(Kind.TEXT, part.encode())


def as_chunk(part: str, **choice: object) -> Entry:
    value = {"id": "c", "choices": [{"index": 0, "delta": {"content": part}, "logprobs": None, **choice}], "x": 1}
    return Entry(Kind.CHUNK, json.dumps(value).encode())


def text_in(entries: list[Entry]) -> str:
    parts = []
    for entry in entries:
        value = entry.payload.decode()
        parts.append(value if entry.kind is Kind.TEXT else json.loads(value)["choices"][0]["delta"]["content"])
    return "".join(parts)


@pytest.mark.parametrize("make", [as_text, as_chunk])
@given(text=TEXTS, at=st.integers(0, 40), cuts=st.lists(st.integers(0, 40)))
def test_what_is_passed_on_is_the_rest(make: Callable[[str], Entry], text: str, at: int, cuts: list[int]) -> None:
    known = text[: 1 + at % len(text)]
    prefix, passed = Prefix(known.encode()), []
    for part in pieces(text, cuts):
        passed += prefix.cut([make(part)])
    assert prefix.is_over
    assert known + text_in(passed) == text


@pytest.mark.parametrize("make", [as_text, as_chunk])
@given(text=TEXTS, other=TEXTS, cuts=st.lists(st.integers(0, 40)))
def test_nothing_of_another_text_is_passed_on(
    make: Callable[[str], Entry], text: str, other: str, cuts: list[int]
) -> None:
    prefix, passed, diverged = Prefix(text.encode()), [], False
    try:
        for part in pieces(other, cuts):
            passed += prefix.cut([make(part)])
    except Diverged:
        diverged = True
    if other.startswith(text):
        assert not diverged
        assert text + text_in(passed) == other
    else:
        assert not prefix.is_over
        assert passed == []
        assert diverged or text.startswith(other)  # a shorter answer is never over


@pytest.mark.parametrize(
    "entry",
    [
        Entry(Kind.REASONING, b"hm"),
        Entry(Kind.TOOL, b"{}"),
        as_chunk("", delta={"reasoning_content": "hm"}),
        as_chunk("", delta={"tool_calls": [{"index": 0}]}),
        as_chunk("", delta={"refusal": "no"}),
        as_chunk("a", finish_reason="stop"),
        Entry(Kind.CHUNK, b'{"choices":[{"delta":{"content":"a"}},{"index":1,"delta":{"content":"a"}}]}'),
    ],
)
def test_anything_but_text_is_another_answer(entry: Entry) -> None:
    with pytest.raises(Diverged):
        Prefix(b"abc").cut([entry])


def test_chunks_without_text_are_passed_over_and_a_cut_one_keeps_its_fields() -> None:
    prefix = Prefix("aé".encode())
    usage = Entry(Kind.CHUNK, b'{"choices":[],"usage":{"total_tokens":1}}')
    role = as_chunk("", delta={"role": "assistant", "content": ""})
    assert prefix.cut([role, usage, as_chunk("a")]) == []
    (cut,) = prefix.cut([as_chunk("éb", finish_reason="stop")])
    assert json.loads(cut.payload) == json.loads(as_chunk("b", finish_reason="stop").payload)
    assert prefix.cut([usage]) == [usage]


def test_the_text_of_a_log() -> None:
    assert text_of([as_text("a"), as_text("é")]) == "aé".encode()
    assert text_of([as_text("a"), Entry(Kind.REASONING, b"hm")]) is None
