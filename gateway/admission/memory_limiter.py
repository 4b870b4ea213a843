"""Counts limits in the memory of this process. The only module that uses the library `limits`.

It uses the library's counters with an expiry, which are fixed windows. A window is a minute that begins with a caller's
first request. These counters can be decreased, which settling needs, and Redis has the same operations.

Each caller has a storage of its own, because the library's storage goes through all its counters at every count. With a
shared one, the cost of a request would grow with the number of callers.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from limits.aio.storage import MemoryStorage

from gateway.admission.budgets import MILLION, amount
from gateway.admission.limits import Allowance, Wish
from gateway.admission.periods import period_ends
from gateway.admission.refusals import (
    BudgetState,
    budget_headers,
    limit_headers,
    over_budget,
    rate_limited,
    too_many_streams,
)
from gateway.admission.spending import Charged, Spending
from gateway.config import Budget, Per
from gateway.errors import RateLimited

WINDOW = 60  # seconds


class MemoryLimiter:
    """See Limiter. It uses `time.time`, the clock of the library."""

    def __init__(self, *, window_seconds: float = WINDOW) -> None:
        self._window = window_seconds
        self._callers: OrderedDict[str, _Caller] = OrderedDict()  # in the order of their last charge

    @property
    def streams(self) -> int:
        """The number of places in use."""
        return sum(caller.streams for caller in self._callers.values())

    async def close(self) -> None:
        """Nothing rests elsewhere."""

    async def check(self, allowance: Allowance) -> None:
        caller = self._callers.get(allowance.scope)
        if caller is None:
            return
        for kind, limit in (("requests", allowance.requests_per_minute), ("tokens", allowance.tokens_per_minute)):
            if limit is not None and await caller.counts.get(kind) >= limit:
                raise rate_limited(kind, limit, limit, _left(await caller.counts.get_expiry(kind)), {})
        _check_streams(caller, allowance)
        if allowance.budget is not None:
            account, over = caller.account(allowance.budget), _over(allowance.budget.per)
            if account.rest(over) <= 0:
                raise _refusal(allowance.budget, account, over, {})

    async def reserve(self, allowance: Allowance, tokens: int, wish: Wish | None = None) -> "MemoryReservation":
        reservation = self.place(allowance.scope)
        await reservation.charge(allowance, tokens, wish)
        return reservation

    def budgets(self) -> Mapping[str, float]:
        return {
            scope: max(0, spending.rest(_over(per))) / MILLION
            for scope, caller in self._callers.items()
            for per, spending in caller.spending.items()
        }

    def place(self, scope: str) -> "MemoryReservation":
        """A place for a stream, in any case, without a charge."""
        return MemoryReservation(self._caller(scope))

    def _caller(self, scope: str) -> "_Caller":
        self._forget(time.time() - self._window)
        caller = self._callers.get(scope)
        if caller is None:
            caller = self._callers[scope] = _Caller(self._window)
        caller.last_used = time.time()
        self._callers.move_to_end(scope)
        return caller

    def _forget(self, before: float) -> None:
        """Drops callers whose windows are over. One with open streams is kept, and checked again a window later.

        So is one with a budget, until the period is over in which it has spent something.
        """
        while self._callers:
            scope, caller = next(iter(self._callers.items()))
            if caller.last_used >= before:
                return
            del self._callers[scope]
            if caller.streams or caller.has_spent:
                caller.last_used = time.time()
                self._callers[scope] = caller


class _Caller:
    """The counters of one scope."""

    @cached_property
    def counts(self) -> MemoryStorage:
        """The counters exist only if there are limits."""
        return MemoryStorage()

    def __init__(self, window: float) -> None:
        self.window = window  # seconds
        self.streams = 0
        self.last_used = 0.0
        self.spending: dict[Per, Spending] = {}

    @property
    def has_spent(self) -> bool:
        return any(spending.spent and spending.over == _over(per) for per, spending in self.spending.items())

    def account(self, budget: Budget) -> Spending:
        """What is spent of the budget."""
        account = self.spending.get(budget.per)
        if account is None:
            account = self.spending[budget.per] = Spending()
        account.amount = amount(budget)
        return account


@dataclass(frozen=True, slots=True)
class _Count:
    amount: int
    over: float  # the end of its window, in seconds since the epoch


@dataclass(frozen=True, slots=True)
class _Part:
    """What a request has reserved of its budget."""

    account: Spending
    per: Per
    charged: Charged


_NOTHING: Mapping[str, Any] = {}  # of most streams; with two dictionaries of its own, each takes 0.1 KiB more


class MemoryReservation:
    """See Reservation."""

    __slots__ = ("_caller", "_counted", "_part", "_released", "headers")

    def __init__(self, caller: _Caller) -> None:
        caller.streams += 1
        self.headers: Mapping[str, str] = _NOTHING
        self._caller = caller
        self._released = False
        self._counted: Mapping[str, _Count] = _NOTHING
        self._part: _Part | None = None

    @property
    def granted(self) -> int:
        return 0 if self._part is None else self._part.charged.total

    async def charge(self, allowance: Allowance, tokens: int, wish: Wish | None) -> None:
        """Charges a request. Raises the errors of `Limiter.reserve`; then there is no charge, and no place."""
        try:
            if allowance.requests_per_minute is not None:
                await self._count("requests", allowance.requests_per_minute, 1)
            if allowance.tokens_per_minute is not None:
                await self._count("tokens", allowance.tokens_per_minute, tokens)
            _check_streams(self._caller, allowance, own=1)
            if allowance.budget is not None and wish is not None:
                self._take(allowance.budget, wish)
        except BaseException:
            await self.take_back()
            raise

    async def _count(self, kind: str, limit: int, amount: int) -> None:
        """Counts `amount` against `limit`. Raises RateLimited, without counting, if that would exceed it."""
        counts = self._caller.counts
        amount = min(amount, limit)  # a request above the whole limit is admitted if it is the only one
        count = await counts.incr(kind, self._caller.window, amount)
        over = await counts.get_expiry(kind)
        if count > limit:
            await counts.decr(kind, amount)
            raise rate_limited(kind, limit, count - amount, _left(over), self.headers)
        self.headers = {**self.headers, **limit_headers(kind, limit, count, _left(over))}
        self._counted = {**self._counted, kind: _Count(amount, over)}

    def _take(self, budget: Budget, wish: Wish) -> None:
        """Raises BudgetReserved or InsufficientQuota."""
        account, over = self._caller.account(budget), _over(budget.per)
        granted = account.take(wish, over)
        if granted is None:
            raise _refusal(budget, account, over, self.headers)
        account.open += 1
        self._part = _Part(account, budget.per, Charged(granted, over))
        state = BudgetState(account.amount, account.spent, _left(over / 1000))
        self.headers = {**self.headers, **budget_headers(state)}

    def account(self, budget: Budget) -> Spending:
        """What this process knows of the budget's spending."""
        return self._caller.account(budget)

    async def extend(self, money: int) -> bool:
        if self._part is None:
            return True
        over = _over(self._part.per)
        granted = self._part.account.take(Wish(money, money), over)
        if granted is not None:
            self._part.charged.add(granted, over)
        return granted is not None

    async def settle(self, tokens: int, cost: int = 0) -> None:
        """Charges what goes beyond the estimates now. Gives back what was not used, in the window of the estimate."""
        self._caller.last_used = time.time()
        self._settle_part(cost)
        reserved, self._counted = self._counted.get("tokens"), _NOTHING
        if reserved is None:
            return
        if tokens > reserved.amount:
            await self.add(tokens - reserved.amount)
        else:
            await self._give_back("tokens", reserved, reserved.amount - tokens)

    def _settle_part(self, cost: int) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        part.account.open -= 1
        more = part.charged.correction(cost)
        if more > 0:
            part.account.add(more, _over(part.per))
        else:
            part.account.give_back(-more, part.charged.over)

    async def add(self, tokens: int) -> None:
        """Charges more tokens now, whatever the limit."""
        self._caller.last_used = time.time()
        await self._caller.counts.incr("tokens", self._caller.window, tokens)

    async def take_back(self) -> None:
        self.release()
        self._settle_part(0)
        for kind, counted in self._counted.items():
            await self._give_back(kind, counted, counted.amount)

    async def _give_back(self, kind: str, counted: "_Count", amount: int) -> None:
        if time.time() < counted.over:
            await self._caller.counts.decr(kind, amount)

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._caller.streams -= 1


def _check_streams(caller: _Caller, allowance: Allowance, *, own: int = 0) -> None:
    """Raises TooManyStreams without a free place. `own` places are taken by the request itself."""
    if allowance.max_streams is not None and caller.streams - own >= allowance.max_streams:
        raise too_many_streams()


def _refusal(budget: Budget, account: Spending, over: int, headers: Mapping[str, str]) -> RateLimited:
    state = BudgetState(account.amount, account.amount - account.rest(over), _left(over / 1000))
    return over_budget(budget, state, headers, is_running=account.open > 0)


def _over(per: Per) -> int:
    """The end of the period that runs, in milliseconds since the epoch."""
    return period_ends(per, time.time()).running


def _left(over: float) -> float:
    return over - time.time()
