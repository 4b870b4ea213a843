"""How a log line is written: one line, whatever is in it, and nothing in it that is nobody's business."""

import json
import logging
import re
import sys
from typing import Any

import pytest
from aiohttp.http_exceptions import BadHttpMessage, BadStatusLine
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import EndReason
from gateway.observe.formatters import JsonFormatter, OneLine, TerminalFormatter
from gateway.observe.records import AccessRecord, FailedAttempt, StreamRecord, log_access

STREAM = StreamRecord(stream="s", model_asked="m", target="up/x", attempts=1)


def access(stream: StreamRecord | None = None, **changes: Any) -> AccessRecord:
    fields = {"request_id": "r", "client": "127.0.0.1", "method": "GET", "path": "/chat", "status": 200, "seconds": 0.5}
    return AccessRecord(**{**fields, **changes}, stream=stream)


def log_record(
    message: str, *arguments: object, told: AccessRecord | None = None, error: bool = False
) -> logging.LogRecord:
    record = logging.LogRecord(
        "gateway.x", logging.INFO, "x.py", 1, message, arguments, sys.exc_info() if error else None
    )
    if told is not None:
        record.record = told
    return record


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert "\r" not in line
    value: dict[str, Any] = json.loads(line)
    return value


# As JSON


def test_a_message_as_json() -> None:
    line = as_json(log_record("port %d of %s", 80, "é"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {"level": "info", "logger": "gateway.x", "message": "port 80 of é"}


def test_a_request_as_json() -> None:
    """What is not known, and what is as always, is left out."""
    line = as_json(log_record("GET /chat 200", told=access(STREAM)))
    del line["time"]
    assert line == {
        "level": "info",
        "logger": "gateway.x",
        "request_id": "r",
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/chat",
        "status": 200,
        "seconds": 0.5,
        "stream": {"stream": "s", "model_asked": "m", "target": "up/x", "attempts": 1},
    }


def test_a_stream_as_json() -> None:
    stream = StreamRecord(
        stream="s",
        model="é\n",
        end=EndReason.INCOMPLETE,
        error="upstream_incomplete",
        done_missing=True,
        input_tokens=10,
        skipped=2,
        first_token=0.25,
    )
    assert as_json(log_record("", told=access(stream)))["stream"] == {
        "stream": "s",
        "model": "é\n",
        "end": "incomplete",
        "error": "upstream_incomplete",
        "done_missing": True,
        "input_tokens": 10,
        "skipped": 2,
        "first_token": 0.25,
    }


def test_an_operation_is_told_if_it_is_no_chat() -> None:
    told = [
        as_json(log_record("", told=access(StreamRecord(stream="s", operation=name)))) for name in ("chat", "rerank")
    ]
    assert [line["stream"] for line in told] == [{"stream": "s"}, {"stream": "s", "operation": "rerank"}]


def test_a_traceback_as_json() -> None:
    try:
        raise ValueError("no\nway")
    except ValueError:
        line = as_json(log_record("broke", error=True))
    assert line["message"] == "broke"
    assert line["traceback"].endswith("ValueError: no\nway")


# For a person


def test_a_message_for_a_person() -> None:
    line = TerminalFormatter().format(log_record("port %d of %s", 80, "é"))
    assert re.fullmatch(r"\d\d:\d\d:\d\d info    port 80 of é", line)


@pytest.mark.parametrize(
    ("stream", "told"),
    [
        (None, "GET /chat 200 0.500s"),
        (STREAM, "GET /chat 200 0.500s m 0 entries"),
        (
            StreamRecord(stream="s", model="m-1", model_asked="m", end=EndReason.COMPLETE, entries=7),
            "GET /chat 200 0.500s m-1 complete 7 entries",
        ),
        (
            StreamRecord(stream="s", end=EndReason.TIMEOUT, error="idle_timeout", entries=7),
            "GET /chat 200 0.500s timeout idle_timeout 7 entries",
        ),
    ],
)
def test_a_request_for_a_person(stream: StreamRecord | None, told: str) -> None:
    line = TerminalFormatter().format(log_record("GET /chat 200", told=access(stream)))
    assert line[len("12:34:56 info    ") :] == told


def test_a_traceback_for_a_person_stands_behind_the_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        line = TerminalFormatter().format(log_record("broke", error=True))
    first, *rest = line.splitlines()
    assert first.endswith("info    broke")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ValueError: no"


# What strangers put in

INJECTED = "GET /\r\n12:34:56 info    all is well\n"
FORMATTERS = {"json": JsonFormatter(), "terminal": TerminalFormatter()}


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize("arguments", [(), (INJECTED,)], ids=["message", "argument"])
def test_fault_78_a_line_end_in_a_message_ends_no_line(formatter: str, arguments: tuple[str, ...]) -> None:
    line = FORMATTERS[formatter].format(log_record("%s" if arguments else INJECTED, *arguments))
    assert line.splitlines() == [line]
    assert "all is well\\n" in line


def with_upstreams_words() -> logging.LogRecord:
    """An upstream says which model it is, in whatever words."""
    return log_record("GET /chat 200", told=access(StreamRecord(stream="s", model=INJECTED)))


def test_fault_78_a_line_end_in_an_upstreams_words_ends_no_line_of_json() -> None:
    assert as_json(with_upstreams_words())["stream"]["model"] == INJECTED


def test_fault_78_a_line_end_in_an_upstreams_words_ends_no_line_for_a_person() -> None:
    line = TerminalFormatter().format(with_upstreams_words())
    assert line.splitlines() == [line]


def test_fault_78_what_moves_a_terminals_cursor_does_not() -> None:
    assert TerminalFormatter().format(log_record("a\x1b[2J\x07\x85\u2028b")).isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_fault_78_any_message_is_one_line_of_json(message: str) -> None:
    assert as_json(log_record("%s", message))["message"] == message


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_a_character_that_cannot_be_encoded_loses_no_line(formatter: str) -> None:
    assert FORMATTERS[formatter].format(log_record("a\ud83d")).encode()


# What is kept of a request


def test_fault_77_a_record_has_no_place_for_prompts_answers_queries_and_secrets() -> None:
    """To add a field is to think about this."""
    assert set(AccessRecord.__struct_fields__) == {
        "request_id",
        "client",
        "key",  # its name
        "method",
        "path",
        "status",
        "seconds",
        "bytes",
        "trace_id",
        "viewed",
        "stream",
    }
    assert set(StreamRecord.__struct_fields__) == {
        "stream",
        "model_asked",
        "operation",
        "model",
        "target",
        "end",
        "error",
        "finish_reason",
        "done_missing",
        "finish_missing",
        "input_tokens",
        "cached_tokens",
        "cache_written_tokens",
        "output_tokens",
        "reasoning_tokens",
        "tokens_estimated",
        "cost",
        "resumes",
        "attempts",
        "skipped",
        "entries",
        "bytes",
        "first_token",
        "failed",
        "seconds",
    }
    assert set(FailedAttempt.__struct_fields__) == {
        "target",
        "error",
        "seconds",
        "input_tokens",
        "output_tokens",
        "tokens_estimated",
        "cost",
    }


def test_a_request_is_logged_once_with_its_record(caplog: pytest.LogCaptureFixture) -> None:
    told = access(path="/%s")
    with caplog.at_level(logging.INFO, "gateway.access"):
        log_access(told)
    (record,) = caplog.records
    assert record.name == "gateway.access"
    assert record.getMessage() == "GET /%s 200"
    assert record.record is told  # type: ignore[attr-defined] # what `extra` adds is not in its type


# What aiohttp says of requests that it cannot read


def filtered(message: str, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    record = logging.LogRecord("aiohttp.server", logging.ERROR, "x.py", 1, message, arguments, None)
    if error is not None:
        record.exc_info = (type(error), error, None)
    assert OneLine(BadHttpMessage).filter(record)
    return record


def test_what_is_not_http_is_one_line_without_a_traceback() -> None:
    """The exception's name, not its words: these quote what a stranger sent."""
    record = filtered("Error handling request from %s", "1.2.3.4", error=BadStatusLine("100% SECRET\n"))
    assert record.getMessage() == "Error handling request from 1.2.3.4: BadStatusLine"
    assert record.levelno == logging.WARNING
    assert record.levelname == "WARNING"
    for formatter in (JsonFormatter(), TerminalFormatter()):
        line = formatter.format(record)
        assert line.splitlines() == [line]
        assert "SECRET" not in line


def test_a_percent_sign_in_it_formats_nothing() -> None:
    assert filtered("at %s", "100%d", error=BadStatusLine()).getMessage() == "at 100%d: BadStatusLine"


def test_a_fault_of_ours_keeps_its_level_and_its_traceback() -> None:
    """Where aiohttp catches it, outside of our own handlers, it would else be a bare line without a cause."""
    try:
        raise KeyError("where")
    except KeyError as error:
        record = filtered("Error handling request from %s", "1.2.3.4", error=error)
    assert record.levelno == logging.ERROR
    line = as_json(record)
    assert line["message"] == "Error handling request from 1.2.3.4"
    assert line["traceback"].endswith("KeyError: 'where'")


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_a_traceback_is_bounded_and_keeps_its_beginning_and_its_end(formatter: str) -> None:
    try:
        raise ValueError("x" * 1_000_000 + " the end")
    except ValueError:
        line = FORMATTERS[formatter].format(log_record("broke", error=True))
    assert len(line) < 17_000
    assert "Traceback (most recent call last)" in line
    assert "the end" in line


def test_what_moves_a_terminals_cursor_does_not_do_so_in_a_traceback() -> None:
    try:
        raise ValueError("a\x1b[2J")
    except ValueError:
        line = TerminalFormatter().format(log_record("broke", error=True))
    assert "\x1b" not in line


def test_other_lines_stay_as_they_are() -> None:
    record = filtered("at %d", 7)
    assert record.getMessage() == "at 7"
    assert record.levelno == logging.ERROR
