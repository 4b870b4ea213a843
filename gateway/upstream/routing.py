"""Decides which target is asked, and what follows a failure. Pure functions: states, times and chance are passed in."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec
from msgspec.structs import force_setattr, replace

from gateway.config import DEFAULT_TIMEOUTS, Config, Model, Prices, Retry, Strategy, TargetName, Timeouts, Upstream
from gateway.endpoints import Endpoint
from gateway.errors import ContextLengthExceeded, GatewayError, InvalidRequest, ModelNotFound, Recovery, UpstreamError

_MOST_NAMES = 20  # of the models that an error offers
_MOST_ON_ONE = 2  # attempts on one target for one answer: the first, and one more for a moment's fault
_MOST_ROUTES = 500  # that are remembered, of 0.5 KiB each: callers may invent names
_LONGEST_NAME = 256  # characters of a model in such a route; a longer name could be anything
_LONGEST_BACKOFF = 8.0  # seconds, as in OpenAI's SDKs


class Target(msgspec.Struct, frozen=True):
    """An upstream, its own name of the model, its timeouts, the prices of its tokens, and which endpoint is asked.

    Its state is kept under `key`. Callers may invent models, so these share that of the upstream. Each endpoint has a
    state of its own: a server that has no `/rerank` is not left alone by those who chat with it.
    """

    upstream: Upstream
    model: str  # empty: the upstream's default
    timeouts: Timeouts
    prices: Prices | None = None
    weight: float = 1.0
    context: int | None = None  # tokens, if they are known
    is_named: bool = True  # it stands in the configuration
    endpoint: Endpoint = Endpoint.CHAT
    name: str = ""  # this and the key are derived, once: an answer looks at them eight times
    key: str = ""

    def __post_init__(self) -> None:
        name = f"{self.upstream.name}/{self.model}"
        force_setattr(self, "name", name)
        key = name if self.is_named else self.upstream.name
        force_setattr(self, "key", key if self.endpoint is Endpoint.CHAT else f"{key} ({self.endpoint})")


class Route(msgspec.Struct, frozen=True):
    """The targets of a model, how to choose among them, and the endpoints at which the model can be asked.

    A target whose upstream does not have the endpoint is left out.
    """

    targets: tuple[Target, ...]
    strategy: Strategy = Strategy.FALLBACK
    hedge_seconds: float | None = None
    same_answer: bool = False
    endpoints: Sequence[Endpoint] = tuple(Endpoint)

    @property
    def total(self) -> float:
        """The longest time, in seconds, that an answer may take."""
        return max(target.timeouts.total or 0 for target in self.targets)

    @property
    def endpoint(self) -> Endpoint:
        """The one that is asked, the same for all targets: the rules of the configuration see to that."""
        return self.targets[0].endpoint

    def at(self, upstream: str) -> "Route":
        """Only the targets at the upstream of this name. There may be none."""
        return replace(self, targets=tuple([one for one in self.targets if one.upstream.name == upstream]))


# From a name to targets


def route(config: Config, name: str | None, endpoint: Endpoint = Endpoint.CHAT) -> Route:
    """The targets for the model `name`, or for the default model if `name` is None or empty.

    With `[[models]]`, only those names exist. Without it, every name goes to the first upstream unchanged. Whether the
    model has the endpoint is not looked at. Raises InvalidRequest if no model is named and there is no default, and
    ModelNotFound for an unknown name.
    """
    name = name or default_model(config, endpoint)
    if name is None:
        raise InvalidRequest(
            "Name a `model`: the gateway has no default. (OPENAI_MODEL or [assistants.default] would set one.)",
            code="model_missing",
            param="model",
        )
    return _latest.route(config, name, endpoint)


class _Routes:
    """The latest routes of one configuration: many answers have the same, which they share.

    To make one for each answer took up to 1 % of a short stream, and 0.25 KiB of an open one.
    """

    def __init__(self) -> None:
        self._config: Config | None = None
        self._routes: dict[tuple[str, Endpoint], Route] = {}

    def route(self, config: Config, name: str, endpoint: Endpoint) -> Route:
        """Raises ModelNotFound."""
        if config is not self._config or len(self._routes) >= _MOST_ROUTES:
            self._config, self._routes = config, {}
        found = self._routes.get((name, endpoint))
        if found is None:
            found = _made(config, name, endpoint)
            if len(name) <= _LONGEST_NAME:
                self._routes[name, endpoint] = found
        return found


_latest = _Routes()


def _made(config: Config, name: str, endpoint: Endpoint) -> Route:
    if not config.models:
        upstream = config.upstreams[0]
        timeouts = _timeouts(config, upstream, Timeouts())
        target = Target(upstream, name, timeouts, is_named=False, endpoint=upstream.asked_at(endpoint))
        return Route((target,), endpoints=upstream.endpoints)
    for model in config.models:
        if model.name == name:
            every = [_target(config, model, target, endpoint) for target in model.targets]
            targets = tuple([target for target in every if endpoint in target.upstream.endpoints])
            endpoints = [one for one in model.endpoints if any(one in target.upstream.endpoints for target in every)]
            return Route(targets, model.strategy, model.hedge_seconds, model.same_answer, endpoints)
    raise unknown_model([model.name for model in config.models])


def whole_upstream(config: Config, name: str, endpoint: Endpoint) -> Target | None:
    """A target for what an upstream has apart from its models. None if the configuration has no such upstream."""
    upstream = next((upstream for upstream in config.upstreams if upstream.name == name), None)
    if upstream is None:
        return None
    return Target(upstream, "", _timeouts(config, upstream, Timeouts()), is_named=False, endpoint=endpoint)


def unknown_model(known: Sequence[str]) -> ModelNotFound:
    some = ", ".join(known[:_MOST_NAMES])
    return ModelNotFound(f"There is no such model here. Try one of: {some}." if some else None, param="model")


def default_model(config: Config, endpoint: Endpoint = Endpoint.CHAT) -> str | None:
    """The model for a request without a model and without an assistant: of `[[models]]`, the first with this endpoint.

    Empty for the upstream's own: OPENAI_MODEL is no model for moderations, and OpenAI's clients name none for them.
    """
    if config.models:
        return next((model.name for model in config.models if endpoint in model.endpoints), config.models[0].name)
    return "" if endpoint is Endpoint.MODERATIONS else config.default_model


def _target(config: Config, model: Model, named: TargetName, endpoint: Endpoint) -> Target:
    upstream = next(upstream for upstream in config.upstreams if upstream.name == named.upstream)
    timeouts = _timeouts(config, upstream, model.timeouts)
    prices = named.prices or model.prices
    name, asked_at = named.model or model.name, upstream.asked_at(endpoint)
    return Target(upstream, name, timeouts, prices, named.weight, named.context, endpoint=asked_at)


def _timeouts(config: Config, upstream: Upstream, timeouts: Timeouts) -> Timeouts:
    return timeouts.over(upstream.timeouts).over(config.timeouts).over(DEFAULT_TIMEOUTS)


def longest_answer(config: Config) -> float:
    """The time in seconds after which no answer can run any more: the largest `timeouts.total`."""
    narrower = [*[upstream.timeouts for upstream in config.upstreams], *[model.timeouts for model in config.models]]
    return max(timeouts.total or 0 for timeouts in (config.timeouts.over(DEFAULT_TIMEOUTS), *narrower))


# The first target


class State(Protocol):
    """The state of a target. Times are in seconds, on any clock."""

    running: int
    """Requests that run on it."""

    @property
    def is_full(self) -> bool:
        """Whether its upstream runs as many requests as `max_streams` allows."""
        ...

    def unavailable_until(self) -> float:
        """The time until which it is left alone; a past time, or 0, if it is healthy."""
        ...


States = Callable[[Target], State]


def in_order(route: Route, states: States, now: float, chance: Callable[[], float]) -> list[Target]:
    """The targets that have room, in the order in which to ask them: healthy ones first, by the route's strategy.

    The others follow in the order in which their time comes. They are asked only if no healthy one is left: nobody is
    helped if a request fails unasked. `chance` gives numbers from 0 to 1, below 1.
    """
    if len(route.targets) == 1:  # nearly always
        return [] if states(route.targets[0]).is_full else list(route.targets)
    open_ones = [target for target in route.targets if not states(target).is_full]
    healthy = [target for target in open_ones if states(target).unavailable_until() <= now]
    others = [target for target in open_ones if target not in healthy]
    if route.strategy is Strategy.WEIGHTED:
        healthy = list(_by_chance(healthy, chance))
    elif route.strategy is Strategy.LEAST_BUSY:
        healthy.sort(key=lambda target: states(target).running / target.weight)
    others.sort(key=lambda target: states(target).unavailable_until())
    return healthy + others


def _by_chance(targets: list[Target], chance: Callable[[], float]) -> Iterator[Target]:
    """Draws one target after the other, each in proportion to its weight."""
    left = list(targets)
    while left:
        point = chance() * sum([target.weight for target in left])
        for target in left[:-1]:
            point -= target.weight
            if point < 0:
                break
        else:
            target = left[-1]
        left.remove(target)
        yield target


# After a failure


class Failed(msgspec.Struct, frozen=True):
    """An attempt that failed before the first content, or while it repeated what the client has."""

    target: Target
    error: GatewayError


class Step(msgspec.Struct, frozen=True):
    """The next attempt: its target, and the seconds to wait before it."""

    target: Target
    wait: float = 0.0


def next_step(
    failed: Sequence[Failed], order: Sequence[Target], retry: Retry, *, waited: float, chance: float
) -> Step | None:
    """What follows the last of the failures in `failed`, which has all of this answer. None: the answer fails, too.

    `order` holds the targets that have room, as from `in_order`. `waited` is the sum of the earlier waits, in seconds.
    `chance`, from 0 to 1, spreads the waits of many answers that failed together.
    """
    target, error = failed[-1].target, failed[-1].error
    if len(failed) >= retry.attempts or not isinstance(error, UpstreamError) or error.recovery is Recovery.NOTHING:
        return None
    steps = [Step(one, _wait(one, failed, retry, chance)) for one in order if _may_ask(one, failed)]
    in_time = [step for step in steps if waited + step.wait <= retry.max_wait_seconds]
    if error.recovery is Recovery.AGAIN and (again := [step for step in in_time if step.target == target]):
        return again[0]
    return min(in_time, key=lambda step: step.wait, default=None)  # of those that need no wait, the first


def another(failed: Sequence[Failed], order: Sequence[Target]) -> Target | None:
    """A target that this answer has not asked yet, for a second request beside the first, or in its place."""
    asked = [one.target for one in failed]
    return next((target for target in order if target not in asked and _may_ask(target, failed)), None)


def _may_ask(target: Target, failed: Sequence[Failed]) -> bool:
    own = [one.error for one in failed if one.target == target]
    if len(own) >= _MOST_ON_ONE or not all(map(_may_repeat, own)):
        return False
    return not any(_is_as_short(target, one) for one in failed if isinstance(one.error, ContextLengthExceeded))


def _may_repeat(error: GatewayError) -> bool:
    return (
        isinstance(error, UpstreamError) and error.recovery in (Recovery.AGAIN, Recovery.LATER) and not error.is_final
    )


def _is_as_short(target: Target, failed: Failed) -> bool:
    """Whether its context is known to be no longer than that of a target for which the request was too long."""
    tried = failed.target.context
    return target.context is not None and tried is not None and target.context <= tried


def _wait(target: Target, failed: Sequence[Failed], retry: Retry, chance: float) -> float:
    """Seconds before a target is asked: none if it has not failed yet, else its own time, or one that doubles.

    The times of many answers that failed together are spread.
    """
    own = [one.error for one in failed if one.target == target]
    if not own:
        return 0.0
    if isinstance(own[-1], UpstreamError) and own[-1].wait is not None:
        return own[-1].wait + retry.backoff_seconds * chance / 2
    backoff = min(retry.backoff_seconds * 2.0 ** (len(failed) - 1), _LONGEST_BACKOFF)
    return backoff * (1 + chance) / 2
