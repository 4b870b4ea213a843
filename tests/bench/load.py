"""The passes: puts one load on one contender and measures it, in a process of its own.

    python -m tests.bench.load JOB.json FIGURES.json

Whoever counts the events takes the contender's CPU time at the same instant, so that no two processes have to agree
on when a window begins. A pass of long streams:

    warm up | read idle memory | open all, in a ramp | settle | WINDOW | read memory | all end together

In the window every stream is open and nothing else happens: no opening, no end. What is counted in it is relaying.
Of whole streams (`opening`), it counts beginnings and ends too, and the CPU time of both is shared among the events.
"""

import gc
import sys
import time
from array import array
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import msgspec

from tests.bench import watch
from tests.bench.client import Asker, LoadError, Question, Tally, Target, open_connection, question
from tests.bench.figures import Figures, Load, ShortFigures, StreamFigures, percentile
from tests.bench.meter import Meter, Window
from tests.bench.opening import MARGIN, ending_seconds, open_all, ramp_seconds, settle_seconds

WARM_UP = 0.3  # about what the warm-up takes, for whoever tells the time
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
    return Figures(streams, await _short_pass(job) if job.short_seconds and not job.target.watched else None)


async def _warm_up(target: Target) -> None:
    each = _WARM_UP_ANSWERS // _WARM_UP_CONNECTIONS
    if target.watched:
        return await watch.warm_up(target, connections=_WARM_UP_CONNECTIONS, answers=each, events=_SHORT_EVENTS)
    tally, short = Tally(_WARM_UP_CONNECTIONS), question(target, 0, _SHORT_EVENTS)
    for _ in range(_WARM_UP_CONNECTIONS):
        await open_connection(target, lambda: Asker(tally, repeat(short, each)))
    await tally.all_finished(timeout=_LATE)


# Long streams.


async def _stream_pass(job: Job) -> StreamFigures:
    load, tally = job.load, Tally(job.load.streams)
    meter = Meter(job.target, job.upstream_pid, tally)
    idle_kib = meter.pss_kib()
    window_begin = _now() + ramp_seconds(load) + settle_seconds(load)
    window_end = window_begin + load.seconds
    wake = await open_all(job.target, load, tally, until=window_end + (0 if load.lasting else MARGIN))
    await tally.pause(window_begin - _now())
    await _all_begun(tally, load, latest=window_begin + load.seconds / 2)

    tally.latencies, tally.gaps = array("q"), array("q")
    if load.lasting:
        tally.firsts = array("q")
    begin = meter.read()
    await tally.pause(window_end - _now())
    end, latencies, gaps = meter.read(), sorted(tally.latencies), sorted(tally.gaps)

    # Of whole streams, memory would be that of ended ones too: how many a contender keeps is its own choice.
    open_kib, held_bytes = None if load.lasting else meter.pss_kib(), tally.body_bytes
    kernel_kib = meter.kernel_kib() if load.stalled else None
    await tally.all_finished(timeout=ending_seconds(load) + _LATE)
    await wake()
    window = Window(begin, end)
    return StreamFigures(
        window_seconds=window.seconds,
        streams=load.streams,
        events=end.events - begin.events,
        answers=end.answers - begin.answers,
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
        stalled=load.stalled,
        kernel_kib=kernel_kib,
    )


async def _all_begun(tally: Tally, load: Load, *, latest: float) -> None:
    while len(tally.firsts) < load.streams:
        if _now() > latest:
            raise LoadError(f"saturated: only {len(tally.firsts)} of {load.streams} streams had begun in time")
        await tally.pause(0.02)


def _milliseconds(ordered: list[int]) -> tuple[float, float]:
    if not ordered:
        raise LoadError("nothing of that kind happened in the window: measure for longer (--seconds)")
    return percentile(ordered, 50) / 1e6, percentile(ordered, 99) / 1e6


# Short streams.


async def _short_pass(job: Job) -> ShortFigures:
    tally = Tally(_SHORT_CONNECTIONS)
    meter = Meter(job.target, job.upstream_pid, tally)
    questions = _until(_now() + _SHORT_SETTLE + job.short_seconds, question(job.target, 0, _SHORT_EVENTS))
    for _ in range(_SHORT_CONNECTIONS):
        await open_connection(job.target, lambda: Asker(tally, questions))
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


def _now() -> float:
    return time.monotonic()


if __name__ == "__main__":
    sys.exit(main())
