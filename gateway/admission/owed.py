"""What is still to be charged to a budget in Redis, whatever is left of it.

That is the cost of an answer beyond its reservation, and the whole cost of an answer that was admitted while Redis was
away. It waits for the return of Redis. If Redis fails while it is sent, nobody knows whether it was charged, and it is
sent again: to charge it twice is the smaller fault, since a budget must not be exceeded.
"""

from collections.abc import Callable
from typing import Any

from gateway.admission.limit_commands import Correction, Keys, LimitCommands
from gateway.admission.limit_line import Line
from gateway.admission.periods import period_ends
from gateway.config import Per
from gateway.shared.base import Command, CommandError


class Owed:
    """Of one budget. It is an item of the line. `now` is a clock, in seconds since the epoch."""

    def __init__(self, commands: LimitCommands, line: Line, keys: Keys, per: Per, now: Callable[[], float]) -> None:
        self._commands = commands
        self._line = line
        self._keys = keys
        self._per = per
        self._now = now
        self._sum = 0  # millionths
        self._sent = 0  # of them

    def add(self, money: int) -> None:
        self._sum += money
        self._line.put(self)

    def command(self) -> Command:
        self._sent = self._sum
        charge = Correction(self._sent, 0)
        return self._commands.correct(self._keys, "", {}, charge, period_ends(self._per, self._now()))

    def done(self, reply: Any) -> None:
        if not isinstance(reply, CommandError):
            self._sum -= self._sent

    def lost(self) -> bool:
        return self._sum > 0
