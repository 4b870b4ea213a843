"""All metrics of a process."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from gateway.observe.metrics.answers import Answers
from gateway.observe.metrics.gauges import Gauge, OwnGauges, SharedGauges
from gateway.observe.metrics.sharing import text_of_all
from gateway.observe.records import StreamRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus' text format

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the series, and nobody reads them

_WAIT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LAG = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class PassedOn(StrEnum):
    """What sends a request to another process of this gateway."""

    STREAM = "stream"  # it names a stream that the other one holds
    IDEMPOTENCY_KEY = "idempotency_key"  # of a stream that the other one holds
    NEW = "new"  # it asks, on a connection that was open before the other one took over the port


class Metrics:
    """One per process. `gauges` is called for each scrape.

    With a folder, which `share` was told of before, `text` has the metrics of all workers. The gauges of the others are
    as old as their last measurement of the event loop's lag.
    """

    def __init__(self, gauges: Callable[[], Iterable[Gauge]], folder: Path | None = None) -> None:
        self._folder = folder
        self._registry = registry = CollectorRegistry()
        self._gauges = None if folder is None else SharedGauges(gauges)
        if folder is None:
            registry.register(OwnGauges(gauges))
        self._answers = Answers(registry)
        self.stream_ended: Callable[[StreamRecord], None] = self._answers.ended
        self._refusals = Counter(
            "gateway_refusals",
            "Requests that the gateway itself refused, by the error's code.",
            ("code",),
            registry=registry,
        )
        passed_on = Counter(
            "gateway_passed_on",
            "Requests that were passed on to another process of this gateway, by what sent them there.",
            ("kind",),
            registry=registry,
        )
        self._passed_on = {kind: passed_on.labels(kind) for kind in PassedOn}
        self._heartbeats = Counter("gateway_heartbeats", "Heartbeats that were sent to clients.", registry=registry)
        self._wait = Histogram(
            "gateway_time_before_upstream_seconds",
            "From the arrival of a request to the first request to an upstream, with the time in which its body came.",
            registry=registry,
            buckets=_WAIT_SECONDS,
        )
        self._lag = Histogram(
            "gateway_event_loop_lag_seconds",
            "Delay of a timer of the event loop, measured twice a second.",
            registry=registry,
            buckets=_LAG,
        )

    def refused(self, code: str) -> None:
        """Counts a request that got an error of the gateway's own. `code` is that of the error's class."""
        self._refusals.labels(code).inc()

    def passed_on(self, kind: PassedOn) -> None:
        self._passed_on[kind].inc()

    def sent_heartbeat(self) -> None:
        self._heartbeats.inc()

    def asked_after(self, seconds: float) -> None:
        """Counts the time that a request spent here before its stream asked an upstream."""
        self._wait.observe(seconds)

    def lagged(self, seconds: float) -> None:
        self._lag.observe(seconds)
        if self._gauges is not None:
            self._gauges.write()

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        if self._folder is None or self._gauges is None:
            return generate_latest(self._registry)
        self._gauges.write()
        return text_of_all(self._folder)
