"""A finished stream as one `chat.completion` object: https://platform.openai.com/docs/api-reference/chat/object"""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError

_LARGEST_INDEX = 1023  # of a tool call; an index is a number that a stranger sent, and it is a place in a list


class Outcome(msgspec.Struct, frozen=True):
    """What a stream knows besides its entries, once it has ended. `usage` is the upstream's own object."""

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
    calls = _tool_calls([payload for kind, payload in entries if kind is Kind.TOOL])
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": outcome.finish_reason}
    return {
        "id": outcome.id,
        "object": "chat.completion",
        "created": outcome.created,
        "model": outcome.model,
        "choices": [choice],
        "usage": outcome.usage,
    }


def _joined(entries: Sequence[Entry], wanted: Kind) -> str | None:
    parts = [payload for kind, payload in entries if kind is wanted]
    return b"".join(parts).decode() if parts else None


def _tool_calls(fragments: Sequence[bytes]) -> list[dict[str, Any]]:
    """Fragments put together by index.

    Providers differ: the tail of Qwen's has `id: ""` and `arguments: null`, Gemini's have no index. So an empty field
    never overwrites, arguments are appended, and a fragment without an index goes on with the last call unless it
    brings an id of its own.
    """
    calls: dict[int, dict[str, Any]] = {}
    arguments: dict[int, list[str]] = {}  # joined once: appending to strings took seconds for a megabyte
    last = highest = -1
    for fragment in map(_read, fragments):
        last = _place(fragment, calls.get(last), last, highest)
        highest = max(highest, last)
        call = calls.setdefault(last, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        function = fragment.function or Function()
        call["id"] = _text(fragment.id) or call["id"]
        call["type"] = _text(fragment.type) or call["type"]
        call["function"]["name"] = _text(function.name) or call["function"]["name"]
        arguments.setdefault(last, []).append(_text(function.arguments))
    for index, parts in arguments.items():
        calls[index]["function"]["arguments"] = "".join(parts)
    return [calls[index] for index in sorted(calls)]


class Function(msgspec.Struct):
    name: Any = None
    arguments: Any = None  # a string that holds JSON; some servers send the object itself


class Fragment(msgspec.Struct):
    index: int | None = None
    id: Any = None
    type: Any = None
    function: Function | None = None


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _read(payload: bytes) -> Fragment:
    try:
        return msgspec.json.decode(payload, type=Fragment)
    except (ValueError, RecursionError) as error:
        raise UpstreamError("The model's server sent a tool call that cannot be read.") from error


def _place(fragment: Fragment, call: dict[str, Any] | None, last: int, highest: int) -> int:
    """The index of the call that `fragment` belongs to; `call` is the last one that was added to."""
    index = fragment.index
    if index is not None and 0 <= index <= _LARGEST_INDEX:
        return index
    starts_another = call is None or bool(fragment.id and _text(fragment.id) != call["id"])
    return highest + 1 if starts_another else last
