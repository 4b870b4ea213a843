"""Who is told of every batch."""

from collections.abc import Callable


class Followers:
    __slots__ = ("_told", "_wakes")

    def __init__(self) -> None:
        self._wakes: dict[Callable[[], None], None] = {}
        self._told: tuple[Callable[[], None], ...] | None = ()  # the same in order; None after a change

    def follow(self, wake: Callable[[], None]) -> None:
        """Calls `wake` after every batch until `unfollow`."""
        self._wakes[wake] = None
        self._told = None

    def unfollow(self, wake: Callable[[], None]) -> None:
        """May be called twice."""
        self._wakes.pop(wake, None)
        self._told = None

    def tell(self) -> None:
        if self._told is None:
            self._told = tuple(self._wakes)
        for wake in self._told:  # one that is told may leave
            wake()
