"""The blocks of a message, one after the other: what an entry becomes depends on those before it.

A message has blocks of text, of thinking, and of calls of tools. One ends before the next one begins, so what comes in
the middle of a call waits for its end.

Thoughts of Anthropic's own models are signed, and some are encrypted. Their decoder tells both as `thinking_blocks`.
"""

from typing import Any, Protocol

from gateway.entries import Entry, Kind
from gateway.errors import AnswerTooLarge
from gateway.upstream.dialects.chunks import as_object, read_json
from gateway.upstream.dialects.tool_calls import Call
from gateway.upstream.dialects.turns import Part, Turns

Object = dict[str, Any]

_TYPES = {
    Kind.TEXT: "text",
    Kind.REFUSAL: "text",
    Kind.REASONING: "thinking",
    Kind.REASONING_EXTRA: "thinking",
}
_THOUGHTS = frozenset({Kind.REASONING, Kind.REASONING_EXTRA})
_EMPTY: dict[str, Object] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


class Writer(Protocol):
    """Where the blocks go."""

    def begin(self, block: Object) -> None:
        """An empty block begins."""
        ...

    def add(self, text: str) -> None:
        """More of the block: of its text, its thinking, or the JSON of its input."""
        ...

    def sign(self, signature: str) -> None:
        """The signature of the thinking in the block, which ends."""
        ...

    def end(self) -> None: ...


class Blocks:
    """`kind` is that of the entries that the open block of text or thinking takes as they are.

    A caller may write these itself, which is faster than `add`, and then adds their bytes to `said`.
    """

    __slots__ = (
        "_begun",
        "_held",
        "_most",
        "_shows_thinking",
        "_stream_id",
        "_turns",
        "_type",
        "_writer",
        "has_refusal",
        "kind",
        "said",
    )

    def __init__(self, writer: Writer, stream_id: str, *, shows_thinking: bool, most: int) -> None:
        """`stream_id` is part of the ids of calls that have none. `most` bounds the bytes that are held for calls."""
        self.kind: Kind | None = None
        self.said = 0
        self.has_refusal = False
        self._writer = writer
        self._stream_id = stream_id
        self._shows_thinking = shows_thinking
        self._most = most
        self._type = ""  # of the open block
        self._turns = Turns()
        self._begun = 0  # calls
        self._held = 0  # bytes of the fragments of all calls, and of what came while one was open

    @property
    def has_calls(self) -> bool:
        return self._begun > 0

    def add(self, entry: Entry) -> None:
        """Raises UpstreamError or AnswerTooLarge."""
        if not self._shows(entry.kind):
            return
        if entry.kind is Kind.TOOL or self._type == "tool_use":
            self._held += len(entry.payload)
            if self._held > self._most:
                raise AnswerTooLarge()
        self._tell(self._turns.add(entry))

    def end(self) -> None:
        """Ends all blocks."""
        self._tell(self._turns.end())
        self._end_open()

    def check(self) -> None:
        """Checks the calls of an answer that is whole. Raises UpstreamError for one that cannot be made."""
        self._turns.check()

    def _shows(self, kind: Kind) -> bool:
        """A message has no place for entries of other kinds."""
        return kind is Kind.TOOL or (kind in _TYPES and (self._shows_thinking or kind not in _THOUGHTS))

    def _tell(self, parts: list[Part]) -> None:
        for part in parts:
            match part:
                case Entry(Kind.REASONING_EXTRA, payload):
                    self._add_thoughts(payload)
                case Entry():
                    self._add_text(part.kind, part.payload)
                case Call():
                    self._begin_call(part)
                case arguments:
                    self.said += len(arguments.encode())
                    self._writer.add(arguments)

    def _add_text(self, kind: Kind, payload: bytes) -> None:
        self.said += len(payload)
        self.has_refusal |= kind is Kind.REFUSAL
        block_type = _TYPES[kind]
        if self._type != block_type:
            self._begin(_EMPTY[block_type])
        self.kind = kind
        self._writer.add(payload.decode())

    def _add_thoughts(self, payload: bytes) -> None:
        blocks = (as_object(read_json(payload)) or {}).get("thinking_blocks")
        for block in filter(None, map(as_object, blocks if isinstance(blocks, list) else [])):
            match block:
                case {"type": "thinking", "signature": str(signature)} if signature:
                    self._sign(signature, has_text=bool(block.get("thinking")))
                case {"type": "redacted_thinking", "data": str(data)} if data:
                    self._begin({"type": "redacted_thinking", "data": data})
                    self._end_open()

    def _sign(self, signature: str, *, has_text: bool) -> None:
        """Thoughts that are not shown to anybody have a signature alone. One that has lost its text is none."""
        if self._type != "thinking":
            if has_text:
                return
            self._begin(_EMPTY["thinking"])
        self._writer.sign(signature)
        self._end_open()

    def _begin_call(self, call: Call) -> None:
        name = call.id or f"toolu_{self._stream_id}_{self._begun}"
        self._begun += 1
        self._begin({"type": "tool_use", "id": name, "name": call.name, "input": {}})

    def _begin(self, block: Object) -> None:
        self._end_open()
        self._type = block["type"]
        self._writer.begin(block)

    def _end_open(self) -> None:
        if self._type:
            self._writer.end()
        self._type, self.kind = "", None
