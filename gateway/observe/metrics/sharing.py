"""Several workers share a folder. Each has files of its own there, and any of them can tell what all of them have."""

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead


def share(folder: Path, worker: int) -> None:
    """Keeps the metrics that are made from now on in files of this worker, which continues the files of a dead one.

    Two workers that live must not have the same number.
    """
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]  # the library has no types here


def forget_gauges(folder: Path, worker: int) -> None:
    """Removes the gauges of a worker that has ended. What it counted stays."""
    mark_process_dead(worker, str(folder))  # type: ignore[no-untyped-call]  # the library has no types here


def text_of_all(folder: Path) -> bytes:
    """The metrics of all workers in the text format of Prometheus."""
    together = CollectorRegistry()
    MultiProcessCollector(together, str(folder))  # type: ignore[no-untyped-call]  # the library has no types here
    return generate_latest(together)
