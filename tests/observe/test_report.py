"""What the access log comes to: which lines count, how they are summed, and how the sums are shown."""

import csv
import io
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from msgspec.structs import fields

from gateway.entries import EndReason
from gateway.observe.formatters import JsonFormatter
from gateway.observe.records import AccessRecord, StreamRecord
from gateway.observe.report import GROUPS, Account, Stream, Sums, account, as_csv, as_table

ALL = list(GROUPS)
NO_LINES = Account(ALL, [], 0)


def line(stream: object = None, **changes: Any) -> bytes:
    """An access line of a stream's own; `None` leaves a field out."""
    values = {"time": "2026-11-21T10:32:00.123+00:00", "logger": "gateway.access", "key": "team-a", "stream": stream}
    values |= changes
    return msgspec.json.encode({name: value for name, value in values.items() if value is not None}) + b"\n"


def stream(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"stream": "s", "model_asked": "kimi", "end": "complete", **changes}
    return {name: value for name, value in values.items() if value is not None}


def counted(*lines: bytes) -> int:
    """Streams; nothing was skipped."""
    result = account(lines, [])
    assert result.skipped == 0
    return sum(sums.streams for _, sums in result.rows)


def only(*lines: bytes) -> Sums:
    ((_, sums),) = account(lines, []).rows
    return sums


def groups(*lines: bytes, by: Sequence[str] = ALL) -> list[tuple[str, ...]]:
    return [group for group, _ in account(lines, by).rows]


# Which lines count


COUNTED = {
    "a request": line(stream(), method="POST", path="/v1/chat/completions", status=200, seconds=1.2, bytes=5120),
    "a stream that outlived its request": line(stream()),
    "a stream of which little is known": line({"end": "timeout"}),
    "a reason of another version": line(stream(end="melted")),
    "fields of another version": line(stream(usage={"total_tokens": 10**30}, skipped=2), new=[1, {"a": None}]),
    "no line end": line(stream()).rstrip(),
    "a carriage return before it": line(stream()).rstrip() + b"\r\n",
    "numbers beyond 64 bits": line(stream()).replace(b'"end"', b'"input_tokens":1%s,"end"' % (b"0" * 30)),
    "a lone surrogate": line(stream(model_asked="X")).replace(b'"X"', rb'"\ud83d"'),
}
NOT_COUNTED = {
    "a request that asked no model": line(None, method="GET", path="/health", status=200, seconds=0.001),
    "a stream that still runs": line(stream(end=None)),
    "a stream that is nothing": b'{"logger":"gateway.access","key":"team-a","stream":null}\n',
    "another logger's message": line(None, logger="gateway.upstream.client", message="retry"),
    "another logger's stream": line(stream(), logger="gateway.streams.generation"),
    "another logger's fields": line("text", logger="gateway.streams.generation", key=5),
    "no logger": line(stream(), logger=None),
    "no logger, and other fields": line("text", logger=None),
    "an empty line": b"\n",
    "an empty last line": b"",
    "spaces": b" \t\r\n",
}
SKIPPED = {
    "words": b"Traceback (most recent call last):\n",
    "a line that another program prefixed": b"gateway-1  | " + line(stream()),
    "half a line": line(stream())[:60],
    "two lines in one": line(stream()).rstrip() + line(stream(stream="t")),
    "a number": b"5\n",
    "a list": b"[1, 2]\n",
    "a text": b'"gateway.access"\n',
    "null": b"null\n",
    "zeros, as a log cut in place begins": b"\0\0\0" + line(stream()),
    "bytes that are not UTF-8": line(stream(model_asked="X")).replace(b'"X"', b'"\xff"'),
    "brackets without end": b'{"x":' + b"[" * 100_000,
    "an access line with a field of another type": line(stream(input_tokens="many")),
    "a number with too many digits": line(stream()).replace(b'"end"', b'"cost":1%s,"end"' % (b"0" * 5000)),
}


@pytest.mark.parametrize("case", COUNTED)
def test_counted(case: str) -> None:
    assert counted(COUNTED[case]) == 1


@pytest.mark.parametrize("case", NOT_COUNTED)
def test_not_counted(case: str) -> None:
    assert counted(NOT_COUNTED[case]) == 0


@pytest.mark.parametrize("case", SKIPPED)
def test_skipped_and_told(case: str) -> None:
    """The lines around it count."""
    result = account([line(stream(stream="a")), SKIPPED[case], line(stream(stream="b"))], ["key"])
    assert result.skipped == 1
    assert [sums.streams for _, sums in result.rows] == [2]


def test_no_lines() -> None:
    assert account([], ALL) == NO_LINES


def test_a_stream_counts_once_as_its_first_line_tells_it() -> None:
    first = line(stream(input_tokens=1))
    resumed = line(stream(input_tokens=2), key="team-b", method="GET")
    assert account([first, resumed, first], ["key"]).rows == [(("team-a",), Sums(streams=1, input_tokens=1))]


def test_a_line_from_before_the_end_hides_no_later_one() -> None:
    assert counted(line(stream(end=None)), line(stream(end="stopped")), line(stream(end=None))) == 1


def test_streams_without_an_id_all_count() -> None:
    assert counted(line(stream(stream=None)), line(stream(stream=None))) == 2


def test_many_streams_all_count() -> None:
    ids = [*range(50_000), *range(50_000)]
    assert counted(*[line(stream(stream=f"{number:022}")) for number in ids]) == 50_000


def test_lines_are_read_as_they_come() -> None:
    """From an iterator, once, and none is asked for again."""
    lines = (line(stream(stream=str(number))) for number in range(3))
    assert account(lines, []).rows[0][1].streams == 3


def test_what_the_formatter_writes_is_read() -> None:
    told = AccessRecord(
        request_id="r",
        key="team-a",
        client="127.0.0.1",
        method="GET",
        path="/chat",
        status=200,
        seconds=0.5,
        stream=StreamRecord(
            stream="s", model_asked="é\n", end=EndReason.INCOMPLETE, input_tokens=5, tokens_estimated=True, cost=0.5
        ),
    )
    record = logging.LogRecord("gateway.access", logging.INFO, "x.py", 1, "GET /chat 200", (), None)
    record.record = told
    record.created = 1_795_219_200.0  # 2026-11-21, midnight
    text = JsonFormatter().format(record).encode()
    sums = Sums(streams=1, failed=1, input_tokens=5, estimated=1, cost=0.5)
    assert account([text], ALL).rows == [(("2026-11-21", "team-a", "é\n"), sums)]


def test_every_field_that_is_read_is_one_that_is_written() -> None:
    """With the same default, since a default is left out of the log."""
    written = {field.name: field.default for field in fields(StreamRecord)}
    read = {field.name: field.default for field in fields(Stream)}
    assert read.items() - {("stream", None)} <= written.items()
    assert "stream" in written
    assert {"key", "stream"} <= {field.name for field in fields(AccessRecord)}


# How they are summed


def test_numbers_are_added_up() -> None:
    numbers = {"input_tokens": 120, "output_tokens": 80, "cached_tokens": 20, "reasoning_tokens": 10}
    sums = only(
        line(stream(stream="a", cost=0.25, **numbers)),
        line(stream(stream="b", cost=0.5, tokens_estimated=True, input_tokens=7)),
        line(stream(stream="c", end="timeout")),
    )
    assert sums == Sums(
        streams=3,
        failed=1,
        input_tokens=127,
        cached_tokens=20,
        output_tokens=80,
        reasoning_tokens=10,
        estimated=1,
        cost=0.75,
    )


@pytest.mark.parametrize(
    ("end", "failed"),
    [
        ("complete", 0),
        ("stopped", 0),
        ("client_gone", 0),
        ("timeout", 1),
        ("upstream_error", 1),
        ("incomplete", 1),
        ("shutting_down", 1),
        ("a reason of another version", 1),
    ],
)
def test_failed_is_what_neither_completed_nor_was_given_up_by_the_caller(end: str, failed: int) -> None:
    assert only(line(stream(end=end))).failed == failed


def test_every_reason_is_in_the_table_above() -> None:
    """Whoever adds one says whether it is a failure."""
    assert len(EndReason) == 7


@pytest.mark.parametrize(
    ("costs", "cost"),
    [([None, None], None), ([0.0, None], 0.0), ([0, 0], 0.0), ([None, 0.5, None], 0.5), ([1, 0.5], 1.5)],
)
def test_the_cost_is_unknown_only_where_no_stream_had_one(costs: list[float | None], cost: float | None) -> None:
    lines = [line(stream(stream=str(number), cost=cost)) for number, cost in enumerate(costs)]
    assert only(*lines).cost == cost


@pytest.mark.parametrize(
    ("text", "group"),
    [
        (line(stream()), ("2026-11-21", "team-a", "kimi")),
        (line(stream(), key=None), ("2026-11-21", "-", "kimi")),
        (line(stream(), time=None), ("-", "team-a", "kimi")),
        (line(stream(model="moonshot-v1-8k")), ("2026-11-21", "team-a", "kimi")),
        (line(stream(model_asked=None, model="moonshot-v1-8k")), ("2026-11-21", "team-a", "moonshot-v1-8k")),
        (line(stream(model_asked=None)), ("2026-11-21", "team-a", "-")),
        (line(stream(), time="2026-11-21T23:59:59.999+00:00"), ("2026-11-21", "team-a", "kimi")),
    ],
)
def test_what_a_line_is_counted_under(text: bytes, group: tuple[str, ...]) -> None:
    assert groups(text) == [group]


LINES = [
    line(stream(stream="1", model_asked="b"), key="y", time="2026-02-01T"),
    line(stream(stream="2", model_asked="a"), key="y", time="2026-01-01T"),
    line(stream(stream="3", model_asked="b"), key="x", time="2026-01-01T"),
    line(stream(stream="4", model_asked="b"), key="x", time="2026-01-01T"),
]


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        (["day"], {("2026-01-01",): 3, ("2026-02-01",): 1}),
        (["key"], {("x",): 2, ("y",): 2}),
        (["model"], {("a",): 1, ("b",): 3}),
        (["model", "key"], {("a", "y"): 1, ("b", "x"): 2, ("b", "y"): 1}),
        (["key", "model"], {("x", "b"): 2, ("y", "a"): 1, ("y", "b"): 1}),
        (ALL, {("2026-01-01", "x", "b"): 2, ("2026-01-01", "y", "a"): 1, ("2026-02-01", "y", "b"): 1}),
        ([], {(): 4}),
    ],
)
def test_groups_in_any_order_and_rows_sorted_by_them(by: list[str], rows: dict[tuple[str, ...], int]) -> None:
    assert [(group, sums.streams) for group, sums in account(LINES, by).rows] == list(rows.items())


# As a table


def test_a_table() -> None:
    result = Account(
        ["day", "key", "model"],
        [
            (("2026-11-21", "-", "kimi"), Sums(1, 0, 120, 20, 80, 10, 1, 0.00042)),
            (("2026-11-21", "team-a", "gpt-4o"), Sums(1234, 12, 1234567, 0, 89000, 0, 0, 1234.5)),
            (("2026-11-22", "team-a", "local"), Sums(7, 7)),
        ],
        0,
    )
    assert as_table(result).splitlines() == [
        "day         key     model   streams  failed      input  cached  output  reasoning  estimated          cost",
        "----------  ------  ------  -------  ------  ---------  ------  ------  ---------  ---------  ------------",
        "2026-11-21  -       kimi          1       0        120      20      80         10          1      0.000420",
        "2026-11-21  team-a  gpt-4o    1,234      12  1,234,567       0  89,000          0          0  1,234.500000",
        "2026-11-22  team-a  local         7       7          0       0       0          0          0",
        "----------  ------  ------  -------  ------  ---------  ------  ------  ---------  ---------  ------------",
        "total                         1,242      19  1,234,687      20  89,080         10          1  1,234.500420",
    ]


def test_one_row_needs_no_total() -> None:
    assert as_table(Account(["key"], [(("a",), Sums(1))], 0)).splitlines() == [
        "key  streams  failed  input  cached  output  reasoning  estimated  cost",
        "---  -------  ------  -----  ------  ------  ---------  ---------  ----",
        "a          1       0      0       0       0          0          0",
    ]


def test_without_streams_a_table_says_so() -> None:
    assert as_table(NO_LINES) == "No streams in these logs."


def first_cells(*models: str) -> list[str]:
    """Of a table by model, as they stand before the numbers."""
    rows = [((model,), Sums(1)) for model in models]
    return [text[: text.index("  1  ")].rstrip() for text in as_table(Account(["model"], rows, 0)).splitlines()[2:]]


@pytest.mark.parametrize(
    ("model", "cell"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("a\x9bb\u2028c", r"a\x9bb\u2028c"),
        ("a\u202eb", r"a\u202eb"),
        ("a\ud83db", r"a\ud83db"),
        ("=1+1", "=1+1"),
        ("x" * 40, "x" * 40),
        ("x" * 41, "x" * 39 + "…"),
    ],
)
def test_a_strangers_text_moves_no_cursor_and_takes_no_screen(model: str, cell: str) -> None:
    assert first_cells(model) == [cell]


def test_a_bell_in_every_cell_of_text_is_shown_as_an_escape() -> None:
    table = as_table(Account(ALL, [(("\a", "\a", "\a"), Sums())], 0))
    assert table.count(r"\x07") == 3
    assert table.replace("\n", "").isprintable()


def test_wide_characters_and_accents_stay_aligned() -> None:
    """A terminal gives two columns to each of the former and none to the latter."""
    rows = [((model,), Sums(1)) for model in ("模型", "e\u0301tat", "plain")]
    places = [text.index("  1  ") for text in as_table(Account(["model"], rows, 0)).splitlines()[2:5]]
    assert places == [places[2] - 2, places[2] + 1, places[2]]


# As CSV


def test_csv() -> None:
    """Names as in the log, numbers without marks, no total."""
    result = Account(
        ["key", "day"],
        [
            (("team-a", "2026-11-21"), Sums(1234, 12, 1234567, 20, 89000, 10, 1, 0.00042)),
            (("team-b", "2026-11-21"), Sums(7, 7)),
        ],
        0,
    )
    assert as_csv(result).split("\n") == [
        "key,day,streams,failed,input_tokens,cached_tokens,output_tokens,reasoning_tokens,estimated,cost",
        "team-a,2026-11-21,1234,12,1234567,20,89000,10,1,0.000420000",
        "team-b,2026-11-21,7,7,0,0,0,0,0,",
    ]


def test_without_streams_csv_is_its_header() -> None:
    assert as_csv(NO_LINES) == (
        "day,key,model,streams,failed,input_tokens,cached_tokens,output_tokens,reasoning_tokens,estimated,cost"
    )


@pytest.mark.parametrize("cost", [0.1 + 0.2, 1e-7, 12345678.9])
def test_a_cost_in_csv_is_a_plain_number(cost: float) -> None:
    cell = as_csv(Account([], [((), Sums(cost=cost))], 0)).split(",")[-1]
    assert set(cell) <= set("0123456789.")
    assert float(cell) == pytest.approx(cost)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", r"'\t=1"),
        ("\r=1", r"'\r=1"),
        ("\n=1", r"'\n=1"),
        ("＝1", "'＝1"),
        ("-", "-"),
        ("a=1", "a=1"),
        ('a,b"c', 'a,b"c'),
        ("a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("\ud83d", r"\ud83d"),
        ("x" * 100, "x" * 100),
        ("模型", "模型"),
    ],
)
@pytest.mark.parametrize("column", range(3))
def test_no_text_in_csv_is_a_formula_or_breaks_its_row(column: int, text: str, cell: str) -> None:
    group = ["a", "a", "a"]
    group[column] = text
    written = as_csv(Account(ALL, [(tuple(group), Sums(1))], 0))
    assert len(written.splitlines()) == 2
    _, row = csv.reader(io.StringIO(written))
    assert row[column] == cell
    assert row[3:] == ["1", "0", "0", "0", "0", "0", "0", ""]
