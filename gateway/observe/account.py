"""Who used how much: the access log summed by day, key and model, and the sums as a table or as CSV.

Lines are what `observe.JsonFormatter` writes. A stream that has ended is counted once, however many lines tell of it:
the request that began it, those that resumed it, its own where it outlived them all.
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
_UNKNOWN = "-"  # stands where a line names no day, key or model; an anonymous caller has no key
_LONGEST = 40  # characters of a text in the table: a model's name is a caller's, of any length; CSV has the whole
_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # what begins one, in some spreadsheet
_HEADS = ["streams", "failed", "input", "cached", "output", "reasoning", "estimated", "cost"]  # whole names are wide


class Sums(msgspec.Struct):
    """What the streams of one row come to; the fields are the columns. `cost` is None if no stream had one."""

    streams: int = 0
    failed: int = 0  # not by the caller's doing
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
    skipped: int  # lines that were no JSON objects, or held fields of the wrong type


class Stream(msgspec.Struct, frozen=True, gc=False):
    stream: str | None = None
    model_asked: str | None = None
    model: str | None = None
    end: str | None = None  # a str, so that a log with reasons of another version can be read
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    tokens_estimated: bool = False
    cost: float | None = None


class Line(msgspec.Struct, frozen=True, gc=False):
    """What is read of a line; the rest is passed over."""

    time: str = ""
    logger: str = ""
    key: str | None = None
    stream: Stream | None = None


# What a row can stand for. Prices are configured by the name that a caller asks for, so that one comes first.
GROUPS: dict[str, Callable[[Line, Stream], str]] = {
    "day": lambda line, stream: line.time[:10] or _UNKNOWN,  # it is written in UTC
    "key": lambda line, stream: line.key or _UNKNOWN,
    "model": lambda line, stream: stream.model_asked or stream.model or _UNKNOWN,
}

_decode = msgspec.json.Decoder(Line).decode


# From lines to sums


def account(
    lines: Iterable[bytes], by: Sequence[str], *, is_known: Callable[[bytes], bool] = lambda _: False
) -> Account:
    """In one pass. `by` holds names of GROUPS. A line that is not JSON does not count as skipped if `is_known`.

    It keeps the rows, and 60 bits of each stream's id in 70 to 110 bytes: 1 GB for ten million streams, whose log takes
    six. That any two of so many have the same bits happens once in 20,000 runs.
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
    """None if it is no line of a log."""
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        return _read_anyhow(text)


def _read_anyhow(text: bytes) -> Line | None:
    """What the typed decoder refuses and is right all the same: other loggers' fields, lone surrogates, empty lines."""
    try:
        value = json.loads(text.strip() or "{}")
        is_others = isinstance(value, dict) and value.get("logger") != _LOGGER
        return Line() if is_others else msgspec.convert(value, Line)
    except (ValueError, RecursionError):
        return None


def _ended(line: Line) -> Stream | None:
    """The line's stream; one that still ran has a line of its own to come."""
    stream = line.stream
    return stream if line.logger == _LOGGER and stream is not None and stream.end is not None else None


def _is_new(stream: Stream, seen: set[int]) -> bool:
    if stream.stream is None:
        return True
    bits = hash(stream.stream) >> 4  # an int of 60 bits takes 32 bytes, one of 64 takes 48
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
    """Lines for a terminal, with a total below more than one row. `input` to `reasoning` count tokens."""
    if not usage.rows:
        return "No streams in these logs."
    table = [[*usage.by, *_HEADS]]
    table += [[*map(_shown, group), *map(_grouped, astuple(sums))] for group, sums in usage.rows]
    if len(usage.rows) > 1:
        table.append(["total", *[""] * (len(usage.by) - 1), *map(_grouped, _total(usage))])
    return "\n".join(_aligned(table, texts=len(usage.by)))


def as_csv(usage: Account) -> str:
    """A header, and plain numbers; the last line has no end."""
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
    """The first `texts` columns to the left, the others to the right; a rule below the header and above the total."""
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    rule = "  ".join(["-" * width for width in widths])
    for number, row in enumerate(table):
        if number == 1 or (number > 2 and number == len(table) - 1):
            yield rule
        spaces = [" " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [*map(add, row[:texts], spaces), *map(add, spaces[texts:], row[texts:])]
        yield "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """The columns that a terminal gives it: two for a Chinese character, none for an accent of its own."""
    return sum([0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text])


# What a cell holds. Numbers are int, or float for a cost; texts are a stranger's.


def _grouped(number: float | None) -> str:
    return "" if number is None else f"{number:,.6f}" if isinstance(number, float) else f"{number:,}"


def _plain(number: float | None) -> str:
    return "" if number is None else f"{number:.9f}" if isinstance(number, float) else f"{number}"


def _shown(text: str) -> str:
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _harmless(text: str) -> str:
    """What a spreadsheet takes for a text: https://owasp.org/www-community/attacks/CSV_Injection"""
    return printable(f"'{text}" if text.startswith(_FORMULAS) and text != _UNKNOWN else text)
