"""What an upstream's HTTP status means for the one who asked. Pure: status, header fields and body in, an error out.

The caller's own mistakes are told in the upstream's words, cleaned. A key that the upstream refuses is the gateway's
trouble, not the caller's, and its body may quote the key: none of it is passed on.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.errors import (
    GatewayError,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
)
from gateway.redaction import cleaned

_CALLERS_FAULT = frozenset({400, 404, 413, 422})
_REFUSALS = {
    401: "The model's server refused the gateway's credentials. The operator has to look at the key.",
    402: "The gateway's account with the model's server is out of credit. The operator has to look at it.",
    403: "The model's server refused to serve the gateway. The operator has to look at the account.",
}
_OPERATORS_FAULT = frozenset({401, 402, 403, 405, 407, 415})
_LONGEST_RETRY_AFTER = 64  # characters; an HTTP date has 29


def error_from_status(status: int, headers: Mapping[str, str], body: bytes) -> GatewayError:
    """The error for a response whose status is not 200. `body` may be cut short; it is only looked at."""
    if status == 429:
        return UpstreamRateLimited(_words(body), headers=_retry_after(headers))
    if status in _CALLERS_FAULT:
        words = _words(body)
        if words is None and status == 404:  # no error object: not a model that is missing, but the path
            return UpstreamMisconfigured("The model's server does not know the path. Does its `base_url` end in /v1?")
        return UpstreamRejected(words, status=status, code=_code(body), param=_field(body, "param"))
    if status in _OPERATORS_FAULT:
        return UpstreamMisconfigured(_REFUSALS.get(status), note=_words(body))
    if 200 <= status < 400:
        return UpstreamMisconfigured(f"The model's server answered with status {status} instead of a stream.")
    return UpstreamError(f"The model's server failed with status {status}. Ask again in a moment.", note=_words(body))


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    if isinstance(value, list) and len(value) == 1:  # Google wraps it so
        (value,) = value
    error = value.get("error", value) if isinstance(value, dict) else {}
    return error if isinstance(error, dict) else {"message": error}


def _field(body: bytes, name: str) -> str | None:
    value = _error_object(body).get(name)
    return cleaned(value) if isinstance(value, str) and value else None


def _words(body: bytes) -> str | None:
    return _field(body, "message")


def _code(body: bytes) -> str | None:
    code = _field(body, "code")
    return code if code is not None and len(code) <= 64 else None


def _retry_after(headers: Mapping[str, str]) -> dict[str, str]:
    value = headers.get("Retry-After", "")
    usable = value.isascii() and value.isprintable() and 0 < len(value) <= _LONGEST_RETRY_AFTER
    return {"Retry-After": value} if usable else {}
