"""Writes the log from a thread of its own, so that a reader of it that stands still holds up no stream.

A line is formatted where it is logged, since records go on changing, and is put into a queue. The thread takes all
lines of the queue and writes them to the descriptor. What does not fit into the queue is lost and counted, and so is a
line that the system does not take: a pipe without a reader, a full disk. The next line that can be written says how
many were lost.

The thread writes to the descriptor itself. Inside of `sys.stderr` it would hold a lock of that, which Python waits for
at its own end.
"""

import io
import logging
import os
import select
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress

_MOST_LINES = 10_000  # ten seconds of a busy process; some 5 MB, since a line has about 500 bytes
_MOST_BYTES = 16_777_216  # of them: a line may hold an upstream's words, or a traceback
_PAUSE_SECONDS = 0.02  # for lines to come together: to wake for each made a small request cost 79 µs instead of 64
_DRAIN_SECONDS = 2.0  # for what is left at the end; a reader that takes nothing does not hold up the exit
_LONGEST_START = 65_536  # characters of a line that has no end yet; then it is written as it is
_LINE_END = ord("\n")


class LogWriter(logging.Handler):
    """A handler whose lines are written by a thread to `descriptor`, which stays open. `close` it."""

    def __init__(self, descriptor: int, *, encoding: str) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._encoding = encoding
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._closing = threading.Event()
        self._is_cut = False  # does the last thing written lack its line end?
        # A daemon: Python does not wait at its end for one that cannot write.
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # a fault of the call that logs; logging itself would print it here, and could be held up
            words = f"a message of {record.name} at {record.filename}:{record.lineno} cannot be formatted"
            line = self.format(_warning(words))
        self.say(line)

    def say(self, text: str) -> None:
        """Puts a line into the queue, or several; without room they are lost, and counted as one."""
        line = text.encode(self._encoding, errors="backslashreplace") + b"\n"
        with self._changed:
            if not (self._lines or self._lost):
                self._changed.notify()
            if self._lost or len(self._lines) >= _MOST_LINES or self._size + len(line) > _MOST_BYTES:
                self._lost += 1  # and so is all that follows, until the thread comes: the count stands in its place
                return
            self._lines.append(line)
            self._size += len(line)

    def close(self) -> None:
        """Writes what is left, as far as that takes moments."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(_DRAIN_SECONDS)
        super().close()

    # The thread

    def _run(self) -> None:
        unwritten = 0  # lines that are lost, and not told of yet
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
        """The lines to be written, as soon as there are any, and how many behind them are lost. Neither: the end."""
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
        """Says how many lines are lost. Returns their number if that could not be said."""
        if not lost:
            return 0
        lines = "1 line was" if lost == 1 else f"{lost:,} lines were"
        words = f"{lines} lost here, since the log could not be written, or its reader did not keep up"
        return lost if self._write(self.format(_warning(words)).encode() + b"\n") else 0

    def _write(self, data: bytes) -> int:
        """Returns how many lines the system does not take. The next ones then begin behind a line end."""
        data = b"\n" + data if self._is_cut else data
        left = memoryview(data)
        with suppress(OSError):
            while left:
                left = left[_written(self._descriptor, left) :]
        if len(left) < len(data):
            self._is_cut = data[-len(left) - 1] != _LINE_END
        return bytes(left).count(b"\n")


def _written(descriptor: int, data: memoryview) -> int:
    """How many bytes the system took. Raises OSError."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:  # another process shares the descriptor, and wants it so
            select.select([], [descriptor], [])


class _Stream(io.TextIOBase):
    """Takes the place of standard error, where Python itself prints warnings, and errors that nobody can catch."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._start = ""  # of a line

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


@contextmanager
def logging_to(descriptor: int, formatter: logging.Formatter, *, encoding: str) -> Iterator[LogWriter]:
    """What is logged meanwhile, from INFO on, is written there, and so is what is printed to standard error."""
    root = logging.getLogger()
    level, writer = root.level, LogWriter(descriptor, encoding=encoding)
    writer.setFormatter(formatter)
    root.addHandler(writer)
    root.setLevel(logging.INFO)
    try:
        with redirect_stderr(_Stream(writer)):
            yield writer
    finally:
        root.setLevel(level)
        root.removeHandler(writer)
        writer.close()
