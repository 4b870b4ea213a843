"""One timer per stream that looks at timestamps, instead of a timer per read.

A stream reads fifty to a hundred times a second; arming and cancelling a timer for each read costs more than parsing
what was read. So whoever makes progress writes down when, and the timer, when it rings, looks whether the time is up
or how long it still has to sleep.
"""

import asyncio
from collections.abc import Callable

from gateway.config import Timeouts
from gateway.errors import FirstTokenTimeout, IdleTimeout, Timeout, TotalTimeout


class Watchdog:
    """Calls `expire` once, with the timeout that was passed. Times are the loop's, in seconds.

    `last_read` is written by its owner after each read; `begin` is called once, when the first content has come.
    While `paused` it is us who do not read, so an upstream's silence is not its own.
    """

    __slots__ = ("_expire", "_handle", "_limits", "_loop", "first_token", "last_read", "paused", "started")

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Timeouts, expire: Callable[[Timeout], None]) -> None:
        self._loop = loop
        self._limits = limits
        self._expire = expire
        self._handle: asyncio.TimerHandle | None = None
        self.started = self.last_read = loop.time()
        self.first_token: float | None = None
        self.paused = False
        self._sleep()

    def begin(self) -> None:
        """The first token came with the last read: from now on `idle` counts, and it may be due before the alarm."""
        self.first_token = self.last_read
        self.cancel()
        self._sleep()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _look(self) -> None:
        due, timeout = self._next()
        if self._loop.time() < due:
            self._sleep()
        else:
            self._expire(timeout())

    def _sleep(self) -> None:
        """Until the next deadline, and at least until the loop's next turn: nothing expires inside a call."""
        self._handle = self._loop.call_at(self._next()[0], self._look)

    def _next(self) -> tuple[float, type[Timeout]]:
        last_read = self._loop.time() if self.paused else self.last_read
        return deadline(self._limits, self.started, self.first_token, last_read)


def deadline(
    limits: Timeouts, started: float, first_token: float | None, last_read: float
) -> tuple[float, type[Timeout]]:
    """The next moment at which time is up, and what is to be said then.

    Before the first token only `first_token` and `total` count: an upstream may be silent for long while it thinks, and
    its comments and empty deltas in that time are no beginning. After it, any bytes reset `idle`.
    """
    step: tuple[float, type[Timeout]]
    if first_token is None:
        step = (started + (limits.first_token or 0), FirstTokenTimeout)
    else:
        step = (last_read + (limits.idle or 0), IdleTimeout)
    total = (started + (limits.total or 0), TotalTimeout)
    return step if step[0] < total[0] else total
