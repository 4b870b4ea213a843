"""What is known of a request and its stream when they are done.

The core fills records; loggers, and later metrics, are functions over them. A record never holds a prompt, an answer, a
query string or a secret.
"""

import logging

import msgspec

from gateway.entries import EndReason

access = logging.getLogger("gateway.access")


class StreamRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One stream. Times are seconds, `bytes` those of all payloads. The names of tokens are OpenTelemetry's."""

    stream: str
    model_asked: str | None = None
    model: str | None = None  # as the upstream reported it
    target: str | None = None  # upstream/model, as they are configured
    end: EndReason | None = None
    error: str | None = None  # the code of the failure
    finish_reason: str | None = None
    done_missing: bool = False  # complete by its finish reason, but `[DONE]` never came
    finish_missing: bool = False  # complete by its `[DONE]`, but no finish reason came
    input_tokens: int = 0
    cached_tokens: int = 0  # of those
    output_tokens: int = 0
    reasoning_tokens: int = 0  # of those
    tokens_estimated: bool = False  # the upstream did not say
    cost: float | None = None  # where prices are configured
    resumes: int = 0  # how often somebody came back to it
    attempts: int = 0
    skipped: int = 0  # events that were not JSON
    entries: int = 0
    bytes: int = 0
    first_token: float | None = None


class AccessRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One request. Status 499 is a client that left before there was one."""

    request_id: str
    client: str | None
    key: str | None = None  # the name of the key that asked
    method: str
    path: str
    status: int
    seconds: float
    bytes: int = 0  # that were sent, header fields and framing included
    viewed: str | None = None  # the stream that was watched or stopped, where another request had started it
    stream: StreamRecord | None = None  # the one that it started; without an `end`, a StreamEndRecord follows


class StreamEndRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A stream that outlived the request which had started it, and which `request_id` names, where it is known."""

    request_id: str | None = None
    key: str | None = None
    stream: StreamRecord


def log_access(record: AccessRecord) -> None:
    access.info("%s %s %d", record.method, record.path, record.status, extra={"record": record})


def log_stream_end(record: StreamEndRecord) -> None:
    access.info("stream %s ended", record.stream.stream, extra={"record": record})
