"""The parts of an answer come one after the other, and none waits more than once."""

import json

import pytest

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError
from gateway.upstream.dialects.tool_calls import Call
from gateway.upstream.dialects.turns import Part, Turns


def text(words: str) -> Entry:
    return Entry(Kind.TEXT, words.encode())


def call(index: int, arguments: str = "", name: str = "f") -> Entry:
    fields = {"index": index, "id": f"c{index}", "function": {"name": name, "arguments": arguments}}
    return Entry(Kind.TOOL, json.dumps(fields).encode())


def shown(parts: list[Part]) -> list[str]:
    """A text as it is, a call as its id, arguments as they are."""
    return [
        part.payload.decode() if isinstance(part, Entry) else part.id if isinstance(part, Call) else part
        for part in parts
    ]


def test_what_comes_in_the_middle_of_a_call_waits_for_its_end() -> None:
    turns = Turns()
    steps = [
        (text("a"), ["a"]),
        (call(0, "{"), ["c0", "{"]),
        (text("b"), []),
        (call(1, "{"), []),
        (text("c"), []),
        (call(0, '"x":'), ['"x":']),
        (call(1, "}"), []),
        (call(0, "1}"), ["1}", "b", "c1", "{}", "c"]),
        (text("d"), ["d"]),
    ]
    assert [shown(turns.add(entry)) for entry, _ in steps] == [told for _, told in steps]
    assert turns.end() == []
    turns.check()


def test_a_call_waits_for_its_name_and_holds_up_nobody() -> None:
    turns = Turns()
    assert turns.add(call(0, "{", name="")) == []
    assert shown(turns.add(call(1, "{}"))) == ["c1", "{}"]
    assert shown(turns.add(text("a"))) == ["a"]
    assert shown(turns.add(call(0, "}"))) == ["c0", "{}"]


def test_the_end_lets_nothing_wait() -> None:
    turns = Turns()
    for entry in [call(0, "{"), call(1, "{"), text("a"), call(2, "{}", name="")]:
        turns.add(entry)
    assert shown(turns.end()) == ["c1", "{", "a"]
    with pytest.raises(UpstreamError):
        turns.check()


def test_a_part_behind_the_end_of_a_call_is_an_error() -> None:
    turns = Turns()
    turns.add(call(0, "{}"))
    turns.add(text("a"))
    assert turns.add(call(0, "\n")) == []
    with pytest.raises(UpstreamError):
        turns.add(call(0, "{}"))


@pytest.mark.parametrize("last", ["}", ""])
@pytest.mark.parametrize("has_name", [True, False])
def test_many_calls_take_a_few_steps_each(monkeypatch: pytest.MonkeyPatch, last: str, has_name: bool) -> None:
    """Whether they wait for the end of the first one, for their names, or for the end of the answer."""
    many, steps = 500, 0
    is_whole = Call.is_whole

    def counted(call: Call) -> bool:
        nonlocal steps
        steps += 1
        return is_whole(call)

    monkeypatch.setattr(Call, "is_whole", counted)
    turns = Turns()
    told = turns.add(call(0, "{"))
    for number in range(1, many):
        told += turns.add(call(number, "{}", name="f" if has_name else ""))
        told += turns.add(text("a"))
    for number in range(1, many):
        told += turns.add(call(number, " "))
    told += turns.add(call(0, last))
    told += turns.end()
    assert len([part for part in told if isinstance(part, Call)]) == many
    assert len([part for part in told if isinstance(part, Entry)]) == many - 1
    assert steps < 6 * many
