"""The configuration: frozen values, loaded from a TOML file and the environment."""

from gateway.config.describe import described
from gateway.config.load import Faults, checked, load
from gateway.config.rules import digest, is_loopback
from gateway.config.schema import (
    DEFAULT_TIMEOUTS,
    Assistant,
    BreakerLimits,
    Config,
    Key,
    Metrics,
    Model,
    OnDisconnect,
    Prices,
    Retry,
    Secret,
    Server,
    Store,
    Strategy,
    Stream,
    TargetName,
    Timeouts,
    Traces,
    Upstream,
)

__all__ = [
    "DEFAULT_TIMEOUTS",
    "Assistant",
    "BreakerLimits",
    "Config",
    "Faults",
    "Key",
    "Metrics",
    "Model",
    "OnDisconnect",
    "Prices",
    "Retry",
    "Secret",
    "Server",
    "Store",
    "Strategy",
    "Stream",
    "TargetName",
    "Timeouts",
    "Traces",
    "Upstream",
    "checked",
    "described",
    "digest",
    "is_loopback",
    "load",
]
