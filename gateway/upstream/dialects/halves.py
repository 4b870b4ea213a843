"""Joins the two surrogates of a character if they come in two chunks.

JSON escapes a character beyond U+FFFF as two surrogates (RFC 8259, section 7). Some servers send the first at the end
of one delta and the second at the start of the next. The first is held back until the next text of the same field. If
the second does not come, the first becomes U+FFFD.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
_REPLACEMENT = "\ufffd"
_MOST_HELD = 1024  # fields; an upstream may send any number of tool calls


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of a text: the choice, the field of its delta and, for arguments, the tool call."""

    choice: Any
    name: str
    call: Any = None


class Halves:
    """`single`: there is one answer, and all indexes of choices mean it."""

    __slots__ = ("_single", "held")

    def __init__(self, *, single: bool) -> None:
        self.held: dict[_Place, str] = {}
        self._single = single

    def mend(self, chunk: dict[str, Any]) -> bool:
        """Puts held halves before the texts of the chunk, and holds new ones back. Returns whether it has changed."""
        changed = False
        for choice in _dicts(chunk.get("choices")):
            place, delta = 0 if self._single else _scalar(choice.get("index")), choice.get("delta")
            if isinstance(delta, dict):
                for field in _fields(place, delta):
                    changed |= self._join(field)
                if self.held and choice.get("finish_reason"):
                    changed |= self._release(place, delta)
        return changed

    def rest(self) -> list[tuple[Any, dict[str, Any]]]:
        """A delta with U+FFFD for each held half, with the index of its choice. Nothing is held after it."""
        deltas = [(place.choice, _delta(place)) for place in self.held]
        self.held.clear()
        return deltas

    def _join(self, field: "_Field") -> bool:
        text = field.text
        whole = self.held.pop(field.place, "") + text
        if whole and "\ud800" <= whole[-1] <= "\udbff" and len(self.held) < _MOST_HELD:
            self.held[field.place] = whole[-1]
            whole = whole[:-1]
        field.owner[field.name] = whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return bool(field.owner[field.name] != text)

    def _release(self, choice: Any, delta: dict[str, Any]) -> bool:
        """Adds U+FFFD for the held halves of a choice that ends. Returns whether there were any."""
        ended = [place for place in self.held if place.choice == choice]
        for place in ended:
            del self.held[place]
            for name, value in _delta(place).items():
                if name == "tool_calls":
                    delta[name] = [*_dicts(delta.get(name)), *value]
                else:
                    delta[name] = (delta.get(name) or "") + value
        return bool(ended)


@dataclass(frozen=True, slots=True)
class _Field:
    """A text in a chunk: its place, and the object and the field that contain it."""

    place: _Place
    owner: dict[str, Any]
    name: str

    @property
    def text(self) -> str:
        text: str = self.owner[self.name]
        return text


def _fields(choice: Any, delta: dict[str, Any]) -> Iterator[_Field]:
    for name in _TEXTS:
        if isinstance(delta.get(name), str):
            yield _Field(_Place(choice, name), delta, name)
    for call in _dicts(delta.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            yield _Field(_Place(choice, "tool_calls", _scalar(call.get("index"))), function, "arguments")
    function = delta.get("function_call")
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        yield _Field(_Place(choice, "function_call"), function, "arguments")


def _delta(place: _Place) -> dict[str, Any]:
    """A delta that adds U+FFFD at the place."""
    arguments = {"arguments": _REPLACEMENT}
    if place.name == "function_call":
        return {place.name: arguments}
    if place.name == "tool_calls":
        return {place.name: [{"index": place.call, "function": arguments}]}
    return {place.name: _REPLACEMENT}


def _dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in a list. A single object counts as a list of one."""
    values = [value] if isinstance(value, dict) else value
    return [item for item in values if isinstance(item, dict)] if isinstance(values, list) else []


def _scalar(value: Any) -> Any:
    """The value if it can be part of a key, or None."""
    return value if isinstance(value, int | float | str) else None
