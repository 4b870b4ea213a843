"""The times of single streams, and what each path adds to them over going direct. Pure.

Percentiles are taken of all samples of a path, and those of `direct` are subtracted: what the machine itself takes now
and then is in both. A gap counts as what it grew by on its way, which is the difference of its two events' ways.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import msgspec

from tests.bench.figures import BASE, percentile
from tests.bench.report import aligned, number


class Samples(msgspec.Struct):
    """Of one path, in ns."""

    firsts: list[int] = msgspec.field(default_factory=list)  # from a request to its first event
    ways: list[list[int]] = msgspec.field(default_factory=list)  # of each stream: from write to read, event by event

    @property
    def all_ways(self) -> list[int]:
        return [way for stream in self.ways for way in stream]

    @property
    def gaps(self) -> list[int]:
        """What each gap between two events grew by on its way; below 0 where it shrank."""
        return [after - before for stream in self.ways for before, after in pairwise(stream)]


class Row(msgspec.Struct, frozen=True):
    """One time of all paths: as it is for direct, and what others add to that."""

    title: str
    unit: str
    percent: int
    base: float
    added: dict[str, float]


_TIMES: dict[str, tuple[str, float, Callable[[Samples], Sequence[int]]]] = {
    "First event": ("ms", 1e6, lambda samples: samples.firsts),
    "Event on its way": ("µs", 1e3, lambda samples: samples.all_ways),
    "Gap beyond the one sent": ("µs", 1e3, lambda samples: samples.gaps),
}
_PERCENTS = (50, 99)

# The terms in which gateways are compared elsewhere, for orientation: a shared machine may miss them by its own doing.
_AIMS = {("First event", 99): 1.5, ("Gap beyond the one sent", 99): 50.0}


def rows(found: Mapping[str, Samples]) -> list[Row]:
    return [
        _row(title, unit, percent, {name: percentile(sorted(of(own)), percent) / scale for name, own in found.items()})
        for title, (unit, scale, of) in _TIMES.items()
        for percent in _PERCENTS
    ]


def _row(title: str, unit: str, percent: int, values: Mapping[str, float]) -> Row:
    base = values[BASE]
    added = {name: value - base for name, value in values.items() if name != BASE}
    return Row(title, unit, percent, base, added)


def text(found: Mapping[str, Samples]) -> str:
    times = rows(found)
    table = [["", BASE, *(name for name in found if name != BASE)]]
    for row in times:
        cells = [number(row.base), *(number(value, "+") for value in row.added.values())]
        table.append([f"{row.title}, {row.unit}, p{row.percent}", *cells])
    own = found[BASE]
    counted = f"{len(own.firsts):,} first events and {len(own.gaps):,} gaps on each path."
    note = f"Times are added over {BASE}; those of {BASE} are as they are. {counted}"
    return "\n".join([*aligned(table), "", note, *_aims(times)])


def _aims(times: Sequence[Row]) -> list[str]:
    return [
        f"{row.title}, p{row.percent}: at most +{aim:g} {row.unit} is aimed at; "
        + ", ".join(f"{name} {number(value, '+')}" for name, value in row.added.items())
        + "."
        for row in times
        if (aim := _AIMS.get((row.title, row.percent)))
    ]
