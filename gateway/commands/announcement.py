"""The lines that a command prints about the gateway that it starts."""

import re
from collections.abc import Iterator
from pathlib import Path

from gateway import __version__
from gateway.config import Config
from gateway.demo.models import MODELS

_BEGINNINGS = (  # of the lines that this module and a failed start print
    b"gateway ",
    b"  upstream ",
    b"  callers need an API key",
    b"  everyone who can reach this address",
    b"  models: ",
    b"Playground: ",
    b"Or run: curl ",
    b"The demo upstream is serving at ",
    b"There is a config.toml in this folder",
    b"The configuration has these faults:",
    b"gateway: ",
)
_FAULT = re.compile(rb"  [A-Za-z_][\w.\[\]-]*: ")  # "  server.port: ..."


def is_announcement(line: bytes) -> bool:
    """Whether a line of a log is a message that `gateway serve` prints at its start, and not a log line."""
    return line.startswith(_BEGINNINGS) or _FAULT.match(line) is not None


def announced(address: str, config: Config) -> Iterator[str]:
    yield f"gateway {__version__} is serving at {address}"
    yield from (f"  upstream {upstream.name}: {upstream.base_url}" for upstream in config.upstreams)
    if config.keys:
        yield f"  callers need an API key; the configuration has {len(config.keys)}"
    if config.server.allow_anonymous:
        yield "  everyone who can reach this address may ask (server.allow_anonymous)"
    models = (
        ", ".join(model.name for model in config.models) or config.default_model or "every name that a request gives"
    )
    yield f"  models: {models}"
    if config.server.playground:
        yield f"Playground: {address}/"
    model = "" if config.models or config.default_model else "&model=..."
    key = " -H 'Authorization: Bearer ...'" if config.keys and not config.server.allow_anonymous else ""
    yield f"Or run: curl -N{key} -H 'Accept: text/event-stream' '{address}/chat?q=Hello{model}'"


def announced_demo(address: str) -> str:
    return f"The demo upstream is serving at {address}/v1 with the models {', '.join(MODELS)}"


def unread(config: Path | None) -> Iterator[str]:
    """A hint if no configuration is named and there is a file that looks like one."""
    if config is None and Path("config.toml").is_file():
        yield "There is a config.toml in this folder, but it is not read. Start with --config config.toml to use it."
