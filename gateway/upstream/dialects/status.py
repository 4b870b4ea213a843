"""Turns an upstream's HTTP status into an error. Pure: status, header fields and body in, an error out.

For a mistake of the caller, the message has the upstream's words, cleaned. A refused key concerns the operator and not
the caller, and the body may quote the key, so the message has none of it. The log has the upstream's words in any case.
"""

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from gateway.endpoints import Endpoint
from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTLS,
)
from gateway.upstream.dialects.error_reasons import Reason, reason_of
from gateway.upstream.shapes import stripped

_CALLERS_FAULT = frozenset({400, 404, 413, 422})
_REFUSALS = {
    401: "The model's server refused the gateway's credentials. The operator has to look at the key.",
    402: "The gateway's account with the model's server is out of credit. The operator has to look at it.",
    403: "The model's server refused to serve the gateway. The operator has to look at the account.",
}
_OPERATORS_FAULT = frozenset({401, 402, 403, 405, 407, 415})
_PATH_NOT_FOUND = frozenset(
    {
        "not found",
        "404 not found",
        "404 page not found",
        "page not found",
        "file not found",  # llama.cpp
        "resource not found",  # Azure
        "route not found",
        "url.not_found",  # Moonshot
        "no route matched with those values",  # Kong
        "the requested resource was not found",
    }
)
_ABOUT_THE_PATH = ("chat/completions could not be found", "invalid url", "unknown request url")
_WANTS_TLS = (
    b"plain HTTP request was sent to HTTPS port",  # nginx
    b"HTTP request to an HTTPS server",  # Go
    b"speaking plain HTTP to an SSL-enabled server port",  # Apache
)
_PATH_NOTE = "it does not know the path: does `base_url` lack `/v1`?"
_ENDPOINT_NOTE = "it has no `/{}`: leave that out of the `endpoints` of its models."
_TOO_LONG_CODES = frozenset({"context_length_exceeded", "context_window_exceeded", "string_above_max_length"})
_TOO_LONG_WORDS = (
    "maximum context length",  # OpenAI, vLLM
    "context length exceeded",
    "exceeds the context",
    "exceed context size",  # llama.cpp
    "exceeds the available context size",  # llama.cpp, older
    "exceeds the model's context",
    "exceeds maximum context",
    "context window",  # OpenAI's newer models, Ollama
    "prompt is too long",  # Anthropic
    "input is too long",  # Bedrock
    "input token count",  # Gemini
    "range of input length",  # DashScope
)
_CONTENT_CODES = frozenset(
    {
        "content_filter",  # Azure
        "content_policy_violation",  # OpenAI
        "responsible_ai_policy_violation",  # Azure, inside of the error
        "data_inspection_failed",  # DashScope
        "moderation_blocked",
    }
)
_OWN_OPTIONS = ("stream_options", "include_usage")
_LONGEST_RETRY_AFTER = 64  # characters; an HTTP date has 29


def error_from_status(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float = math.nan,
    endpoint: Endpoint = Endpoint.CHAT,
) -> GatewayError:
    """The error for a response whose status is not 200. `body` may be only the beginning of the body.

    `now` is the time in seconds since 1970, for a `Retry-After` that is a date. `endpoint` was asked.
    """
    error = _error(status, headers, reason_of(body), body, endpoint)
    error.wait = seconds_to_wait(headers, now)
    error.is_final = headers.get("X-Should-Retry", "").strip().lower() == "false"
    return error


def _error(status: int, headers: Mapping[str, str], reason: Reason, body: bytes, endpoint: Endpoint) -> UpstreamError:
    if status == 429:
        return UpstreamRateLimited(reason.words, headers=_retry_after(headers), note=reason.words)
    if status == 404 and _is_about_the_path(reason, body, endpoint):
        return _wrong_path(reason, endpoint)
    if status == 400 and any(words in body for words in _WANTS_TLS):
        return speaks_tls()
    if status in _CALLERS_FAULT or is_refusal_of_content(reason):
        return rejected(reason, status)
    if status in _OPERATORS_FAULT:
        return UpstreamMisconfigured(_REFUSALS.get(status), note=_said(status, reason))
    if 300 <= status < 400:
        return UpstreamMisconfigured(
            f"The model's server redirects with status {status}. The operator has to look at `base_url`: it must be "
            "the final address, with the right scheme and path."
        )
    if 200 <= status < 300:
        return UpstreamMisconfigured(f"The model's server answered with status {status} instead of a stream.")
    words = f"The model's server failed with status {status}. Ask again in a moment."
    return UpstreamError(words, note=_said(status, reason))


def _said(status: int, reason: Reason) -> str:
    """For the log, whose reader may have to look the upstream's own code up."""
    return ": ".join([f"status {status}", *[part for part in (reason.code, reason.words) if part]])


def rejected(reason: Reason, status: int) -> UpstreamRejected:
    """The error for a request that the upstream does not accept."""
    if is_too_long(reason):
        return ContextLengthExceeded(reason.words, status=status, param=reason.param, note=reason.words)
    return UpstreamRejected(reason.words, status=status, code=reason.code, param=reason.param, note=reason.words)


def is_too_long(reason: Reason) -> bool:
    """Whether the prompt is longer than the model's context. Many servers say so only in words."""
    words = (reason.words or "").lower()
    return reason.code in _TOO_LONG_CODES or any(part in words for part in _TOO_LONG_WORDS)


def is_refusal_of_content(reason: Reason) -> bool:
    return reason.code in _CONTENT_CODES


def seconds_to_wait(headers: Mapping[str, str], now: float) -> float | None:
    """After how many seconds the upstream wants to be asked again: RFC 9110, section 10.2.3, and OpenAI's own field."""
    for name, unit in (("Retry-After-Ms", 1000), ("Retry-After", 1)):
        try:
            seconds = float(headers.get(name, "")) / unit
        except ValueError:
            continue
        if 0 <= seconds < math.inf:
            return seconds
    try:
        seconds = parsedate_to_datetime(headers.get("Retry-After", "")).timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return None if math.isnan(seconds) else max(0.0, seconds)


def refused_usage(error: UpstreamError) -> UpstreamMisconfigured | None:
    """The error for the operator if the upstream refused the `stream_options` that the gateway added, or None."""
    said = " ".join([text for text in (error.message, error.note, error.param) if text])
    if not any(name in said for name in _OWN_OPTIONS):
        return None
    return UpstreamMisconfigured(
        "The model's server refuses the `stream_options` with which the gateway asks for usage. "
        "The operator has to set `stream_usage = false` for it.",
        note=f"set `upstreams.stream_usage = false`; of `stream_options` it said: {error.note or error.message}",
    )


def speaks_tls() -> UpstreamTLS:
    return UpstreamTLS(
        "The model's server speaks TLS at this port: `base_url` needs https. The operator has to look at it.",
        note="it speaks TLS: does `base_url` need https?",
    )


def _is_about_the_path(reason: Reason, body: bytes, endpoint: Endpoint) -> bool:
    """Whether a 404 means an unknown path. For that, routers send HTML, plain text or known words.

    For a missing model, servers send other words in JSON.
    """
    is_json = stripped(body)[:1] in (b"{", b"[")
    if reason.words is None or not is_json:
        return True
    words = reason.words.strip(" .!").lower()
    if endpoint is not Endpoint.CHAT and "model" in words:
        return False  # OpenAI: "This is a chat model and not supported in the v1/completions endpoint."
    return words in _PATH_NOT_FOUND or any(part in words for part in (f"/{endpoint}", *_ABOUT_THE_PATH))


def _wrong_path(reason: Reason, endpoint: Endpoint) -> UpstreamMisconfigured:
    words, note = "The model's server does not know the path: does `base_url` lack `/v1`?", _PATH_NOTE
    if endpoint is not Endpoint.CHAT:
        words, note = f"The model's server has no `/{endpoint}`. Ask another model.", _ENDPOINT_NOTE.format(endpoint)
    if reason.words is None:
        return UpstreamMisconfigured(words, note=note)
    return UpstreamMisconfigured(f"{words} It said: {reason.words}", note=f"{note} It said: {reason.words}")


def _retry_after(headers: Mapping[str, str]) -> dict[str, str]:
    """The field for the client, if it is a number or a date. Milliseconds become seconds, which all clients know."""
    value = headers.get("Retry-After", "")
    if not value and (seconds := seconds_to_wait(headers, math.nan)) is not None:
        value = str(math.ceil(seconds))
    is_short = value.isascii() and value.isprintable() and len(value) <= _LONGEST_RETRY_AFTER
    is_time = is_short and seconds_to_wait({"Retry-After": value}, 0.0) is not None
    return {"Retry-After": value} if is_time else {}
