"""Money that is still to be charged in Redis: it is charged, whatever happens on the way, and at most twice."""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.admission.limit_commands import Keys, LimitCommands
from gateway.admission.limit_line import Line
from gateway.admission.owed import Owed
from gateway.config import Per
from gateway.errors import RedisUnavailable
from gateway.shared.base import Command, CommandError
from tests.rig.clients import eventually

KEYS = Keys("counts", "places", "day")


class Flaky:
    """A connection that fails when it is told to, with the command done or not."""

    def __init__(self) -> None:
        self.is_up = True
        self.charged: list[int] = []
        self.replies: list[Exception | None] = []  # to the next batches; without one, each is done
        self._changed: list[Callable[[bool], None]] = []

    def listen(self, changed: Callable[[bool], None]) -> None:
        self._changed.append(changed)

    async def run_all(self, commands: Sequence[Command]) -> list[Any]:
        reply = self.replies.pop(0) if self.replies else None
        if isinstance(reply, RedisUnavailable):
            self.is_up = False
            raise reply
        if reply is None:
            self.charged += [_money(command) for command in commands]
        return [reply for _ in commands]

    async def run(self, *command: str | bytes | int | float) -> Any:
        raise NotImplementedError

    async def wait(self, seconds: float, *command: str | bytes | int | float) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        self.is_up = False

    def come_back(self) -> None:
        self.is_up = True
        for changed in self._changed:
            changed(True)


def _money(command: Command) -> int:
    """The sum, which is followed by its period and the ends of three periods."""
    return int(command[-5])


def owed(connection: Flaky) -> Owed:
    commands = LimitCommands("p:", window_seconds=60, lease_seconds=30)
    return Owed(commands, Line(connection, 1.0), KEYS, Per.DAY, lambda: 1_700_000_000.0)


async def test_what_is_owed_is_charged_once() -> None:
    connection = Flaky()
    debt = owed(connection)
    debt.add(30)
    debt.add(12)
    await eventually(lambda: connection.charged == [42])
    debt.add(7)
    await eventually(lambda: connection.charged == [42, 7])


async def test_it_waits_for_the_return_of_redis() -> None:
    connection = Flaky()
    debt = owed(connection)
    connection.is_up = False
    for money in (1, 2, 3):
        debt.add(money)
    connection.come_back()
    await eventually(lambda: connection.charged == [6])


async def test_it_is_sent_again_if_nobody_knows_whether_it_was_charged() -> None:
    connection = Flaky()
    connection.replies = [RedisUnavailable()]
    debt = owed(connection)
    debt.add(30)
    await eventually(lambda: not connection.is_up)
    debt.add(5)
    connection.come_back()
    await eventually(lambda: connection.charged == [35])


async def test_it_is_sent_with_the_next_if_redis_refused_it() -> None:
    connection = Flaky()
    connection.replies = [CommandError("NOPERM")]
    debt = owed(connection)
    debt.add(30)
    await eventually(lambda: not connection.replies)
    debt.add(5)
    await eventually(lambda: connection.charged == [35])
