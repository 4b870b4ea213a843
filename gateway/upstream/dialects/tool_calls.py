"""Joins the fragments of streamed tool calls.

Providers differ. The last fragment of Qwen's calls has `id: ""` and `arguments: null`. Gemini's have no index. Others
give every call the index 0. So an empty field never overwrites another, and arguments are appended. A new call begins
with another index or another id. Without an id, it begins with another name, or with new arguments after complete ones.
"""

import re
from typing import Any

import msgspec

from gateway.errors import UpstreamError
from gateway.upstream.dialects.chunks import as_object, dump, read_index, read_json

_LARGEST_INDEX = 1023  # an upstream may send any number; a larger one counts as missing
_MOST_CALLS = 1024  # as many as there are indexes; models make a few, and each takes about 1 kB

_input = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ESCAPED = re.compile(r"\\.", re.DOTALL)


class Calls:
    """Joins the fragments of one answer, one after the other. `all` are its calls, in the order of their beginnings."""

    __slots__ = ("_current", "_highest", "_last", "all")

    def __init__(self) -> None:
        self.all: list[Call] = []
        self._current: dict[int, Call] = {}  # the call that an index means at this place of the stream
        self._last: Call | None = None
        self._highest = -1

    def add(self, payload: bytes) -> "Call":
        """The call that the fragment belongs to. Raises UpstreamError for no JSON object, or a call too many."""
        fragment = _read(payload)
        index = fragment.index
        call = self._last if index is None else self._current.get(index)
        if call is None or call.is_followed_by(fragment):
            if len(self.all) == _MOST_CALLS:
                raise UpstreamError("The model called more tools than the gateway allows. Ask again.")
            is_new_index = index is not None and index not in self._current
            call = Call(index if index is not None and is_new_index else self._highest + 1)
            self.all.append(call)
            self._highest = max(self._highest, call.index)
        call.add(fragment)
        self._last = self._current[call.index if index is None else index] = call
        return call

    def values(self) -> list[dict[str, Any]]:
        """All calls, in the order of their indexes."""
        return [call.value() for call in sorted(self.all, key=lambda call: call.index)]


def input_of(arguments: str) -> msgspec.Raw:
    """The arguments of a call, which are a JSON object. Raises UpstreamError."""
    if not arguments.strip():
        return msgspec.Raw(b"{}")
    if not is_object(arguments):
        raise UpstreamError("The model called a tool with arguments that are not a JSON object. Ask again.")
    return msgspec.Raw(arguments.encode())


def is_object(arguments: str) -> bool:
    try:
        _input.decode(arguments)
    except (ValueError, RecursionError):
        return False
    return True


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


class Call:
    """`id` and `name` are empty until they have come. `size` counts the characters of the arguments."""

    __slots__ = (
        "_arguments",
        "_closed",
        "_escape",
        "_in_text",
        "_opened",
        "_seen",
        "_type",
        "id",
        "index",
        "name",
        "size",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self._type = "function"
        self.name = ""
        self.size = 0
        self._arguments: list[str] = []  # joined once: appending to strings took seconds for a megabyte
        self._seen = 0  # fragments whose braces are counted
        self._opened = self._closed = 0  # braces outside of texts
        self._in_text = False
        self._escape = ""  # a backslash whose character comes with the next fragment

    def is_followed_by(self, fragment: _Fragment) -> bool:
        """Whether the fragment begins another call."""
        if fragment.id:
            return fragment.id != self.id and bool(self.id or (self.name and fragment.name))
        if not fragment.name or not self.name:
            return False
        return fragment.name != self.name or (fragment.arguments[:1] == "{" and self.is_whole())

    def add(self, fragment: _Fragment) -> None:
        self.id = fragment.id or self.id
        self._type = fragment.type or self._type
        self.name = fragment.name or self.name
        if fragment.arguments:
            self._arguments.append(fragment.arguments)
            self.size += len(fragment.arguments)

    @property
    def arguments(self) -> str:
        return "".join(self._arguments)

    @property
    def fragments(self) -> int:
        """The number of fragments with arguments."""
        return len(self._arguments)

    def arguments_after(self, fragments: int) -> str:
        return "".join(self._arguments[fragments:])

    def value(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": self._type, "function": function}

    def is_whole(self) -> bool:
        """Whether each brace of the arguments is closed, so that an object is whole. Looks at no fragment twice."""
        text = _ESCAPED.sub("", self._escape + self.arguments_after(self._seen))
        self._seen = len(self._arguments)
        self._escape = "\\" if text.endswith("\\") else ""
        parts = text.split('"')
        outside = "".join(parts[self._in_text :: 2])
        self._in_text ^= len(parts) % 2 == 0
        self._opened += outside.count("{")
        self._closed += outside.count("}")
        return self._opened == self._closed > 0 and not self._in_text


def _read(payload: bytes) -> _Fragment:
    value = as_object(read_json(payload))
    if value is None:
        raise UpstreamError("The model's server sent a tool call that cannot be read.")
    return _Fragment(value)


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return dump(value).decode()
