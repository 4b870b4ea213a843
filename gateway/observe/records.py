"""Records of requests and streams, which are logged at their end.

The core fills the records. A record never holds a prompt, an answer, a query string or a secret.
"""

import logging

import msgspec

from gateway.entries import EndReason

access = logging.getLogger("gateway.access")


class FailedAttempt(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request to a target that did not become the answer. Its tokens are not the caller's, but they may cost."""

    target: str
    error: str  # the code of the failure, or "outrun" if another target was faster
    seconds: float
    input_tokens: int = 0
    output_tokens: int = 0
    tokens_estimated: bool = False
    cost: float | None = None


class StreamRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One stream. Times are in seconds; `bytes` counts all payloads. The names of token counts are OpenTelemetry's."""

    stream: str
    model_asked: str | None = None
    model: str | None = None  # as reported by the upstream
    target: str | None = None  # upstream/model, by their configured names
    operation: str = "chat"  # OpenTelemetry's name for what the upstream was asked to do
    end: EndReason | None = None
    error: str | None = None  # the code of the failure
    finish_reason: str | None = None
    done_missing: bool = False  # complete by its finish reason, but `[DONE]` never came
    finish_missing: bool = False  # complete by its `[DONE]`, but no finish reason came
    input_tokens: int = 0
    cached_tokens: int = 0  # part of the input
    cache_written_tokens: int = 0  # part of the input, too
    output_tokens: int = 0
    reasoning_tokens: int = 0  # part of the output
    tokens_estimated: bool = False  # the upstream reported no usage
    cost: float | None = None  # if prices are configured
    resumes: int = 0  # times that a client came back to it
    attempts: int = 0
    failed: list[FailedAttempt] = []  # the attempts before the one that answered, or that failed last
    skipped: int = 0  # events that were not JSON
    entries: int = 0
    bytes: int = 0
    first_token: float | None = None
    seconds: float | None = None  # from the question to the end of the answer


class AccessRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request. Status 499 means that the client left before there was a status."""

    request_id: str
    client: str | None
    key: str | None = None  # the name of the key that asked
    method: str
    path: str
    status: int
    seconds: float
    bytes: int = 0  # sent, with header fields and framing
    trace_id: str | None = None  # if it was traced, in hexadecimal
    viewed: str | None = None  # the stream that it watched or stopped, if another request had started that
    stream: StreamRecord | None = None  # the stream that it started; if it has no `end` yet, a StreamEndRecord follows


class StreamEndRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A stream that outlived the request that started it. `request_id` is that of the request, if known."""

    request_id: str | None = None
    key: str | None = None
    stream: StreamRecord


def log_access(record: AccessRecord) -> None:
    _log("%s %s %d", (record.method, record.path, record.status), record)


def log_stream_end(record: StreamEndRecord) -> None:
    _log("stream %s ended", (record.stream.stream,), record)


def _log(message: str, words: tuple[object, ...], record: AccessRecord | StreamEndRecord) -> None:
    """As `access.info` does, which also searches the stack for its caller: this saves 1.3 % of a short stream."""
    if access.isEnabledFor(logging.INFO):
        line = logging.LogRecord(access.name, logging.INFO, __file__, 0, message, words, None)
        vars(line)["record"] = record
        access.handle(line)
