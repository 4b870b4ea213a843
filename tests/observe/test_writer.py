"""The log is written beside the event loop: a reader that stands still loses lines, and holds up nothing."""

import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from gateway.bounds import Bounds
from gateway.observe.formatters import JsonFormatter
from gateway.observe.writer import logging_to

logger = logging.getLogger("gateway.test")


class Pipe:
    """A pipe of the smallest size that the system has, one page."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        self._data = b""

    def line(self) -> dict[str, Any]:
        while b"\n" not in self._data:
            self._data += os.read(self.reader, 65_536)
        line, _, self._data = self._data.partition(b"\n")
        value: dict[str, Any] = json.loads(line)
        return value

    def rest(self) -> list[dict[str, Any]]:
        """Once nobody writes any more."""
        os.close(self.writer)
        while data := os.read(self.reader, 65_536):
            self._data += data
        return [json.loads(line) for line in self._data.splitlines()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for descriptor in (pipe.reader, pipe.writer):
        with suppress(OSError):
            os.close(descriptor)


def log_lines(numbers: range) -> None:
    for number in numbers:
        logger.info("line %d", number)


def messages(lines: list[dict[str, Any]]) -> list[str]:
    return [line["message"] for line in lines]


def test_lines_are_written_in_order_and_all_of_them_before_it_closes(pipe: Pipe) -> None:
    with logging_to(pipe.writer, JsonFormatter(), encoding="utf-8"):
        log_lines(range(20))
    assert messages(pipe.rest()) == [f"line {number}" for number in range(20)]


def test_a_record_is_written_as_it_was_when_it_was_logged(pipe: Pipe) -> None:
    words = ["before"]
    with logging_to(pipe.writer, JsonFormatter(), encoding="utf-8"):
        logger.info("%s", words)
        words[0] = "after"
    assert messages(pipe.rest()) == ["['before']"]


def test_lines_without_room_are_counted_and_told_of_in_their_place(pipe: Pipe) -> None:
    """The first line of JSON that comes late is whole, and so is every other."""
    with logging_to(pipe.writer, JsonFormatter(), encoding="utf-8", bounds=Bounds(log_lines=100)):
        log_lines(range(2000))
        told: list[str] = []
        while sum(map(counted, told)) < 2000:
            told.append(pipe.line()["message"])
        log_lines(range(2000, 2010))
        told += [pipe.line()["message"] for _ in range(10)]
    reached = 0
    for words in told:  # the count stands where the lines would
        assert "lost" in words or words == f"line {reached}"
        reached += counted(words)
    assert reached == 2010
    assert any("lost" in words for words in told)


def counted(words: str) -> int:
    """How many lines a line stands for."""
    return int(words.split()[0].replace(",", "")) if "lost" in words else 1


def test_lines_are_bounded_in_bytes_too(pipe: Pipe) -> None:
    with logging_to(pipe.writer, JsonFormatter(), encoding="utf-8", bounds=Bounds(log_bytes=100_000)) as writer:
        for _ in range(100):
            logger.info("x" * 10_000)
        assert writer._size <= 100_000
        while "lost" not in pipe.line()["message"]:
            pass


def test_a_line_that_is_too_long_for_the_queue_is_lost_alone(pipe: Pipe) -> None:
    with logging_to(pipe.writer, JsonFormatter(), encoding="utf-8", bounds=Bounds(log_bytes=1000)):
        logger.info("x" * 1000)
        assert pipe.line()["message"].startswith("1 line was lost")
        logger.info("next")
        assert pipe.line()["message"] == "next"


def test_a_reader_that_takes_nothing_holds_up_neither_who_logs_nor_the_end(pipe: Pipe) -> None:
    started = time.monotonic()
    with logging_to(pipe.writer, JsonFormatter(), encoding="utf-8", bounds=Bounds(drain_seconds=0.1)):
        log_lines(range(1000))
    assert time.monotonic() - started < 5
    os.read(pipe.reader, 1 << 20)  # lets the thread go


def test_a_log_that_cannot_be_written_is_survived() -> None:
    with open("/dev/full", "wb") as full, logging_to(full.fileno(), JsonFormatter(), encoding="utf-8"):
        log_lines(range(10))


def wait_until(holds: Callable[[], bool]) -> None:
    """For the thread."""
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline, "it does not come to hold"
        time.sleep(0.001)


def test_lines_that_the_system_did_not_take_are_told_of_once_it_does(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that is full takes a piece of a line, then nothing, and later there is room again."""
    write, steps, own = os.write, [5, 0, 0], os.fstat(pipe.writer).st_ino

    def limited(descriptor: int, data: memoryview) -> int:
        if os.fstat(descriptor).st_ino != own:  # of another thread
            return write(descriptor, data)
        room = steps.pop(0) if steps else len(data)
        if not room:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:room])

    monkeypatch.setattr(os, "write", limited)
    with logging_to(pipe.writer, JsonFormatter(), encoding="utf-8"):
        logger.info("first")
        wait_until(lambda: len(steps) <= 1)
        logger.info("second")  # that the first was lost cannot be told either
        wait_until(lambda: not steps)
        logger.info("third")
    os.close(pipe.writer)
    piece, told, third = os.read(pipe.reader, 65_536).splitlines()
    assert piece == b'{"tim'
    assert json.loads(told)["message"].startswith("2 lines were")
    assert json.loads(third)["message"] == "third"


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    """Another process that shares a terminal or a pipe may have made it so."""
    os.set_blocking(pipe.writer, False)
    with logging_to(pipe.writer, JsonFormatter(), encoding="utf-8"):
        log_lines(range(1000))
        assert [pipe.line()["message"] for _ in range(1000)] == [f"line {number}" for number in range(1000)]


def test_a_message_that_cannot_be_formatted_is_told_of(pipe: Pipe) -> None:
    record = logging.LogRecord("gateway.test", logging.INFO, "here.py", 7, "%d", ("no number",), None)
    with logging_to(pipe.writer, JsonFormatter(), encoding="utf-8") as writer:
        writer.handle(record)
    (told,) = messages(pipe.rest())
    assert told == "a message of gateway.test at here.py:7 cannot be formatted"


def test_what_python_prints_to_standard_error_goes_the_same_way(pipe: Pipe) -> None:
    """A warning, or an error in a destructor, could else hold up the process as well as a line of the log."""
    with logging_to(pipe.writer, logging.Formatter(), encoding="utf-8"):
        print("one", "line", file=sys.stderr)
        sys.stderr.write("x" * 70_000)
        logger.info("logged")
        read = b""
        while b"logged" not in read:
            read += os.read(pipe.reader, 65_536)
    assert read == b"one line\n" + b"x" * 70_000 + b"\nlogged\n"


def test_characters_that_the_encoding_lacks_are_escaped(pipe: Pipe) -> None:
    with logging_to(pipe.writer, logging.Formatter(), encoding="latin-1"):
        logger.info("é 好")
    os.close(pipe.writer)
    assert os.read(pipe.reader, 100) == b"\xe9 \\u597d\n"
