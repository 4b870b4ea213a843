"""Bounds request bodies while they are read: all bytes, and the bytes and bodies of each caller.

A body is counted as it arrives, so a caller who announces a large body and sends little of it takes no room. Once its
stream has begun, the stream counts the part that it keeps. The bound of one body is `server.max_body_bytes`, and on
`/v1` that of `handlers.reading`; neither can be more than half of the room.

Bodies that go to a caller and that no stream counts take room, too, until the caller has them.
"""

from collections import Counter
from collections.abc import Callable

from gateway.errors import Busy, TooManyStreams

_SHARE = 2  # one caller gets at most half of the room, so that others get the other half
_RETRY = {"Retry-After": "1"}  # second, the time of a body of 32 MiB on a fast link
_BUSY = "The gateway holds as many bodies as it has room for. Try again in a second."


class BodyRoom:
    def __init__(self, most: int) -> None:
        """`most` is in bytes."""
        self.largest = most // _SHARE  # bytes of one body; a larger one could never be admitted
        self._most = most
        self._held: Counter[str] = Counter()  # bytes of each caller
        self._number: Counter[str] = Counter()  # bodies of each caller
        self._all = 0

    def reading(self, scope: str, *, at_a_time: int | None = None) -> "_Reading":
        """Within the block, one body of the caller is read. See `_Reading`.

        `at_a_time` is how many bodies of this caller may be read at once. Raises TooManyStreams.
        """
        if at_a_time is not None and self._number[scope] >= at_a_time:
            raise TooManyStreams(headers=_RETRY)
        return _Reading(self, scope, 1)

    def holding(self, scope: str) -> "_Reading":
        """Within the block, a body for the caller is held. It is none of those that the caller sends."""
        return _Reading(self, scope, 0)

    def begin(self, scope: str, number: int) -> None:
        self._number[scope] += number

    def count(self, scope: str, size: int) -> None:
        """Raises Busy past the bounds."""
        if self._all + size > self._most or self._held[scope] + size > self.largest:
            raise Busy(_BUSY, headers=_RETRY)
        self._all += size
        self._held[scope] += size

    def end(self, scope: str, number: int, held: int) -> None:
        self._all -= held
        _take(self._held, scope, held)
        _take(self._number, scope, number)


class _Reading:
    """Yields a function that counts bytes of the body, and raises Busy past the bounds."""

    __slots__ = ("_held", "_number", "_room", "_scope")

    def __init__(self, room: BodyRoom, scope: str, number: int) -> None:
        self._room = room
        self._scope = scope
        self._number = number
        self._held = 0

    def __enter__(self) -> Callable[[int], None]:
        self._room.begin(self._scope, self._number)
        return self._count

    def __exit__(self, *error: object) -> None:
        self._room.end(self._scope, self._number, self._held)

    def _count(self, size: int) -> None:
        self._room.count(self._scope, size)
        self._held += size


def _take(counts: Counter[str], scope: str, number: int) -> None:
    counts[scope] -= number
    if not counts[scope]:
        del counts[scope]
