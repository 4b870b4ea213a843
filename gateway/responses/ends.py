"""How a response ends: its status, its last event, its error and its usage.

https://platform.openai.com/docs/api-reference/responses/object
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.entries import EndReason
from gateway.responses.output import Object
from gateway.upstream.dialects.usage import measured

_INCOMPLETE = {
    "length": "max_output_tokens",
    "max_tokens": "max_output_tokens",  # the words of other servers, as for messages
    "model_length": "max_output_tokens",
    "content_filter": "content_filter",
}
_CANCELLED = frozenset({EndReason.STOPPED, EndReason.CLIENT_GONE})
_RATE_LIMITED = frozenset({"rate_limit_error", "rate_limit_exceeded", "insufficient_quota"})


class Ending(msgspec.Struct, frozen=True):
    """`incomplete` are the details of a response that was cut."""

    status: str
    event_type: str
    error: Object | None = None
    incomplete: Object | None = None


def ending_of(reason: str, finish: str | None, failure: Mapping[str, Any] | None) -> Ending:
    """`reason` is why the stream ended, `finish` is the finish reason of its chat, and `failure` its error."""
    if reason in _CANCELLED:
        return Ending("cancelled", "response.incomplete")
    if reason != EndReason.COMPLETE:
        return Ending("failed", "response.failed", error=_error(failure or {}))
    if finish is None or finish not in _INCOMPLETE:
        return Ending("completed", "response.completed")
    return Ending("incomplete", "response.incomplete", incomplete={"reason": _INCOMPLETE[finish]})


def is_cut(finish: str | None) -> bool:
    """Whether this finish reason says that the answer was cut, so that its last call may be half."""
    return finish in _INCOMPLETE


def _error(failure: Mapping[str, Any]) -> Object:
    """`code` is one of OpenAI's, which its SDKs know. `cause` is the gateway's own."""
    is_limit = failure.get("type") in _RATE_LIMITED or failure.get("code") in _RATE_LIMITED
    code = "rate_limit_exceeded" if is_limit else "server_error"
    return {"code": code, "message": failure.get("message", ""), "cause": failure.get("code")}


def usage_of(usage: dict[str, Any]) -> Object:
    tokens = measured(usage)
    return {
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": tokens.written},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.all,
    }
