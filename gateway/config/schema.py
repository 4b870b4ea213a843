"""The schema of the configuration: one frozen struct for each table. Times are in seconds, sizes in bytes.

`config.example.toml` explains every field and shows its default.
"""

import hmac
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.endpoints import CHATS, Endpoint

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86400)]
Count = Annotated[int, Meta(ge=1)]
Bytes = Annotated[int, Meta(ge=1024)]
Price = Annotated[float, Meta(ge=0, le=1_000_000_000)]
Name = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]{1,200}\Z")]


class Secret:
    """A string that is masked when it is printed."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "***"


class Per(StrEnum):
    """The periods of budgets. They are those of the calendar, in UTC."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class OnDisconnect(StrEnum):
    """What happens to a running answer when its last viewer leaves."""

    CANCEL = "cancel"  # the upstream connection is closed at once
    DRAIN = "drain"  # the answer is finished, so that its usage is known
    DETACH = "detach"  # it goes on for `grace_seconds`, so that the client can come back, and is then cancelled


class Strategy(StrEnum):
    """Which target of a model is asked first. The others follow if it fails."""

    FALLBACK = "fallback"  # in the order of the list
    WEIGHTED = "weighted"  # by chance, in proportion to the weights
    LEAST_BUSY = "least_busy"  # the one with the fewest running requests in proportion to its weight


class Dialect(StrEnum):
    """The form in which an upstream is asked and answers."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"  # the Messages API


class Thinking(StrEnum):
    """How models behind Anthropic's API are asked to think."""

    ADAPTIVE = "adaptive"  # at an effort, without a budget
    BUDGET = "budget"  # for a number of tokens


class Api(StrEnum):
    """What an upstream speaks below its `base_url`, beside the endpoints that it shares with the gateway."""

    CHAT = "chat"  # responses are translated to chats
    RESPONSES = "responses"  # it makes responses itself, and gets them as they were asked for


class Server(Struct, frozen=True, forbid_unknown_fields=True):
    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str | None = None
    max_body_bytes: Bytes = 1_048_576
    cors_origins: list[str] = []
    trusted_proxies: list[str] = msgspec.field(default_factory=lambda: ["127.0.0.1", "::1"])
    allow_anonymous: bool = False
    playground: bool = True
    drain_seconds: Annotated[float, Meta(ge=0, le=86400)] = 30.0
    max_running: Count = 5000
    max_bodies_bytes: Bytes = 134_217_728
    runtime_dir: str | None = None
    workers: Annotated[int, Meta(ge=1, le=256)] = 1  # processes; beyond the cores of a machine, more are of no use


class Stream(Struct, frozen=True, forbid_unknown_fields=True):
    heartbeat_seconds: Seconds = 15.0
    retry_ms: Annotated[int, Meta(ge=0, le=600_000)] = 2000
    keep_seconds: Seconds = 300.0
    attach_seconds: Seconds = 60.0
    max_bytes: Bytes = 8_388_608
    max_event_bytes: Bytes = 1_048_576
    on_disconnect: OnDisconnect = OnDisconnect.DETACH
    grace_seconds: Seconds = 30.0
    max_orphans: Count = 1000


_MEMORY = "memory://"


class Store(Struct, frozen=True, forbid_unknown_fields=True):
    """`url` is `memory://`, or the address of a Redis that several processes share. Keys there begin with `prefix`."""

    url: Secret = Secret(_MEMORY)  # it may hold a password
    prefix: Name = "gateway:"
    max_bytes: Bytes = 268_435_456
    max_streams: Count = 20_000

    @property
    def is_shared(self) -> bool:
        return self.url.reveal() != _MEMORY


class Timeouts(Struct, frozen=True, forbid_unknown_fields=True):
    """In seconds. None means that the next wider table decides: model, upstream, `[timeouts]`."""

    connect: Seconds | None = None
    first_token: Seconds | None = None
    idle: Seconds | None = None
    total: Seconds | None = None

    def over(self, wider: "Timeouts") -> "Timeouts":
        if self == _NO_TIMEOUTS:  # nearly always; routing a request then takes 1 µs instead of 5
            return wider
        return Timeouts(
            *[mine if mine is not None else other for mine, other in zip(_values(self), _values(wider), strict=True)]
        )


class Retry(Struct, frozen=True, forbid_unknown_fields=True):
    """For one answer. `max_wait_seconds` bounds the sum of its waits between attempts."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3  # on all targets together; at most two of them on one target
    backoff_seconds: Seconds = 0.5
    max_wait_seconds: Seconds = 20.0


class BreakerLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """When a target is left alone, and for how long."""

    failures: Count = 5  # in a row
    open_seconds: Seconds = 15.0


_NO_TIMEOUTS = Timeouts()
DEFAULT_TIMEOUTS = Timeouts(connect=5.0, first_token=120.0, idle=60.0, total=600.0)


class Upstream(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    base_url: str
    api_key: Secret | None = None
    headers: dict[str, Secret] = {}
    timeouts: Timeouts = Timeouts()
    proxy: str | None = None
    ca_file: str | None = None
    api: Api = Api.CHAT
    stream_usage: bool = True
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    max_streams: Count | None = None  # that run at the same time, in this process
    dialect: Dialect = Dialect.OPENAI
    max_tokens: Count = 8192  # of an answer whose request has no bound: Anthropic's API wants one
    thinking: Thinking | None = None  # None: by the name of each model

    def __post_init__(self) -> None:
        """Strips blanks around the address, which come from copying it."""
        msgspec.structs.force_setattr(self, "base_url", self.base_url.strip())

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Those at which its models can be asked. Anthropic's API has chats only."""
        return tuple(Endpoint) if self.dialect is Dialect.OPENAI else CHATS

    def asked_at(self, endpoint: Endpoint) -> Endpoint:
        """Its endpoint that is asked for a request at `endpoint` of the gateway."""
        return endpoint if self.api is Api.RESPONSES and endpoint is Endpoint.RESPONSES else endpoint.asked_as


class Prices(Struct, frozen=True, forbid_unknown_fields=True):
    """For a million tokens, in any currency. `cached` is for input that the upstream had in its cache.

    `written` is for input that it wrote to its cache.
    """

    input: Price
    output: Price
    cached: Price | None = None  # None: the price of other input
    written: Price | None = None  # None: the price of other input

    @property
    def inputs(self) -> tuple[float, float, float]:
        """Those of input beside a cache, from it and to it."""
        cached, written = [self.input if price is None else price for price in (self.cached, self.written)]
        return self.input, cached, written


class TargetName(Struct, frozen=True, forbid_unknown_fields=True):
    """`upstream` is the name of one of `[[upstreams]]`, and `model` is that upstream's name for the model."""

    upstream: str
    model: Name | None = None
    weight: Annotated[float, Meta(gt=0, le=1_000_000)] = 1.0
    context: Count | None = None  # tokens that a prompt and its answer may have
    prices: Prices | None = None  # None: those of the model


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    targets: list[TargetName]
    endpoints: list[Endpoint] = msgspec.field(default_factory=lambda: list(Endpoint))  # at which it can be asked
    strategy: Strategy = Strategy.FALLBACK
    hedge_seconds: Seconds | None = None
    same_answer: bool = False
    timeouts: Timeouts = Timeouts()
    prices: Prices | None = None


class Assistant(Struct, frozen=True, forbid_unknown_fields=True):
    model: Name | None = None
    system: list[str] = []
    parameters: dict[str, Any] = {}
    public: bool = False  # callers without a key may ask it, within the three limits below, per client address
    requests_per_minute: Count = 10
    max_streams: Count = 2
    max_tokens: Count | None = None  # of one answer


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """The most that a key may spend in each period, in the currency of the prices."""

    amount: Annotated[float, Meta(ge=0.000001, le=1_000_000_000)]
    per: Per
    max_tokens: Count = 16_384  # of an answer whose request has no bound of its own


class Key(Struct, frozen=True, forbid_unknown_fields=True):
    """An API key, or its SHA-256. An empty `models` allows all models; None means no limit."""

    name: Name
    hash: str | None = None
    key: Secret | None = None
    models: list[str] = []
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_streams: Count | None = None
    budget: Budget | None = None
    expires: date | None = None  # the last day on which it works, in UTC
    on_disconnect: list[OnDisconnect] = msgspec.field(default_factory=lambda: list(OnDisconnect))  # to choose from


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """`token` opens `/metrics` to other machines, and to requests that came through a proxy."""

    token: Secret | None = None


class Traces(Struct, frozen=True, forbid_unknown_fields=True):
    """Where traces are sent to, as OTLP over HTTP. Without an `endpoint`, there are none."""

    endpoint: str | None = None  # else OTEL_EXPORTER_OTLP_ENDPOINT; `/v1/traces` is added to it
    headers: dict[str, Secret] = {}
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0  # of traces that begin here
    service_name: Name = "gateway"
    content: bool = False  # send the texts of questions and answers, too


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    server: Server = Server()
    stream: Stream = Stream()
    store: Store = Store()
    timeouts: Timeouts = Timeouts()
    retry: Retry = Retry()
    breaker: BreakerLimits = BreakerLimits()
    upstreams: list[Upstream] = []
    models: list[Model] = []
    assistants: dict[str, Assistant] = {}
    keys: list[Key] = []
    metrics: Metrics = Metrics()
    traces: Traces = Traces()
    default_model: str | None = None  # from OPENAI_MODEL, not from the file


def _values(timeouts: Timeouts) -> tuple[float | None, ...]:
    return msgspec.structs.astuple(timeouts)
