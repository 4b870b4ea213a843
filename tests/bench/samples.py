"""The times of single streams, and what each path adds to them over going direct. Pure.

Percentiles are taken of all samples of a path, and those of `direct` are subtracted: what the machine itself takes now
and then is in both. A gap counts as what it grew by on its way, which is the difference of its two events' ways.

A hundredth of the events decides a p99, so that a neighbour who wakes up now and then decides it alone. Turns in which
others used the machine are left out for this reason: chosen by what they used, never by how long anything took.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import msgspec

from tests.bench.figures import BASE, percentile
from tests.bench.report import aligned, number


class Turn(msgspec.Struct, frozen=True):
    """One path's samples of one round, in ns."""

    firsts: list[int]  # from a request to its first event
    ways: list[int]  # of the events of one stream, in order: from the upstream's write to the client's read
    others: float  # cores that everyone else used meanwhile, or the hypervisor kept

    @property
    def gaps(self) -> list[int]:
        """What each gap between two events grew by on its way; below 0 where it shrank."""
        return [after - before for before, after in pairwise(self.ways)]


Turns = Sequence[Turn]


def quiet(turns: Turns) -> Turns:
    """Those that nobody else disturbed, or the half that was disturbed least where that is more."""
    half = sorted(one.others for one in turns)[(len(turns) - 1) // 2]
    return [one for one in turns if one.others <= max(half, _QUIET)]


class Row(msgspec.Struct, frozen=True):
    """One time of all paths: as it is for direct, and what others add to that."""

    title: str
    unit: str
    percent: int
    base: float
    added: dict[str, float]


_QUIET = 0.05  # cores: a clock tick of ten milliseconds is half a hundredth of a core in a turn of two seconds

_TIMES: dict[str, tuple[str, float, Callable[[Turn], Sequence[int]]]] = {
    "First event": ("ms", 1e6, lambda turn: turn.firsts),
    "Event on its way": ("µs", 1e3, lambda turn: turn.ways),
    "Gap beyond the one sent": ("µs", 1e3, lambda turn: turn.gaps),
}
_PERCENTS = (50, 99)

# The terms in which gateways are compared elsewhere, for orientation: a shared machine may miss them by its own doing.
_AIMS = {("First event", 99): 1.5, ("Gap beyond the one sent", 99): 50.0}


def rows(found: Mapping[str, Turns]) -> list[Row]:
    """Of the quiet turns."""
    kept = {name: quiet(turns) for name, turns in found.items()}
    return [
        _row(title, unit, percent, {name: _percentile(turns, of, percent) / scale for name, turns in kept.items()})
        for title, (unit, scale, of) in _TIMES.items()
        for percent in _PERCENTS
    ]


def _percentile(turns: Turns, of: Callable[[Turn], Sequence[int]], percent: int) -> float:
    return percentile(sorted(value for turn in turns for value in of(turn)), percent)


def _row(title: str, unit: str, percent: int, values: Mapping[str, float]) -> Row:
    base = values[BASE]
    added = {name: value - base for name, value in values.items() if name != BASE}
    return Row(title, unit, percent, base, added)


def text(found: Mapping[str, Turns]) -> str:
    times = rows(found)
    table = [["", BASE, *(name for name in found if name != BASE)]]
    for row in times:
        cells = [number(row.base), *(number(value, "+") for value in row.added.values())]
        table.append([f"{row.title}, {row.unit}, p{row.percent}", *cells])
    note = f"Times are added over {BASE}; those of {BASE} are as they are."
    return "\n".join([*aligned(table), "", note, *_counted(found), *_aims(times)])


def _counted(found: Mapping[str, Turns]) -> list[str]:
    kept = [quiet(turns) for turns in found.values()]
    firsts = min(sum(len(turn.firsts) for turn in turns) for turns in kept)
    gaps = min(sum(len(turn.gaps) for turn in turns) for turns in kept)
    told = [f"At least {firsts:,} first events and {gaps:,} gaps of each path are counted."]
    if left := sum(map(len, found.values())) - sum(map(len, kept)):
        told.append(f"Left out: {left} turns, in which others used the machine most (more than {_QUIET} cores).")
    noisy = [name for name, turns in zip(found, kept, strict=True) if max(each.others for each in turns) > _QUIET]
    if noisy:
        told.append(f"Noisy: others used more than {_QUIET} cores in most turns of {', '.join(noisy)}.")
    return told


def _aims(times: Sequence[Row]) -> list[str]:
    return [
        f"{row.title}, p{row.percent}: at most +{aim:g} {row.unit} is aimed at; "
        + ", ".join(f"{name} {number(value, '+')}" for name, value in row.added.items())
        + "."
        for row in times
        if (aim := _AIMS.get((row.title, row.percent)))
    ]
