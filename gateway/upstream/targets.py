"""The state of all targets, as far as this process knows it: which ones fail, and how much runs on each.

Nothing here is shared with other processes. Each of them learns for itself that a target fails.
"""

from collections.abc import Callable, Iterator, Sequence
from random import random

from gateway.config import Config
from gateway.endpoints import Endpoint
from gateway.errors import GatewayError, TargetsFull, UpstreamError, UpstreamMisconfigured, UpstreamRateLimited
from gateway.upstream.breaker import Breaker
from gateway.upstream.routing import Route, Target, in_order, route

_COOLING_SECONDS = 1.0  # after a 429 that does not say when to come back
_RETRY_SECONDS = "5"  # until one of the running answers may have ended


class Load:
    """The requests that run on an upstream, and the most that may."""

    __slots__ = ("most", "running")

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.running = 0

    @property
    def is_full(self) -> bool:
        return self.most is not None and self.running >= self.most


class TargetState:
    """See `routing.State`. `running` counts the requests on this target, and `load` those on its upstream."""

    __slots__ = ("_load", "breaker", "running")

    def __init__(self, breaker: Breaker, load: "Load") -> None:
        self.breaker = breaker
        self.running = 0
        self._load = load

    @property
    def is_full(self) -> bool:
        return self._load.is_full

    def unavailable_until(self) -> float:
        return self.breaker.unavailable_until

    def count(self, change: int) -> None:
        self.running += change
        self._load.running += change


class Targets:
    """One per process. `now` is a clock, in seconds."""

    def __init__(self, config: Config, now: Callable[[], float], chance: Callable[[], float] = random) -> None:
        self._limits = config.breaker
        self._now = now
        self._chance = chance
        self._states: dict[str, TargetState] = {}
        self._named = _keys(config)
        self._loads = {upstream.name: Load(upstream.max_streams) for upstream in config.upstreams}

    def configure(self, config: Config) -> None:
        """Uses the limits of another configuration. Known targets stay as they are; removed ones go."""
        self._limits = config.breaker
        self._named = _keys(config)
        for upstream in config.upstreams:
            self._loads.setdefault(upstream.name, Load(None)).most = upstream.max_streams
        for state in self._states.values():
            state.breaker.configure(config.breaker)
        for key in list(self._states):
            self._forget_removed(key)

    def _forget_removed(self, key: str) -> None:
        """Forgets a target that the configuration no longer has, unless requests run on it."""
        if key not in self._named and not self._states[key].running:
            del self._states[key]

    def order(self, route: Route) -> Sequence[Target]:
        """The targets that have room, in the order in which to ask them."""
        return in_order(route, self.state, self._now(), self._chance)

    def check(self, route: Route) -> None:
        """Raises TargetsFull if no target has room."""
        for target in route.targets:
            if not self._loads[target.upstream.name].is_full:
                return
        raise TargetsFull(headers={"Retry-After": _RETRY_SECONDS})

    def state(self, target: Target) -> TargetState:
        state = self._states.get(target.key)
        if state is None:
            state = self._states[target.key] = TargetState(Breaker(self._limits), self._loads[target.upstream.name])
        return state

    def known(self) -> Iterator[tuple[str, TargetState]]:
        """The targets that were asked, with their states. Removed ones are among them while requests run on them."""
        return ((key, state) for key, state in self._states.items() if key in self._named or state.running)

    # What happens to a request

    def start(self, target: Target) -> None:
        """A request is about to be sent. Call `end` once, when its connection is closed or free for others."""
        state = self.state(target)
        state.count(1)
        state.breaker.start(self._now())

    def end(self, target: Target) -> None:
        self.state(target).count(-1)
        self._forget_removed(target.key)

    def content(self, target: Target) -> None:
        """The first content has come."""
        self.state(target).breaker.content()

    def success(self, target: Target) -> None:
        self.state(target).breaker.success(self._now())

    def failure(self, target: Target, error: GatewayError) -> None:
        breaker, now = self.state(target).breaker, self._now()
        if isinstance(error, UpstreamRateLimited):
            breaker.cool_down(_COOLING_SECONDS if error.wait is None else error.wait, now)
            breaker.nothing(now)
        elif isinstance(error, UpstreamError) and error.is_targets_fault:
            breaker.failure(now, is_certain=isinstance(error, UpstreamMisconfigured))
        else:
            breaker.nothing(now)

    def nothing(self, target: Target) -> None:
        """It was ended from this side, which says nothing about the target."""
        self.state(target).breaker.nothing(self._now())


def _keys(config: Config) -> set[str]:
    """The keys of all targets: see `Target.key`."""
    if not config.models:
        asked = [route(config, "any", endpoint) for endpoint in Endpoint if config.upstreams]
    else:
        asked = [route(config, model.name, endpoint) for model in config.models for endpoint in model.endpoints]
    return {target.key for one in asked for target in one.targets}
