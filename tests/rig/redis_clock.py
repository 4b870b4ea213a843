"""A Redis whose clock is set by hand, as far as scripts can tell."""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.shared.base import Command, CommandError
from gateway.shared.connection import RedisConnection

_TIME = "redis.call('TIME')"
PATIENT_SECONDS = 30.0  # for an operation: a machine that is busy with something else is no fault


class ClockedConnection(RedisConnection):
    """Puts the time of `clock`, in seconds, into scripts in place of Redis's own. Keys expire by Redis's own.

    Fails the test if Redis is away, or refuses a command: a limiter would count in memory then.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        super().__init__(url, operation_seconds=PATIENT_SECONDS)
        self._clock = clock
        self._refused_commands: list[CommandError] = []

    async def run_all(self, commands: Sequence[Command]) -> list[Any]:
        replies = await super().run_all([self._at_this_time(command) for command in commands])
        self._refused_commands += [reply for reply in replies if isinstance(reply, CommandError)]
        return replies

    async def close(self) -> None:
        assert self.is_up
        assert self._refused_commands == []
        await super().close()

    def _at_this_time(self, command: Command) -> Command:
        name, *arguments = command
        if name != "EVAL":
            return command
        script = str(arguments[0])
        assert _TIME in script  # no script looks at another clock
        seconds, micros = divmod(round(self._clock() * 1_000_000), 1_000_000)
        return (name, script.replace(_TIME, f"{{{seconds}, {micros}}}"), *arguments[1:])
