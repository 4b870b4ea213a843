"""What is known of a request and its stream when they are over, and how a log line is written.

The core fills records; loggers, and later metrics, are functions over them. A record never holds a prompt, an answer, a
query string or a secret.
"""

import json
import logging
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import msgspec

from gateway.entries import EndReason

access = logging.getLogger("gateway.access")

_ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_LONGEST_TRACEBACK = 16_384  # characters: some 100 frames, and a line that pipes and journals still take as one

_encode_json = msgspec.json.Encoder().encode


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


class JsonFormatter(logging.Formatter):
    """One line of JSON per record; line ends in it are escaped, as JSON does."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        told = getattr(record, "record", None)
        if told is not None:
            line |= msgspec.to_builtins(told)
        else:
            line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = _traceback(self, record.exc_info)
        try:
            return _encode_json(line).decode()
        except UnicodeEncodeError:  # a lone surrogate, which only the slower encoder can escape
            return json.dumps(line)


class TerminalFormatter(logging.Formatter):
    """The same for a person who watches."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        told = getattr(record, "record", None)
        if isinstance(told, AccessRecord):
            message += f" {told.seconds:.3f}s"
        if isinstance(told, AccessRecord | StreamEndRecord):
            message += _told(told.stream)
        line = f"{datetime.fromtimestamp(record.created):%H:%M:%S} {record.levelname.lower():7} {_printable(message)}"
        if not record.exc_info:
            return line
        return "\n".join([line, *map(_printable, _traceback(self, record.exc_info).split("\n"))])


class OneLine(logging.Filter):
    """A request that is no HTTP is a stranger's doing: one line, without the traceback that aiohttp adds.

    `strangers` are the exceptions of aiohttp's reading. Any other exception is a fault of ours, and is logged whole.
    """

    def __init__(self, *strangers: type[Exception]) -> None:
        super().__init__()
        self._strangers = strangers

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, self._strangers):
            record.msg = f"{record.getMessage()}: {type(error).__name__}"
            record.args = None
            record.exc_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return True


def _traceback(formatter: logging.Formatter, error: _ErrorInfo) -> str:
    """Its beginning says where it happened, its end what it was."""
    text = formatter.formatException(error)
    return (
        text
        if len(text) <= _LONGEST_TRACEBACK
        else f"{text[: _LONGEST_TRACEBACK // 2]}\n...\n{text[-_LONGEST_TRACEBACK // 2 :]}"
    )


def _printable(text: str) -> str:
    """Without anything that would end the line or move a terminal's cursor."""
    return text if text.isprintable() else "".join([c if c.isprintable() else ascii(c)[1:-1] for c in text])


def _told(stream: StreamRecord | None) -> str:
    if stream is None:
        return ""
    parts = [stream.model or stream.model_asked or "", str(stream.end or ""), stream.error or ""]
    return " " + " ".join([part for part in (*parts, f"{stream.entries} entries") if part])
