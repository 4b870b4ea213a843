"""Sums the access log by day, key and model, and writes the sums as a table or as CSV.

It reads the lines that `observe.JsonFormatter` writes. A stream that has ended counts once, although several lines may
describe it: the requests that started and resumed it, and its own line if it outlived them.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import add
from unicodedata import combining, east_asian_width

import msgspec
from msgspec.structs import astuple

from gateway.entries import EndReason
from gateway.observe.formatters import printable

_LOGGER = "gateway.access"
_ENDED_WELL = {EndReason.COMPLETE, EndReason.STOPPED, EndReason.CLIENT_GONE}
_UNKNOWN = "-"  # for a line without a day, key or model; an anonymous caller has no key
_LONGEST = 40  # characters of a text in the table: callers may send model names of any length; CSV has the whole text
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # they begin a formula in spreadsheets
_HEADS = ["streams", "failed", "input", "cached", "output", "reasoning", "estimated", "cost"]  # full names are wide


class Sums(msgspec.Struct):
    """The sums of one row. The fields are the columns. `cost` is None if no stream had a cost."""

    streams: int = 0
    failed: int = 0  # except for those that their caller ended
    input_tokens: int = 0
    cached_tokens: int = 0  # part of the input
    output_tokens: int = 0
    reasoning_tokens: int = 0  # part of the output
    estimated: int = 0  # streams whose tokens are estimates
    cost: float | None = None  # in the currency of the configured prices


class Account(msgspec.Struct, frozen=True):
    """`rows` are sorted by their group, which has a value for each name in `by`."""

    by: Sequence[str]
    rows: Sequence[tuple[tuple[str, ...], Sums]]
    skipped: int  # lines that are not JSON objects, or have fields of a wrong type


class Stream(msgspec.Struct, frozen=True, gc=False):
    stream: str | None = None
    model_asked: str | None = None
    model: str | None = None
    end: str | None = None  # not an enum, so that logs of other versions can be read
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    tokens_estimated: bool = False
    cost: float | None = None


class Line(msgspec.Struct, frozen=True, gc=False):
    """The fields of a line that are read."""

    time: str = ""
    logger: str = ""
    key: str | None = None
    stream: Stream | None = None


# The names to group by. The model that was asked for comes first, because prices are configured by that name.
GROUPS: dict[str, Callable[[Line, Stream], str]] = {
    "day": lambda line, stream: line.time[:10] or _UNKNOWN,  # the log is in UTC
    "key": lambda line, stream: line.key or _UNKNOWN,
    "model": lambda line, stream: stream.model_asked or stream.model or _UNKNOWN,
}

_decode = msgspec.json.Decoder(Line).decode


# From lines to sums


def account(
    lines: Iterable[bytes], by: Sequence[str], *, is_known: Callable[[bytes], bool] = lambda _: False
) -> Account:
    """In one pass. `by` holds names of GROUPS. A line that is not JSON does not count as skipped if `is_known`.

    It keeps the rows, and 60 bits of each stream's id, which take 70 to 110 bytes. Ten million streams take 1 GB, while
    their log has 6 GB. Two ids of so many have the same bits once in 20,000 runs.
    """
    values = [GROUPS[name] for name in by]
    rows: dict[tuple[str, ...], Sums] = {}
    seen: set[int] = set()
    skipped = 0
    for text in lines:
        line = _read(text)
        if line is None:
            skipped += not is_known(text)
        elif (stream := _ended(line)) is not None and _is_new(stream, seen):
            group = tuple([value(line, stream) for value in values])
            _add(stream, rows.get(group) or rows.setdefault(group, Sums()))
    return Account(by, sorted(rows.items(), key=lambda row: row[0]), skipped)


def _read(text: bytes) -> Line | None:
    """None if the text is not a line of a log."""
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        return _read_anyhow(text)


def _read_anyhow(text: bytes) -> Line | None:
    """Valid lines that the typed decoder refuses: fields of other loggers, lone surrogates, empty lines."""
    try:
        value = json.loads(text.strip() or "{}")
        is_others = isinstance(value, dict) and value.get("logger") != _LOGGER
        return Line() if is_others else msgspec.convert(value, Line)
    except (ValueError, RecursionError):
        return None


def _ended(line: Line) -> Stream | None:
    """The stream of the line, if it has ended. A stream that was still running has a later line of its own."""
    stream = line.stream
    return stream if line.logger == _LOGGER and stream is not None and stream.end is not None else None


def _is_new(stream: Stream, seen: set[int]) -> bool:
    if stream.stream is None:
        return True
    bits = hash(stream.stream) >> 4  # an int of 60 bits takes 32 bytes, and one of 64 bits takes 48
    if bits in seen:
        return False
    seen.add(bits)
    return True


def _add(stream: Stream, sums: Sums) -> None:
    sums.streams += 1
    sums.failed += stream.end not in _ENDED_WELL
    sums.input_tokens += stream.input_tokens
    sums.cached_tokens += stream.cached_tokens
    sums.output_tokens += stream.output_tokens
    sums.reasoning_tokens += stream.reasoning_tokens
    sums.estimated += stream.tokens_estimated
    if stream.cost is not None:
        sums.cost = (sums.cost or 0.0) + stream.cost


# From sums to text


def as_table(usage: Account) -> str:
    """A table for a terminal. More than one row gets a total. `input` to `reasoning` count tokens."""
    if not usage.rows:
        return "No streams in these logs."
    table = [[*usage.by, *_HEADS]]
    table += [[*map(_shown, group), *map(_grouped, astuple(sums))] for group, sums in usage.rows]
    if len(usage.rows) > 1:
        table.append(["total", *[""] * (len(usage.by) - 1), *map(_grouped, _total(usage))])
    return "\n".join(_aligned(table, texts=len(usage.by)))


def as_csv(usage: Account) -> str:
    """CSV with a header and plain numbers. The last line has no line end."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*usage.by, *Sums.__struct_fields__])
    writer.writerows([[*map(_harmless, group), *map(_plain, astuple(sums))] for group, sums in usage.rows])
    return text.getvalue().removesuffix("\n")


def _total(usage: Account) -> Sequence[float | None]:
    columns = zip(*[astuple(sums) for _, sums in usage.rows], strict=True)
    known = [[value for value in column if value is not None] for column in columns]
    return [sum(values) if values else None for values in known]


def _aligned(table: Sequence[Sequence[str]], *, texts: int) -> Iterator[str]:
    """Aligns the first `texts` columns to the left, the others to the right, with rules around the rows."""
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    rule = "  ".join(["-" * width for width in widths])
    for number, row in enumerate(table):
        if number == 1 or (number > 2 and number == len(table) - 1):
            yield rule
        spaces = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [*map(add, row[:texts], spaces), *map(add, spaces[texts:], row[texts:])]
        yield "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """The number of terminal columns: two for a Chinese character, none for a combining accent."""
    return sum([0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text])


# Cells. Numbers are int, or float for a cost. Texts may come from callers and are not trusted.


def _grouped(number: float | None) -> str:
    return "" if number is None else f"{number:,.6f}" if isinstance(number, float) else f"{number:,}"


def _plain(number: float | None) -> str:
    return "" if number is None else f"{number:.9f}" if isinstance(number, float) else f"{number}"


def _shown(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _harmless(text: str) -> str:
    """The text, quoted so that no spreadsheet runs it: https://owasp.org/www-community/attacks/CSV_Injection"""
    return printable(f"'{text}" if text.startswith(_FORMULAS) and text != _UNKNOWN else text)
