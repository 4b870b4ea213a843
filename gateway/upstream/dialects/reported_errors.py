"""Errors that a server reports within its stream, in any of the known forms."""

from typing import Any

from gateway.errors import UpstreamError, UpstreamRateLimited
from gateway.upstream.dialects.chunks import as_object
from gateway.upstream.dialects.error_reasons import reason_in
from gateway.upstream.dialects.status import is_refusal_of_content, is_too_long, rejected


def error_in(event_type: str, value: dict[str, Any]) -> UpstreamError | None:
    """The error that an event of this type reports, if it reports one. `value` is its decoded data."""
    if groq := (as_object(value.get("x_groq")) or {}).get("error"):
        return error_from({"error": value.get("error") or groq})
    if event_type == "error" or value.get("object") == "error" or value.get("error") or _is_flat_error(value):
        return error_from(value)
    choices = value.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if error := (as_object(choice) or {}).get("error"):  # OpenRouter
            return error_from({"error": error})
    return None


def error_from(value: Any) -> UpstreamError:
    """The error for one that a server sent in its stream."""
    reason, inner = reason_in(value), as_object(value) or {}
    while isinstance(inner.get("error"), dict):
        inner = inner["error"]
    code = inner.get("code")
    if code in (429, "429", "rate_limit_exceeded"):
        return UpstreamRateLimited(reason.words, note=reason.words)
    if is_too_long(reason) or is_refusal_of_content(reason):
        return rejected(reason, 400)
    return UpstreamError(reason.words, code=reason.code, note=reason.words)


def _is_flat_error(value: dict[str, Any]) -> bool:
    """Whether it is an error without a wrapper. `detail` (FastAPI) and `errors` need no code beside them."""
    has_reason = ("message" in value and "code" in value) or value.get("detail") or value.get("errors")
    return "choices" not in value and bool(has_reason)
