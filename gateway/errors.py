"""Every error that a client can see: one class each, with its status, code and message.

The class says whose fault the error is and whether asking again may help, so that no code has to match on message
text. A message says what to do next. It never contains a key, a header field, a traceback or an address of the
upstream. The shape on the wire is that of OpenAI: https://platform.openai.com/docs/guides/error-codes
"""

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, ClassVar, Self

from gateway.entries import EndReason


class Recovery(Enum):
    """What may still help before the first content of an answer has come."""

    NOTHING = "nothing: the request itself is at fault, or a bound was reached"
    AGAIN = "the same target once more, for it may have been a moment's fault; then another one"
    LATER = "another target, or the same one once it has time"
    ELSEWHERE = "another target only"


class ClientGone(Exception):
    """The client closed its connection, or was cut because it read nothing. No error can be sent to it any more."""


class GatewayError(Exception):
    """The base class. `headers` are sent if the error becomes a status. `note` is written to the log only."""

    status: int = 500
    code: str = "internal_error"
    type: str = "server_error"
    retryable: ClassVar[bool] = False
    end_reason: ClassVar[EndReason] = EndReason.UPSTREAM_ERROR
    message: str = "Something went wrong inside the gateway. Its log has the cause under the request id."

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
        """`{"error": {...}}`, the body of a response with an error status."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}

    def failure(self) -> dict[str, Any]:
        """The payload of a failure entry: the same with `retryable`."""
        return {**self.body(), "retryable": self.retryable}

    def copy(self) -> Self:
        """The same error without its traceback and causes. Their frames would keep a response and its buffers alive."""
        other = type(self).__new__(type(self), *self.args)
        other.__dict__.update(self.__dict__)
        return other


# Faults of the caller. They are always a status, because admission comes before the first byte.


class InvalidRequest(GatewayError):
    status = 400
    code = "invalid_request"
    type = "invalid_request_error"
    message = "The request is not valid. Check its fields against the documentation."


class Unauthorized(InvalidRequest):
    """A missing, a wrong and an expired key get the same message, so that nobody can probe for keys."""

    status = 401
    code = "invalid_api_key"
    message = "Send a valid API key, as `Authorization: Bearer ...` or `x-api-key: ...`."

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class TwoKeys(InvalidRequest):
    code = "two_api_keys"
    message = "`Authorization` and `x-api-key` contain different keys. Send only one field, or the same key in both."


class Forbidden(InvalidRequest):
    status = 403
    code = "forbidden"
    message = "This request is not allowed. Ask the operator of the gateway for access."


class OriginNotAllowed(Forbidden):
    code = "origin_not_allowed"
    message = (
        "Pages of this origin may not use the gateway. Its operator can add the origin to `server.cors_origins`, "
        "or set `server.public_url` if it is the gateway's own."
    )


class ProxyNotAllowed(Forbidden):
    code = "proxy_not_allowed"
    message = (
        "The gateway has no keys, so it serves only its own machine, and this request came through a proxy. "
        "Its operator can add keys, or set `server.allow_anonymous = true` to serve everyone."
    )


class PolicyNotAllowed(Forbidden):
    code = "policy_not_allowed"
    message = "Your key does not allow this value of `on_disconnect`. Choose another, or leave the field out."


class MetricsNotAllowed(Forbidden):
    code = "metrics_not_allowed"
    message = "The metrics are for the gateway's own machine. Others have to send `metrics.token`, as a bearer token."


class PrefetchNotAllowed(Forbidden):
    code = "prefetch_not_allowed"
    message = "A prefetch does not ask the model. Send a normal request."


class NotFound(InvalidRequest):
    status = 404
    code = "not_found"
    message = "There is nothing at this address. Ask at /chat or /v1/chat/completions, or open the page at /."


class ModelNotFound(NotFound):
    code = "model_not_found"
    message = "There is no such model. GET /v1/models lists the models."


class EndpointNotSupported(InvalidRequest):
    code = "endpoint_not_supported"
    message = "The model cannot be asked at this address. GET /v1/models lists the endpoints of each model."


class StreamNotFound(NotFound):
    code = "stream_not_found"
    message = "There is no such stream for you: its id or ticket is unknown or has expired. Ask again."


class ResponseNotFound(NotFound):
    code = "response_not_found"
    message = "There is no such response for you: its id is unknown, it was not stored, or it has expired. Ask again."


class PreviousResponseNotFound(InvalidRequest):
    code = "previous_response_not_found"
    message = "There is no such previous response, or it has expired. Send the conversation as `input`."


class PreviousResponseRunning(InvalidRequest):
    code = "previous_response_running"
    message = "The previous response has not ended. Wait for its end, or cancel it."


class IdempotencyConflict(InvalidRequest):
    status = 409
    code = "idempotency_conflict"
    message = "This Idempotency-Key was used for another request. Use a new one for each question."


class Stopped(InvalidRequest):
    status = 409
    code = "stopped"
    end_reason = EndReason.STOPPED
    message = "The answer was stopped before it was complete. Ask again to get a new one."


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"
    message = "This address does not support that method. The field `Allow` lists the methods."


class BodyTimeout(InvalidRequest):
    status = 408
    code = "body_timeout"
    message = "The request body took too long to arrive. Send it again over a faster connection."


class BodyTooLarge(InvalidRequest):
    status = 413
    code = "body_too_large"
    message = "The request body is too large. Send a smaller one."


class QueryTooLong(InvalidRequest):
    status = 414
    code = "query_too_long"
    message = "The query is over 8 KiB. Send the question in the body of a POST instead."


class MediaTypeNotSupported(InvalidRequest):
    status = 415
    code = "media_type_not_supported"
    message = "Send the body as JSON, with `Content-Type: application/json`."


class ContentCodingNotSupported(MediaTypeNotSupported):
    """The response lists the supported codings: RFC 9110, section 15.5.16."""

    code = "content_coding_not_supported"
    message = "Send the body without `Content-Encoding`, or compressed with gzip or deflate."

    def __init__(self) -> None:
        super().__init__(headers={"Accept-Encoding": "gzip, deflate"})


class HostNotServed(InvalidRequest):
    status = 421
    code = "host_not_served"
    message = (
        "The gateway has no keys, so it answers only requests to localhost, 127.0.0.1 and [::1]. "
        "Its operator can add keys, or set `server.allow_anonymous = true` to serve everyone."
    )


class HostsDiffer(InvalidRequest):
    status = 421
    code = "hosts_differ"
    message = "The target of the request and its `Host` field name different hosts. Use the same host in both."


class RateLimited(InvalidRequest):
    """The caller is over one of its limits. `headers` say which one, and when to try again."""

    status = 429
    code = "rate_limit_exceeded"
    type = "rate_limit_error"
    retryable = True
    message = "You are over your limit. Wait for the number of seconds in `retry-after`."


class TooManyStreams(RateLimited):
    code = "too_many_streams"
    message = "You have as many streams open as your limit allows. Stop one, or wait until one has ended."


class BudgetReserved(RateLimited):
    """Running answers have reserved what is left of the budget. They give back what they do not take."""

    code = "budget_reserved"
    message = "Your running answers may take the rest of your budget. Try again when one of them has ended."


class InsufficientQuota(RateLimited):
    """The rest of the budget does not pay for the request. Code and type are OpenAI's for an account without money."""

    code = "insufficient_quota"
    type = "insufficient_quota"
    retryable = False
    message = "The rest of your budget does not pay for this request. Wait for the number of seconds in `retry-after`."


# Limits of the gateway itself.


class Busy(GatewayError):
    status = 503
    code = "busy"
    retryable = True
    message = "The gateway has no room for another stream. Try again in a few seconds."


class RedisUnavailable(GatewayError):
    """Whether the request can be served is known to Redis only, and Redis does not answer."""

    status = 503
    code = "store_unavailable"
    retryable = True
    message = "The store that all gateways share does not answer. Try again in a few seconds."

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": "2"})


class TooManyRunning(Busy):
    """As many answers are running as `server.max_running` allows."""

    code = "too_many_running"
    message = "The gateway is running as many answers as it may. Try again in a few seconds."


class TargetsFull(Busy):
    """All targets of the model are running as many requests as `upstreams.max_streams` allows."""

    code = "targets_full"
    message = "All servers of this model are at their limit. Try again in a few seconds."


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
    message = "The gateway is stopping, or restarting. Ask again in a moment."


class AnswerTooLarge(GatewayError):
    """The stream exceeded `stream.max_bytes`, or the room for all running streams. It is ended, never trimmed."""

    status = 502
    code = "answer_too_large"
    end_reason = EndReason.INCOMPLETE
    message = "The answer is larger than the gateway allows. Ask for a shorter one."


# Faults of the upstream.


class UpstreamError(GatewayError):
    """The upstream reported an error, or sent something that is not an answer.

    `recovery` says what may help before the first content. `is_targets_fault`: it speaks against the target that was
    asked, and not against the request. `wait` is the number of seconds after which the upstream wants to be asked
    again, if it said so. `is_final`: it does not want to be asked again with this request. `is_told`: the client has
    got the upstream's own event about it.
    """

    status = 502
    code = "upstream_error"
    type = "upstream_error"
    retryable = True
    message = "The model's server reported an error. Ask again in a moment."
    recovery: Recovery = Recovery.AGAIN
    is_targets_fault: ClassVar[bool] = True
    wait: float | None = None
    is_final: bool = False
    is_told: bool = False

    def failure(self) -> dict[str, Any]:
        return super().failure() | ({"is_told": True} if self.is_told else {})


class UpstreamUnreachable(UpstreamError):
    code = "upstream_unreachable"
    recovery = Recovery.LATER
    message = "The model's server cannot be reached. Ask again in a moment."


class UpstreamMisconfigured(UpstreamError):
    """Only the operator can fix it: the upstream refused the key, does not know the path, or sent a web page."""

    code = "upstream_misconfigured"
    retryable = False
    recovery = Recovery.ELSEWHERE
    message = "The model's server does not answer as the gateway expects. The operator has to look at it."


class UpstreamTLS(UpstreamMisconfigured):
    """The certificate is not accepted, or only one side uses TLS."""

    code = "upstream_tls"
    message = "The gateway cannot connect securely to the model's server. The operator has to look at it."


class UpstreamRateLimited(UpstreamError):
    status = 429
    code = "upstream_rate_limited"
    type = "rate_limit_error"
    recovery = Recovery.LATER
    is_targets_fault = False
    message = "The model's server is busy. Ask again in a moment."


_NOT_HERE = frozenset({404, 413})  # another target may know the model, or take a body of this size


class UpstreamRejected(UpstreamError):
    """The upstream refused the request with 400, 404, 413 or 422. The message is the upstream's own, cleaned."""

    code = "upstream_rejected"
    type = "invalid_request_error"
    retryable = False
    recovery = Recovery.NOTHING
    is_targets_fault = False
    message = "The model's server does not accept this request. Change it, and ask again."

    def __init__(self, message: str | None = None, *, status: int = 400, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.status = status  # the upstream decides on it, which it does for no other class
        if status in _NOT_HERE:
            self.recovery = Recovery.ELSEWHERE


class ContextLengthExceeded(UpstreamRejected):
    """A target with a longer context may take the request."""

    code = "context_length_exceeded"
    message = "The request is too long for the model. Send a shorter one, or ask a model with a longer context."

    def __init__(self, message: str | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.recovery = Recovery.ELSEWHERE


class UpstreamCannot(UpstreamRejected):
    """The request cannot be translated to the dialect of the target's server. One with another dialect may take it."""

    code = "upstream_cannot"
    message = "The model's server has no place for a part of this request. Change it, or ask another model."

    def __init__(self, message: str | None = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.recovery = Recovery.ELSEWHERE


class UpstreamIncomplete(UpstreamError):
    code = "upstream_incomplete"
    end_reason = EndReason.INCOMPLETE
    message = "The answer broke off: the model's server ended it before it was complete. Ask again in a moment."


class UpstreamEmpty(UpstreamError):
    code = "upstream_empty"
    end_reason = EndReason.INCOMPLETE
    message = "The model's server ended without an answer. Ask again in a moment."


class ProducerLost(UpstreamError):
    """The process that produced the answer is gone. What it had recorded is there."""

    code = "producer_lost"
    end_reason = EndReason.INCOMPLETE
    message = "The answer broke off: the gateway that was receiving it is gone. Ask again in a moment."


class RecordingLost(UpstreamError):
    """Some entries of a recorded stream are missing."""

    status = 410
    code = "recording_lost"
    end_reason = EndReason.INCOMPLETE
    message = "A part of this answer was lost before it reached you. Ask again."


class EventTooLarge(UpstreamError):
    code = "event_too_large"
    retryable = False
    recovery = Recovery.NOTHING
    is_targets_fault = False
    message = "The model's server sent an event that is too large for the gateway. Ask for a shorter answer."


# Timeouts.


class Timeout(UpstreamError):
    status = 504
    code = "timeout"
    type = "timeout_error"
    end_reason = EndReason.TIMEOUT
    recovery = Recovery.ELSEWHERE
    message = "The model's server took too long. Ask again in a moment."


class ConnectTimeout(Timeout):
    code = "connect_timeout"
    message = "The model's server did not accept the connection in time. Ask again in a moment."


class FirstTokenTimeout(Timeout):
    code = "first_token_timeout"
    message = "The model did not begin its answer in time. Ask again, or ask a shorter question."


class IdleTimeout(Timeout):
    code = "idle_timeout"
    message = "The model fell silent in the middle of its answer. Ask again in a moment."


class TotalTimeout(Timeout):
    code = "total_timeout"
    recovery = Recovery.NOTHING
    is_targets_fault = False
    message = "The answer took longer than the gateway allows. Ask for a shorter one."


# The way back.


def from_failure(failure: Mapping[str, Any]) -> GatewayError:
    """The error of a failure entry, which may be of another process. Its class is found by its code."""
    fields = failure["error"]
    kind = next((kind for kind in _all_kinds(GatewayError) if kind.code == fields["code"]), UpstreamError)
    error = kind.__new__(kind, fields["message"])
    GatewayError.__init__(error, fields["message"], code=fields["code"], type=fields["type"], param=fields["param"])
    return error


def _all_kinds(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for other in kind.__subclasses__():
        yield from _all_kinds(other)
