"""Bounds request bodies while they are read: all bytes, and the bytes and bodies of each caller.

A body is counted as it arrives, so a caller who announces a large body and sends little of it takes no room. Once its
stream has begun, the stream counts the part that it keeps.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.errors import Busy, TooManyStreams

_SHARE = 2  # one caller gets at most half of the room, so that others get the other half
_RETRY = {"Retry-After": "1"}  # second, the time of a body of 32 MiB on a fast link
_BUSY = "The gateway reads as many request bodies as it has room for. Try again in a second."


class BodyRoom:
    def __init__(self, most: int) -> None:
        """`most` is in bytes."""
        self.largest = most // _SHARE  # bytes of one body; a larger one could never be admitted
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
