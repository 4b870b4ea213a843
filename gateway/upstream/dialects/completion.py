"""A finished stream as one `chat.completion` object: https://platform.openai.com/docs/api-reference/chat/object"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from gateway.entries import Entry, Kind
from gateway.upstream.dialects.chunks import as_object, read_json
from gateway.upstream.dialects.extras import joined
from gateway.upstream.dialects.tool_calls import assembled

_OWN = frozenset({"role", "refusal", "tool_calls"})  # other fields of the upstream do not replace these


class Outcome(msgspec.Struct, frozen=True):
    """Data of an ended stream that are not in its entries. `usage` is the upstream's own object."""

    id: str
    created: int
    model: str
    finish_reason: str | None
    usage: dict[str, Any] | None


def completion(entries: Sequence[Entry], outcome: Outcome, *, reasoning: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": _joined(entries, Kind.TEXT)}
    message["refusal"] = _joined(entries, Kind.REFUSAL)
    if reasoning:
        message["reasoning_content"] = _joined(entries, Kind.REASONING)
        message |= joined(_objects(entries, Kind.REASONING_EXTRA))
    message |= _calls(entries, outcome)
    message |= _others(entries, message["content"])
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": outcome.finish_reason}
    return {
        "id": outcome.id,
        "object": "chat.completion",
        "created": outcome.created,
        "model": outcome.model,
        "choices": [choice],
        "usage": outcome.usage,
    }


def _calls(entries: Sequence[Entry], outcome: Outcome) -> dict[str, Any]:
    """The tool calls. If the finish reason is `function_call`, the caller expects the field with this older name."""
    calls = assembled([entry.payload for entry in entries if entry.kind is Kind.TOOL])
    if len(calls) == 1 and outcome.finish_reason == "function_call":
        return {"function_call": calls[0]["function"]}
    return {"tool_calls": calls} if calls else {}


def _others(entries: Sequence[Entry], text: str | None) -> dict[str, Any]:
    """The fields that have no kind of entry of their own. Parts of `content` that are not text follow the text."""
    fields = joined(_objects(entries, Kind.EXTRA))
    if isinstance(fields.get("content"), list) and text:
        fields["content"].insert(0, {"type": "text", "text": text})
    return {name: value for name, value in fields.items() if name not in _OWN}


def _joined(entries: Sequence[Entry], wanted: Kind) -> str | None:
    parts = [entry.payload for entry in entries if entry.kind is wanted]
    return b"".join(parts).decode() if parts else None


def _objects(entries: Sequence[Entry], wanted: Kind) -> Iterator[dict[str, Any]]:
    return (as_object(read_json(entry.payload)) or {} for entry in entries if entry.kind is wanted)
