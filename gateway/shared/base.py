"""The interface of the connection to Redis."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Command = Sequence[str | bytes | int | float]
"""The name of a command and its arguments: `("SET", "key", b"value", "PX", 1000)`."""


class CommandError(Exception):
    """Redis refused a command."""


class Connection(Protocol):
    @property
    def is_up(self) -> bool:
        """Whether the last operation was answered. While it is False, operations fail at once."""
        ...

    def listen(self, changed: Callable[[bool], None]) -> None:
        """Calls `changed` with True when Redis is back, and with False when it is away."""
        ...

    async def run(self, *command: str | bytes | int | float) -> Any:
        """The reply to one command. Raises RedisUnavailable, also if Redis refuses this command."""
        ...

    async def run_all(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to several commands, sent together. A refused command has a CommandError as its reply.

        Raises RedisUnavailable.
        """
        ...

    async def wait(self, seconds: float, *command: str | bytes | int | float) -> Any:
        """The reply to a command that blocks for up to `seconds`, on a connection of its own.

        There is one such connection, so callers wait for each other. Raises RedisUnavailable.
        """
        ...

    async def close(self) -> None: ...
