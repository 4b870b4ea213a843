"""One client with one stream at a time, on all paths by turns: asks, and times every event.

    python -m tests.bench.alone JOB.json SAMPLES.json      says on its standard output which round it is in

A turn is one path's: a warm-up, then openings, which are streams of two events, and one stream of full length. Turns of
all paths make a round, and each round begins with another path, so that a machine that changes changes all paths alike.
No two streams are ever open at once, and the other contenders sleep meanwhile.

Every event carries the time at which the upstream sent it, so its way is known by itself: what the upstream's timer
adds to a gap is in no figure. Openings give as many samples of the first event as can be had; a gap is a gap.
"""

import asyncio
import gc
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec

from tests.bench.client import Asker, LoadError, Question, Tally, Target, open_connection, question
from tests.bench.meter import Meter, Window
from tests.bench.samples import Turn

_LATE = 30.0  # seconds that a stream may take beyond its own length before it counts as stuck
_OPENING_EVENTS = 2
_REST = 0.01  # seconds between two streams: what the last one left to do is done then, and its sockets are idle


class Job(msgspec.Struct, frozen=True):
    paths: dict[str, Target]
    upstream_pid: int
    rounds: int
    openings: int  # in each turn
    events: int  # of the stream in each turn
    rate: float

    @property
    def turn_seconds(self) -> float:
        period = 1 / self.rate
        opening = period / 2 + _REST  # the second event comes within a period
        return (self.openings + 1) * opening + (self.events - 1.5) * period + _REST

    @property
    def seconds(self) -> float:
        return self.rounds * len(self.paths) * self.turn_seconds


class Solo(Asker):
    """A connection that rests between its questions."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(Tally(1), iter(()))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self._question = None

    async def ask(self, asking: Question, *, seconds: float) -> Tally:
        """What its answer adds up to; its events are in order there."""
        self._tally, self._questions = Tally(1), iter([asking])
        self._ask()
        await self._tally.all_finished(timeout=seconds + _LATE)
        await asyncio.sleep(_REST)
        return self._tally

    def _leave(self) -> None:
        """The connection stays open for the next question."""

    def close(self) -> None:
        self._transport.close()


def main() -> int:
    import uvloop  # here, because the tests import this module also where there is none

    gc.disable()  # a collection would be a pause in every stream
    job_file, samples_file = map(Path, sys.argv[1:])
    job = msgspec.json.decode(job_file.read_bytes(), type=Job)
    try:
        samples = uvloop.run(run(job))
    except LoadError as error:
        print(error, file=sys.stderr)
        return 1
    samples_file.write_bytes(msgspec.json.encode(samples))
    return 0


async def run(job: Job) -> dict[str, list[Turn]]:
    found: dict[str, list[Turn]] = {name: [] for name in job.paths}
    for number in range(job.rounds):
        for name in _rotated(list(job.paths), number):
            print(number + 1, name, flush=True)
            try:
                found[name].append(await _turn(job, job.paths[name]))
            except LoadError as error:
                raise LoadError(f"{name}: {error}") from error
    return found


def _rotated(names: list[str], by: int) -> Iterator[str]:
    by %= len(names)
    yield from [*names[by:], *names[:by]]


async def _turn(job: Job, target: Target) -> Turn:
    solo, firsts = Solo(), array("q")
    await open_connection(target, lambda: solo)
    opening = question(target, job.rate, _OPENING_EVENTS)
    await solo.ask(opening, seconds=0)  # connections are made and code is in the caches
    meter = Meter(target, job.upstream_pid, Tally(1))
    begin = meter.read()
    for _ in range(job.openings):
        firsts += (await solo.ask(opening, seconds=0)).firsts
    full = question(target, job.rate, job.events)
    tally = await solo.ask(full, seconds=job.events / job.rate)
    window = Window(begin, meter.read())
    solo.close()
    return Turn(list(firsts + tally.firsts), list(tally.latencies), window.other_busy + window.stolen)


if __name__ == "__main__":
    sys.exit(main())
