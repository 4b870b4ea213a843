"""The result in words: the machine, a table for each load, and what to doubt. Pure, but for `machine`."""

import os
import platform
import subprocess
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import median

from tests.bench import measure
from tests.bench.contenders import nginx_program
from tests.bench.doubts import doubts, held_back
from tests.bench.figures import BASE, TIMES, Pass, Spread, Summary, summarize
from tests.bench.pairs import Comparison
from tests.bench.processes import Cores

_PACKAGES = ("uvloop", "aiohttp", "msgspec")


def machine(cores: Cores) -> dict[str, str]:
    """What the figures belong to."""
    allowed = len(os.sched_getaffinity(0))
    layout = f"upstream and client on {_listed(cores.load)}, contender on {_listed(cores.contender)}"
    return {
        "cpu": f"{measure.cpu_model()}, {allowed} cores",
        "pinned": layout if cores.pinned else "no",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "nginx": _nginx_version(),
    }


def _listed(cores: frozenset[int]) -> str:
    return "core " + ", ".join(map(str, sorted(cores)))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _nginx_version() -> str:
    program = nginx_program()
    if program is None:
        return "not installed"
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().rpartition("/")[2]


# The table: a row for each figure (and load), a column for each contender.

_TITLES = {
    "cpu_us_per_event": "CPU per event, µs",
    "cpu_ratio": "CPU per event, times nginx",
    "first_ms_p50": "First event, ms, p50",
    "first_ms_p99": "First event, ms, p99",
    "latency_ms_p50": "Event on its way, ms, p50",
    "latency_ms_p99": "Event on its way, ms, p99",
    "gap_ms_p50": "Gap between events, ms, p50",
    "gap_ms_p99": "Gap between events, ms, p99",
    "kib_per_stream": "KiB per open stream",
    "short_per_second": "Short streams per second",
    "short_cpu_us": "CPU per short stream, µs",
}


def text(machine_facts: Mapping[str, str], passes: Sequence[Pass], metrics: Collection[str] | None = None) -> str:
    """With the rows of these metrics only, or of all."""
    rows = aligned(table(passes, metrics))
    return "\n".join([*facts_text(machine_facts), "", _heading(passes), "", *rows, "", *_notes(passes, metrics)])


def facts_text(machine_facts: Mapping[str, str]) -> list[str]:
    width = max(map(len, machine_facts))
    return [f"{name:>{width}}  {fact}" for name, fact in machine_facts.items()]


def _heading(passes: Sequence[Pass]) -> str:
    loads = "; ".join(dict.fromkeys(one.load.title for one in passes))
    rounds = max(one.round for one in passes)
    return f"{loads}\n{rounds} rounds: median (least–greatest)" if rounds > 1 else f"{loads}\n1 round"


def table(passes: Sequence[Pass], metrics: Collection[str] | None = None) -> list[list[str]]:
    summaries = summarize(passes)
    contenders = list(dict.fromkeys(name for by_name in summaries.values() for name in by_name))
    limited = {(one.load, one.contender) for one in passes if held_back(one.figures)}
    rows = [["", *contenders]]
    for metric, title in _TITLES.items():
        if metrics is not None and metric not in metrics:
            continue
        lines = []
        for load, by_name in summaries.items():
            cells = [_cell(metric, name, by_name, at_least=(load, name) in limited) for name in contenders]
            if any(cells):
                lines.append([f"  {load.label}" if len(summaries) > 1 else title, *cells])
        rows += [[title], *lines] if lines and len(summaries) > 1 else lines
    return rows


def _cell(metric: str, contender: str, by_name: Mapping[str, Summary], *, at_least: bool) -> str:
    is_added = metric in TIMES and contender != BASE and BASE in by_name
    spread = by_name.get(contender, {}).get(f"added_{metric}" if is_added else metric)
    if spread is None:
        return ""
    limit = "≥ " if at_least and metric == "short_per_second" else ""
    return limit + spread_text(spread, "+" if is_added else "-")


def spread_text(spread: Spread, sign: str = "-") -> str:
    """The median, with the least and the greatest where rounds differ."""
    middle, least, greatest = (number(value, sign) for value in (spread.median, spread.least, spread.greatest))
    return middle if least == greatest else f"{middle} ({least}–{greatest})"


def number(value: float, sign: str = "-") -> str:
    """Three significant digits; `sign` as in a format specification."""
    digits = 0 if abs(value) >= 99.5 else 1 if abs(value) >= 9.95 else 2
    return f"{value:{sign},.{digits}f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    columns = max(len(row) for row in rows)
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(columns)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]


# A pair: a row for each figure (and load), as the second contender's multiple of the first one's.


def pair_text(pair: tuple[str, str], comparisons: Sequence[Comparison], *, margin: float) -> str:
    first, second = pair
    rounds = max((one.rounds for one in comparisons), default=0)
    heading = f"{second} as a multiple of {first}, within each of {rounds} rounds; margin: {margin:.3g} % more"
    note = "Both ran at once on the same cores: what is per second above is what either left to the other."
    return "\n".join([heading, "", *aligned(pair_table(comparisons)), "", note])


def pair_table(comparisons: Sequence[Comparison]) -> list[list[str]]:
    several = len({one.load for one in comparisons}) > 1
    rows = [["", "median", "95 % interval"]]
    for one in comparisons:
        if title := _TITLES.get(one.metric):
            name = title.replace(", µs", "").replace(", ms", "")  # a ratio has no unit
            where = f", {one.load.label}" if several else ""
            rows.append([name + where, f"{one.median:.3f}", _range(one.interval), one.verdict or ""])
    return rows


def _range(bounds: tuple[float, float] | None) -> str:
    return "unknown" if bounds is None else f"{bounds[0]:.3f}–{bounds[1]:.3f}"


# What to know beside it.


def _notes(passes: Sequence[Pass], metrics: Collection[str] | None) -> list[str]:
    notes = []
    held = _held(passes) if metrics is None or "kib_per_stream" in metrics else []
    if any(one.contender == BASE for one in passes):
        notes.append(f"Times are added over {BASE}, round by round; those of {BASE} are as they are.")
    if any(held_back(one.figures) for one in passes):
        notes.append("≥: the client and the upstream were the limit, the contender had CPU time left.")
    return [*notes, *_whole(passes), *held, *doubts(passes)]


def _whole(passes: Sequence[Pass]) -> list[str]:
    """How much of the CPU time of an event beginnings and ends can be."""
    found = [one.figures.streams for one in passes if one.load.lasting and one.figures.streams.answers]
    if not found:
        return []
    events = sum(one.events for one in found) / sum(one.answers for one in found)
    ended = median(one.answers for one in found)
    return [f"Whole streams: about {ended:,.0f} began and ended in each window, of {events:,.0f} events."]


def _held(passes: Sequence[Pass]) -> list[str]:
    """What a contender that can replay a stream holds, and its memory per stream includes."""
    notes = []
    for load in dict.fromkeys(one.load for one in passes):
        if load.lasting:
            continue
        figures = {one.contender: one.figures.streams for one in passes if one.load == load and one.contender != BASE}
        if figures:
            events = max(each.held_events for each in figures.values())
            sizes = ", ".join(f"{name} {number(each.held_kib)} KiB" for name, each in figures.items())
            notes.append(f"When memory was read, each of {load.label} had carried {events:,.0f} events: {sizes}.")
    return [*notes, "A contender that can replay a stream holds its events."] if notes else []
