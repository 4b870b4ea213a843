"""Which target answers for a model name. Pure functions of the configuration."""

from dataclasses import dataclass

from gateway.config import DEFAULT_TIMEOUTS, Config, Timeouts, Upstream
from gateway.errors import InvalidRequest, ModelNotFound


@dataclass(frozen=True, slots=True)
class Target:
    """An upstream, what it calls the model, and how long it may take."""

    upstream: Upstream
    model: str
    timeouts: Timeouts


def route(config: Config, name: str | None) -> Target:
    """The target for the model `name`, or for the default model where none is named.

    With `[[models]]`, only those names exist; without, every name goes to the first upstream unchanged.
    Raises InvalidRequest where no model is named and there is no default, ModelNotFound for an unknown name.
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
            return _target(config, upstreams[target.upstream], target.model or name, model.timeouts)
    known = ", ".join(model.name for model in config.models[:20])
    raise ModelNotFound(f"There is no such model here. Try one of: {known}.", param="model")


def default_model(config: Config) -> str | None:
    """What a request without a model and without an assistant asks."""
    if config.models:
        return config.models[0].name
    return config.default_model


def _target(config: Config, upstream: Upstream, model: str, timeouts: Timeouts) -> Target:
    return Target(upstream, model, timeouts.over(upstream.timeouts).over(config.timeouts).over(DEFAULT_TIMEOUTS))
