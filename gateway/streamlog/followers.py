"""Who is told of every batch."""

from collections.abc import Callable


class Followers:
    __slots__ = ("_wakes",)

    def __init__(self) -> None:
        self._wakes: tuple[Callable[[], None], ...] = ()  # replaced, not changed: one that is told may leave

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Calls `wake` after every batch until the function that it returns is called."""
        self._wakes += (wake,)

        def unfollow() -> None:
            self._wakes = tuple(other for other in self._wakes if other is not wake)

        return unfollow

    def tell(self) -> None:
        for wake in self._wakes:
            wake()
