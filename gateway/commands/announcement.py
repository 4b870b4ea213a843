"""What the commands tell a person about the gateway that they start."""

from collections.abc import Iterator
from pathlib import Path

from gateway import __version__
from gateway.config import Config
from gateway.demo.models import MODELS


def announced(address: str, config: Config) -> Iterator[str]:
    yield f"gateway {__version__} serves {address}"
    yield from (f"  from {upstream.name} at {upstream.base_url}" for upstream in config.upstreams)
    if config.keys:
        yield f"  to callers with one of {len(config.keys)} keys"
    if config.server.allow_anonymous:
        yield "  to anyone who reaches this address (server.allow_anonymous)"
    models = ", ".join(model.name for model in config.models) or config.default_model or "any that a request names"
    yield f"  models: {models}"
    if config.server.playground:
        yield f"Playground: {address}/"
    model = "" if config.models or config.default_model else "&model=..."
    key = " -H 'Authorization: Bearer ...'" if config.keys and not config.server.allow_anonymous else ""
    yield f"Or try: curl -N{key} -H 'Accept: text/event-stream' '{address}/chat?q=Hello{model}'"


def announced_demo(address: str) -> str:
    return f"demo upstream at {address}/v1 with the models {', '.join(MODELS)}"


def unread(config: Path | None) -> Iterator[str]:
    """Points at a file that a person may take for the configuration, where none is named."""
    if config is None and Path("config.toml").is_file():
        yield "There is a config.toml in this folder. It is not read: start with --config config.toml to use it."
