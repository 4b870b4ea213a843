"""Who is told of every batch."""

from collections.abc import Callable


class Followers:
    __slots__ = ("_told", "_wakes")

    def __init__(self) -> None:
        self._wakes: dict[object, Callable[[], None]] = {}
        self._told: tuple[Callable[[], None], ...] | None = ()  # the same in order; None after a change

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` after every batch until the function that it returns is called."""
        token = object()
        self._wakes[token] = wake
        self._told = None

        def unfollow() -> None:
            self._wakes.pop(token, None)
            self._told = None

        return unfollow

    def tell(self) -> None:
        if self._told is None:
            self._told = tuple(self._wakes.values())
        for wake in self._told:  # one that is told may leave
            wake()
