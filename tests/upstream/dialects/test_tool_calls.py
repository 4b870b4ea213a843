"""When the arguments of a call are whole, and how much work it is to know that."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.upstream.dialects.tool_calls import Call, Calls

_VALUES = st.recursive(
    st.none() | st.integers() | st.text() | st.sampled_from(['"', "\\", "{", "}", '\\"}', '{"']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def fragment(arguments: str, name: str = "f") -> bytes:
    return json.dumps({"index": 0, "function": {"name": name, "arguments": arguments}}).encode()


@given(st.dictionaries(st.text(), _VALUES, max_size=4), st.booleans(), st.data())
def test_an_object_is_whole_with_its_last_character(value: dict[str, Any], is_ascii: bool, data: st.DataObject) -> None:
    """However it is cut, and however often it is looked at."""
    text = json.dumps(value, ensure_ascii=is_ascii).encode(errors="replace").decode()
    calls, told = Calls(), ""
    while told != text:
        piece = text[len(told) :][: data.draw(st.integers(1, 8))]
        told += piece
        call = calls.add(fragment(piece, name=""))
        if data.draw(st.booleans()):
            assert call.is_whole() == (told == text)
    assert call.is_whole()


@pytest.mark.parametrize("text", ["", " ", "x", "1", '"{}"', "[1", "{", '{"', '{"a":"}', '{"a":"\\"}', '{"a":{}'])
def test_what_is_half_or_no_object_is_not_whole(text: str) -> None:
    assert not Calls().add(fragment(text)).is_whole()


def test_space_behind_an_object_changes_nothing() -> None:
    calls = Calls()
    calls.add(fragment("{}"))
    assert calls.add(fragment("\n ")).is_whole()


def test_long_arguments_are_not_read_again_with_each_fragment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that repeats the name lets this be asked with each fragment."""
    read: list[int] = []
    arguments_after = Call.arguments_after

    def counted(call: Call, fragments: int) -> str:
        read.append(len(text := arguments_after(call, fragments)))
        return text

    monkeypatch.setattr(Call, "arguments_after", counted)
    monkeypatch.setattr(Call, "arguments", property(lambda call: counted(call, 0)))
    calls = Calls()
    calls.add(fragment('{"a": "' + "x" * 10_000 + '", "b": ['))
    for _ in range(100):
        call = calls.add(fragment("{}"))
    assert len(calls.all) == 1
    assert not call.is_whole()
    assert sum(read) == call.size


def test_an_answer_has_a_bounded_number_of_calls() -> None:
    calls = Calls()
    for number in range(1024):
        calls.add(json.dumps({"id": f"c{number}"}).encode())
    with pytest.raises(UpstreamError):
        calls.add(b'{"id":"another"}')
    calls.add(b'{"id":"c1023"}')
    assert len(calls.all) == 1024
