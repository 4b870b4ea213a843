"""Measures how late the event loop is: the time by which a timer fires after it should."""

import asyncio
from collections.abc import Callable

_SECONDS = 0.5  # between two measurements; each takes a microsecond


class LagMeter:
    """Calls `report` with each delay, in seconds, until `stop`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, report: Callable[[float], None]) -> None:
        self._loop = loop
        self._report = report
        self._due = loop.time() + _SECONDS
        self._timer = loop.call_at(self._due, self._measure)

    def stop(self) -> None:
        self._timer.cancel()

    def _measure(self) -> None:
        now = self._loop.time()
        self._report(max(0.0, now - self._due))
        self._due = now + _SECONDS
        self._timer = self._loop.call_at(self._due, self._measure)
