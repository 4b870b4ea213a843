"""Who is told of every batch."""

from collections.abc import Callable


class Followers:
    __slots__ = ("_wakes",)

    def __init__(self) -> None:
        self._wakes: dict[object, Callable[[], None]] = {}

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` after every batch until the function that it returns is called."""
        token = object()
        self._wakes[token] = wake

        def unfollow() -> None:
            self._wakes.pop(token, None)

        return unfollow

    def tell(self) -> None:
        for wake in list(self._wakes.values()):  # one that is told may leave
            wake()
