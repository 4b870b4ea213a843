"""Joins the fragments of streamed tool calls.

Providers differ. The last fragment of Qwen's calls has `id: ""` and `arguments: null`. Gemini's have no index. Others
give every call the index 0. So an empty field never overwrites another, and arguments are appended. A new call begins
with another index or another id. Without an id, it begins with another name, or with new arguments after complete ones.
"""

import json
from collections.abc import Sequence
from typing import Any

from gateway.errors import UpstreamError
from gateway.upstream.dialects.chunks import as_object, dump, read_index, read_json

_LARGEST_INDEX = 1023  # an upstream may send any number; a larger one counts as missing


def assembled(payloads: Sequence[bytes]) -> list[dict[str, Any]]:
    """The calls in the order of their indexes. Raises UpstreamError for a payload that is not a JSON object."""
    calls: list[_Call] = []
    current: dict[int, _Call] = {}  # the call that an index means at this place of the stream
    last: _Call | None = None
    highest = -1
    for fragment in map(_read, payloads):
        index = fragment.index
        call = last if index is None else current.get(index)
        if call is None or call.is_followed_by(fragment):
            is_new_index = index is not None and index not in current
            call = _Call(index if index is not None and is_new_index else highest + 1)
            calls.append(call)
            highest = max(highest, call.index)
        call.add(fragment)
        last = current[call.index if index is None else index] = call
    return [call.value() for call in sorted(calls, key=lambda call: call.index)]


def is_empty(payload: bytes) -> bool:
    """Whether the fragment is empty, such as the last one of Qwen's calls."""
    value = as_object(read_json(payload))
    return value is not None and not _Fragment(value).says_anything


class _Fragment:
    def __init__(self, value: dict[str, Any]) -> None:
        function = as_object(value.get("function")) or {}
        index = read_index(value.get("index"))
        self.index = index if index is not None and 0 <= index <= _LARGEST_INDEX else None
        self.id = _text(value.get("id"))
        self.type = _text(value.get("type"))
        self.name = _text(function.get("name"))
        self.arguments = _text(function.get("arguments"))  # JSON in a string; some servers send the object itself

    @property
    def says_anything(self) -> bool:
        return bool(self.id or self.name or self.arguments)


class _Call:
    def __init__(self, index: int) -> None:
        self.index = index
        self._id = ""
        self._type = "function"
        self._name = ""
        self._arguments: list[str] = []  # joined once: appending to strings took seconds for a megabyte

    def is_followed_by(self, fragment: _Fragment) -> bool:
        """Whether the fragment begins another call."""
        if fragment.id:
            return fragment.id != self._id and bool(self._id or (self._name and fragment.name))
        if not fragment.name or not self._name:
            return False
        return fragment.name != self._name or (fragment.arguments[:1] == "{" and self._is_whole())

    def add(self, fragment: _Fragment) -> None:
        self._id = fragment.id or self._id
        self._type = fragment.type or self._type
        self._name = fragment.name or self._name
        if fragment.arguments:
            self._arguments.append(fragment.arguments)

    def value(self) -> dict[str, Any]:
        function = {"name": self._name, "arguments": "".join(self._arguments)}
        return {"id": self._id, "type": self._type, "function": function}

    def _is_whole(self) -> bool:
        if not self._arguments or self._arguments[-1][-1] != "}":  # avoids parsing after every fragment
            return False
        try:
            json.loads("".join(self._arguments))
        except (ValueError, RecursionError):
            return False
        return True


def _read(payload: bytes) -> _Fragment:
    value = as_object(read_json(payload))
    if value is None:
        raise UpstreamError("The model's server sent a tool call that cannot be read.")
    return _Fragment(value)


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return dump(value).decode()
