"""When a target is left alone, as tables of what happened when. Time is passed in."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import BreakerLimits
from gateway.upstream.breaker import Breaker

LIMITS = BreakerLimits(failures=5, open_seconds=15.0)
FIVE = [(float(n), "failure") for n in range(5)]


def after(events: list[tuple[float, str]], limits: BreakerLimits = LIMITS) -> Breaker:
    breaker = Breaker(limits)
    for now, event in events:
        match event:
            case "failure":
                breaker.failure(now)
            case "refused":
                breaker.failure(now, is_certain=True)
            case "success":
                breaker.success(now)
            case "nothing":
                breaker.nothing(now)
            case "start":
                breaker.start(now)
            case "content":
                breaker.content()
            case cooling:
                breaker.cool_down(float(cooling), now)
    return breaker


@pytest.mark.parametrize(
    ("events", "until"),
    [
        ([], 0.0),
        (FIVE[:4], 0.0),
        (FIVE, 19.0),
        ([*FIVE[:4], (4.0, "success"), (5.0, "failure")], 0.0),
        ([*FIVE[:4], (4.0, "nothing"), (5.0, "failure")], 20.0),
        ([(0.0, "refused")], 15.0),  # the next request would be refused, too
        # The probe: the first request after the time holds the others off, and its content closes the breaker
        ([*FIVE, (19.0, "start")], 34.0),
        ([*FIVE, (18.0, "start")], 19.0),  # sent although it is open, because no other target was left
        ([*FIVE, (19.0, "start"), (20.0, "content")], 0.0),
        ([*FIVE, (19.0, "start"), (20.0, "failure")], 35.0),
        ([*FIVE, (19.0, "start"), (20.0, "nothing")], 20.0),  # its client left: the next request is the probe
        ([*FIVE, (19.0, "start"), (20.0, "content"), (21.0, "failure")], 0.0),  # it counts anew
        # A pause that the target asked for
        ([(10.0, "30")], 40.0),
        ([(10.0, "30"), (11.0, "5")], 40.0),
        ([(10.0, "1e9")], 3610.0),
        ([(10.0, "30"), (11.0, "success")], 40.0),
    ],
)
def test_the_time_until_which_a_target_is_left_alone(events: list[tuple[float, str]], until: float) -> None:
    assert after(events).unavailable_until == until


@pytest.mark.parametrize(
    ("successes", "failures", "seconds", "opens"),
    [(10, 10, 1.0, True), (11, 9, 1.0, False), (9, 10, 1.0, False), (10, 10, 4.0, False)],
)
def test_half_of_twenty_in_thirty_seconds(successes: int, failures: int, seconds: float, opens: bool) -> None:
    """They alternate, so that there are never five failures in a row; `seconds` lie between two of them."""
    order = ["success"] * (successes - min(successes, failures)) + ["success", "failure"] * min(successes, failures)
    order += ["failure"] * (failures - min(successes, failures))
    events = [(100 + n * seconds, event) for n, event in enumerate(order)]
    assert after(events).is_open == opens


EVENTS = ["failure", "success", "nothing", "start", "content"]


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(EVENTS))))
def test_it_is_always_available_again_after_its_time(steps: list[tuple[float, str]]) -> None:
    now = 0.0
    events: list[tuple[float, str]] = []
    for step, event in steps:
        now += step
        events.append((now, event))
        assert after(events).unavailable_until <= now + LIMITS.open_seconds


@given(st.lists(st.floats(0, 20), min_size=1))
def test_an_open_target_gets_one_request_in_its_time(steps: list[float]) -> None:
    """Of all that would like to ask, if none of them ends."""
    breaker, now, sent = after(FIVE), 4.0, [4.0]
    for step in steps:
        now += step
        if breaker.unavailable_until <= now:
            breaker.start(now)
            sent.append(now)
    assert all(later >= earlier + LIMITS.open_seconds for earlier, later in pairwise(sent))  # a difference is rounded
