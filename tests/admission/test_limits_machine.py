"""Any callers, in any order, under a clock that stands still: what is let in and what is charged, against a model.

The model is arithmetic: a window of a minute for each kind of limit, and a number of places.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from gateway.admission.limits import Allowance
from gateway.admission.memory_limiter import WINDOW, MemoryLimiter, MemoryReservation
from gateway.errors import GatewayError, RateLimited, TooManyStreams
from tests.admission.clock import Clock

T = TypeVar("T")

SCOPES = ("key:a", "key:b")
KINDS = ("requests", "tokens")

allowances = st.builds(
    Allowance,
    st.just(""),
    st.sampled_from([None, 1, 2, 4]),
    st.sampled_from([None, 10, 60, 100]),
    st.sampled_from([None, 1, 3, 9]),
)
steps = st.sampled_from([0.0, 0.5, 1.0, 29.5, 30.0, WINDOW - 1, WINDOW - 0.5, float(WINDOW), WINDOW + 1.0, 500.0])


@dataclass
class Window:
    count: int = 0
    over: float = 0.0

    def at(self, now: float) -> "Window":
        """The window of this time: a new one, if this one is over or nothing is counted in it."""
        return self if now < self.over and self.count else Window(0, now + WINDOW)


@dataclass
class Account:
    """What one caller has used."""

    places: int = 0
    windows: dict[str, Window] = field(default_factory=lambda: {kind: Window() for kind in KINDS})
    admitted: dict[float, int] = field(default_factory=dict)  # requests in each window, by its end

    def counted(self, kind: str, now: float) -> int:
        window = self.windows[kind]
        return window.count if now < window.over else 0


@dataclass
class Charge:
    scope: str
    reservation: MemoryReservation
    amounts: dict[str, int]
    windows: dict[str, Window]


class Limits(RuleBasedStateMachine):
    charges: Bundle[Charge] = Bundle("charges")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.patched = mock.patch.object(time, "time", self.clock)
        self.patched.start()
        self.loop = asyncio.new_event_loop()
        self.limiter = MemoryLimiter()
        self.accounts = {scope: Account() for scope in SCOPES}

    @initialize(first=allowances, second=allowances)
    def two_callers(self, first: Allowance, second: Allowance) -> None:
        self.allowances = {
            scope: Allowance(scope, given.requests_per_minute, given.tokens_per_minute, given.max_streams)
            for scope, given in zip(SCOPES, (first, second), strict=True)
        }

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    # What callers do

    @rule(target=charges, scope=st.sampled_from(SCOPES), tokens=st.integers(0, 150))
    def one_asks(self, scope: str, tokens: int):
        expected = self.refusal(scope, tokens)
        if expected is not None:
            with pytest.raises(expected[0]) as raised:
                self.run(self.limiter.reserve(self.allowances[scope], tokens))
            assert raised.value.headers["Retry-After"] == expected[1]
            return multiple()
        reservation = self.run(self.limiter.reserve(self.allowances[scope], tokens))
        charge = self.charged(scope, tokens, reservation)
        for kind, amount in charge.amounts.items():
            limit, window = self.limit(scope, kind), charge.windows[kind]
            assert reservation.headers[f"x-ratelimit-limit-{kind}"] == str(limit)
            assert reservation.headers[f"x-ratelimit-remaining-{kind}"] == str(limit - window.count)
            assert 0 <= amount <= limit
        assert len(reservation.headers) == 3 * len(charge.amounts)
        return charge

    @rule(scope=st.sampled_from(SCOPES))
    def one_is_checked(self, scope: str) -> None:
        """It says what the smallest request would be told, and charges nothing."""
        account, now = self.accounts[scope], self.clock.now
        full = any(limit and account.counted(kind, now) >= limit for kind, limit in self.limits(scope))
        places = self.allowances[scope].max_streams
        expected = RateLimited if full else TooManyStreams if places is not None and account.places >= places else None
        if expected is None:
            self.run(self.limiter.check(self.allowances[scope]))
        else:
            with pytest.raises(expected):
                self.run(self.limiter.check(self.allowances[scope]))

    @rule(charge=consumes(charges), tokens=st.integers(0, 200))
    def one_ends(self, charge: Charge, tokens: int) -> None:
        """As an answer does: its place is free first, and then its tokens are settled."""
        charge.reservation.release()
        charge.reservation.release()
        self.run(charge.reservation.settle(tokens))
        account = self.accounts[charge.scope]
        account.places -= 1
        if "tokens" not in charge.amounts:
            return
        unused = charge.amounts["tokens"] - tokens
        if unused >= 0:
            self.give_back(account, charge, "tokens", unused)
        else:
            window = account.windows["tokens"] = account.windows["tokens"].at(self.clock.now)
            window.count -= unused

    @rule(charge=consumes(charges))
    def one_is_taken_back(self, charge: Charge) -> None:
        self.run(charge.reservation.take_back())
        account = self.accounts[charge.scope]
        account.places -= 1
        for kind, amount in charge.amounts.items():
            self.give_back(account, charge, kind, amount)
            if kind == "requests" and charge.windows[kind].over in account.admitted:
                account.admitted[charge.windows[kind].over] -= 1

    @rule(seconds=steps)
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    # The model

    def limits(self, scope: str) -> list[tuple[str, int]]:
        return [(kind, self.limit(scope, kind)) for kind in KINDS]

    def limit(self, scope: str, kind: str) -> int:
        given = self.allowances[scope]
        return (given.requests_per_minute if kind == "requests" else given.tokens_per_minute) or 0

    def refusal(self, scope: str, tokens: int) -> tuple[type[GatewayError], str] | None:
        account, now = self.accounts[scope], self.clock.now
        for kind, amount in (("requests", 1), ("tokens", tokens)):
            limit = self.limit(scope, kind)
            if limit and account.counted(kind, now) + min(amount, limit) > limit:
                left = account.windows[kind].over - now
                return RateLimited, str(max(1, -int(-left // 1)))
        most = self.allowances[scope].max_streams
        return (TooManyStreams, "5") if most is not None and account.places >= most else None

    def charged(self, scope: str, tokens: int, reservation: Any) -> Charge:
        account = self.accounts[scope]
        account.places += 1
        amounts = {kind: amount for kind, amount in (("requests", 1), ("tokens", tokens)) if self.limit(scope, kind)}
        charge = Charge(scope, reservation, {}, {})
        for kind, amount in amounts.items():
            window = account.windows[kind] = account.windows[kind].at(self.clock.now)
            charge.amounts[kind] = min(amount, self.limit(scope, kind))
            charge.windows[kind] = window
            window.count += charge.amounts[kind]
        if "requests" in amounts:
            over = charge.windows["requests"].over
            account.admitted[over] = account.admitted.get(over, 0) + 1
        return charge

    def give_back(self, account: Account, charge: Charge, kind: str, amount: int) -> None:
        """Only in the window in which it was charged."""
        window = charge.windows[kind]
        if self.clock.now < window.over and account.windows[kind] is window:
            window.count -= amount

    # What holds at every moment

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        assert self.limiter.streams == sum(account.places for account in self.accounts.values())
        for scope, account in self.accounts.items():
            caller = self.limiter._callers.get(scope)
            assert account.places == (caller.streams if caller is not None else 0)
            for kind in KINDS:
                counted = 0 if caller is None else self.run(caller.counts.get(kind))
                assert counted == account.counted(kind, self.clock.now)
                assert counted >= 0

    @invariant()
    def nobody_gets_more_than_the_limit(self) -> None:
        for scope, account in self.accounts.items():
            most = self.allowances[scope].max_streams
            assert most is None or account.places <= most
            requests = self.allowances[scope].requests_per_minute
            assert requests is None or all(number <= requests for number in account.admitted.values())

    def teardown(self) -> None:
        try:
            pending = asyncio.all_tasks(self.loop)  # the library cleans up in tasks of its own
            if pending:
                self.loop.run_until_complete(asyncio.wait(pending))
        finally:
            self.loop.close()
            self.patched.stop()


def test_what_is_let_in_is_what_the_limits_allow() -> None:
    run_state_machine_as_test(Limits, settings=settings(max_examples=settings().max_examples // 2))
