"""Tool calls, put together from the fragments in which they are streamed.

Providers differ: the tail of Qwen's has `id: ""` and `arguments: null`, Gemini's have no index, others give every
call the index 0. So an empty field never overwrites, and arguments are appended. Another call begins with another
index, with another id, or, where there is no id, with another name or with arguments behind arguments that are whole.
"""

import json
from collections.abc import Sequence
from typing import Any

from gateway.errors import UpstreamError
from gateway.upstream.dialects.chunks import as_object, dump, read_index, read_json

_LARGEST_INDEX = 1023  # an index is a number that a stranger sent; larger ones are taken as none


def assembled(payloads: Sequence[bytes]) -> list[dict[str, Any]]:
    """The calls, in the order of their indexes. Raises UpstreamError for a payload that is not a JSON object."""
    calls: list[_Call] = []
    current: dict[int, _Call] = {}  # which call an index means at this place of the stream
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
    """Does the fragment say nothing, as the tail of Qwen's calls?"""
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
        self.arguments = _text(function.get("arguments"))  # a string that holds JSON; some servers send the object

    @property
    def says_anything(self) -> bool:
        return bool(self.id or self.name or self.arguments)


class _Call:
    def __init__(self, index: int) -> None:
        self.index = index
        self._id = ""
        self._type = "function"
        self._name = ""
        self._arguments: list[str] = []  # joined once: to append to strings took seconds for a megabyte

    def is_followed_by(self, fragment: _Fragment) -> bool:
        """Does the fragment begin another call?"""
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
        if not self._arguments or self._arguments[-1][-1] != "}":  # without this look, every fragment would be parsed
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
