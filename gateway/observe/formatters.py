"""How a line of the log is written: as JSON for machines, or for a person at a terminal."""

import json
import logging
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import msgspec

from gateway.observe.records import AccessRecord, StreamEndRecord, StreamRecord

_ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_LONGEST_TRACEBACK = 16_384  # characters: some 100 frames, and a line that pipes and journals still take as one

_encode_json = msgspec.json.Encoder().encode


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
        line = f"{datetime.fromtimestamp(record.created):%H:%M:%S} {record.levelname.lower():7} {printable(message)}"
        if not record.exc_info:
            return line
        return "\n".join([line, *map(printable, _traceback(self, record.exc_info).split("\n"))])


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


def printable(text: str) -> str:
    """Without anything that would end the line or move a terminal's cursor."""
    return text if text.isprintable() else "".join([c if c.isprintable() else ascii(c)[1:-1] for c in text])


def _told(stream: StreamRecord | None) -> str:
    if stream is None:
        return ""
    parts = [stream.model or stream.model_asked or "", str(stream.end or ""), stream.error or ""]
    return " " + " ".join([part for part in (*parts, f"{stream.entries} entries") if part])
