"""The configuration: frozen values, loaded from a TOML file and the environment."""

from gateway.config.describe import described
from gateway.config.load import Faults, checked, load
from gateway.config.rules import digest, is_loopback
from gateway.config.schema import (
    DEFAULT_TIMEOUTS,
    Assistant,
    Config,
    Key,
    Model,
    OnDisconnect,
    Prices,
    Secret,
    Server,
    Store,
    Stream,
    TargetName,
    Timeouts,
    Upstream,
)

__all__ = [
    "DEFAULT_TIMEOUTS",
    "Assistant",
    "Config",
    "Faults",
    "Key",
    "Model",
    "OnDisconnect",
    "Prices",
    "Secret",
    "Server",
    "Store",
    "Stream",
    "TargetName",
    "Timeouts",
    "Upstream",
    "checked",
    "described",
    "digest",
    "is_loopback",
    "load",
]
