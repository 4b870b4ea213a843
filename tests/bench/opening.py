"""Opens the streams of a pass, in a ramp, and says how long that takes.

Three kinds. Long ones are all open from the ramp to the end of the window, and end together behind it. Viewers watch
one such stream. *Whole* ones are shorter than the window: each connection asks for one after the other, of different
lengths, so that in the window streams begin, relay and end at all times, and none of it in step.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from itertools import count
from math import ceil

from tests.bench import watch
from tests.bench.client import Asker, Question, Tally, Target, open_connection, question
from tests.bench.figures import Load
from tests.bench.watch import Stalled, Watcher

MARGIN = 0.4  # seconds between the window and the end of long streams, so that no end is counted in it
_STEADY = 0.618034, 0.414214  # multiples of either, modulo 1, fall evenly, and no two connections keep in step
_SHORTEST, _LONGEST = 0.8, 1.2  # of the length that whole streams have on average


def ramp_seconds(load: Load) -> float:
    """Whole streams begin over the time that one lasts: as many then end in each second as begin."""
    return load.lasting or max(0.2, (load.streams + load.stalled) / load.openings)


def settle_seconds(load: Load) -> float:
    """Between the last opening and the window: a contender that fell behind while it opened them has caught up then."""
    return 0.4 + 0.2 * ramp_seconds(load)


def ending_seconds(load: Load) -> float:
    """From the end of the window to that of the last stream."""
    return MARGIN + (load.lasting * _LONGEST or 2 / load.rate)


async def open_all(target: Target, load: Load, tally: Tally, *, until: float) -> Callable[[], Awaitable[None]]:
    """Opens the streams one by one, each of the length with which all end soon after the time `until`.

    What it returns is to be called after that: viewers that are still to read what all have read.
    """
    if target.watched:
        return await _open_viewers(target, load, tally, until=until)
    async for number in _ramp(load, tally, load.streams):
        await open_connection(target, partial(Asker, tally, _questions(target, load, number, until)))
    return _nothing


def _questions(target: Target, load: Load, number: int, until: float) -> Iterator[Question]:
    """Those of one connection, each made when it is asked."""
    if not load.lasting:
        yield question(target, load.rate, long_length(load, until - time.monotonic()), load.padding)
        return
    for events in whole_lengths(load, number):
        if time.monotonic() >= until:
            return
        yield question(target, load.rate, events, load.padding)


def whole_lengths(load: Load, number: int) -> Iterator[int]:
    """The events of each stream of one connection."""
    for turn in count():
        phase = (number * _STEADY[0] + turn * _STEADY[1]) % 1
        share = _SHORTEST + (_LONGEST - _SHORTEST) * phase
        yield max(round(load.rate * load.lasting * share), 2)


def long_length(load: Load, seconds: float) -> int:
    """The events of a stream that is open for `seconds` more, and for two periods beyond them at most."""
    return max(ceil(load.rate * seconds), 0) + 2  # the first comes at once, the second up to a period later


async def _open_viewers(target: Target, load: Load, tally: Tally, *, until: float) -> Callable[[], Awaitable[None]]:
    """The same for viewers of one stream. Those that stall come first."""
    events = long_length(load, until - time.monotonic())
    asking = await watch.started(target, load.rate, events, load.padding)
    stalled = Stalled(target, tally)
    async for number in _ramp(load, tally, load.stalled + load.streams):
        if number < load.stalled:
            await stalled.open(asking)
        else:
            await open_connection(target, partial(Watcher, tally, iter([asking])))

    async def wake() -> None:
        await stalled.wake()
        await watch.watch_again(target, tally, asking)

    return wake


async def _nothing() -> None:
    pass


async def _ramp(load: Load, tally: Tally, openings: int) -> AsyncIterator[int]:
    begin = time.monotonic()
    for number in range(openings):
        await tally.pause(begin + ramp_seconds(load) * number / openings - time.monotonic())
        yield number
