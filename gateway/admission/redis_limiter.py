"""Counts limits in Redis, for all gateways that share it.

The counts are scripts of our own (`limit_commands`), not the library `limits`, which `memory_limiter` uses: its storage
for Redis can only add, settling needs to give back, and each count is a round trip or two. Places of open streams need
leases, which it does not have: a process renews the leases of its own places, and those of a process that was killed
are free when their leases are over.

While Redis is away, this process counts by itself. What that means for a request:

- It is settled and taken back where it was charged. What it gives back to Redis waits for its return, and is dropped
  if its window is over by then. Tokens beyond the estimate are charged where requests are charged at that moment.
- Its place counts in this process in any case, and in Redis from the next renewal on, wherever it was charged. So
  places are in Redis again after a return, or after Redis has lost everything.
- If Redis fails while a command runs, nobody knows whether it was done. No charge or correction is repeated. A request
  may then be charged both in Redis and here until its minute is over, or its estimate may stand uncorrected. Frees and
  renewals of places are repeated, since they may be done twice.
- Of a budget, this process goes on from what it last heard from Redis. What it spends is charged in Redis on its return
  (see `owed`).
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from secrets import token_hex

from gateway.admission.limit_commands import Keys, LimitCommands
from gateway.admission.limit_line import Line
from gateway.admission.limit_replies import is_limited, raise_refusal
from gateway.admission.limits import Allowance, Reservation, Wish
from gateway.admission.memory_limiter import WINDOW, MemoryLimiter
from gateway.admission.redis_reservation import RedisReservation, Shared
from gateway.errors import RedisUnavailable
from gateway.shared.base import Command, CommandError, Connection
from gateway.shared.ending import end

_LEASE_SECONDS = 30.0  # the places of a killed process are taken for as long; a stalled one has as much time to renew
_RENEW_SECONDS = 10.0  # two renewals may fail before a lease is over
_PLACES = 100  # whose leases are renewed at once; requests wait behind them for 5 ms
_WAIT_SECONDS = 1.0  # a healthy Redis takes 1 ms; a request that waits for longer is counted in this process


class RedisLimiter:
    """See Limiter. `prefix` begins all keys. `owner` names this process in places, for a person who looks into Redis.

    A request waits for one round trip, and for the one that is under way when it comes. A caller without limits costs
    nothing.
    """

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        owner: str,
        *,
        window_seconds: float = WINDOW,
        lease_seconds: float = _LEASE_SECONDS,
        renew_seconds: float = _RENEW_SECONDS,
        wait_seconds: float = _WAIT_SECONDS,
    ) -> None:
        self._owner = owner
        self._renew_seconds = renew_seconds
        self._commands = LimitCommands(prefix, window_seconds=window_seconds, lease_seconds=lease_seconds)
        self._line = Line(connection, wait_seconds)
        self._shared = Shared(self._commands, self._line, {}, {})
        self._memory = MemoryLimiter(window_seconds=window_seconds)
        self._is_back = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        connection.listen(lambda is_up: self._is_back.set() if is_up else None)

    @property
    def streams(self) -> int:
        """The number of places that this process has in use."""
        return self._memory.streams

    async def check(self, allowance: Allowance) -> None:
        if not is_limited(allowance):
            return
        try:
            asked = self._line.ask(self._commands.check(self._commands.keys(allowance), allowance, time.time()))
            kind, left, *spent = await self._line.wait(asked)
        except (RedisUnavailable, CommandError):
            await self._memory.check(allowance)
            return
        raise_refusal(kind.decode(), left, spent, allowance)

    async def reserve(self, allowance: Allowance, tokens: int, wish: Wish | None = None) -> Reservation:
        if not is_limited(allowance):
            return _UNLIMITED
        keys, here = self._commands.keys(allowance), self._memory.place(allowance.scope)
        reservation = RedisReservation(self._shared, keys, f"{self._owner}.{token_hex(8)}", here)
        try:
            await reservation.charge(allowance, tokens, wish)
        except BaseException:
            reservation.release()
            raise
        self._shared.open[reservation] = None
        if self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return reservation

    def budgets(self) -> Mapping[str, float]:
        return self._memory.budgets()

    async def _renew(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._renew_seconds):
                    await self._is_back.wait()
            self._is_back.clear()
            reservations = list(self._shared.open)
            for first in range(0, len(reservations), _PLACES):
                if not self._line.is_up:
                    break
                commands = self._renewals(reservations[first : first + _PLACES])
                asked = [self._line.ask(command).reply for command in commands]
                await asyncio.gather(*asked, return_exceptions=True)

    def _renewals(self, reservations: list[RedisReservation]) -> list[Command]:
        """One command for each scope. Those that were released meanwhile are left out."""
        places: dict[Keys, list[str]] = {}
        for reservation in reservations:
            if reservation in self._shared.open:
                places.setdefault(reservation.keys, []).append(reservation.place)
                reservation.may_be_there = True
        return [self._commands.renew(keys, some) for keys, some in places.items()]

    async def close(self) -> None:
        """Sends what is due, as long as Redis is there. Places that are still open are free when their leases are over.

        Call it before the connection is closed.
        """
        if self._renewing is not None:
            await end([self._renewing])
        await self._line.close()


class _Unlimited:
    """The reservation of every caller without limits."""

    headers: Mapping[str, str] = {}
    granted = 0

    async def extend(self, money: int) -> bool:
        return True

    async def settle(self, tokens: int, cost: int = 0) -> None:
        pass

    async def take_back(self) -> None:
        pass

    def release(self) -> None:
        pass


_UNLIMITED = _Unlimited()
