"""One timer per stream that compares timestamps, instead of a timer per read.

A stream reads fifty to a hundred times a second. To arm and cancel a timer for each read would cost more than parsing
the read. So each read only stores its time. When the timer fires, it checks whether a timeout has passed, and otherwise
sleeps until the next one can pass.
"""

import asyncio
from collections.abc import Callable

from gateway.config import Timeouts
from gateway.errors import FirstTokenTimeout, IdleTimeout, Timeout, TotalTimeout


class Watchdog:
    """Calls `expire` once, with the timeout that was passed. Times are the loop's, in seconds.

    Its owner sets `last_read` after each read, and calls `begin` once, at the first content. While `paused` is set, the
    gateway does not read, so `idle` does not count. `asked_at` is the time from which `total` counts.
    """

    __slots__ = ("_asked_at", "_expire", "_handle", "_limits", "_loop", "first_token", "last_read", "paused", "started")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limits: Timeouts,
        expire: Callable[[Timeout], None],
        *,
        asked_at: float | None = None,
    ) -> None:
        self._loop = loop
        self._limits = limits
        self._expire: Callable[[Timeout], None] | None = expire
        self.started = self.last_read = loop.time()
        self._asked_at = self.started if asked_at is None else asked_at
        self.first_token: float | None = None
        self.paused = False
        self._sleep()

    def begin(self) -> None:
        """The first token came with the last read. From now on `idle` counts."""
        self.first_token = self.last_read

    def cancel(self) -> None:
        """No timeout expires from now on. Its owner is let go, so that no circle is left to the garbage collector."""
        self._handle.cancel()
        self._expire = None

    def _look(self) -> None:
        due, timeout = self._next()
        if self._loop.time() < due:
            self._sleep()
        elif self._expire is not None:
            self._expire(timeout())

    def _sleep(self) -> None:
        """Sleeps until the next deadline, and at least until the loop's next turn: no timeout is raised in a call.

        Before the first token, it sleeps no longer than a silence behind it could last. So the first token sets no
        other timer, which takes 3.5 µs.
        """
        due, _ = self._next()
        if self.first_token is None:
            due = min(due, self._loop.time() + (self._limits.idle or 0))
        self._handle = self._loop.call_at(due, self._look)

    def _next(self) -> tuple[float, type[Timeout]]:
        last_read = self._loop.time() if self.paused else self.last_read
        return deadline(self._limits, self.started, self.first_token, last_read, self._asked_at)


def deadline(
    limits: Timeouts, started: float, first_token: float | None, last_read: float, asked_at: float
) -> tuple[float, type[Timeout]]:
    """The next deadline, and the error that is raised then.

    `asked_at` is the time when the answer was asked for, and `started` the time when this attempt began.

    Before the first token only `first_token` and `total` count. The upstream may be silent for long while the model
    thinks, and comments and empty deltas in that time are not a first token. After it, any bytes reset `idle`.
    """
    step: tuple[float, type[Timeout]]
    if first_token is None:
        step = (started + (limits.first_token or 0), FirstTokenTimeout)
    else:
        step = (last_read + (limits.idle or 0), IdleTimeout)
    total = (asked_at + (limits.total or 0), TotalTimeout)
    return step if step[0] < total[0] else total
