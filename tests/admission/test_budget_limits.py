"""Budgets on a clock that is set by hand: what is granted, what is refused, and what is given back.

The same holds for both limiters: see test_limiters.
"""

import asyncio

import pytest

from gateway.admission.limits import Allowance, Reservation, Wish
from gateway.config import Budget, Per
from gateway.errors import BudgetReserved, InsufficientQuota, RateLimited, TooManyStreams
from tests.admission.clock import Clock
from tests.admission.conftest import AnyLimiter

A_DAY = Allowance("s", budget=Budget(0.001, Per.DAY))  # 1,000 millionths
DAY = 86_400  # seconds
NOON = 1_000_000 - 1_000_000 % DAY + DAY // 2


@pytest.fixture(autouse=True)
def noon(clock: Clock) -> None:
    clock.now = NOON


async def take(limiter: AnyLimiter, least: int, most: int | None = None, allowance: Allowance = A_DAY) -> Reservation:
    return await limiter.reserve(allowance, 0, Wish(least, most or least))


async def done(charge: Reservation, cost: int) -> None:
    charge.release()
    await charge.settle(0, cost)


async def refused(limiter: AnyLimiter, least: int = 1) -> RateLimited:
    with pytest.raises((BudgetReserved, InsufficientQuota)) as raised:
        await take(limiter, least)
    assert raised.value.status == 429
    return raised.value


async def rest(limiter: AnyLimiter, allowance: Allowance = A_DAY) -> int:
    """What is left, in millionths. It is asked for by a request, which is taken back."""
    charge = await take(limiter, 1, allowance=allowance)
    await charge.take_back()
    return round(float(charge.headers["x-ratelimit-remaining-budget"]) * 1_000_000) + 1


async def test_what_is_wanted_is_granted_while_it_is_there_and_then_what_is_left(limiter: AnyLimiter) -> None:
    assert [(await take(limiter, 10, 400)).granted for _ in range(3)] == [400, 400, 200]


async def test_what_the_headers_say(limiter: AnyLimiter, clock: Clock) -> None:
    charge = await take(limiter, 10, 400)
    assert charge.headers == {
        "x-ratelimit-limit-budget": "0.001",
        "x-ratelimit-remaining-budget": "0.0006",
        "x-ratelimit-reset-budget": "43200s",
    }
    await done(charge, 1000)
    clock.now += 200.5
    error = await refused(limiter)
    assert error.headers == {
        "x-ratelimit-limit-budget": "0.001",
        "x-ratelimit-remaining-budget": "0",
        "x-ratelimit-reset-budget": "43000s",
        "Retry-After": "43000",
    }
    assert error.message == (
        "This request costs more than the rest of your budget of 0.001 a day. The next day begins in 43000 s."
    )


async def test_the_least_that_is_of_use_is_refused_if_it_is_not_left(limiter: AnyLimiter) -> None:
    await done(await take(limiter, 600), 600)
    assert isinstance(await refused(limiter, 401), InsufficientQuota)
    assert (await take(limiter, 400, 9000)).granted == 400


async def test_while_answers_run_the_rest_may_come_back(limiter: AnyLimiter) -> None:
    """So the caller is told to try again soon, and afterwards to wait for the next period."""
    running = await take(limiter, 1000)
    error = await refused(limiter)
    assert isinstance(error, BudgetReserved)
    assert error.headers["Retry-After"] == "5"
    await done(running, 990)
    assert isinstance(await refused(limiter, 11), InsufficientQuota)
    await take(limiter, 10)


@pytest.mark.parametrize(("cost", "left"), [(0, 1000), (150, 850), (400, 600), (600, 400), (999, 1)])
async def test_the_reservation_gives_way_to_the_cost(limiter: AnyLimiter, cost: int, left: int) -> None:
    await done(await take(limiter, 400), cost)
    assert await rest(limiter) == left


async def test_a_cost_beyond_the_budget_is_held_against_the_next(limiter: AnyLimiter, clock: Clock) -> None:
    await done(await take(limiter, 400), 5000)
    await refused(limiter)
    clock.now += DAY
    assert await rest(limiter) == 1000


async def test_an_answer_is_settled_once(limiter: AnyLimiter) -> None:
    charge = await take(limiter, 400)
    for _ in range(3):
        await charge.settle(0, 500)
    charge.release()
    assert await rest(limiter) == 500


async def test_what_is_taken_back_was_never_charged(limiter: AnyLimiter) -> None:
    await (await take(limiter, 400)).take_back()
    assert await rest(limiter) == 1000


async def test_a_new_period_begins_at_zero_at_midnight(limiter: AnyLimiter, clock: Clock) -> None:
    await done(await take(limiter, 1000), 1000)
    clock.now += DAY / 2 - 0.1
    assert (await refused(limiter)).headers["Retry-After"] == "1"
    clock.now += 0.2
    assert await rest(limiter) == 1000


async def test_what_is_given_back_in_the_next_period_is_not_given_back_there(limiter: AnyLimiter, clock: Clock) -> None:
    early = await take(limiter, 1000)
    clock.now += DAY
    await done(await take(limiter, 300), 300)
    await done(early, 0)
    assert await rest(limiter) == 700


async def test_what_goes_beyond_in_the_next_period_is_charged_there(limiter: AnyLimiter, clock: Clock) -> None:
    early = await take(limiter, 400)
    clock.now += DAY
    await done(early, 900)
    assert await rest(limiter) == 500


async def test_a_caller_is_not_forgotten_within_its_period(limiter: AnyLimiter, clock: Clock) -> None:
    """Though others come for hours, and the minutes of all other limits are over."""
    await done(await take(limiter, 900), 900)
    for hour in range(11):
        clock.now += 3600
        await (await take(limiter, 1, allowance=Allowance(f"other-{hour}", max_streams=1))).take_back()
    assert await rest(limiter) == 100


# Further attempts


async def test_a_further_attempt_is_charged_too(limiter: AnyLimiter) -> None:
    charge = await take(limiter, 400)
    assert await charge.extend(350)
    assert charge.granted == 750
    assert not await charge.extend(251)
    assert charge.granted == 750
    await done(charge, 700)
    assert await rest(limiter) == 300


async def test_an_attempt_in_the_next_period_is_charged_there(limiter: AnyLimiter, clock: Clock) -> None:
    charge = await take(limiter, 1000)
    clock.now += DAY
    assert await charge.extend(600)
    await done(charge, 1200)
    assert await rest(limiter) == 800


async def test_of_two_periods_only_the_later_one_gets_something_back(limiter: AnyLimiter, clock: Clock) -> None:
    charge = await take(limiter, 1000)
    clock.now += DAY
    assert await charge.extend(600)
    await done(charge, 0)
    assert await rest(limiter) == 1000


# Beside other limits


async def test_what_is_refused_for_its_budget_counts_for_nothing_else(limiter: AnyLimiter) -> None:
    every = Allowance("s", 3, 1000, 3, Budget(0.001, Per.DAY))
    await done(await limiter.reserve(every, 100, Wish(900, 900)), 900)
    for _ in range(5):
        with pytest.raises(InsufficientQuota) as raised:
            await limiter.reserve(every, 100, Wish(200, 200))
        assert "x-ratelimit-remaining-requests" in raised.value.headers
    assert limiter.streams == 0
    charge = await limiter.reserve(every, 100, Wish(100, 100))
    assert charge.headers["x-ratelimit-remaining-requests"] == "1"
    assert charge.headers["x-ratelimit-remaining-budget"] == "0"


async def test_what_is_refused_for_other_limits_takes_no_money(limiter: AnyLimiter) -> None:
    one_stream = Allowance("s", max_streams=1, budget=A_DAY.budget)
    await take(limiter, 400, allowance=one_stream)
    for _ in range(3):
        with pytest.raises(TooManyStreams):
            await take(limiter, 400, allowance=one_stream)
    assert await rest(limiter) == 600


async def test_many_at_once_spend_no_more_than_the_budget(limiter: AnyLimiter) -> None:
    charges = await asyncio.gather(*[take(limiter, 90, 300) for _ in range(20)], return_exceptions=True)
    granted = [charge.granted for charge in charges if not isinstance(charge, BaseException)]
    assert granted == [300, 300, 300, 100]
    assert all(isinstance(charge, BudgetReserved) for charge in charges if isinstance(charge, BaseException))


async def test_a_check_refuses_when_nothing_is_left(limiter: AnyLimiter) -> None:
    await limiter.check(A_DAY)
    charge = await take(limiter, 1000)
    with pytest.raises(BudgetReserved):
        await limiter.check(A_DAY)
    await done(charge, 1000)
    with pytest.raises(InsufficientQuota) as checked:
        await limiter.check(A_DAY)
    reserved = await refused(limiter)
    assert (checked.value.message, checked.value.headers) == (reserved.message, reserved.headers)


async def test_the_rest_of_each_budget_is_known(limiter: AnyLimiter, clock: Clock) -> None:
    await done(await take(limiter, 400), 250)
    assert limiter.budgets() == {"s": 0.00075}
    await done(await take(limiter, 400), 5000)
    assert limiter.budgets() == {"s": 0}
    clock.now += DAY
    assert limiter.budgets() == {"s": 0.001}


async def test_a_new_amount_holds_at_once(limiter: AnyLimiter) -> None:
    await done(await take(limiter, 1000), 1000)
    more = Allowance("s", budget=Budget(0.003, Per.DAY))
    assert await rest(limiter, more) == 2000
