"""The blocks of a message, one after the other: what an entry becomes depends on those before it.

A message has blocks of text, of thinking, and of calls of tools. One ends before the next one begins, but the fragments
of several calls may alternate. So a call waits, with what has come of it, until the arguments of the one before are
complete. Other content ends all calls.
"""

from typing import Any, Protocol

import msgspec

from gateway.entries import Kind
from gateway.errors import AnswerTooLarge, UpstreamError
from gateway.upstream.dialects.tool_calls import Call, Calls

Object = dict[str, Any]

_TYPES = {Kind.TEXT: "text", Kind.REFUSAL: "text", Kind.REASONING: "thinking"}
_EMPTY: dict[str, Object] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}
_input = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Writer(Protocol):
    """Where the blocks go."""

    def begin(self, block: Object) -> None:
        """An empty block begins."""
        ...

    def add(self, text: str) -> None:
        """More of the block: of its text, its thinking, or the JSON of its input."""
        ...

    def end(self) -> None: ...


class Blocks:
    """`kind` is that of the entries that the open block of text or thinking takes as they are.

    A caller may write these itself, which is faster than `add`, and then adds their bytes to `said`.
    """

    __slots__ = (
        "_begun",
        "_call",
        "_calls",
        "_held",
        "_most",
        "_shows_thinking",
        "_stream_id",
        "_taken",
        "_type",
        "_waiting",
        "_writer",
        "has_refusal",
        "kind",
        "said",
    )

    def __init__(self, writer: Writer, stream_id: str, *, shows_thinking: bool, most: int) -> None:
        """`stream_id` is part of the ids of calls that have none. `most` bounds the bytes of calls, which are held."""
        self.kind: Kind | None = None
        self.said = 0
        self.has_refusal = False
        self._writer = writer
        self._stream_id = stream_id
        self._shows_thinking = shows_thinking
        self._most = most
        self._type = ""  # of the open block
        self._calls = Calls()
        self._taken: dict[Call, int] = {}  # fragments of each call that were looked at
        self._waiting: list[Call] = []  # those without a block, in the order in which they came
        self._begun: set[Call] = set()
        self._call: Call | None = None  # that of the open block
        self._held = 0  # bytes of the fragments of all calls

    @property
    def has_calls(self) -> bool:
        return bool(self._begun)

    def add(self, kind: Kind, payload: bytes) -> None:
        """Raises UpstreamError or AnswerTooLarge. A message has no place for entries of other kinds."""
        if kind is Kind.TOOL:
            self._add_fragment(payload)
        elif kind in _TYPES and (self._shows_thinking or kind is not Kind.REASONING):
            self._add_text(kind, payload)

    def end(self) -> None:
        """Ends all blocks. A call that has no name yet goes on waiting."""
        for call in [call for call in self._waiting if call.name]:
            self._begin(call)
        self._end_open()

    def check(self) -> None:
        """Checks the calls of an answer that is whole. Raises UpstreamError for one that cannot be made."""
        if any(call.size for call in self._waiting):
            raise UpstreamError("The model's server sent a tool call without a name. Ask again.")
        for call in self._begun:
            input_of(call.arguments)

    # Text and thinking

    def _add_text(self, kind: Kind, payload: bytes) -> None:
        self.said += len(payload)
        self.has_refusal |= kind is Kind.REFUSAL
        block_type = _TYPES[kind]
        if self._type != block_type:
            self.end()
            self._type = block_type
            self._writer.begin(_EMPTY[block_type])
        self.kind = kind
        self._writer.add(payload.decode())

    def _end_open(self) -> None:
        if self._type:
            self._writer.end()
        self._type, self.kind, self._call = "", None, None

    # Calls

    def _add_fragment(self, payload: bytes) -> None:
        self._held += len(payload)
        if self._held > self._most:
            raise AnswerTooLarge()
        known = len(self._calls.all)
        call = self._calls.add(payload)
        if len(self._calls.all) > known:
            self._waiting.append(call)
        arguments = call.arguments_after(self._taken.get(call, 0))
        self._taken[call] = call.fragments
        self.said += len(arguments.encode())
        if call is self._call:
            if arguments:
                self._writer.add(arguments)
        elif call in self._begun and arguments.strip():
            raise UpstreamError("The model's server sent a part of a tool call behind its end. Ask again.")
        while (due := self._next_due()) is not None:
            self._begin(due)

    def _next_due(self) -> Call | None:
        """The call that can begin: its name comes first in a block, and the block before has to be complete."""
        if not self._waiting or not self._waiting[0].name:
            return None
        return self._waiting[0] if self._call is None or self._call.is_whole() else None

    def _begin(self, call: Call) -> None:
        self._end_open()
        name = call.id or f"toolu_{self._stream_id}_{len(self._begun)}"
        self._type, self._call = "tool_use", call
        self._waiting.remove(call)
        self._begun.add(call)
        self._writer.begin({"type": "tool_use", "id": name, "name": call.name, "input": {}})
        if arguments := call.arguments:
            self._writer.add(arguments)


def input_of(arguments: str) -> msgspec.Raw:
    """The arguments of a call, which are a JSON object. Raises UpstreamError."""
    if not arguments.strip():
        return msgspec.Raw(b"{}")
    try:
        _input.decode(arguments)
    except (ValueError, RecursionError):
        raise UpstreamError("The model called a tool with arguments that are not a JSON object. Ask again.") from None
    return msgspec.Raw(arguments.encode())
