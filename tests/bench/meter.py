"""Reads all counters of a pass at one instant, and tells what happened between two such readings."""

import os
import time
from dataclasses import dataclass

from tests.bench import measure
from tests.bench.client import Tally, Target


@dataclass(frozen=True, slots=True)
class Reading:
    """All counters at one instant."""

    at_ns: int
    events: int
    answers: int
    contender_ns: int
    load_ns: int
    machine: measure.Ticks


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two readings; CPU use is in cores."""

    begin: Reading
    end: Reading

    @property
    def seconds(self) -> float:
        return (self.end.at_ns - self.begin.at_ns) / 1e9

    @property
    def cpu_ns(self) -> int:
        return self.end.contender_ns - self.begin.contender_ns

    @property
    def load_busy(self) -> float:
        return (self.end.load_ns - self.begin.load_ns) / 1e9 / self.seconds

    @property
    def other_busy(self) -> float:
        busy = self._cores(self.end.machine.busy - self.begin.machine.busy)
        return max(busy - self.load_busy - self.cpu_ns / 1e9 / self.seconds, 0.0)

    @property
    def stolen(self) -> float:
        return self._cores(self.end.machine.stolen - self.begin.machine.stolen)

    def _cores(self, ticks: int) -> float:
        return ticks / measure.TICKS_PER_SECOND / self.seconds


class Meter:
    """Reads the counters of one pass."""

    def __init__(self, target: Target, upstream_pid: int, tally: Tally) -> None:
        self._tally = tally
        self._port = target.port
        self._contender = measure.process_tree(target.pids or [])
        self._load = [upstream_pid, os.getpid()]

    def read(self) -> Reading:
        machine, load_ns, contender_ns = (
            measure.machine_ticks(),
            measure.cpu_ns(self._load),
            measure.cpu_ns(self._contender),
        )
        tally = self._tally
        return Reading(time.monotonic_ns(), tally.events, tally.answers, contender_ns, load_ns, machine)

    def pss_kib(self) -> int | None:
        return measure.pss_kib(self._contender)

    def kernel_kib(self) -> float:
        """What waits in the kernel to be sent by the contender."""
        return measure.unsent_bytes(self._port) / 1024
