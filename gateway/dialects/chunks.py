"""One `chat.completion.chunk`, as typed structs: https://platform.openai.com/docs/api-reference/chat-streaming

The textbook shape is decoded straight into them. Whatever that refuses (content as a list of parts, a NaN, a lone
surrogate, bytes that are not UTF-8, choices that are no list) is read again by a slower, forgiving reader that makes
the same structs of it, so that there is one place where a chunk is given its meaning: a `Decoder`.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import msgspec

_MAX_DIGITS = 4300  # of an integer: Python's own guard against quadratic time


class Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    function_call: msgspec.Raw = msgspec.Raw()  # what tool calls were called before
    audio: msgspec.Raw = msgspec.Raw()
    images: msgspec.Raw = msgspec.Raw()  # OpenRouter, as the next
    reasoning_details: msgspec.Raw = msgspec.Raw()


class Choice(msgspec.Struct, gc=False):
    index: int | None = 0
    delta: Delta | None = None
    message: Delta | None = None  # where a whole answer came although a stream was asked for
    finish_reason: str | None = None
    usage: msgspec.Raw = msgspec.Raw()  # Moonshot


class XGroq(msgspec.Struct, gc=False):
    usage: msgspec.Raw = msgspec.Raw()


class Chunk(msgspec.Struct, gc=False):
    id: str | None = None
    created: int | None = None
    model: str | None = None
    choices: list[Choice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    error: Any = None
    x_groq: XGroq | None = None


decode_chunk: Callable[[bytes], Chunk] = msgspec.json.Decoder(Chunk).decode
"""Raises ValueError or RecursionError for what is not of the textbook shape."""


# The forgiving reader: from any JSON value to the same structs


def read_chunk(value: dict[str, Any]) -> Chunk:
    groq = value.get("x_groq")
    choices = value.get("choices")
    return Chunk(
        id=_as_text(value.get("id")),
        created=value["created"] if isinstance(value.get("created"), int) else None,
        model=_as_text(value.get("model")),
        choices=[_choice(c) for c in choices if isinstance(c, dict)] if isinstance(choices, list) else None,
        usage=_as_raw(value.get("usage")),
        x_groq=XGroq(usage=_as_raw(groq.get("usage"))) if isinstance(groq, dict) else None,
    )


def _choice(value: dict[str, Any]) -> Choice:
    index = value.get("index")
    return Choice(
        index=index if isinstance(index, int) else 0,
        delta=_delta(value.get("delta")),
        message=_delta(value.get("message")),
        finish_reason=_as_text(value.get("finish_reason")),
        usage=_as_raw(value.get("usage")),
    )


def _delta(value: Any) -> Delta | None:
    if not isinstance(value, dict):
        return None
    content = value.get("content")
    calls = value.get("tool_calls")
    return Delta(
        content=_as_text(content) or _parts(content, "text"),
        reasoning_content=_as_text(value.get("reasoning_content")) or _parts(content, "thinking"),
        reasoning=_as_text(value.get("reasoning")),
        refusal=_as_text(value.get("refusal")),
        tool_calls=[_as_raw(call) for call in calls if isinstance(call, dict)] if isinstance(calls, list) else None,
        function_call=_as_raw(value.get("function_call")),
        audio=_as_raw(value.get("audio")),
        images=_as_raw(value.get("images")),
        reasoning_details=_as_raw(value.get("reasoning_details")),
    )


def _parts(content: Any, kind: str) -> str | None:
    """The text of a list of parts, as Mistral sends it.

    Shapes: `{"type": "text", "text": "..."}`, `{"type": "thinking", "thinking": [{"type": "text", "text": "..."}]}`.
    """
    if not isinstance(content, list):
        return None
    found = [part.get(kind) for part in content if isinstance(part, dict) and part.get("type", "text") == kind]
    if kind == "thinking":
        found = [_parts(part, "text") or part for part in found]
    return "".join([_as_text(part) or "" for part in found]) or None


def read_json(data: bytes) -> Any:
    """Any JSON, and the near-JSON that servers send (NaN, lone surrogates, bytes that are not UTF-8), or None."""
    try:
        return json.loads(data.decode(errors="replace"), parse_constant=_nothing, parse_float=_float, parse_int=_int)
    except (ValueError, RecursionError):
        return None


def _nothing(_: str) -> None:
    """NaN and the infinities are not JSON, so they are not passed on."""


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def _as_text(value: Any) -> str | None:
    """A string that can be encoded: a surrogate without its other half becomes U+FFFD."""
    if not isinstance(value, str):
        return None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _as_raw(value: Any) -> msgspec.Raw:
    """The value as JSON; nothing for None, and for what is nested too deeply to be written again."""
    try:
        return msgspec.Raw() if value is None else msgspec.Raw(dump(value))
    except RecursionError:
        return msgspec.Raw()


def dump(value: Any) -> bytes:
    """JSON that any client can read. (`ensure_ascii` writes a lone surrogate as an escape.)"""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
