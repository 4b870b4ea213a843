"""Whatever is asked, at any prices, by any number of callers at once: the bill does not pass the budget.

What is settled passes it by no more than the estimates of the prompts of the answers that run. The upstream is one that
obeys the bound that it is sent, and whose prompts have at most twice the tokens of the estimate. It bills what it likes
within that for an answer that is cut, and tells no usage then. Attempts fail, are repeated and run beside each other.

Both limiters are tried, the one in Redis with a real one. A model of the account, which is kept here in a few lines,
says what each request is granted.
"""

import asyncio
import json
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.admission.budgets import Quote, amount, cost, quote
from gateway.admission.limits import Allowance, Limiter, Reservation
from gateway.admission.memory_limiter import MemoryLimiter
from gateway.admission.periods import period_ends
from gateway.admission.redis_limiter import RedisLimiter
from gateway.config import Budget, Per, Prices
from gateway.endpoints import Endpoint
from gateway.errors import BudgetReserved, InsufficientQuota
from gateway.streams.bill import Bill
from gateway.upstream.dialects.usage import Tokens
from tests.admission.clock import Clock
from tests.rig.redis import RedisServer
from tests.rig.redis_clock import PATIENT_SECONDS, ClockedConnection

T = TypeVar("T")

_price = st.one_of(st.sampled_from([0.0, 0.15, 0.6, 15.0, 1 / 3]), st.floats(0, 100))
_prices = st.builds(Prices, _price, _price, st.none() | _price, st.none() | _price)
_numbers = count()


def _up_to(most: int) -> st.SearchStrategy[int]:
    """The ends are tried more often than chance would."""
    return st.sampled_from([0, most]) | st.integers(0, most)


@dataclass
class Attempt:
    prices: Prices
    estimate: int  # of its prompt, in millionths
    billed: int = 0  # by the upstream
    is_over: bool = False


@dataclass(eq=False)
class Request:
    quote: Quote
    bound: int
    reservation: Reservation
    bill: Bill
    granted: list[tuple[int, int]]  # the period and the sum
    attempts: list[Attempt] = field(default_factory=list)


class Rig:
    """A limiter on a clock, and the loop that runs it."""

    def __init__(self, url: str | None) -> None:
        self.clock = Clock()
        self.loop = asyncio.new_event_loop()
        self._url = url
        self._connection: ClockedConnection | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def start(self) -> Limiter:
        return self.run(self._start())

    async def _start(self) -> Limiter:
        if self._url is None:
            return MemoryLimiter()
        self._connection = ClockedConnection(self._url, self.clock)
        prefix = f"p{next(_numbers)}:"
        return RedisLimiter(self._connection, prefix, "a", lease_seconds=1e9, wait_seconds=PATIENT_SECONDS)

    def stop(self, limiter: Limiter) -> None:
        self.run(limiter.close())
        if self._connection is not None:
            self.run(self._connection.close())


class Account(RuleBasedStateMachine):
    rig: Rig  # of all examples of a test

    def __init__(self) -> None:
        super().__init__()
        self.open: list[Request] = []
        self.charged: dict[int, int] = {}  # by the end of the period
        self.margin: dict[int, int] = {}  # what the prompts of running answers may take beyond their estimates

    @initialize(
        written=st.sampled_from([0.000001, 0.00005, 0.003, 0.1, 2.0]),
        per=st.sampled_from(Per),
        most=st.sampled_from([1, 100, 16_384]),
        prices=st.lists(_prices, min_size=1, max_size=3),
    )
    def begin(self, written: float, per: Per, most: int, prices: list[Prices]) -> None:
        self.rig.clock.now = 1_700_000_000.0
        self.limiter = self.rig.start()
        self.budget, self.prices = Budget(written, per, most), prices
        self.allowance = Allowance("s", budget=self.budget)
        self.amount = amount(self.budget)

    @property
    def period(self) -> int:
        over = period_ends(self.budget.per, self.rig.clock.now).running
        if over not in self.charged:
            self.charged[over], self.margin[over] = 0, self.estimates
        return over

    @property
    def estimates(self) -> int:
        return sum(attempt.estimate for request in self.open for attempt in request.attempts)

    # What happens

    @rule(
        size=st.integers(0, 4000),
        bound=st.none() | st.integers(-1, 3000),
        n=st.integers(1, 4),
        endpoint=st.sampled_from([Endpoint.CHAT, Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS]),
        together=st.integers(1, 4),
    )
    def ask(self, size: int, bound: int | None, n: int, endpoint: Endpoint, together: int) -> None:
        fields = {"prompt": "x" * size, "n": n, "max_tokens": bound}
        asked = quote(json.dumps(fields).encode(), endpoint, self.budget, self.prices)
        for outcome in self.rig.run(self._reserve_all(asked, together)):
            left = self.amount - self.charged[self.period]
            if isinstance(outcome, BaseException):
                assert left < asked.wish.least
                assert type(outcome) is (BudgetReserved if self.open else InsufficientQuota)
                continue
            assert outcome.granted == min(left, asked.wish.most)
            length = asked.bound(outcome.granted)
            assert all(asked.cost(length, prices) <= outcome.granted for prices in self.prices)
            if endpoint.is_written:
                assert length >= min(16, asked.wanted)
            sums = [(self.period, outcome.granted)]
            request = Request(asked, length, outcome, Bill(asked, length, outcome), sums)
            self.open.append(request)
            self._begin(request, self.prices[0])
            self._grant(outcome.granted)

    async def _reserve_all(self, asked: Quote, together: int) -> list[Reservation | BaseException]:
        reserving = [self.limiter.reserve(self.allowance, 0, asked.wish) for _ in range(together)]
        return await asyncio.gather(*reserving, return_exceptions=True)

    def _grant(self, money: int) -> None:
        self.charged[self.period] += money
        self.margin[self.period] = self.estimates

    def _begin(self, request: Request, prices: Prices) -> None:
        attempt = Attempt(prices, request.quote.cost(0, prices))
        request.attempts.append(attempt)
        request.bill.begin(len(request.attempts), prices)
        self.margin[self.period] += attempt.estimate

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        """After a failure, or beside an attempt that is silent."""
        request = data.draw(st.sampled_from(self.open))
        if data.draw(st.booleans()):
            self._end(request, data, is_last=False)
        prices = data.draw(st.sampled_from(self.prices))
        before = request.reservation.granted
        covered = self.rig.run(request.bill.covers(prices))
        more = request.reservation.granted - before
        assert covered or more == 0
        if not covered:
            return
        self._begin(request, prices)
        if more:
            assert self.charged[self.period] + more <= self.amount
            request.granted.append((self.period, more))
            self._grant(more)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.open))
        self._end(request, data, is_last=True)
        charged = request.bill.total
        billed = sum(attempt.billed for attempt in request.attempts)
        assert billed <= charged + sum(attempt.estimate for attempt in request.attempts)
        self.rig.run(_done(request, charged))
        self.open.remove(request)
        self._settle(request.granted, charged)

    def _settle(self, granted: list[tuple[int, int]], charged: int) -> None:
        more = charged - sum(money for _, money in granted)
        if more > 0:
            self.charged[self.period] += more
        else:
            latest = sum(money for period, money in granted if period == self.period)
            self.charged[self.period] -= min(-more, latest)

    def _end(self, request: Request, data: st.DataObject, *, is_last: bool) -> None:
        """All attempts of a request end, or the last one. The upstream bills each, and may or may not tell how much."""
        for number, attempt in enumerate(request.attempts, 1):
            if attempt.is_over or (not is_last and number < len(request.attempts)):
                continue
            attempt.is_over = True
            how = data.draw(st.sampled_from(["refused", "cut", "cut", "whole"]))
            if how == "refused":
                request.bill.end(number, Tokens(), is_whole=False)
                continue
            entered = data.draw(_up_to(2 * request.quote.prompt))
            written = data.draw(_up_to(request.bound * request.quote.answers))
            cached, kept = [data.draw(st.integers(0, entered)) for _ in range(2)]
            took = Tokens(entered, written, cached=cached, written=kept)
            attempt.billed = cost(took, attempt.prices)
            if how == "whole" and took.all:
                request.bill.end(number, took, is_whole=True)
            else:
                guessed = Tokens(request.quote.prompt, data.draw(_up_to(written)), estimated=True)
                request.bill.end(number, guessed, is_whole=False)

    @rule(seconds=st.sampled_from([0.5, 61, 3600, 86_400, 31 * 86_400]))
    def wait(self, seconds: float) -> None:
        self.rig.clock.now += seconds

    # What holds

    @invariant()
    def no_period_passes_its_budget_by_more_than_the_prompts(self) -> None:
        for period, charged in self.charged.items():
            assert charged <= self.amount + self.margin[period]

    @invariant()
    def what_is_told_is_what_is_left(self) -> None:
        if self.charged:
            left = max(0, self.amount - self.charged[self.period]) / 1_000_000
            assert self.limiter.budgets().get("s", self.amount / 1_000_000) == left

    def teardown(self) -> None:
        if hasattr(self, "limiter"):
            for request in self.open:
                self.rig.run(_done(request, request.reservation.granted))
            self.rig.stop(self.limiter)


async def _done(request: Request, cost: int) -> None:
    """What happens at the end of every answer."""
    request.reservation.release()
    await request.reservation.settle(0, cost)


@contextmanager
def rig(url: str | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    rig = Rig(url)
    monkeypatch.setattr(time, "time", rig.clock)
    yield rig
    rig.loop.close()


def test_no_bill_passes_its_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    with rig(None, monkeypatch) as one:

        class InMemory(Account):
            rig = one

        many = settings(stateful_step_count=20, max_examples=max(100, settings().max_examples // 2))
        run_state_machine_as_test(InMemory, settings=many)


def test_no_bill_passes_its_budget_in_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    server = RedisServer()
    with rig(server.url, monkeypatch) as one:

        class InRedis(Account):
            rig = one

        one.run(server.start())
        few = settings(stateful_step_count=20, max_examples=max(25, settings().max_examples // 10))
        try:
            run_state_machine_as_test(InRedis, settings=few)
        finally:
            one.run(server.stop())
