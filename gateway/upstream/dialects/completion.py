"""A finished stream as one `chat.completion` object: https://platform.openai.com/docs/api-reference/chat/object"""

from collections.abc import Iterable
from typing import Any

import msgspec

from gateway.entries import Entry, Kind
from gateway.upstream.dialects.chunks import as_object, read_json
from gateway.upstream.dialects.extras import joined
from gateway.upstream.dialects.tool_calls import Calls

_OWN = frozenset({"role", "refusal", "tool_calls"})  # other fields of the upstream do not replace these


class Outcome(msgspec.Struct, frozen=True):
    """Data of an ended stream that are not in its entries. `usage` is the upstream's own object."""

    id: str
    created: int
    model: str
    finish_reason: str | None
    usage: dict[str, Any] | None


def completion(entries: Iterable[Entry], outcome: Outcome, *, reasoning: bool) -> dict[str, Any]:
    """Raises UpstreamError."""
    parts = Parts()
    for entry in entries:
        parts.add(entry)
    return parts.completion(outcome, reasoning=reasoning)


class Parts:
    """The parts of an answer, whose entries are to be added in order."""

    def __init__(self) -> None:
        self._texts: dict[Kind, list[bytes]] = {Kind.TEXT: [], Kind.REFUSAL: [], Kind.REASONING: []}
        self._fields: dict[Kind, list[dict[str, Any]]] = {Kind.EXTRA: [], Kind.REASONING_EXTRA: []}
        self._calls = Calls()

    def add(self, entry: Entry) -> None:
        """Raises UpstreamError for a fragment of a call that cannot be read."""
        kind = entry.kind
        if kind in self._texts:
            self._texts[kind].append(entry.payload)
        elif kind is Kind.TOOL:
            self._calls.add(entry.payload)
        elif kind in self._fields:
            self._fields[kind].append(as_object(read_json(entry.payload)) or {})

    def completion(self, outcome: Outcome, *, reasoning: bool) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self._text(Kind.TEXT)}
        message["refusal"] = self._text(Kind.REFUSAL)
        if reasoning:
            message["reasoning_content"] = self._text(Kind.REASONING)
            message |= joined(self._fields[Kind.REASONING_EXTRA])
        message |= self._made_calls(outcome)
        message |= self._others(message["content"])
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": outcome.finish_reason}
        return {
            "id": outcome.id,
            "object": "chat.completion",
            "created": outcome.created,
            "model": outcome.model,
            "choices": [choice],
            "usage": outcome.usage,
        }

    def _text(self, kind: Kind) -> str | None:
        parts = self._texts[kind]
        return b"".join(parts).decode() if parts else None

    def _made_calls(self, outcome: Outcome) -> dict[str, Any]:
        """The calls of tools. With the finish reason `function_call`, the caller expects the field of this name."""
        calls = self._calls.values()
        if len(calls) == 1 and outcome.finish_reason == "function_call":
            return {"function_call": calls[0]["function"]}
        return {"tool_calls": calls} if calls else {}

    def _others(self, text: str | None) -> dict[str, Any]:
        """The fields without a kind of entry of their own. Parts of `content` that are not text follow the text."""
        fields = joined(self._fields[Kind.EXTRA])
        if isinstance(fields.get("content"), list) and text:
            fields["content"].insert(0, {"type": "text", "text": text})
        return {name: value for name, value in fields.items() if name not in _OWN}
