"""What the limit on open files leaves room for: connections of clients, and the upstreams of what they asked.

Without a count, clients take every descriptor there is; then no upstream can be asked for any of them, and the system
closes whoever comes next without a word. So an accepted request takes the descriptor of its upstream at once, and past
three marks the gateway does less:

    over a third    a connection is closed after its response, and not kept for the next request
    near the end    a request is refused with a 503, and its connection closed
    at the end      no connection is taken: new ones wait in the system's queue until others are closed

Connections that aiohttp keeps for the next request to the same upstream are not counted. As long as there is one
upstream, they are no more than its answers were. With several, they may run out for the seconds that they are kept; a
request that meets that is told so, too.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.errors import OutOfDescriptors

logger = logging.getLogger(__name__)

_OWN = 40  # descriptors for other things: three standard ones, some ten of the loop, sockets that listen or ask DNS
_LARGEST_MARGIN = 512  # connections that are only there to be refused; a burst of more waits in the system's queue
_MOST = 1_048_576  # the kernel's own default for the highest limit; "no limit" can be a thousand times that
_WARN_SECONDS = 60.0  # between two lines of the log about the same trouble
_RETRY_SECONDS = "5"  # until some connections have ended


class Descriptors:
    """Counts connections against `limit`, the number of files that may be open. None: there is no limit.

    `cost` is how many descriptors an upstream takes in this process.
    """

    def __init__(self, limit: int | None, *, cost: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        room = math.inf if limit is None else max(limit - _OWN, cost + 2)  # room for one answer, come what may
        self.limit = limit
        self._full = room
        self._crowded = room if limit is None else room - min(max(room // 5, 1), _LARGEST_MARGIN)
        self._busy = room / 3
        self._cost = cost
        self._now = now
        self._warned = -math.inf
        self._clients = 0
        self._upstreams = 0

    @property
    def _used(self) -> int:
        return self._clients + self._cost * self._upstreams

    @property
    def full(self) -> bool:
        return self._used >= self._full

    @property
    def busy(self) -> bool:
        return self._used > self._busy

    def add_client(self) -> None:
        self._clients += 1

    def drop_client(self) -> None:
        self._clients -= 1

    def check(self) -> None:
        """Is there room for one more request? Raises OutOfDescriptors."""
        if self._used > self._crowded:
            raise self._refusal()

    def check_upstream(self) -> None:
        """And for its upstream? Raises OutOfDescriptors."""
        if self._used + self._cost > self._crowded:
            raise self._refusal()

    def add_upstream(self) -> None:
        self._upstreams += 1

    def drop_upstream(self) -> None:
        self._upstreams -= 1

    @contextmanager
    def upstream(self) -> Iterator[None]:
        """One for the time of a request. Raises OutOfDescriptors."""
        self.check_upstream()
        self.add_upstream()
        try:
            yield
        finally:
            self.drop_upstream()

    def warn(self, what: str) -> None:
        """Says in the log what happens for want of descriptors, once a minute."""
        if self._now() - self._warned >= _WARN_SECONDS:
            self._warned = self._now()
            logger.warning(
                "%s: %d connections of clients and %d upstreams are open, and %s files may be (RLIMIT_NOFILE)",
                what,
                self._clients,
                self._upstreams,
                self.limit,
            )

    def _refusal(self) -> OutOfDescriptors:
        self.warn("requests are refused")
        return OutOfDescriptors(headers={"Retry-After": _RETRY_SECONDS})


def highest_limit() -> int | None:
    """How many files this process may have open, once it has asked for as many as it may. None: nobody says."""
    if sys.platform == "win32":
        return None
    import resource  # has no Windows build, so it is not imported where it cannot be

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has a lower limit beside this one
        return soft
    return wanted
