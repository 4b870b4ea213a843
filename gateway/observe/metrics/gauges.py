"""Gauges: values that are read when the metrics are."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from prometheus_client import Gauge as SharedGauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Together = Literal["livesum", "livemin", "livemax"]  # the sum, the smallest, the largest


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that is read when the metrics are. `values` are by the value of `label`, which may be empty."""

    name: str
    help: str
    values: Mapping[str, float]
    label: str = ""
    together: Together = "livesum"  # what several workers have


class OwnGauges(Collector):
    """Those of a process alone. `gauges` is called for each scrape."""

    def __init__(self, gauges: Callable[[], Iterable[Gauge]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for gauge in self._gauges():
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=[gauge.label] if gauge.label else [])
            for value, number in gauge.values.items():
                family.add_metric([value] if gauge.label else [], number)
            yield family


class SharedGauges:
    """Those of one of several workers, which writes them to its files for whoever of the workers is scraped."""

    def __init__(self, gauges: Callable[[], Iterable[Gauge]]) -> None:
        self._gauges = gauges
        self._known: dict[str, tuple[SharedGauge, set[str]]] = {}

    def write(self) -> None:
        for gauge in self._gauges():
            shared, series = self._shared(gauge)
            for value in series - gauge.values.keys():  # the files keep each series: it gets a value that says nothing
                shared.labels(value).set(float(gauge.together == "livemin"))
            series.update(gauge.values)
            for value, number in gauge.values.items():
                (shared.labels(value) if gauge.label else shared).set(number)

    def _shared(self, gauge: Gauge) -> tuple[SharedGauge, set[str]]:
        """The gauge in the files of this worker, and the values of its label that are there."""
        found = self._known.get(gauge.name)
        if found is None:
            labels = [gauge.label] if gauge.label else []
            shared = SharedGauge(gauge.name, gauge.help, labels, registry=None, multiprocess_mode=gauge.together)
            found = self._known[gauge.name] = shared, set()
        return found
