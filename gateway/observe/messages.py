"""Questions and answers in the form that OpenTelemetry's conventions give them. Used only with `traces.content`.

https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-input-messages.json
"""

from typing import Any

import msgspec

_encode_json = msgspec.json.Encoder().encode


def asked_messages(payload: bytes) -> str:
    """The messages of a request, as JSON. Of parts that are not text, only their type is named."""
    try:
        fields = msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return "[]"
    messages = fields.get("messages") if isinstance(fields, dict) else None
    turns = [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []
    return _encode_json(
        [{"role": _name(turn.get("role")), "parts": _parts(turn.get("content"))} for turn in turns]
    ).decode()


def told_message(text: bytes, finish_reason: str | None) -> str:
    """The answer, as JSON."""
    parts = [_text(text.decode(errors="replace"))]
    return _encode_json([{"role": "assistant", "parts": parts, "finish_reason": finish_reason}]).decode()


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [_text(content)]
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return [
        _text(part["text"]) if isinstance(part.get("text"), str) else {"type": _name(part.get("type"))}
        for part in parts
    ]


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}
