"""When time is up, and that one timer is enough to notice. Time is passed in: nothing sleeps here."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest

from gateway.config import Timeouts
from gateway.errors import FirstTokenTimeout, IdleTimeout, Timeout, TotalTimeout
from gateway.streams.watchdog import Watchdog, deadline

LIMITS = Timeouts(connect=5.0, first_token=120.0, idle=60.0, total=600.0)


@pytest.mark.parametrize(
    ("limits", "first_token", "last_read", "due", "kind"),
    [
        # Before the first token, reads count for nothing
        (LIMITS, None, 1000.0, 1120.0, FirstTokenTimeout),
        (LIMITS, None, 1119.0, 1120.0, FirstTokenTimeout),
        # After it, the last read counts
        (LIMITS, 1001.0, 1001.0, 1061.0, IdleTimeout),
        (LIMITS, 1001.0, 1300.0, 1360.0, IdleTimeout),
        # However long it goes on, the whole may not take longer
        (LIMITS, 1001.0, 1539.9, 1599.9, IdleTimeout),
        (LIMITS, 1001.0, 1540.1, 1600.0, TotalTimeout),
        (LIMITS, 1001.0, 1599.0, 1600.0, TotalTimeout),
        # The total is told where both are due
        (LIMITS, 1001.0, 1540.0, 1600.0, TotalTimeout),
        (Timeouts(1.0, 9.0, 1.0, 9.0), None, 1000.0, 1009.0, TotalTimeout),
        # A total that is shorter than the others
        (Timeouts(1.0, 120.0, 60.0, 10.0), None, 1000.0, 1010.0, TotalTimeout),
        (Timeouts(1.0, 120.0, 60.0, 10.0), 1001.0, 1001.0, 1010.0, TotalTimeout),
    ],
)
def test_the_next_deadline(
    limits: Timeouts, first_token: float | None, last_read: float, due: float, kind: type[Timeout]
) -> None:
    assert deadline(limits, 1000.0, first_token, last_read, 1000.0) == (due, kind)


def test_the_total_counts_from_the_question_and_not_from_the_attempt() -> None:
    assert deadline(LIMITS, 1500.0, None, 1500.0, 1000.0) == (1600.0, TotalTimeout)
    assert deadline(LIMITS, 1400.0, None, 1400.0, 1000.0) == (1520.0, FirstTokenTimeout)


@dataclass(eq=False)
class Timer:
    loop: "FakeLoop"
    when: float
    ring: Callable[[], object]

    def cancel(self) -> None:
        self.loop.timers.discard(self)


class FakeLoop:
    """A clock that is set by hand, and the timers on it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: set[Timer] = set()
        self.armed = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        self.armed += 1
        timer = Timer(self, when, callback)
        self.timers.add(timer)
        return timer

    def advance(self, to: float) -> None:
        """Sets the clock, ringing every timer at its time on the way."""
        while due := [timer for timer in self.timers if timer.when <= to]:
            timer = min(due, key=lambda timer: timer.when)
            timer.cancel()
            self.now = max(self.now, timer.when)
            timer.ring()
        self.now = to


class Watched:
    """A watchdog on a fake loop. It is cancelled as it expires, as a stream does that ends because of it."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.expired: list[tuple[float, type[Timeout]]] = []
        self.watchdog = Watchdog(cast(asyncio.AbstractEventLoop, self.loop), LIMITS, self._expire)

    def _expire(self, timeout: Timeout) -> None:
        self.expired.append((self.loop.now, type(timeout)))
        self.watchdog.cancel()

    def read(self, at: float) -> None:
        self.loop.advance(at)
        self.watchdog.last_read = self.loop.time()

    def begin(self, at: float) -> None:
        self.read(at)
        self.watchdog.begin()


def test_a_cancelled_watchdog_lets_its_owner_go() -> None:
    """They hold each other. Without the collector, both are freed as soon as nobody else holds the owner."""
    watched = Watched()
    owner = weakref.ref(watched)
    gc.disable()
    try:
        watched.watchdog.cancel()
        del watched
        assert owner() is None
    finally:
        gc.enable()


def test_an_upstream_that_says_nothing() -> None:
    watched = Watched()
    watched.loop.advance(1119.9)
    assert watched.expired == []
    watched.loop.advance(5000.0)
    assert watched.expired == [(1120.0, FirstTokenTimeout)]


def test_fault_24_comments_are_no_first_token() -> None:
    watched = Watched()
    for second in range(1001, 1120):
        watched.read(float(second))
    watched.loop.advance(1200.0)
    assert watched.expired == [(1120.0, FirstTokenTimeout)]


def test_fault_26_a_stall_behind_the_first_token() -> None:
    """It is noticed when it is due, though that is before the time by which the first token had to come."""
    watched = Watched()
    watched.begin(1001.0)
    watched.loop.advance(1060.9)
    assert watched.expired == []
    watched.loop.advance(1500.0)
    assert watched.expired == [(1061.0, IdleTimeout)]


def test_every_read_puts_the_stall_off() -> None:
    watched = Watched()
    watched.begin(1001.0)
    for second in range(1002, 1400, 59):
        watched.read(float(second))
    last = watched.watchdog.last_read
    watched.loop.advance(1590.0)
    assert watched.expired == [(last + 60.0, IdleTimeout)]


def test_fault_27_a_drip_ends_with_the_total() -> None:
    watched = Watched()
    watched.begin(1001.0)
    for second in range(1002, 1700):
        watched.read(float(second))
    assert watched.expired == [(1600.0, TotalTimeout)]


def test_reads_arm_no_timers() -> None:
    """A thousand reads in twenty seconds, the first token among them: the one timer of the first look."""
    watched = Watched()
    watched.begin(1001.0)
    for n in range(1_000):
        watched.read(1001.0 + n * 0.02)
    assert watched.loop.armed == 1
    assert len(watched.loop.timers) == 1


def test_time_is_up_only_once() -> None:
    watched = Watched()
    watched.loop.advance(10_000.0)
    assert len(watched.expired) == 1
    assert not watched.loop.timers


@pytest.mark.parametrize("begun", [False, True])
def test_nothing_rings_once_it_is_cancelled(begun: bool) -> None:
    watched = Watched()
    if begun:
        watched.begin(1001.0)
    watched.watchdog.cancel()
    watched.watchdog.cancel()
    watched.loop.advance(10_000.0)
    assert watched.expired == []
    assert not watched.loop.timers


def test_a_first_token_that_comes_late() -> None:
    """By then the alarm has rung once, for a silence that could have followed an early one."""
    watched = Watched()
    watched.begin(1119.0)
    assert watched.loop.armed == 2
    watched.loop.advance(1178.9)
    assert watched.expired == []
    watched.loop.advance(1500.0)
    assert watched.expired == [(1179.0, IdleTimeout)]


def test_an_alarm_that_rings_early_is_set_again() -> None:
    """Loops round: a timer may ring a moment before its time."""
    watched = Watched()
    (timer,) = watched.loop.timers
    watched.loop.now = 1119.999
    timer.cancel()
    timer.ring()
    assert watched.expired == []
    watched.loop.advance(1120.0)
    assert watched.expired == [(1120.0, FirstTokenTimeout)]


def test_the_first_token_expires_nothing_from_within() -> None:
    """Where the loop is late, it may come after the total: its entries are kept, and then the alarm rings."""
    watched = Watched()
    watched.loop.now = watched.watchdog.last_read = 1601.0
    watched.watchdog.begin()
    assert watched.expired == []
    watched.loop.advance(1601.0)
    assert watched.expired == [(1601.0, TotalTimeout)]
