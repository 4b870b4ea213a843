"""Who is told of every batch."""

from collections.abc import Callable
from contextlib import suppress


class Followers:
    """Nearly always there is one. Those of thousands leave in the order in which they came, so one is found at once."""

    __slots__ = ("_wakes",)

    def __init__(self) -> None:
        self._wakes: tuple[Callable[[], None], ...] = ()

    def follow(self, wake: Callable[[], None]) -> None:
        """Calls `wake` after every batch until `unfollow`."""
        self._wakes += (wake,)

    def unfollow(self, wake: Callable[[], None]) -> None:
        """May be called twice."""
        with suppress(ValueError):
            place = self._wakes.index(wake)
            self._wakes = self._wakes[:place] + self._wakes[place + 1 :]

    def tell(self) -> None:
        for wake in self._wakes:  # one that is told may leave
            wake()
