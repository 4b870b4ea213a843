"""Finds the target of a model name. Pure functions of the configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.config import DEFAULT_TIMEOUTS, Config, Prices, Timeouts, Upstream
from gateway.errors import InvalidRequest, ModelNotFound

_MOST_NAMES = 20  # of the models that an error offers


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream, its own name of the model, its timeouts, and the prices of its tokens."""

    upstream: Upstream
    model: str
    timeouts: Timeouts
    prices: Prices | None = None

    @property
    def name(self) -> str:
        return f"{self.upstream.name}/{self.model}"


def route(config: Config, name: str | None) -> Target:
    """The target for the model `name`, or for the default model if `name` is empty.

    With `[[models]]`, only those names exist. Without it, every name goes to the first upstream unchanged.
    Raises InvalidRequest if no model is named and there is no default, and ModelNotFound for an unknown name.
    """
    name = name or default_model(config)
    if name is None:
        raise InvalidRequest(
            "Name a `model`: the gateway has no default. (OPENAI_MODEL or [assistants.default] would set one.)",
            code="model_missing",
            param="model",
        )
    upstreams = {upstream.name: upstream for upstream in config.upstreams}
    if not config.models:
        return _target(config, config.upstreams[0], name, Timeouts())
    for model in config.models:
        if model.name == name:
            target = model.targets[0]
            routed = _target(config, upstreams[target.upstream], target.model or name, model.timeouts)
            return replace(routed, prices=model.prices)
    raise unknown_model([model.name for model in config.models])


def unknown_model(known: Sequence[str]) -> ModelNotFound:
    some = ", ".join(known[:_MOST_NAMES])
    return ModelNotFound(f"There is no such model here. Try one of: {some}." if some else None, param="model")


def default_model(config: Config) -> str | None:
    """The model for a request without a model and without an assistant."""
    if config.models:
        return config.models[0].name
    return config.default_model


def _target(config: Config, upstream: Upstream, model: str, timeouts: Timeouts) -> Target:
    return Target(upstream, model, timeouts.over(upstream.timeouts).over(config.timeouts).over(DEFAULT_TIMEOUTS))
