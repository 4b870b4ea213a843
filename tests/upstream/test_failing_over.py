"""Which target is asked first, and what follows a failure: tables of pure functions."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest

from gateway.config import Retry, Strategy, Timeouts, Upstream
from gateway.errors import (
    ConnectTimeout,
    ContextLengthExceeded,
    EventTooLarge,
    FirstTokenTimeout,
    GatewayError,
    TotalTimeout,
    UpstreamEmpty,
    UpstreamError,
    UpstreamIncomplete,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTLS,
    UpstreamUnreachable,
)
from gateway.upstream.routing import Failed, Route, State, Step, Target, another, in_order, next_step

LIMITS = Timeouts(5.0, 120.0, 60.0, 600.0)
RETRY = Retry()


def target(name: str, *, weight: float = 1.0, context: int | None = None) -> Target:
    return Target(Upstream(name, f"http://{name}/v1"), "m", LIMITS, weight=weight, context=context)


A, B, C = target("a"), target("b"), target("c")


@dataclass
class Known:
    """A state, as the table gives it."""

    running: int = 0
    is_full: bool = False
    until: float = 0.0

    def unavailable_until(self) -> float:
        return self.until


def states(**known: Known) -> Callable[[Target], State]:
    return lambda target: known.get(target.upstream.name, Known())


def ordered(route: Route, **known: Known) -> str:
    return "".join([target.upstream.name for target in in_order(route, states(**known), 100.0, Random(1).random)])


@pytest.mark.parametrize(
    ("known", "order"),
    [
        ({}, "abc"),
        ({"a": Known(is_full=True)}, "bc"),
        ({"a": Known(until=100.0)}, "abc"),
        ({"a": Known(until=100.1)}, "bca"),  # it is asked only if no other one is left
        ({"a": Known(until=130.0), "b": Known(until=120.0)}, "cba"),
        ({"a": Known(until=130.0), "b": Known(until=120.0), "c": Known(is_full=True)}, "ba"),
        ({"a": Known(is_full=True), "b": Known(is_full=True), "c": Known(is_full=True)}, ""),
    ],
)
def test_fallback_keeps_the_order_of_the_list(known: dict[str, Known], order: str) -> None:
    assert ordered(Route((A, B, C)), **known) == order


@pytest.mark.parametrize(
    ("known", "order"),
    [
        ({}, "abc"),
        ({"a": Known(3), "b": Known(1), "c": Known(2)}, "bca"),
        ({"a": Known(3), "b": Known(1, is_full=True), "c": Known(2)}, "ca"),
        ({"a": Known(3), "b": Known(1, until=200.0), "c": Known(2)}, "cab"),
    ],
)
def test_least_busy(known: dict[str, Known], order: str) -> None:
    assert ordered(Route((A, B, C), Strategy.LEAST_BUSY), **known) == order


def test_least_busy_counts_in_proportion_to_the_weights() -> None:
    route = Route((target("a", weight=4.0), B), Strategy.LEAST_BUSY)
    assert ordered(route, a=Known(7), b=Known(2)) == "ab"
    assert ordered(route, a=Known(9), b=Known(2)) == "ba"


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (5.0, 3.0, 2.0), (0.9, 0.1, 9.0), (1000.0, 1.0, 1.0)])
def test_weighted_is_within_three_sigma_over_ten_thousand_picks(weights: tuple[float, ...]) -> None:
    route = Route(tuple([target(name, weight=w) for name, w in zip("abc", weights, strict=True)]), Strategy.WEIGHTED)
    picks, chance = 10_000, Random(7).random
    counted = Counter(in_order(route, states(), 0.0, chance)[0].upstream.name for _ in range(picks))
    for name, weight in zip("abc", weights, strict=True):
        share = weight / sum(weights)
        assert abs(counted[name] - picks * share) <= 3 * (picks * share * (1 - share)) ** 0.5


def test_weighted_leaves_no_target_out() -> None:
    route = Route((A, B, C), Strategy.WEIGHTED)
    for _ in range(100):
        assert sorted(ordered(route)) == ["a", "b", "c"]


# After a failure


def waits(seconds: float | None, error: UpstreamError) -> UpstreamError:
    error.wait = seconds
    return error


def final(error: UpstreamError) -> UpstreamError:
    error.is_final = True
    return error


def followed(errors: list[tuple[Target, GatewayError]], order: list[Target], *, waited: float = 0.0) -> Step | None:
    failed = [Failed(target, error) for target, error in errors]
    return next_step(failed, order, RETRY, waited=waited, chance=0.5)


@pytest.mark.parametrize(
    ("error", "with_another", "alone"),
    [
        # A moment's fault: the same target once more, after a back-off
        (UpstreamError(), Step(A, 0.375), Step(A, 0.375)),
        (UpstreamIncomplete(), Step(A, 0.375), Step(A, 0.375)),
        (UpstreamEmpty(), Step(A, 0.375), Step(A, 0.375)),
        (waits(2.0, UpstreamError()), Step(A, 2.125), Step(A, 2.125)),
        (waits(21.0, UpstreamError()), Step(B), None),
        (final(UpstreamError()), Step(B), None),
        # Busy, or not there: another one at once, else the same one later
        (waits(2.0, UpstreamRateLimited()), Step(B), Step(A, 2.125)),
        (UpstreamRateLimited(), Step(B), Step(A, 0.375)),
        (waits(60.0, UpstreamRateLimited()), Step(B), None),
        (final(UpstreamRateLimited()), Step(B), None),
        (UpstreamUnreachable(), Step(B), Step(A, 0.375)),
        # Silent, or wrong in a way that lasts: another one only
        (FirstTokenTimeout(), Step(B), None),
        (ConnectTimeout(), Step(B), None),
        (UpstreamMisconfigured(), Step(B), None),
        (UpstreamTLS(), Step(B), None),
        (ContextLengthExceeded(), Step(B), None),
        (UpstreamRejected(status=404), Step(B), None),
        (UpstreamRejected(status=413), Step(B), None),
        # The request's own fault, or a bound of the gateway
        (UpstreamRejected(status=400), None, None),
        (UpstreamRejected(status=422), None, None),
        (EventTooLarge(), None, None),
        (TotalTimeout(), None, None),
        (GatewayError(), None, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, GatewayError) else None,
)
def test_what_follows_the_first_failure(error: GatewayError, with_another: Step | None, alone: Step | None) -> None:
    assert followed([(A, error)], [A, B]) == with_another
    assert followed([(A, error)], [A]) == alone


def test_three_attempts_in_all_and_two_on_one_target() -> None:
    assert followed([(A, UpstreamError()), (A, UpstreamError())], [A, B]) == Step(B)
    assert followed([(A, UpstreamError()), (A, UpstreamError())], [A]) is None
    assert followed([(A, UpstreamError()), (A, UpstreamError()), (B, UpstreamError())], [A, B, C]) is None
    assert followed([(A, FirstTokenTimeout()), (B, UpstreamRateLimited())], [A, B]) == Step(B, 0.75)


def test_a_target_that_has_failed_is_not_asked_again_at_once() -> None:
    """Although it is another one than the last: two that are busy are given the time that they asked for."""
    busy = waits(2.0, UpstreamRateLimited())
    assert followed([(A, busy), (B, waits(9.0, UpstreamRateLimited()))], [A, B]) == Step(A, 2.125)
    assert followed([(A, UpstreamUnreachable()), (B, UpstreamUnreachable())], [A, B]) == Step(A, 0.75)
    assert followed([(A, busy), (B, UpstreamUnreachable())], [A, B, C]) == Step(C)


def test_waits_double_and_their_sum_is_bounded() -> None:
    two: list[tuple[Target, GatewayError]] = [(B, UpstreamError()), (A, UpstreamError())]
    assert followed(two, [A, B]) == Step(A, 0.75)
    assert followed([(A, waits(15.0, UpstreamRateLimited()))], [A], waited=4.0) == Step(A, 15.125)
    assert followed([(A, waits(15.0, UpstreamRateLimited()))], [A], waited=5.0) is None


def test_a_target_without_room_is_not_asked() -> None:
    assert followed([(A, UpstreamError())], [B]) == Step(B)
    assert followed([(A, UpstreamError())], []) is None


@pytest.mark.parametrize(
    ("own", "other", "moves"),
    [
        (None, None, True),
        (8192, None, True),
        (None, 8192, True),
        (8192, 8193, True),
        (8192, 8192, False),
        (9, 8, False),
    ],
)
def test_a_request_that_is_too_long_moves_on_unless_the_next_context_is_no_longer(
    own: int | None, other: int | None, moves: bool
) -> None:
    first, second = target("a", context=own), target("b", context=other)
    step = followed([(first, ContextLengthExceeded())], [first, second])
    assert step == (Step(second) if moves else None)


def test_another_is_one_that_was_not_asked() -> None:
    assert another([Failed(A, UpstreamError())], [A, B, C]) == B
    assert another([Failed(A, UpstreamError()), Failed(B, UpstreamError())], [A, B]) is None
