"""What a request has charged in Redis, or in this process while Redis is away: see `redis_limiter`."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.admission.limit_commands import Correction, Keys, LimitCommands
from gateway.admission.limit_line import Line, Question
from gateway.admission.limit_replies import Charge, admitted, amounts_of, charges_of
from gateway.admission.limits import Allowance, Wish
from gateway.admission.memory_limiter import MemoryReservation
from gateway.admission.owed import Owed
from gateway.admission.periods import period_ends
from gateway.admission.spending import Charged
from gateway.config import Budget
from gateway.errors import RedisUnavailable
from gateway.shared.base import Command, CommandError


class Shared(NamedTuple):
    """By all reservations of a limiter."""

    commands: LimitCommands
    line: Line
    open: "dict[RedisReservation, None]"  # whose leases are renewed
    owed: dict[Keys, Owed]  # of budgets, so there are as many as keys have some

    def owe(self, keys: Keys, budget: Budget, money: int) -> None:
        if keys not in self.owed:
            self.owed[keys] = Owed(self.commands, self.line, keys, budget.per, time.time)
        self.owed[keys].add(money)


_NO_CHARGES: Mapping[str, Charge] = {}
_NO_CORRECTIONS: Mapping[str, Correction] = {}


class RedisReservation:
    """See Reservation. In the line, it stands for what is due of it: a free place, a correction, or both."""

    __slots__ = (
        *("_budget", "_charged", "_charges", "_corrections", "_here", "_is_released", "_money", "_shared"),
        *("headers", "keys", "may_be_there", "place"),
    )

    def __init__(self, shared: Shared, keys: Keys, place: str, here: MemoryReservation) -> None:
        self.headers: Mapping[str, str] = {}
        self.keys = keys
        self.place = place
        self.may_be_there = False  # whether Redis may have the place
        self._shared = shared
        self._here = here  # its place in this process, and its charge if Redis is away
        self._is_released = False
        self._charges = _NO_CHARGES  # in Redis
        self._corrections = _NO_CORRECTIONS  # that are not sent
        self._budget: Budget | None = None
        self._charged: Charged | None = None  # to the budget, in Redis
        self._money: Correction | None = None  # of the budget, that is not sent

    @property
    def granted(self) -> int:
        return self._here.granted if self._charged is None else self._charged.total

    async def charge(self, allowance: Allowance, tokens: int, wish: Wish | None) -> None:
        """Raises the errors of `Limiter.reserve`. However it fails, `release` is due."""
        self._budget = allowance.budget
        amounts = amounts_of(allowance, tokens)
        self.may_be_there = self._shared.line.is_up
        command = self._shared.commands.reserve(self.keys, self.place, allowance, amounts, wish, time.time())
        asked = self._shared.line.ask(command)
        try:
            kind, states, *money = await self._shared.line.wait(asked)
        except asyncio.CancelledError:
            self._await_late(asked, amounts)
            raise
        except (RedisUnavailable, CommandError):
            self._await_late(asked, amounts)
            await self._here.charge(allowance, tokens, wish)
            self.headers = self._here.headers
        else:
            self.may_be_there = not kind
            self.headers = admitted(kind.decode(), states, allowance, money)
            self._charges = charges_of(states, amounts)
            self._take(money)

    def _take(self, money: list[int]) -> None:
        """Remembers what Redis has charged to the budget, if there is one."""
        if money and self._budget is not None:
            granted, spent, over, _ = money
            self._charged = Charged(granted, over)
            self._here.account(self._budget).learn(spent, over)

    def _await_late(self, asked: Question, amounts: Mapping[str, int]) -> None:
        if asked.reply.cancelled():
            self.may_be_there = False
        else:
            asked.reply.add_done_callback(lambda reply: self._take_back_late(reply, amounts))

    def _take_back_late(self, reply: "asyncio.Future[Any]", amounts: Mapping[str, int]) -> None:
        """The reply is there after the client has left, or has been charged here."""
        if reply.cancelled() or reply.exception() is not None:
            return
        kind, states, *money = reply.result()
        if not kind:
            self._charges = charges_of(states, amounts)
            if money:
                self._give_money_back(money[0], money[2])
            self._give_back()

    async def extend(self, money: int) -> bool:
        """While Redis is away, nothing is added to a sum that is reserved there."""
        charged, budget, line = self._charged, self._budget, self._shared.line
        if charged is None or budget is None:
            return await self._here.extend(money)
        asked = line.ask(self._shared.commands.extend(self.keys, budget, money, time.time()))
        try:
            over = await line.wait(asked)
        except asyncio.CancelledError:
            asked.reply.add_done_callback(lambda reply: self._extend_late(reply, budget, money))
            raise
        except (RedisUnavailable, CommandError):
            asked.reply.add_done_callback(lambda reply: self._extend_late(reply, budget, money))
            return False
        if over:
            self._add(budget, money, over)
        return bool(over)

    def _extend_late(self, reply: "asyncio.Future[Any]", budget: Budget, money: int) -> None:
        """The reply is there after the attempt was given up."""
        if not reply.cancelled() and reply.exception() is None and reply.result():
            self._add(budget, money, reply.result())

    def _add(self, budget: Budget, money: int, over: int) -> None:
        """More is charged to the budget in Redis. Settling gives back what is not used; after that, all of it is."""
        if self._charged is None:
            self._give_money_back(money, over)
        else:
            self._charged.add(money, over)
            self._here.account(budget).add(money, over)

    async def settle(self, tokens: int, cost: int = 0) -> None:
        """Charges what goes beyond the estimates now. Gives back what was not used, in the window of the estimate."""
        if self._here.granted and self._budget is not None:
            self._shared.owe(self.keys, self._budget, cost)
        await self._here.settle(tokens, cost)
        self._settle_budget(cost)
        reserved, self._charges = self._charges.get("tokens"), _NO_CHARGES
        if reserved is None or tokens == reserved.amount:
            return
        more = tokens - reserved.amount
        if more > 0 and not self._shared.line.is_up:
            await self._here.add(more)
        else:
            self._correct({"tokens": Correction(more, reserved.over)})

    def _settle_budget(self, cost: int) -> None:
        """In Redis, if it was charged there."""
        charged, self._charged = self._charged, None
        if charged is None or self._budget is None:
            return
        more, account = charged.correction(cost), self._here.account(self._budget)
        if more > 0:
            account.add(more, period_ends(self._budget.per, time.time()).running)
            self._shared.owe(self.keys, self._budget, more)
        elif more < 0:
            account.give_back(-more, charged.over)
            self._give_money_back(-more, charged.over)

    def _give_money_back(self, money: int, over: int) -> None:
        """With what still waits to be sent. Of an earlier period, that is of no use any more."""
        waits = self._money
        before = waits.more if waits is not None and waits.over == over else 0
        self._money = Correction(before - money, over)
        self._shared.line.put(self)

    async def take_back(self) -> None:
        self.release()
        await self._here.take_back()
        self._give_back()

    def _give_back(self) -> None:
        self._settle_budget(0)
        charges, self._charges = self._charges, _NO_CHARGES
        if charges:
            self._correct({kind: Correction(-charge.amount, charge.over) for kind, charge in charges.items()})

    def _correct(self, corrections: Mapping[str, Correction]) -> None:
        self._corrections = corrections
        self._shared.line.put(self)

    def release(self) -> None:
        if self._is_released:
            return
        self._is_released = True
        self._shared.open.pop(self, None)
        self._here.release()
        if self.may_be_there:
            self._shared.line.put(self)

    # In the line

    def command(self) -> Command:
        corrections, self._corrections = self._corrections, _NO_CORRECTIONS  # none of them is sent twice
        freed, money = self.place if self._is_released else "", self._money
        if money is None or self._budget is None:
            return self._shared.commands.correct(self.keys, freed, corrections)
        self._money = None
        ends = period_ends(self._budget.per, time.time())
        return self._shared.commands.correct(self.keys, freed, corrections, money, ends)

    def done(self, reply: Any) -> None:
        """Nobody waits for it."""

    def lost(self) -> bool:
        return self._is_released or bool(self._corrections) or self._money is not None
