"""Limits on a clock that is set by hand: what is let in, what is refused, and what the headers say of it.

The same holds for both limiters. The one that counts in Redis has a real one, whose time is that of the clock.
"""

import asyncio

import pytest

from gateway.admission.limits import Allowance, Reservation
from gateway.errors import RateLimited, TooManyStreams
from tests.admission.clock import Clock
from tests.admission.conftest import AnyLimiter


def requests(limit: int, scope: str = "s") -> Allowance:
    return Allowance(scope, requests_per_minute=limit)


def tokens(limit: int, scope: str = "s") -> Allowance:
    return Allowance(scope, tokens_per_minute=limit)


def streams(limit: int, scope: str = "s") -> Allowance:
    return Allowance(scope, max_streams=limit)


async def refused(limiter: AnyLimiter, allowance: Allowance, amount: int = 0) -> RateLimited:
    with pytest.raises(RateLimited) as raised:
        await limiter.reserve(allowance, amount)
    assert (raised.value.status, raised.value.code) == (429, "rate_limit_exceeded")
    return raised.value


async def done(charge: Reservation, amount: int) -> None:
    """What happens at the end of every answer."""
    await charge.settle(amount)
    charge.release()


# Requests


async def test_requests_up_to_the_limit_in_every_minute(limiter: AnyLimiter, clock: Clock) -> None:
    """The minute begins with the first of them."""
    for _ in range(2):
        for _ in range(3):
            await limiter.reserve(requests(3), 0)
            clock.now += 1
        await refused(limiter, requests(3))
        clock.now += 56.9
        await refused(limiter, requests(3))
        clock.now += 0.2


async def test_what_the_headers_say_of_requests(limiter: AnyLimiter, clock: Clock) -> None:
    charge = await limiter.reserve(requests(2), 0)
    assert charge.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "60s",
    }
    clock.now += 20.5
    charge = await limiter.reserve(requests(2), 0)
    assert charge.headers["x-ratelimit-remaining-requests"] == "0"
    assert charge.headers["x-ratelimit-reset-requests"] == "40s"
    error = await refused(limiter, requests(2))
    assert error.headers == {
        "x-ratelimit-limit-requests": "2",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "40s",
        "Retry-After": "40",
    }
    assert error.message == "This is more than your limit of 2 requests a minute. Try again in 40 s."


async def test_who_comes_back_when_told_is_let_in(limiter: AnyLimiter, clock: Clock) -> None:
    for _ in range(20):
        await limiter.reserve(requests(1), 0)
        clock.now += 7.3
        clock.now += int((await refused(limiter, requests(1))).headers["Retry-After"])


async def test_retry_after_is_never_nothing(limiter: AnyLimiter, clock: Clock) -> None:
    await limiter.reserve(requests(1), 0)
    clock.now += 59.999
    assert (await refused(limiter, requests(1))).headers["Retry-After"] == "1"


async def test_a_caller_without_limits_is_never_refused_and_told_nothing(limiter: AnyLimiter) -> None:
    for _ in range(500):
        charge = await limiter.reserve(Allowance("s"), 10**9)
        assert charge.headers == {}
        await done(charge, 10**9)


# Tokens


async def test_tokens_are_reserved(limiter: AnyLimiter) -> None:
    charge = await limiter.reserve(tokens(1000), 600)
    assert charge.headers == {
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "400",
        "x-ratelimit-reset-tokens": "60s",
    }
    error = await refused(limiter, tokens(1000), 401)
    assert error.headers["x-ratelimit-remaining-tokens"] == "400"
    assert "1,000 tokens a minute" in error.message
    await limiter.reserve(tokens(1000), 400)


@pytest.mark.parametrize(
    ("took", "left"), [(600, 400), (0, 1000), (100, 900), (900, 100), (1000, 0)], ids=lambda n: str(n)
)
async def test_the_estimate_gives_way_to_what_it_took(limiter: AnyLimiter, took: int, left: int) -> None:
    await done(await limiter.reserve(tokens(1000), 600), took)
    if left:
        await done(await limiter.reserve(tokens(1000), left), left)
    await refused(limiter, tokens(1000), 1)


async def test_what_it_took_beyond_the_limit_is_held_against_the_next(limiter: AnyLimiter, clock: Clock) -> None:
    await done(await limiter.reserve(tokens(1000), 100), 5000)
    error = await refused(limiter, tokens(1000), 1)
    assert error.headers["x-ratelimit-remaining-tokens"] == "0"
    clock.now += 60
    await limiter.reserve(tokens(1000), 1000)


async def test_an_answer_is_settled_once(limiter: AnyLimiter) -> None:
    charge = await limiter.reserve(tokens(1000), 600)
    for _ in range(3):
        await charge.settle(700)
    await limiter.reserve(tokens(1000), 300)
    await refused(limiter, tokens(1000), 1)


async def test_what_is_settled_in_the_next_window_gives_nothing_back_there(limiter: AnyLimiter, clock: Clock) -> None:
    """It was another minute's."""
    early = await limiter.reserve(tokens(1000), 1000)
    clock.now += 61
    await limiter.reserve(tokens(1000), 900)
    await done(early, 0)
    await limiter.reserve(tokens(1000), 100)
    await refused(limiter, tokens(1000), 1)


async def test_what_goes_beyond_in_the_next_window_is_charged_there(limiter: AnyLimiter, clock: Clock) -> None:
    early = await limiter.reserve(tokens(1000), 100)
    clock.now += 61
    await limiter.reserve(tokens(1000), 100)
    await done(early, 900)
    await limiter.reserve(tokens(1000), 100)
    await refused(limiter, tokens(1000), 1)


async def test_a_long_answer_is_charged_though_nobody_asked_meanwhile(limiter: AnyLimiter, clock: Clock) -> None:
    """One that took minutes, and far more than was thought: the next request comes into the window of its end."""
    long = await limiter.reserve(tokens(1000), 100)
    clock.now += 300
    await done(long, 5000)
    clock.now += 1
    await refused(limiter, tokens(1000), 1)


async def test_one_request_larger_than_the_limit_is_let_in_when_nothing_else_is(limiter: AnyLimiter) -> None:
    await limiter.reserve(tokens(1000), 50_000)
    await refused(limiter, tokens(1000), 1)
    await limiter.reserve(tokens(1000, "other"), 1)
    await refused(limiter, tokens(1000, "other"), 50_000)


async def test_a_large_request_that_took_less_gives_back_the_rest(limiter: AnyLimiter) -> None:
    await done(await limiter.reserve(tokens(1000), 50_000), 100)
    await limiter.reserve(tokens(1000), 900)
    await refused(limiter, tokens(1000), 1)


async def test_a_large_request_that_took_as_much_is_charged_whole(limiter: AnyLimiter, clock: Clock) -> None:
    await done(await limiter.reserve(tokens(1000), 50_000), 50_000)
    await refused(limiter, tokens(1000), 1)
    clock.now += 60
    await limiter.reserve(tokens(1000), 1)


# Streams


async def test_streams_that_are_open(limiter: AnyLimiter) -> None:
    first, _ = [await limiter.reserve(streams(2), 0) for _ in range(2)]
    assert first.headers == {}
    with pytest.raises(TooManyStreams) as raised:
        await limiter.reserve(streams(2), 0)
    assert raised.value.status == 429
    assert raised.value.headers == {"Retry-After": "5"}
    assert limiter.streams == 2
    first.release()
    assert limiter.streams == 1
    await limiter.reserve(streams(2), 0)


async def test_a_place_is_freed_once(limiter: AnyLimiter) -> None:
    first, _ = [await limiter.reserve(streams(2), 0) for _ in range(2)]
    for _ in range(3):
        first.release()
    assert limiter.streams == 1
    await limiter.reserve(streams(2), 0)
    with pytest.raises(TooManyStreams):
        await limiter.reserve(streams(2), 0)


async def test_time_frees_no_place(limiter: AnyLimiter, clock: Clock) -> None:
    """Also when the caller and others come and go meanwhile, for hours."""
    charge = await limiter.reserve(streams(1), 0)
    for minute in range(120):
        clock.now += 61
        (await limiter.reserve(streams(1, f"other-{minute}"), 0)).release()
        with pytest.raises(TooManyStreams):
            await limiter.reserve(streams(1), 0)
    charge.release()
    await limiter.reserve(streams(1), 0)


async def test_a_caller_with_an_open_stream_is_never_forgotten(limiter: AnyLimiter, clock: Clock) -> None:
    """Though it is only others that ask meanwhile."""
    charge = await limiter.reserve(streams(1), 0)
    for _ in range(5):
        clock.now += 1000
        (await limiter.reserve(streams(1, "other"), 0)).release()
    with pytest.raises(TooManyStreams):
        await limiter.reserve(streams(1), 0)
    charge.release()
    await limiter.reserve(streams(1), 0)


# What is refused charges nothing


async def test_what_is_refused_for_its_tokens_counts_as_no_request(limiter: AnyLimiter) -> None:
    both = Allowance("s", requests_per_minute=2, tokens_per_minute=1000, max_streams=9)
    (await limiter.reserve(both, 900)).release()
    for _ in range(5):
        error = await refused(limiter, both, 200)
        assert error.headers["x-ratelimit-remaining-tokens"] == "100"
    assert limiter.streams == 0
    charge = await limiter.reserve(both, 100)
    assert charge.headers["x-ratelimit-remaining-requests"] == "0"
    assert charge.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_what_is_refused_for_its_number_takes_no_tokens(limiter: AnyLimiter) -> None:
    both = Allowance("s", requests_per_minute=1, tokens_per_minute=1000)
    await limiter.reserve(both, 10)
    for _ in range(5):
        await refused(limiter, both, 500)
    charge = await limiter.reserve(Allowance("s", tokens_per_minute=1000), 10)
    assert charge.headers["x-ratelimit-remaining-tokens"] == "980"


async def test_what_is_refused_for_its_stream_takes_neither(limiter: AnyLimiter) -> None:
    all_three = Allowance("s", requests_per_minute=2, tokens_per_minute=1000, max_streams=1)
    first = await limiter.reserve(all_three, 100)
    for _ in range(5):
        with pytest.raises(TooManyStreams):
            await limiter.reserve(all_three, 100)
    first.release()
    charge = await limiter.reserve(all_three, 100)
    assert charge.headers["x-ratelimit-remaining-requests"] == "0"
    assert charge.headers["x-ratelimit-remaining-tokens"] == "800"


async def test_what_was_never_begun_is_given_back(limiter: AnyLimiter) -> None:
    await done(await limiter.reserve(tokens(1000), 1000), 0)
    charge = await limiter.reserve(tokens(1000), 1000)
    assert charge.headers["x-ratelimit-remaining-tokens"] == "0"


# A check before the request is read

ONES = {"requests": requests(1), "tokens": tokens(1), "streams": streams(1)}


@pytest.mark.parametrize("kind", ONES)
async def test_a_check_refuses_what_the_smallest_request_would_be_refused_for(limiter: AnyLimiter, kind: str) -> None:
    allowance = ONES[kind]
    for _ in range(3):
        await limiter.check(allowance)  # it takes nothing
    charge = await limiter.reserve(allowance, 1)
    with pytest.raises(RateLimited) as checked:
        await limiter.check(allowance)
    with pytest.raises(RateLimited) as reserved:
        await limiter.reserve(allowance, 1)
    assert type(checked.value) is type(reserved.value)
    assert (checked.value.message, checked.value.headers) == (reserved.value.message, reserved.value.headers)
    await charge.take_back()
    await limiter.check(allowance)


async def test_a_check_knows_when_the_minute_is_over(limiter: AnyLimiter, clock: Clock) -> None:
    await limiter.reserve(requests(1), 0)
    clock.now += 59.9
    with pytest.raises(RateLimited):
        await limiter.check(requests(1))
    clock.now += 0.2
    await limiter.check(requests(1))


# Taking back


async def test_what_is_taken_back_was_never_charged(limiter: AnyLimiter) -> None:
    all_three = Allowance("s", requests_per_minute=2, tokens_per_minute=1000, max_streams=2)
    await limiter.reserve(all_three, 100)
    for _ in range(3):
        await (await limiter.reserve(all_three, 900)).take_back()
    charge = await limiter.reserve(all_three, 200)
    assert charge.headers["x-ratelimit-remaining-requests"] == "0"
    assert charge.headers["x-ratelimit-remaining-tokens"] == "700"


async def test_what_is_taken_back_in_the_next_window_gives_nothing_back_there(
    limiter: AnyLimiter, clock: Clock
) -> None:
    early = await limiter.reserve(requests(2), 0)
    clock.now += 61
    await limiter.reserve(requests(2), 0)
    await early.take_back()
    await limiter.reserve(requests(2), 0)
    await refused(limiter, requests(2))


# Who is counted apart, and how long


async def test_scopes_are_counted_apart(limiter: AnyLimiter) -> None:
    for scope in ("a", "b"):
        await limiter.reserve(Allowance(scope, 2, 20, 1), 10)
        with pytest.raises(TooManyStreams):
            await limiter.reserve(Allowance(scope, 2, 20, 1), 10)
    assert limiter.streams == 2


async def test_many_at_once_are_no_more_than_the_limit(limiter: AnyLimiter) -> None:
    charged = await asyncio.gather(
        *[limiter.reserve(Allowance("s", 10, 1000), 100) for _ in range(50)], return_exceptions=True
    )
    assert sum(not isinstance(charge, RateLimited) for charge in charged) == 10
    assert limiter.streams == 10


async def test_a_caller_is_not_forgotten_within_its_minute(limiter: AnyLimiter, clock: Clock) -> None:
    for _ in range(2):
        await limiter.reserve(requests(2), 0)
    for n in range(59):
        clock.now += 1
        await limiter.reserve(requests(2, f"other-{n}"), 0)
        await refused(limiter, requests(2))
