"""What the process knows of its targets: how much runs on each, and which errors speak against one."""

import pytest

from gateway.config import BreakerLimits, Config, Model, TargetName, Upstream
from gateway.errors import (
    AnswerTooLarge,
    ContextLengthExceeded,
    EventTooLarge,
    FirstTokenTimeout,
    GatewayError,
    TargetsFull,
    TotalTimeout,
    UpstreamError,
    UpstreamIncomplete,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnreachable,
)
from gateway.upstream.routing import Target, route
from gateway.upstream.targets import Targets

NOW = 1000.0


def config(most: int | None = None, *, failures: int = 5) -> Config:
    """Two models on `up`, of which the second has a target elsewhere, too."""
    return Config(
        upstreams=[Upstream("up", "http://up/v1", max_streams=most), Upstream("other", "http://other/v1")],
        models=[Model("m", [TargetName("up")]), Model("n", [TargetName("up"), TargetName("other")])],
        breaker=BreakerLimits(failures=failures),
    )


def known(most: int | None = None, *, failures: int = 5) -> tuple[Targets, Target]:
    settings = config(most, failures=failures)
    return Targets(settings, lambda: NOW), route(settings, "m").targets[0]


def test_the_load_of_an_upstream_is_counted_over_all_models() -> None:
    targets, target = known(2)
    only, two = route(config(2), "m"), route(config(2), "n")
    targets.start(target)
    targets.check(only)
    targets.start(two.targets[0])
    with pytest.raises(TargetsFull) as raised:
        targets.check(only)
    assert raised.value.headers == {"Retry-After": "5"}
    targets.check(two)
    assert [one.upstream.name for one in targets.order(two)] == ["other"]
    assert targets.order(only) == []
    assert targets.state(target).running == 1
    targets.end(target)
    targets.check(only)
    assert targets.state(target).running == 0


def test_a_reload_changes_how_many_may_run_and_forgets_none() -> None:
    targets, target = known(1)
    targets.start(target)
    targets.configure(config(2))
    targets.check(route(config(2), "m"))
    targets.configure(config(1))
    with pytest.raises(TargetsFull):
        targets.check(route(config(1), "m"))
    targets.configure(config(None))
    targets.check(route(config(), "m"))


def test_a_reload_changes_the_limits_of_breakers() -> None:
    targets, target = known(failures=5)
    targets.failure(target, UpstreamError())
    targets.configure(config(failures=2))
    targets.failure(target, UpstreamError())
    assert targets.state(target).breaker.is_open


def test_a_reload_forgets_the_targets_that_it_removes_when_nothing_runs_on_them() -> None:
    """Also where an answer of before goes on to look at such a target."""
    targets, target = known()
    other = route(config(), "n").targets[1]
    targets.start(target)
    targets.start(other)
    targets.end(other)
    assert [name for name, _ in targets.known()] == ["up/m", "other/n"]
    only_n = Config(upstreams=config().upstreams[:1], models=[Model("n", [TargetName("up")])])
    targets.configure(only_n)
    assert [(name, state.running) for name, state in targets.known()] == [("up/m", 1)]
    targets.end(target)
    assert targets.order(route(config(), "m")) == [target]
    assert list(targets.known()) == []


@pytest.mark.parametrize("error", [UpstreamError(), UpstreamIncomplete(), UpstreamUnreachable(), FirstTokenTimeout()])
def test_a_failure_of_the_target_counts(error: GatewayError) -> None:
    targets, target = known(failures=2)
    targets.failure(target, error)
    assert targets.state(target).unavailable_until() == 0
    targets.failure(target, error)
    assert targets.state(target).unavailable_until() == NOW + 15


def test_a_refusal_of_the_gateway_opens_at_once() -> None:
    targets, target = known()
    targets.failure(target, UpstreamMisconfigured())
    assert targets.state(target).unavailable_until() == NOW + 15


@pytest.mark.parametrize(
    "error",
    [
        UpstreamRejected(),
        UpstreamRejected(status=404),
        ContextLengthExceeded(),
        EventTooLarge(),
        TotalTimeout(),
        AnswerTooLarge(),
        GatewayError(),
    ],
)
def test_a_callers_own_mistakes_and_bounds_of_the_gateway_never_count(error: GatewayError) -> None:
    targets, target = known(failures=1)
    for _ in range(10):
        targets.failure(target, error)
        targets.nothing(target)
    assert targets.state(target).unavailable_until() == 0


@pytest.mark.parametrize(("wait", "seconds"), [(None, 1.0), (30.0, 30.0), (1e12, 3600.0)])
def test_a_429_cools_down_for_as_long_as_the_provider_said(wait: float | None, seconds: float) -> None:
    targets, target = known(failures=1)
    error = UpstreamRateLimited()
    error.wait = wait
    targets.failure(target, error)
    assert targets.state(target).unavailable_until() == NOW + seconds
    assert not targets.state(target).breaker.is_open


def test_callers_cannot_add_states_by_inventing_models() -> None:
    anything = Config(upstreams=[Upstream("up", "http://up/v1")])
    targets = Targets(anything, lambda: NOW)
    for number in range(1000):
        targets.start(route(anything, f"m{number}").targets[0])
    assert [(name, state.running) for name, state in targets.known()] == [("up", 1000)]
