"""Sentences for the kinds of run that ask for one figure. Pure.

A load is compared with another one of the same contender within a round, as contenders are elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence

from tests.bench.figures import Figures, Load, Pass, Spread, by_round, cpu_per_event, kib_per_stream, short_cpu, spread
from tests.bench.pairs import interval
from tests.bench.report import spread_text


def sentences(kind: str, passes: Sequence[Pass]) -> list[str]:
    """None for a kind that says all in its table."""
    tell = _TELLING.get(kind)
    return list(tell(passes)) if tell else []


def _constant(passes: Sequence[Pass]) -> Iterator[str]:
    """What more streams cost per event where the number of events is the same."""
    fewest, *others = dict.fromkeys(one.load for one in passes)
    for load in others:
        for name in _contenders(passes):
            if found := ratios(passes, name, fewest, load):
                told = f"{found[0]:.2f}" if len(found) == 1 else _with_interval(found)
                yield f"{name}: an event costs {told} times as much with {load.label} as with {fewest.label}."


def ratios(passes: Sequence[Pass], name: str, fewest: Load, load: Load) -> list[float]:
    """CPU per event under `load` as a multiple of that under `fewest`, in order; one for each round that has both."""
    costs = {(one.round, one.load): cpu_per_event(one.figures, {}) for one in passes if one.contender == name}
    found = []
    for (at, own), cost in costs.items():
        base = costs.get((at, fewest))
        if own == load and cost is not None and base:
            found.append(cost / base)
    return sorted(found)


def _with_interval(ordered: Sequence[float]) -> str:
    found = spread(ordered)
    assert found is not None
    around = interval(ordered)
    if around is None:
        return spread_text(found)
    return f"{found.median:.2f} (95 % interval {around[0]:.2f} to {around[1]:.2f}, {len(ordered)} rounds)"


def _short(passes: Sequence[Pass]) -> Iterator[str]:
    for name, _, found in _each(passes, lambda own: _milli(short_cpu(own, {}))):
        yield f"{name}: a stream of two tokens takes {spread_text(found)} ms of CPU."


def _milli(value: float | None) -> float | None:
    return None if value is None else value / 1000


def _memory(passes: Sequence[Pass]) -> Iterator[str]:
    apart = {(name, load): found for name, load, found in _each(passes, apart_from_log)}
    for name, load, whole in _each(passes, lambda own: kib_per_stream(own, {})):
        yield (
            f"{name}: {spread_text(whole)} KiB for each of {load.label},"
            f" {spread_text(apart[name, load])} without the answer that it had sent."
        )


def apart_from_log(own: Figures) -> float | None:
    """KiB of an open stream without the bytes that it has sent, which a log holds, if there is one."""
    whole = kib_per_stream(own, {})
    return None if whole is None else whole - own.streams.held_kib


def _hold(passes: Sequence[Pass]) -> Iterator[str]:
    late = {(name, load): found for name, load, found in _each(passes, lambda own: own.streams.first_ms[1])}
    for name, load, median in _each(passes, lambda own: own.streams.first_ms[0]):
        yield (
            f"{name}: {load.title}, {load.openings:,.0f} opened a second: no error; first event after"
            f" {spread_text(median)} ms (p50) and {spread_text(late[name, load])} ms (p99)."
        )


def _contenders(passes: Sequence[Pass]) -> list[str]:
    return list(dict.fromkeys(one.contender for one in passes))


def _each(passes: Sequence[Pass], figure: Callable[[Figures], float | None]) -> Iterator[tuple[str, Load, Spread]]:
    """By contender, then by load; those of which the figure is known."""
    for name in _contenders(passes):
        for load in dict.fromkeys(one.load for one in passes):
            values = [figure(own[name]) for own in by_round(passes, load) if name in own]
            if found := spread(value for value in values if value is not None):
                yield name, load, found


_TELLING: dict[str, Callable[[Sequence[Pass]], Iterator[str]]] = {
    "constant": _constant,
    "short": _short,
    "memory": _memory,
    "hold": _hold,
}
