"""Writes the log from a thread of its own, so that a blocked reader of the log does not delay streams.

A line is formatted when it is logged, because records change later. It is put into a queue, and the thread writes all
lines of the queue to the descriptor. Lines that do not fit into the queue are lost, and so are lines that the system
does not take (a pipe without a reader, a full disk). They are counted, and the next line that can be written tells how
many were lost.

The thread writes to the descriptor and not to `sys.stderr`, whose lock Python would wait for at its exit.
"""

import io
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import TypeVar

from gateway.bounds import DEFAULT_BOUNDS, Bounds

_PAUSE_SECONDS = 0.02  # to collect lines: waking up for each made a small request cost 79 µs instead of 64
_LONGEST_START = 65_536  # characters of a line without an end; a longer one is written in parts
_FORKING_SECONDS = 0.1  # for a reader to make room for a few KiB; a stuck one delays a signal by this for each line
_UNUSED = ("logThreads", "logProcesses", "logMultiprocessing")  # no line tells them; without them one costs 2 µs less
_LINE_END = ord("\n")


class LogWriter(logging.Handler):
    """A handler whose lines are written by a thread to `descriptor`, which stays open. `close` it."""

    def __init__(self, descriptor: int, *, encoding: str, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._encoding = encoding
        self._bounds = bounds
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._closing = threading.Event()
        self._is_cut = False  # the last data written lacks its line end
        # Python does not wait for a daemon at its exit, even if it cannot write.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # a fault of the logging call; `logging` would print it from this thread, and could block
            words = f"a message of {record.name} at {record.filename}:{record.lineno} cannot be formatted"
            line = self.format(_warning(words))
        self.say(line)

    def say(self, text: str) -> None:
        """Puts one or several lines into the queue. Without room they are lost, and count as one line."""
        line, bounds = text.encode(self._encoding, errors="backslashreplace") + b"\n", self._bounds
        with self._changed:
            if not (self._lines or self._lost):
                self._changed.notify()
            if self._lost or len(self._lines) >= bounds.log_lines or self._size + len(line) > bounds.log_bytes:
                self._lost += 1  # all later lines are lost, too, until the thread has reported the loss in this place
                return
            self._lines.append(line)
            self._size += len(line)

    def close(self) -> None:
        """Writes the remaining lines, if that takes at most _DRAIN_SECONDS."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(self._bounds.drain_seconds)
        super().close()

    # The thread

    def _run(self) -> None:
        unwritten = 0  # lost lines that are not reported yet
        while True:
            lines, lost = self._next()
            if not (lines or lost):
                return
            unwritten = self._tell(unwritten)
            if unwritten:
                unwritten += len(lines) + lost
                continue
            unwritten = self._write(b"".join(lines))
            unwritten = unwritten + lost if unwritten else self._tell(lost)

    def _next(self) -> tuple[list[bytes], int]:
        """Waits for lines. Returns them, and how many after them are lost. Returns neither at the end."""
        with self._changed:
            while not (self._lines or self._lost or self._closing.is_set()):
                self._changed.wait()
        self._closing.wait(_PAUSE_SECONDS)
        with self._changed:
            lines, lost = list(self._lines), self._lost
            self._lines.clear()
            self._size = self._lost = 0
        return lines, lost

    def _tell(self, lost: int) -> int:
        """Writes how many lines are lost. Returns their number if it cannot write."""
        if not lost:
            return 0
        lines = "1 line was" if lost == 1 else f"{lost:,} lines were"
        words = f"{lines} lost here, because the log could not be written or its reader was too slow"
        return lost if self._write(self.format(_warning(words)).encode() + b"\n") else 0

    def _write(self, data: bytes) -> int:
        """Returns how many lines the system did not take. After a cut line, the next data begin with a line end."""
        data = b"\n" + data if self._is_cut else data
        left = memoryview(data)
        with suppress(OSError):
            while left:
                left = left[_written(self._descriptor, left) :]
        if len(left) < len(data):
            self._is_cut = data[-len(left) - 1] != _LINE_END
        return bytes(left).count(b"\n")


class ForkingWriter(logging.Handler):
    """A handler without a thread, for a process that forks: a fork would copy the locks that the thread holds.

    It writes at once, and waits little for a slow reader. What the reader does not take in that time is lost.
    """

    def __init__(self, descriptor: int, *, encoding: str) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._encoding = encoding

    def emit(self, record: logging.LogRecord) -> None:
        self.say(self.format(record))

    def say(self, text: str) -> None:
        data = text.encode(self._encoding, errors="backslashreplace") + b"\n"
        with suppress(OSError):
            for start in range(0, len(data), select.PIPE_BUF):
                if not select.select([], [self._descriptor], [], _FORKING_SECONDS)[1]:
                    return
                os.write(self._descriptor, data[start : start + select.PIPE_BUF])


def _written(descriptor: int, data: memoryview) -> int:
    """How many bytes the system took. Raises OSError."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:  # another process shares the descriptor and made it non-blocking
            select.select([], [descriptor], [])


class _Stream(io.TextIOBase):
    """Replaces standard error, to which Python prints warnings and errors that cannot be caught."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._start = ""  # of the line that has no end yet

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._start = (self._start + text).split("\n")
        if len(self._start) > _LONGEST_START:
            lines, self._start = [*lines, self._start], ""
        for line in lines:
            self._writer.say(line)
        return len(text)


def _warning(words: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, words, None, None)


W = TypeVar("W", LogWriter, ForkingWriter)


@contextmanager
def logging_to(
    descriptor: int, formatter: logging.Formatter, *, encoding: str, bounds: Bounds = DEFAULT_BOUNDS
) -> Iterator[LogWriter]:
    """Within the block, log records from INFO on and prints to standard error are written to the descriptor."""
    with (
        _handling(LogWriter(descriptor, encoding=encoding, bounds=bounds), formatter) as writer,
        redirect_stderr(_Stream(writer)),
    ):
        yield writer


@contextmanager
def logging_and_forking(descriptor: int, formatter: logging.Formatter, *, encoding: str) -> Iterator[ForkingWriter]:
    """The same for a process that forks, without what it prints."""
    with _handling(ForkingWriter(descriptor, encoding=encoding), formatter) as writer:
        yield writer


@contextmanager
def _handling(writer: W, formatter: logging.Formatter) -> Iterator[W]:
    root = logging.getLogger()
    level, unused = root.level, {name: getattr(logging, name) for name in _UNUSED}
    vars(logging).update(dict.fromkeys(_UNUSED, False))
    writer.setFormatter(formatter)
    root.addHandler(writer)
    root.setLevel(logging.INFO)
    try:
        yield writer
    finally:
        vars(logging).update(unused)
        root.setLevel(level)
        root.removeHandler(writer)
        writer.close()
