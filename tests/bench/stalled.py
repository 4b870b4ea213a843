"""What viewers that read nothing cost the process, and the viewers of the same stream that do read. Pure.

Each round has both loads, without them and with them, and what changes is taken within it. What may wait for one of
them in the process is bounded, however long the answer: the rest is in the log, which all share.
"""

from collections.abc import Callable, Sequence

import msgspec

from tests.bench.figures import Figures, Load, Pass, Spread, cpu_per_event, spread
from tests.bench.report import aligned, number, spread_text

# KiB for each: what may wait in the transport before a viewer lags (`downstream._ROOM`); as much again, which is one
# write of a backlog (`viewers._PIECE`) or what aiohttp writes before it waits; the connection, and an event over each.
BOUND_KIB = 64 + 64 + 32

_ROWS: dict[str, Callable[[Figures], float | None]] = {
    "Gap between events, ms, p50": lambda own: own.streams.gap_ms[0],
    "Gap between events, ms, p99": lambda own: own.streams.gap_ms[1],
    "Event on its way, ms, p50": lambda own: own.streams.latency_ms[0],
    "Event on its way, ms, p99": lambda own: own.streams.latency_ms[1],
    "CPU per event of a reader, µs": lambda own: cpu_per_event(own, {}),
    "Memory at rest, MiB": lambda own: own.streams.idle_kib and own.streams.idle_kib / 1024,
    "Memory at the end, MiB": lambda own: own.streams.open_kib and own.streams.open_kib / 1024,
}


class Change(msgspec.Struct, frozen=True):
    """Of one figure, by the stalled ones."""

    without: Spread
    beside: Spread
    added: Spread


class Effect(msgspec.Struct, frozen=True):
    """Of those that stalled, on one contender."""

    contender: str
    load: Load
    rounds: int
    changes: dict[str, Change]
    kib_each: Spread | None  # in the process, for each that stalled
    kernel_kib_each: Spread | None
    answer_kib: float  # of the stream, when memory was read, at least

    @property
    def bounded(self) -> bool | None:
        return None if self.kib_each is None else self.kib_each.greatest <= BOUND_KIB

    @property
    def lagging(self) -> bool:
        """Is the answer longer than all that can have left the log for one of them?"""
        waiting = [each.greatest for each in (self.kib_each, self.kernel_kib_each) if each]
        return self.answer_kib > sum(waiting)


def effects(passes: Sequence[Pass]) -> list[Effect]:
    found = dict.fromkeys((one.contender, one.load) for one in passes if one.load.stalled)
    return [effect for name, load in found if (effect := _effect(passes, name, load))]


def _effect(passes: Sequence[Pass], contender: str, load: Load) -> Effect | None:
    """None where no round has both."""
    own = {(one.round, one.load): one.figures for one in passes if one.contender == contender}
    usual = msgspec.structs.replace(load, stalled=0)
    both = [(own[at, usual], figures) for (at, one), figures in own.items() if one == load and (at, usual) in own]
    if not both:
        return None
    changes = {title: _change(both, figure) for title, figure in _ROWS.items()}
    return Effect(
        contender=contender,
        load=load,
        rounds=len(both),
        changes={title: change for title, change in changes.items() if change},
        kib_each=_each([_added_kib(*pair) for pair in both], load.stalled),
        kernel_kib_each=_each([beside.streams.kernel_kib for _, beside in both], load.stalled),
        answer_kib=min(beside.streams.held_kib for _, beside in both),
    )


def _change(both: Sequence[tuple[Figures, Figures]], figure: Callable[[Figures], float | None]) -> Change | None:
    known = []
    for pair in both:
        without, beside = map(figure, pair)
        if without is not None and beside is not None:
            known.append((without, beside, beside - without))
    spreads = [spread(column) for column in zip(*known, strict=True)]
    return Change(*[each for each in spreads if each]) if spreads else None


def _added_kib(without: Figures, beside: Figures) -> float | None:
    """What the process grew by beyond what it grows by without them."""
    usual, grown = _grown_kib(without), _grown_kib(beside)
    return None if usual is None or grown is None else grown - usual


def _grown_kib(own: Figures) -> float | None:
    idle, opened = own.streams.idle_kib, own.streams.open_kib
    return None if idle is None or opened is None else opened - idle


def _each(values: Sequence[float | None], count: int) -> Spread | None:
    return spread(value / count for value in values if value is not None)


# In words.


def text(effect: Effect) -> str:
    load = effect.load
    heading = f"{effect.contender}: {load.streams:,} viewers that read, without and beside {load.stalled:,} that stall"
    rows = [["", "without", "beside", "added"]]
    for title, change in effect.changes.items():
        rows.append([title, spread_text(change.without), spread_text(change.beside), spread_text(change.added, "+")])
    return "\n".join([heading, "", *aligned(rows), "", *_notes(effect)])


def _notes(effect: Effect) -> list[str]:
    notes = []
    if effect.kib_each:
        verdict = "within" if effect.bounded else "ABOVE"
        waiting = (
            f"For each that stalls the process holds {spread_text(effect.kib_each)} KiB, {verdict} {BOUND_KIB} KiB"
        )
        kernel = spread_text(effect.kernel_kib_each) if effect.kernel_kib_each else "unknown"
        notes.append(f"{waiting}, and the kernel {kernel} KiB.")
    if not effect.lagging:
        length = number(effect.answer_kib)
        notes.append(f"NOT STALLED: the answer was {length} KiB, which may all have left the log. Measure for longer.")
    return notes
