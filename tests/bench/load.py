"""The passes: puts one load on one contender and measures it, in a process of its own.

    python -m tests.bench.load JOB.json FIGURES.json

Whoever counts the events takes the contender's CPU time at the same instant, so that no two processes have to agree
on when a window begins. A pass of long streams:

    warm up | read idle memory | open all, in a ramp | settle | WINDOW | read memory | all end together

In the window every stream is open and nothing else happens: no opening, no end. What is counted in it is relaying.
"""

import gc
import os
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat
from math import ceil
from pathlib import Path

import msgspec

from tests.bench import measure
from tests.bench.client import LoadError, Question, Tally, Target, open_connection, question
from tests.bench.figures import Figures, Load, ShortFigures, StreamFigures, percentile

MARGIN = 0.4  # seconds between the window and the end of the streams, so that no end is counted in it
WARM_UP = 0.3  # about what the warm-up takes, for whoever tells the time
_OPENINGS_PER_SECOND = 200  # a fraction of what any contender can open: a ramp, not a burst
_LATE = 30.0  # seconds that a contender may lag behind before it counts as stuck
_WARM_UP_ANSWERS = 100  # enough that imports, pools and arenas are no longer counted as the streams' memory
_WARM_UP_CONNECTIONS = 4
_SHORT_CONNECTIONS = 32
_SHORT_EVENTS = 2
_SHORT_SETTLE = 0.2


class Job(msgspec.Struct, frozen=True):
    target: Target
    load: Load
    short_seconds: float  # 0: no short streams
    upstream_pid: int
    alone: bool  # is no other contender measured at the same time?


def ramp_seconds(load: Load) -> float:
    return max(0.2, load.streams / _OPENINGS_PER_SECOND)


def settle_seconds(load: Load) -> float:
    """Between the last opening and the window: a contender that fell behind while it opened them has caught up then."""
    return 0.4 + 0.2 * ramp_seconds(load)


def main() -> int:
    import uvloop  # here, because the tests import this module also where there is none

    gc.disable()  # a collection would be a pause in every stream; what is kept per connection is small
    job_file, figures_file = map(Path, sys.argv[1:])
    job = msgspec.json.decode(job_file.read_bytes(), type=Job)
    try:
        figures = uvloop.run(run(job))
    except LoadError as error:
        print(error, file=sys.stderr)
        return 1
    figures_file.write_bytes(msgspec.json.encode(figures))
    return 0


async def run(job: Job) -> Figures:
    await _warm_up(job.target)
    streams = await _stream_pass(job)
    return Figures(streams, await _short_pass(job) if job.short_seconds else None)


async def _warm_up(target: Target) -> None:
    tally = Tally(_WARM_UP_CONNECTIONS)
    short = question(target, 0, _SHORT_EVENTS)
    for _ in range(_WARM_UP_CONNECTIONS):
        await open_connection(target, tally, repeat(short, _WARM_UP_ANSWERS // _WARM_UP_CONNECTIONS))
    await tally.all_finished(timeout=_LATE)


# Long streams.


async def _stream_pass(job: Job) -> StreamFigures:
    load, tally = job.load, Tally(job.load.streams)
    meter = Meter(job, tally)
    idle_kib = meter.pss_kib()
    window_begin = _now() + ramp_seconds(load) + settle_seconds(load)
    window_end = window_begin + load.seconds
    await _open_all(job, tally, until=window_end + MARGIN)
    await tally.pause(window_begin - _now())
    await _all_begun(tally, load, latest=window_begin + load.seconds / 2)

    tally.latencies, tally.gaps = array("q"), array("q")
    begin = meter.read()
    await tally.pause(window_end - _now())
    end, latencies, gaps = meter.read(), sorted(tally.latencies), sorted(tally.gaps)

    open_kib, held_bytes = meter.pss_kib(), tally.body_bytes
    await tally.all_finished(timeout=MARGIN + _LATE)
    window = Window(begin, end)
    return StreamFigures(
        window_seconds=window.seconds,
        streams=load.streams,
        events=end.events - begin.events,
        cpu_ns=window.cpu_ns if job.target.pids else None,
        first_ms=_milliseconds(sorted(tally.firsts)),
        latency_ms=_milliseconds(latencies),
        gap_ms=_milliseconds(gaps),
        idle_kib=idle_kib,
        open_kib=open_kib,
        held_events=end.events / load.streams,
        held_kib=held_bytes / load.streams / 1024,
        load_busy=window.load_busy,
        other_busy=window.other_busy if job.alone and job.target.pids is not None else None,
        stolen=window.stolen,
    )


async def _open_all(job: Job, tally: Tally, *, until: float) -> None:
    """Opens the streams one by one, each of the length with which all end at the time `until`."""
    load, begin = job.load, _now()
    for number in range(load.streams):
        await tally.pause(begin + ramp_seconds(load) * number / load.streams - _now())
        events = max(ceil(load.rate * (until - _now())), 1)
        await open_connection(job.target, tally, iter([question(job.target, load.rate, events)]))


async def _all_begun(tally: Tally, load: Load, *, latest: float) -> None:
    while len(tally.firsts) < load.streams:
        if _now() > latest:
            raise LoadError(f"saturated: only {len(tally.firsts)} of {load.streams} streams had begun in time")
        await tally.pause(0.02)


def _milliseconds(ordered: list[int]) -> tuple[float, float]:
    return percentile(ordered, 50) / 1e6, percentile(ordered, 99) / 1e6


# Short streams.


async def _short_pass(job: Job) -> ShortFigures:
    tally = Tally(_SHORT_CONNECTIONS)
    meter = Meter(job, tally)
    questions = _until(_now() + _SHORT_SETTLE + job.short_seconds, question(job.target, 0, _SHORT_EVENTS))
    for _ in range(_SHORT_CONNECTIONS):
        await open_connection(job.target, tally, questions)
    await tally.pause(_SHORT_SETTLE / 2)
    begin = meter.read()
    await tally.pause(job.short_seconds)
    end = meter.read()
    await tally.all_finished(timeout=_LATE)
    window = Window(begin, end)
    cpu_ns = window.cpu_ns if job.target.pids else None
    return ShortFigures(window.seconds, end.answers - begin.answers, cpu_ns)


def _until(end: float, short: Question) -> Iterator[Question]:
    """The same question until the time `end`: one iterator for all connections, so that all of them stop."""
    while _now() < end:
        yield short


# Reading the meters.


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one instant."""

    at_ns: int
    events: int
    answers: int
    contender_ns: int
    load_ns: int
    machine: measure.Ticks


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two readings; CPU use is in cores."""

    begin: Reading
    end: Reading

    @property
    def seconds(self) -> float:
        return (self.end.at_ns - self.begin.at_ns) / 1e9

    @property
    def cpu_ns(self) -> int:
        return self.end.contender_ns - self.begin.contender_ns

    @property
    def load_busy(self) -> float:
        return (self.end.load_ns - self.begin.load_ns) / 1e9 / self.seconds

    @property
    def other_busy(self) -> float:
        busy = self._cores(self.end.machine.busy - self.begin.machine.busy)
        return max(busy - self.load_busy - self.cpu_ns / 1e9 / self.seconds, 0.0)

    @property
    def stolen(self) -> float:
        return self._cores(self.end.machine.stolen - self.begin.machine.stolen)

    def _cores(self, ticks: int) -> float:
        return ticks / measure.TICKS_PER_SECOND / self.seconds


class Meter:
    """Reads the counters of one pass."""

    def __init__(self, job: Job, tally: Tally) -> None:
        self._tally = tally
        self._contender = measure.process_tree(job.target.pids or [])
        self._load = [job.upstream_pid, os.getpid()]

    def read(self) -> Reading:
        machine, load_ns, contender_ns = (
            measure.machine_ticks(),
            measure.cpu_ns(self._load),
            measure.cpu_ns(self._contender),
        )
        tally = self._tally
        return Reading(time.monotonic_ns(), tally.events, tally.answers, contender_ns, load_ns, machine)

    def pss_kib(self) -> int | None:
        return measure.pss_kib(self._contender)


def _now() -> float:
    return time.monotonic()


if __name__ == "__main__":
    sys.exit(main())
