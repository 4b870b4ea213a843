"""One `chat.completion.chunk`, as typed structs: https://platform.openai.com/docs/api-reference/chat-streaming

A chunk in the standard form is decoded directly into them. A second, slower and tolerant reader makes the same structs
from any other form: content as a list of parts, additional fields of a delta, a NaN, a lone surrogate, bytes that are
not UTF-8, choices that are not a list. So only a `Decoder` has to interpret chunks.
"""

import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from gateway.upstream.dialects.extras import extras, is_text, is_thought, parts_of

_FEW = 100  # objects and lists. What has more may be nested so deeply that it can be read, and not be written again.
_MAX_DIGITS = 4300  # of an integer; Python has the same bound against quadratic time


class Delta(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """Fields of type None may be present if they are null. Other values and fields need the tolerant reader."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    role: str | None = None
    channel: str | None = None  # Groq
    function_call: None = None  # the older name of a tool call
    audio: None = None
    annotations: None = None
    images: None = None  # OpenRouter, as the next
    reasoning_details: None = None
    extra: dict[str, Any] | None = msgspec.field(default=None, name="(extra)")  # only the tolerant reader sets it


class Choice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: Delta | None = None
    message: Delta | None = None  # in a whole answer that came although a stream was asked for
    finish_reason: str | None = None
    usage: msgspec.Raw = msgspec.Raw()  # Moonshot
    error: Any = None  # OpenRouter, as the next: the reason that its own upstream gave
    native_finish_reason: Any = None


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
"""Decodes a chunk in the standard form. Raises ValueError or RecursionError for any other data."""


def only_text(chunk: Chunk) -> str | None:
    """The text of a chunk that contains nothing else. None, or "", for other chunks.

    Such a chunk has one choice, whose index is 0 or missing and which has no finish reason.
    """
    if not chunk.choices or len(chunk.choices) > 1 or chunk.error or chunk.x_groq:
        return None
    choice = chunk.choices[0]
    delta = choice.delta
    if delta is None or choice.index or choice.finish_reason is not None or choice.usage or choice.error:
        return None
    if delta.reasoning_content or delta.reasoning or delta.refusal or delta.tool_calls or delta.extra:
        return None
    return delta.content


# The tolerant reader: from any JSON object to the same structs


def read_chunk(value: dict[str, Any]) -> Chunk:
    groq = value.get("x_groq")
    choices = value.get("choices")
    return Chunk(
        id=as_text(value.get("id")),
        created=value["created"] if isinstance(value.get("created"), int) else None,
        model=as_text(value.get("model")),
        choices=[_choice(c) for c in choices if isinstance(c, dict)] if isinstance(choices, list) else None,
        usage=as_raw(value.get("usage")),
        x_groq=XGroq(usage=as_raw(groq.get("usage"))) if isinstance(groq, dict) else None,
    )


def _choice(value: dict[str, Any]) -> Choice:
    return Choice(
        index=read_index(value.get("index")),
        delta=_delta(value.get("delta")),
        message=_delta(value.get("message")),
        finish_reason=as_text(value.get("finish_reason")),
        usage=as_raw(value.get("usage")),
        error=value.get("error"),
        native_finish_reason=value.get("native_finish_reason"),
    )


def _delta(value: Any) -> Delta | None:
    if not isinstance(value, dict):
        return None
    content = parts_of(value.get("content"))
    return Delta(
        content=_plain(content) or _text_of(content),
        reasoning_content=_thought(value.get("reasoning_content")) or _thought_of(content),
        reasoning=_thought(value.get("reasoning")),
        refusal=as_text(value.get("refusal")),
        tool_calls=[as_raw(call) for call in _calls(value)] or None,
        role=as_text(value.get("role")),
        extra=extras(value) or None,
    )


def _plain(value: Any) -> str | None:
    """The text. Some servers send a token that is a number or a truth value as one (cloudflare/ai#651)."""
    return dump(value).decode() if isinstance(value, bool | int | float) else as_text(value)


def _thought(value: Any) -> str | None:
    return None if isinstance(value, bool) else _plain(value)  # a truth value may say whether the model reasons


def _calls(delta: dict[str, Any]) -> list[dict[str, Any]]:
    """The fragments of tool calls. A single object counts as a list of one, and a `function_call` as the only call."""
    calls = delta.get("tool_calls")
    found = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    if isinstance(calls, dict) and calls:
        found = [calls]
    if function := as_object(delta.get("function_call")):
        found.append({"index": 0, "type": "function", "function": function})
    return found


def read_index(value: Any) -> int | None:
    """An index as a number. Some servers write `0.0` or `"0"`."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < _MAX_DIGITS:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) else None


def _text_of(content: Any) -> str | None:
    """The text of a list of strings or of parts: `{"type": "text", "text": "..."}`."""
    if not isinstance(content, list):
        return None
    texts = [part.get("text") if isinstance(part, dict) else part for part in content if is_text(part)]
    return "".join([as_text(text) or "" for text in texts]) or None


def _thought_of(content: Any) -> str | None:
    """The reasoning in a list of parts, as Mistral sends it: `{"type": "thinking", "thinking": [<parts of text>]}`."""
    if not isinstance(content, list):
        return None
    thoughts = [part.get("thinking") for part in content if is_thought(part)]
    return "".join([_text_of(thought) or as_text(thought) or "" for thought in thoughts]) or None


_decode_json = msgspec.json.Decoder().decode


def read_json(data: bytes) -> Any:
    """Reads JSON, and near-JSON with NaN, lone surrogates or bytes that are not UTF-8. Returns None for other data."""
    if data.count(b"{") + data.count(b"[") <= _FEW:
        with suppress(ValueError):
            return _decode_json(data)
    return _read_near_json(data)


def _read_near_json(data: bytes) -> Any:
    """Takes five times as long as msgspec, which refuses near-JSON, and reads JSON to the same values."""
    try:
        return json.loads(data.decode(errors="replace"), parse_constant=_nothing, parse_float=_float, parse_int=_int)
    except (ValueError, RecursionError):
        return None


def _nothing(_: str) -> None:
    """Turns NaN and the infinities into null, because they are not JSON."""


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def as_text(value: Any) -> str | None:
    """The string in a form that can be encoded. A surrogate without its other half becomes U+FFFD."""
    if not isinstance(value, str):
        return None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def as_raw(value: Any) -> msgspec.Raw:
    """The value as JSON. Empty for None, and for a value that is nested too deeply to be encoded."""
    try:
        return msgspec.Raw() if value is None else msgspec.Raw(dump(value))
    except RecursionError:
        return msgspec.Raw()


def dump(value: Any) -> bytes:
    """The value as JSON that any client can read. (`ensure_ascii` would write a lone surrogate as an escape.)"""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
