"""Every error that a client can see: one class each, with its status, code and message.

The class says who is to blame and whether asking again may work, so that nobody matches on message text. A message
tells a person what to do next; it never holds a key, a header, a traceback or an address of the upstream.
The shape on the wire is OpenAI's: https://platform.openai.com/docs/guides/error-codes
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from gateway.entries import EndReason


class ClientGone(Exception):
    """The client closed its connection, or was cut off for taking nothing. Nobody is left to be told."""


class GatewayError(Exception):
    """Base of all. `headers` go with the response when the error is a status; `note` is for the operator's log only."""

    status: int = 500
    code: str = "internal_error"
    type: str = "server_error"
    retryable: ClassVar[bool] = False
    end_reason: ClassVar[EndReason] = EndReason.UPSTREAM_ERROR
    message: str = "Something went wrong inside the gateway. The request id leads to the cause in its log."

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        type: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        note: str | None = None,
    ) -> None:
        self.message = message or self.message
        self.code = code or self.code
        self.type = type or self.type
        self.param = param
        self.headers = dict(headers or {})
        self.note = note
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """`{"error": {...}}`, as a status' body carries it."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}

    def failure(self) -> dict[str, Any]:
        """The same as the payload of a failure entry."""
        return {**self.body(), "retryable": self.retryable}

    def copy(self) -> Self:
        """The same error without its traceback and its causes, whose frames keep a response and its buffers alive."""
        other = type(self).__new__(type(self), *self.args)
        other.__dict__.update(self.__dict__)
        return other


# What the caller did. Always a status, since admission comes before the first byte.


class InvalidRequest(GatewayError):
    status = 400
    code = "invalid_request"
    type = "invalid_request_error"
    message = "The request cannot be read."


class Unauthorized(InvalidRequest):
    """The same words for a key that is missing, wrong or expired: which of them it is, is nobody's to try out."""

    status = 401
    code = "invalid_api_key"
    message = "Send an API key that is valid here, as `Authorization: Bearer ...` or `x-api-key: ...`."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class TwoKeys(InvalidRequest):
    code = "two_api_keys"
    message = "`Authorization` and `x-api-key` hold two different keys. Send one of them, or the same one in both."


class Forbidden(InvalidRequest):
    status = 403
    code = "forbidden"
    message = "This request is not allowed here."


class OriginNotAllowed(Forbidden):
    code = "origin_not_allowed"
    message = (
        "Pages of this origin may not use the gateway. Its operator can set `server.public_url`, if this is its own, "
        "or add it to `server.cors_origins`."
    )


class ProxyNotAllowed(Forbidden):
    code = "proxy_not_allowed"
    message = (
        "The gateway has no keys and so serves its own machine only, but this request came through a proxy. "
        "Its operator can set `server.allow_anonymous = true` to serve anyone."
    )


class PolicyNotAllowed(Forbidden):
    code = "policy_not_allowed"
    message = "Your key may not choose this `on_disconnect`."


class PrefetchNotAllowed(Forbidden):
    code = "prefetch_not_allowed"
    message = "Only a real request asks the model; a prefetch does not."


class NotFound(InvalidRequest):
    status = 404
    code = "not_found"
    message = "There is nothing at this address. /chat and /v1/chat/completions ask, and / is a page to ask from."


class ModelNotFound(NotFound):
    code = "model_not_found"
    message = "There is no such model."


class StreamNotFound(NotFound):
    code = "stream_not_found"
    message = "There is no such stream, or not for you: its id or ticket is unknown or has expired. Ask anew."


class IdempotencyConflict(InvalidRequest):
    status = 409
    code = "idempotency_conflict"
    message = "This Idempotency-Key was used for another request. Take a new one for each question."


class Stopped(InvalidRequest):
    status = 409
    code = "stopped"
    end_reason = EndReason.STOPPED
    message = "The answer was stopped before it was whole."


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"
    message = "This address does not take that method."


class BodyTimeout(InvalidRequest):
    status = 408
    code = "body_timeout"
    message = "The request body took too long to arrive."


class BodyTooLarge(InvalidRequest):
    status = 413
    code = "body_too_large"
    message = "The request body is too large."


class QueryTooLong(InvalidRequest):
    status = 414
    code = "query_too_long"
    message = "The query is over 8 KiB. Send the question in the body of a POST instead."


class MediaTypeNotSupported(InvalidRequest):
    status = 415
    code = "media_type_not_supported"
    message = "Send the body as JSON, with `Content-Type: application/json`."


class ContentCodingNotSupported(MediaTypeNotSupported):
    """RFC 9110, section 15.5.16: the response says which codings there are."""

    code = "content_coding_not_supported"
    message = "Send the body without a `Content-Encoding`, or with gzip or deflate."

    def __init__(self) -> None:
        super().__init__(headers={"Accept-Encoding": "gzip, deflate"})


class HostNotServed(InvalidRequest):
    status = 421
    code = "host_not_served"
    message = (
        "The gateway has no keys and so answers only to localhost, 127.0.0.1 and [::1]. "
        "Its operator can set `server.allow_anonymous = true` to serve anyone."
    )


class HostsDiffer(InvalidRequest):
    status = 421
    code = "hosts_differ"
    message = "The request's target and its `Host` field name different hosts. Send the request to one of them."


class RateLimited(InvalidRequest):
    """More than the caller's limits allow. `headers` say which, and when to come back."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    retryable = True
    message = "This is more than your limit allows. Wait as long as `retry-after` says."


class TooManyStreams(RateLimited):
    code = "too_many_streams"
    message = "You have as many streams open as your limit allows. End one, or wait until one has ended."


# What the gateway cannot do just now.


class Busy(GatewayError):
    status = 503
    code = "busy"
    retryable = True
    message = "The gateway holds as many streams as it can. Try again in a few seconds."


class TooManyRunning(Busy):
    """`server.max_running` answers are being made."""

    code = "too_many_running"
    message = "The gateway makes as many answers at a time as it may. Try again in a few seconds."


class OutOfDescriptors(Busy):
    code = "out_of_descriptors"
    message = (
        "The gateway has as many connections open as its system allows. Try again in a few seconds. "
        "Its operator can raise the limit on open files (`ulimit -n`, `LimitNOFILE=`)."
    )


class ShuttingDown(GatewayError):
    status = 503
    code = "shutting_down"
    retryable = True
    end_reason = EndReason.SHUTTING_DOWN
    message = "The gateway is restarting. Ask again in a moment."


class AnswerTooLarge(GatewayError):
    """The stream grew past `stream.max_bytes`: it is ended, never trimmed."""

    status = 502
    code = "answer_too_large"
    end_reason = EndReason.INCOMPLETE
    message = "The answer is larger than the gateway keeps. Ask for a shorter one."


# What the upstream did.


class UpstreamError(GatewayError):
    """The upstream answered with an error, or with something that is no answer."""

    status = 502
    code = "upstream_error"
    type = "upstream_error"
    retryable = True
    message = "The model's server reported an error. Ask again in a moment."


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"
    message = "The model's server cannot be reached. Ask again in a moment."


class UpstreamMisconfigured(UpstreamError):
    """Its operator's to mend: a key that is refused, a path that is not there, a page instead of a stream."""

    code = "upstream_misconfigured"
    retryable = False
    message = "The gateway and the model's server do not understand each other. The operator has to look at it."


class UpstreamTLS(UpstreamMisconfigured):
    """A certificate that is not accepted, or TLS on one side only."""

    code = "upstream_tls"
    message = "No secure connection to the model's server can be made. The operator has to look at it."


class UpstreamRateLimited(UpstreamError):
    status = 429
    code = "upstream_rate_limited"
    type = "rate_limit_error"
    message = "The model's server has too much to do. Ask again in a moment."


class UpstreamRejected(UpstreamError):
    """A 400, 404, 413 or 422 with the upstream's own words: the request is at fault, not the upstream."""

    code = "upstream_rejected"
    type = "invalid_request_error"
    retryable = False
    message = "The model's server does not accept this request."

    def __init__(self, message: str | None = None, *, status: int = 400, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.status = status  # the one class whose status the upstream decides


class UpstreamIncomplete(UpstreamError):
    code = "upstream_incomplete"
    end_reason = EndReason.INCOMPLETE
    message = "The answer broke off: the model's server ended it without saying that it is whole."


class UpstreamEmpty(UpstreamError):
    code = "upstream_empty"
    end_reason = EndReason.INCOMPLETE
    message = "The model's server ended without an answer."


class EventTooLarge(UpstreamError):
    code = "event_too_large"
    retryable = False
    message = "The model's server sent an event larger than the gateway takes."


# What took too long.


class Timeout(UpstreamError):
    status = 504
    code = "timeout"
    type = "timeout_error"
    end_reason = EndReason.TIMEOUT
    message = "The model's server took too long."


class ConnectTimeout(Timeout):
    code = "connect_timeout"
    message = "The model's server did not take the connection in time. Ask again in a moment."


class FirstTokenTimeout(Timeout):
    code = "first_token_timeout"
    message = "The model did not begin its answer in time. Ask again, or ask for less."


class IdleTimeout(Timeout):
    code = "idle_timeout"
    message = "The model fell silent in the middle of its answer. Ask again in a moment."


class TotalTimeout(Timeout):
    code = "total_timeout"
    message = "The answer took longer than the gateway allows. Ask for a shorter one."
