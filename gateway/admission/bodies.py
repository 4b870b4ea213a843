"""Bounds on request bodies while they are read: bytes in all, and bytes and bodies of one caller.

A body is counted as it arrives, so a caller who announces much and sends little takes no room. When its stream has
begun, the stream counts what it keeps of it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.errors import Busy, TooManyStreams

_SHARE = 2  # a caller may have half of the room: one caller who fills it leaves as much for all others
_RETRY = {"Retry-After": "1"}  # second: a body of 32 MiB takes that long on a fast link
_BUSY = "The gateway reads as many request bodies as it has room for. Try again in a second."


class Bodies:
    def __init__(self, most: int) -> None:
        """`most` is in bytes."""
        self.largest = most // _SHARE  # bytes of one body: a larger one would be refused for ever
        self._most = most
        self._held: Counter[str] = Counter()  # bytes of each caller
        self._number: Counter[str] = Counter()  # bodies of each caller
        self._all = 0

    @contextmanager
    def reading(self, scope: str, *, at_a_time: int | None = None) -> Iterator[Callable[[int], None]]:
        """Yields a function that counts bytes of one body of the caller, and raises Busy past the bounds.

        `at_a_time` is how many bodies of this caller may be read at once. Raises TooManyStreams.
        """
        if at_a_time is not None and self._number[scope] >= at_a_time:
            raise TooManyStreams(headers=_RETRY)
        held = 0

        def count(size: int) -> None:
            nonlocal held
            if self._all + size > self._most or self._held[scope] + size > self.largest:
                raise Busy(_BUSY, headers=_RETRY)
            held += size
            self._all += size
            self._held[scope] += size

        self._number[scope] += 1
        try:
            yield count
        finally:
            self._all -= held
            _take(self._held, scope, held)
            _take(self._number, scope, 1)


def _take(counts: Counter[str], scope: str, number: int) -> None:
    counts[scope] -= number
    if not counts[scope]:
        del counts[scope]
