"""Counts connections against the limit on open files: those of clients, and those to upstreams.

Without this count, clients could take all descriptors. Then no upstream could be asked, and the system would close new
connections without an answer. Therefore an accepted request reserves the descriptor of its upstream at once. The
gateway does less as the limit comes closer:

    over a third    a connection is closed after its response, and not kept for the next request
    near the end    a request is refused with a 503, and its connection closed
    at the end      no connection is taken: new ones wait in the system's queue until others are closed

Idle connections that aiohttp keeps for the next request to the same upstream are not counted. With one upstream there
are at most as many as there were answers. With several, the descriptors may run out while they are kept, and such a
request gets the same error.
"""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.errors import OutOfDescriptors

logger = logging.getLogger(__name__)

_OWN = 40  # descriptors for other uses: three standard streams, about ten of the loop, listening sockets, DNS
_LARGEST_MARGIN = 512  # connections that get a refusal; the rest of a burst waits in the system's queue
_MOST = 1_048_576  # the kernel's default for the highest limit; "no limit" can be a thousand times as much
_WARN_SECONDS = 60.0  # between two log lines about the same condition
_RETRY_SECONDS = "5"  # until some connections have ended


class Descriptors:
    """Counts connections against `limit`, the number of files that may be open. None means no limit.

    `cost` is how many descriptors an upstream takes in this process.
    """

    def __init__(self, limit: int | None, *, cost: int = 1, now: Callable[[], float] = time.monotonic) -> None:
        room = math.inf if limit is None else max(limit - _OWN, cost + 2)  # always room for one answer
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
        """Checks that there is room for one more request. Raises OutOfDescriptors."""
        if self._used > self._crowded:
            raise self._refusal()

    def check_upstream(self) -> None:
        """Checks that there is room for its upstream, too. Raises OutOfDescriptors."""
        if self._used + self._cost > self._crowded:
            raise self._refusal()

    def add_upstream(self) -> None:
        self._upstreams += 1

    def drop_upstream(self) -> None:
        self._upstreams -= 1

    @contextmanager
    def upstream(self) -> Iterator[None]:
        """Reserves descriptors of an upstream for the duration of a request. Raises OutOfDescriptors."""
        self.check_upstream()
        self.add_upstream()
        try:
            yield
        finally:
            self.drop_upstream()

    def warn(self, what: str) -> None:
        """Logs, at most once a minute, what happens because descriptors are scarce."""
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
    """Raises the soft limit on open files to the hard one and returns it. None means no limit."""
    if sys.platform == "win32":
        return None
    import resource  # does not exist on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has another, lower limit
        return soft
    return wanted
