"""A run: all passes in their order, each on a fresh contender.

Contenders take turns within a round, and each round begins with another one, so that a machine that slows down or a
neighbour who wakes up does not always meet the same contender. Each pass starts its contender anew: memory that an
earlier pass left in its allocator would otherwise hide what the streams of this one need.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.bench.contenders import Contender, Site
from tests.bench.figures import Figures, Load, Pass
from tests.bench.load import MARGIN, WARM_UP, Job, ramp_seconds, settle_seconds
from tests.bench.processes import BenchError, Cores, child, free_port, server, tail

_START = 1.2  # seconds to start a contender and the client, about
_LIMIT = 120.0  # seconds for all of a pass but its windows; the client's own bounds end it earlier, with a reason


class Plan(NamedTuple):
    rounds: int
    loads: Sequence[Load]
    short_seconds: float
    cores: Cores
    upstream_port: int | None


class Step(NamedTuple):
    """One pass to come."""

    round: int
    load: Load
    contender: str


class Failure(NamedTuple):
    """A pass that brought no figures."""

    step: Step
    reason: str

    def __str__(self) -> str:
        return f"FAILED: {self.step.contender}, {self.step.load.title}, round {self.step.round}: {self.reason}"


def steps(plan: Plan, names: Sequence[str]) -> list[Step]:
    return [
        Step(number + 1, load, name)
        for number in range(plan.rounds)
        for load in plan.loads
        for name in _rotated(names, number)
    ]


def _rotated(names: Sequence[str], by: int) -> list[str]:
    by %= len(names)
    return [*names[by:], *names[:by]]


def step_seconds(plan: Plan, load: Load) -> float:
    """About what one pass takes."""
    opening = _START + WARM_UP + ramp_seconds(load) + settle_seconds(load)
    return opening + load.seconds + MARGIN + plan.short_seconds


def run(
    plan: Plan, contenders: Mapping[str, Contender], tell: Callable[[Step], None]
) -> Generator[Pass | Failure, None, None]:
    """The passes as they end; `tell` hears several times a second which step runs.

    A pass that fails does not end the run, since the others may well be whole. Whoever iterates closes this
    generator: that is what stops the processes.
    """
    port = plan.upstream_port or free_port()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        directory = Path(name)
        command = [sys.executable, "-m", "tests.bench.upstream", str(port)]
        with server(command, port, log=directory / "upstream.log", cores=plan.cores.load) as upstream:
            for number, step in enumerate(steps(plan, list(contenders))):
                site = Site(port, directory / str(number), plan.cores)
                site.directory.mkdir()
                try:
                    with contenders[step.contender](site) as target:
                        job = Job(target, step.load, plan.short_seconds, upstream.pid)
                        figures = _measure(job, site, partial(tell, step))
                except BenchError as error:
                    yield Failure(step, str(error))
                else:
                    yield Pass(step.round, step.contender, step.load, figures)


def _measure(job: Job, site: Site, still_running: Callable[[], None]) -> Figures:
    job_file, figures_file, log = (site.directory / name for name in ("job.json", "figures.json", "client.log"))
    job_file.write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-m", "tests.bench.load", str(job_file), str(figures_file)]
    deadline = time.monotonic() + job.load.seconds + job.short_seconds + _LIMIT
    with child(command, log=log, cores=site.cores.load) as client:
        while client.poll() is None and time.monotonic() < deadline:
            still_running()
            time.sleep(0.1)
        if client.returncode != 0:
            raise BenchError(tail(log) or "the client got stuck")
    return msgspec.json.decode(figures_file.read_bytes(), type=Figures)
