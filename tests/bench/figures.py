"""What one pass measured, and the arithmetic over passes. Pure: no clock, no files, no processes.

A *pass* is one load put on one contender; a *round* is one pass on each contender, one after the other. Machines
drift, most of all shared ones, so whatever compares contenders is taken within a round, and the median of
that over the rounds is what is reported, with its least and greatest value beside it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median

import msgspec

REFERENCE = "nginx"  # ratios are to it: parses nothing, so it is what merely passing on costs
BASE = "direct"  # what is added is added over it


class Load(msgspec.Struct, frozen=True):
    streams: int
    rate: float  # events a second in each stream
    seconds: float  # of the window that is measured
    padding: int = 0  # bytes of each event beside its stamp
    stalled: int = 0  # viewers that read nothing, beside the streams that are counted
    lasting: float = 0  # seconds of a stream, about, that another then follows; 0: until the window has ended
    openings: float = 200  # a second: a fraction of what any contender can open, so a ramp and not a burst

    @property
    def total_rate(self) -> float:
        return self.streams * self.rate

    @property
    def title(self) -> str:
        return f"{self.label} of {self.rate:.3g} events/s"

    @property
    def label(self) -> str:
        beside = f", {self.stalled:,} stalled" if self.stalled else ""
        streams = ("whole " if self.lasting else "") + ("stream" if self.streams == 1 else "streams")
        return f"{self.streams:,} {streams}{beside}"


class StreamFigures(msgspec.Struct, frozen=True):
    """One pass of long streams, over the window in which all of them were open."""

    window_seconds: float
    streams: int
    events: int  # that arrived in the window
    cpu_ns: int | None  # the contender's; None where it has no process of ours to look at
    first_ms: tuple[float, float]  # request to first event: p50, p99
    latency_ms: tuple[float, float]  # upstream's write to client's read: p50, p99
    gap_ms: tuple[float, float]  # between two reads of one stream that brought events: p50, p99
    idle_kib: int | None
    open_kib: int | None
    held_events: float  # that a stream had carried when `open_kib` was read
    held_kib: float  # the same as bytes of answer that the client had read
    load_busy: float  # CPU of upstream and client, in cores
    other_busy: float | None  # CPU of everyone else, in cores; None where the contender's cannot be told from it
    stolen: float  # CPU that the hypervisor kept, in cores
    stalled: int = 0  # open, too, with nothing that is counted
    answers: int = 0  # that ended in the window, whole
    kernel_kib: float | None = None  # that waited in the kernel to be sent by the contender; None: not looked at


class ShortFigures(msgspec.Struct, frozen=True):
    """One pass of short streams, asked for again as soon as they end."""

    seconds: float
    streams: int
    cpu_ns: int | None


class Figures(msgspec.Struct, frozen=True):
    streams: StreamFigures
    short: ShortFigures | None


class Pass(msgspec.Struct, frozen=True):
    round: int
    contender: str
    load: Load
    figures: Figures


Round = Mapping[str, Figures]  # one round at one load: contender to figures


# The figures that are reported, each from a contender's figures and the round that they belong to.


def cpu_per_event(own: Figures, _: Round) -> float | None:
    """CPU time per event relayed, in µs."""
    figures = own.streams
    return None if figures.cpu_ns is None or not figures.events else figures.cpu_ns / 1000 / figures.events


def cpu_ratio(own: Figures, in_round: Round) -> float | None:
    """CPU time per event as a multiple of what nginx took in the same round."""
    if REFERENCE not in in_round:
        return None
    cost, reference = cpu_per_event(own, in_round), cpu_per_event(in_round[REFERENCE], in_round)
    return cost / reference if cost is not None and reference else None


def kib_per_stream(own: Figures, _: Round) -> float | None:
    """Memory that an open stream adds to the contender at rest."""
    figures = own.streams
    if figures.idle_kib is None or figures.open_kib is None:
        return None
    return (figures.open_kib - figures.idle_kib) / (figures.streams + figures.stalled)


def short_per_second(own: Figures, _: Round) -> float | None:
    return own.short.streams / own.short.seconds if own.short else None


def short_cpu(own: Figures, _: Round) -> float | None:
    """CPU time per short stream, in µs: what a request costs apart from its events."""
    short = own.short
    return short.cpu_ns / 1000 / short.streams if short and short.cpu_ns is not None and short.streams else None


Metric = Callable[[Figures, Round], float | None]


def _plain(time_of: Callable[[StreamFigures], float]) -> Metric:
    return lambda own, _: time_of(own.streams)


def _added(time_of: Callable[[StreamFigures], float]) -> Metric:
    """A time over that of going direct in the same round."""

    def over_base(own: Figures, in_round: Round) -> float | None:
        return time_of(own.streams) - time_of(in_round[BASE].streams) if BASE in in_round else None

    return over_base


TIMES: dict[str, Callable[[StreamFigures], float]] = {
    "first_ms_p50": lambda figures: figures.first_ms[0],
    "first_ms_p99": lambda figures: figures.first_ms[1],
    "latency_ms_p50": lambda figures: figures.latency_ms[0],
    "latency_ms_p99": lambda figures: figures.latency_ms[1],
    "gap_ms_p50": lambda figures: figures.gap_ms[0],
    "gap_ms_p99": lambda figures: figures.gap_ms[1],
}

METRICS: dict[str, Metric] = {
    "cpu_us_per_event": cpu_per_event,
    "cpu_ratio": cpu_ratio,
    **{name: _plain(time_of) for name, time_of in TIMES.items()},
    **{f"added_{name}": _added(time_of) for name, time_of in TIMES.items()},
    "kib_per_stream": kib_per_stream,
    "short_per_second": short_per_second,
    "short_cpu_us": short_cpu,
}


# Over the rounds.


class Spread(msgspec.Struct, frozen=True):
    median: float
    least: float
    greatest: float

    @property
    def relative(self) -> float:
        """How far apart the rounds are, as a share of their median."""
        return (self.greatest - self.least) / self.median if self.median else 0.0


Summary = dict[str, Spread]  # metric to what the rounds say; a metric that no round has is left out


def summarize(passes: Sequence[Pass]) -> dict[Load, dict[str, Summary]]:
    """By load, then by contender, in the order in which they first ran."""
    return {
        load: {
            contender: _summary([(own[contender], own) for own in by_round(passes, load) if contender in own])
            for contender in dict.fromkeys(one.contender for one in passes if one.load == load)
        }
        for load in dict.fromkeys(one.load for one in passes)
    }


def by_round(passes: Sequence[Pass], load: Load) -> list[Round]:
    rounds: dict[int, dict[str, Figures]] = {}
    for one in passes:
        if one.load == load:
            rounds.setdefault(one.round, {})[one.contender] = one.figures
    return list(rounds.values())


def _summary(rounds: Sequence[tuple[Figures, Round]]) -> Summary:
    values = {name: [metric(own, in_round) for own, in_round in rounds] for name, metric in METRICS.items()}
    spreads = {name: spread(value for value in found if value is not None) for name, found in values.items()}
    return {name: found for name, found in spreads.items() if found}


def spread(values: Iterable[float]) -> Spread | None:
    known = list(values)
    return Spread(median(known), min(known), max(known)) if known else None


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was measured, never one between two."""
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]
