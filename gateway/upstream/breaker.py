"""The circuit breaker of a target: it leaves a target alone that fails, and tries it again with one request.

    closed ──`failures` in a row, or half of the last requests──> open ──`open_seconds`──> a probe ──content──> closed
                                                                    └──────────<──it fails──────┘

Pure: times are passed in, in seconds on any clock. A caller's mistakes and departures are not reported to it.
"""

from gateway.config import BreakerLimits

_WINDOW_SECONDS = 30.0  # that are looked back upon
_BUCKETS = 6  # that the window has: counts are forgotten after 25 to 30 seconds
_FEWEST = 20  # requests in the window; half of fewer says little
_LONGEST_COOLING = 3600.0  # seconds: a provider may say anything


class Breaker:
    __slots__ = ("_buckets", "_cooling_until", "_in_a_row", "_limits", "_open_until")

    def __init__(self, limits: BreakerLimits) -> None:
        self._limits = limits
        self._in_a_row = 0
        self._open_until = 0.0
        self._cooling_until = 0.0
        self._buckets: dict[int, tuple[int, int]] = {}  # by their number: requests and failures

    def configure(self, limits: BreakerLimits) -> None:
        self._limits = limits

    @property
    def unavailable_until(self) -> float:
        """The time until which no request is to be sent, 0 if there is none."""
        return max(self._open_until, self._cooling_until)

    @property
    def is_open(self) -> bool:
        """Whether it waits for a probe, or for the end of one."""
        return self._open_until > 0

    def start(self, now: float) -> None:
        """A request is sent. The first one after the time of an open breaker is its probe, and others have to wait."""
        if self.is_open and now >= self._open_until:
            self._open_until = now + self._limits.open_seconds

    def content(self) -> None:
        """The first content of an answer has come. That closes an open breaker."""
        if self.is_open:
            self._close()

    def success(self, now: float) -> None:
        """An answer is complete."""
        self._count(now, failures=0)
        self._in_a_row = 0

    def failure(self, now: float, *, is_certain: bool = False) -> None:
        """`is_certain`: the next request would fail, too, since the target refuses the gateway itself."""
        self._in_a_row += 1
        self._count(now, failures=1)
        if is_certain or self.is_open or self._in_a_row >= self._limits.failures or self._is_half():
            self._open_until = now + self._limits.open_seconds

    def nothing(self, now: float) -> None:
        """A request ended without a result. If it was the probe, the next one may be sent."""
        if self.is_open:
            self._open_until = min(self._open_until, now)

    def cool_down(self, seconds: float, now: float) -> None:
        """The target asked for a pause."""
        self._cooling_until = max(self._cooling_until, now + min(seconds, _LONGEST_COOLING))

    def _close(self) -> None:
        self._open_until = 0.0
        self._in_a_row = 0
        self._buckets.clear()

    def _count(self, now: float, failures: int) -> None:
        number = int(now // (_WINDOW_SECONDS / _BUCKETS))
        if number not in self._buckets:
            self._buckets = {n: counts for n, counts in self._buckets.items() if n > number - _BUCKETS}
        requests, failed = self._buckets.get(number, (0, 0))
        self._buckets[number] = requests + 1, failed + failures

    def _is_half(self) -> bool:
        requests = sum([counts[0] for counts in self._buckets.values()])
        failed = sum([counts[1] for counts in self._buckets.values()])
        return requests >= _FEWEST and 2 * failed >= requests
