"""Any requests to a target, in any order, under a clock that stands still: when it is left alone, against a model.

The model keeps every request that has ended, with its time, and counts them anew at each question.
"""

from dataclasses import dataclass

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

from gateway.config import BreakerLimits
from gateway.upstream.breaker import Breaker

BUCKET = 5.0  # seconds; six of them are looked back upon
FEWEST = 20
HOUR = 3600.0

steps = st.sampled_from([0.0, 0.1, 1.0, 4.9, 5.0, 14.9, 15.0, 25.0, 30.0, 100.0])


@dataclass
class Request:
    sent_at: float
    was_free: bool  # the target was not left alone when it was sent


class Target(RuleBasedStateMachine):
    requests: Bundle[Request] = Bundle("requests")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.ended: list[tuple[float, bool]] = []  # of each request since the breaker was closed: when, did it fail
        self.open_until: float | None = None
        self.cooling_until = 0.0
        self.probes: list[float] = []  # requests that were sent since the last content while it was open, when free

    @initialize(failures=st.integers(1, 6), seconds=st.sampled_from([0.5, 15.0, 60.0]))
    def a_target(self, failures: int, seconds: float) -> None:
        self.limits = BreakerLimits(failures=failures, open_seconds=seconds)
        self.breaker = Breaker(self.limits)

    @property
    def is_free(self) -> bool:
        return self.breaker.unavailable_until <= self.now

    # What happens to requests

    @rule(target=requests, number=st.integers(1, 12))
    def some_are_sent(self, number: int):
        """While it is left alone, those for which no other target is left."""
        return multiple(*[self.send() for _ in range(number)])

    @rule(target=requests)
    def one_is_sent_where_it_is_free(self):
        return self.send() if self.is_free else multiple()

    def send(self) -> Request:
        request = Request(self.now, self.is_free)
        is_probe = self.open_until is not None and self.open_until <= self.now
        self.breaker.start(self.now)
        if is_probe:
            assert all(self.now - sent >= self.limits.open_seconds for sent in self.probes[-1:])
            self.probes.append(self.now)
            self.open_until = self.now + self.limits.open_seconds
        return request

    @rule(request=consumes(requests), completes=st.booleans())
    def one_has_content(self, request: Request, completes: bool) -> None:
        """One that was sent long ago closes it, too: it shows that the target answers."""
        self.breaker.content()
        if self.open_until is not None:
            self.open_until = None
            self.ended.clear()
            self.probes.clear()
        if completes:
            self.breaker.success(self.now)
            self.ended.append((self.now, False))
        else:
            self.fail(is_certain=False)

    @rule(request=consumes(requests), is_certain=st.booleans())
    def one_fails(self, request: Request, is_certain: bool) -> None:
        self.fail(is_certain=is_certain)

    @rule(number=st.integers(5, 25), fails=st.lists(st.booleans(), min_size=3, max_size=3))
    def many_end(self, number: int, fails: list[bool]) -> None:
        """Requests that began while it was closed, by turns in one of some ways."""
        for place in range(number):
            if self.open_until is None:
                self.breaker.start(self.now)
            if fails[place % 3]:
                self.fail(is_certain=False)
            else:
                self.breaker.success(self.now)
                self.ended.append((self.now, False))

    def fail(self, *, is_certain: bool) -> None:
        self.breaker.failure(self.now, is_certain=is_certain)
        self.ended.append((self.now, True))
        if is_certain or self.open_until is not None or self.in_a_row >= self.limits.failures or self.is_half:
            self.open_until = self.now + self.limits.open_seconds
            self.probes.clear()

    @rule(request=consumes(requests))
    def one_ends_without_a_result(self, request: Request) -> None:
        self.breaker.nothing(self.now)
        if self.open_until is not None:
            self.open_until = min(self.open_until, self.now)
            self.probes.clear()

    @rule(seconds=st.sampled_from([0.0, 1.0, 30.0, 1e9]))
    def it_asks_for_a_pause(self, seconds: float) -> None:
        self.breaker.cool_down(seconds, self.now)
        self.cooling_until = max(self.cooling_until, self.now + min(seconds, HOUR))

    @rule(seconds=steps)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def it_is_waited_for(self) -> None:
        """It is free again when it said so, and at no time for ever."""
        self.now = max(self.now, self.breaker.unavailable_until)
        assert self.is_free

    @rule(failures=st.integers(1, 6))
    def its_limits_change(self, failures: int) -> None:
        """For what comes from then on."""
        self.limits = BreakerLimits(failures=failures, open_seconds=self.limits.open_seconds)
        self.breaker.configure(self.limits)

    # The model

    @property
    def in_a_row(self) -> int:
        number = 0
        for _, failed in reversed(self.ended):
            if not failed:
                break
            number += 1
        return number

    @property
    def is_half(self) -> bool:
        first = self.now // BUCKET - 5
        recent = [failed for at, failed in self.ended if at // BUCKET >= first]
        return len(recent) >= FEWEST and 2 * sum(recent) >= len(recent)

    # What holds at every moment

    @invariant()
    def it_is_left_alone_as_long_as_the_model_says(self) -> None:
        assert self.breaker.is_open is (self.open_until is not None)
        assert self.breaker.unavailable_until == max(self.open_until or 0.0, self.cooling_until)

    @invariant()
    def it_is_never_left_alone_for_long(self) -> None:
        longest = max(self.limits.open_seconds, self.cooling_until - self.now)
        assert self.breaker.unavailable_until <= self.now + longest


def test_a_target_is_left_alone_as_long_as_it_should_be() -> None:
    run_state_machine_as_test(Target, settings=settings(max_examples=settings().max_examples // 2))
