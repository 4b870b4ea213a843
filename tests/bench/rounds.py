"""A run: all passes in their order, each on a fresh contender.

Contenders take turns within a round, and each round begins with another one, so that a machine that slows down or a
neighbour who wakes up does not always meet the same contender. Each pass starts its contender anew: memory that an
earlier pass left in its allocator would otherwise hide what the streams of this one need.

A pair runs *together*: both on the one core, in the same seconds, each with a client of its own. What disturbs one then
disturbs the other, which taking turns does not achieve: on two shared cores, the ratios of CPU per event in single
rounds lay between 0.74 and 1.28 by turns, and between 0.99 and 1.01 together.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.bench.contenders import Contender, Site
from tests.bench.figures import Figures, Load, Pass
from tests.bench.load import WARM_UP, Job
from tests.bench.opening import ending_seconds, ramp_seconds, settle_seconds
from tests.bench.processes import BenchError, Cores, Process, child, paced_upstream, tail
from tests.rig.ports import free_port

_START = 1.2  # seconds to start a contender and the client, about
_LIMIT = (
    120.0  # seconds that a pass may take beyond its usual time; the client's own bounds end it earlier, with a reason
)


class Plan(NamedTuple):
    rounds: int
    loads: Sequence[Load]
    short_seconds: float
    cores: Cores
    upstream_port: int | None
    together: bool = False  # do the contenders of a round run at once?


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


Steps = tuple[Step, ...]  # those that run at once


def steps(plan: Plan, names: Sequence[str]) -> list[Steps]:
    found: list[Steps] = []
    for number in range(plan.rounds):
        for load in plan.loads:
            turns = tuple(Step(number + 1, load, name) for name in _rotated(names, number))
            found += [turns] if plan.together else [(step,) for step in turns]
    return found


def _rotated(names: Sequence[str], by: int) -> list[str]:
    by %= len(names)
    return [*names[by:], *names[:by]]


def step_seconds(plan: Plan, load: Load) -> float:
    """About what one pass takes."""
    opening = _START + WARM_UP + ramp_seconds(load) + settle_seconds(load)
    return opening + load.seconds + ending_seconds(load) + _short_seconds(plan, load)


def _short_seconds(plan: Plan, load: Load) -> float:
    """Streams that follow each other have short ones beside them in another load of the same run."""
    return 0 if load.lasting else plan.short_seconds


def run(
    plan: Plan, contenders: Mapping[str, Contender], tell: Callable[[Steps], None]
) -> Generator[Pass | Failure, None, None]:
    """The passes as they end; `tell` hears several times a second which steps run.

    A pass that fails does not end the run, since the others may well be whole. Whoever iterates closes this
    generator: that is what stops the processes.
    """
    port = plan.upstream_port or free_port()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        directory = Path(name)
        with paced_upstream(port, directory, plan.cores) as upstream:
            for number, turn in enumerate(steps(plan, list(contenders))):
                sites = [Site(port, directory / f"{number}-{step.contender}", plan.cores) for step in turn]
                try:
                    figures = _measure(plan, contenders, turn, sites, upstream.pid, tell)
                except BenchError as error:
                    yield from (Failure(step, str(error)) for step in turn)
                else:
                    yield from (
                        Pass(step.round, step.contender, step.load, found)
                        for step, found in zip(turn, figures, strict=True)
                    )


def _measure(
    plan: Plan,
    contenders: Mapping[str, Contender],
    turn: Steps,
    sites: Sequence[Site],
    upstream_pid: int,
    tell: Callable[[Steps], None],
) -> list[Figures]:
    """Of all steps of a turn. Where one fails, all do: nothing is left to compare the others with."""
    deadline = time.monotonic() + step_seconds(plan, turn[0].load) + _LIMIT
    with ExitStack() as running:
        jobs = []
        for step, site in zip(turn, sites, strict=True):
            site.directory.mkdir()
            target = running.enter_context(contenders[step.contender](site))
            short = _short_seconds(plan, step.load)
            jobs.append(Job(target, step.load, short, upstream_pid, alone=len(turn) == 1))
        clients = [_client(running, job, site) for job, site in zip(jobs, sites, strict=True)]
        while any(client.poll() is None for client in clients) and time.monotonic() < deadline:
            tell(turn)
            time.sleep(0.1)
        return [_figures(client, site) for client, site in zip(clients, sites, strict=True)]


def _client(running: ExitStack, job: Job, site: Site) -> Process:
    job_file, figures_file = site.directory / "job.json", site.directory / "figures.json"
    job_file.write_bytes(msgspec.json.encode(job))
    command = [sys.executable, "-m", "tests.bench.load", str(job_file), str(figures_file)]
    return running.enter_context(child(command, log=site.directory / "client.log", cores=site.cores.load))


def _figures(client: Process, site: Site) -> Figures:
    if client.returncode != 0:
        raise BenchError(tail(site.directory / "client.log") or "the client got stuck")
    return msgspec.json.decode((site.directory / "figures.json").read_bytes(), type=Figures)
