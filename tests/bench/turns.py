"""The run of one client alone: all contenders stand ready at once, and are asked by turns (`alone`)."""

import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tests.bench.alone import Job
from tests.bench.contenders import Contender, Site
from tests.bench.figures import BASE
from tests.bench.installing import last_line
from tests.bench.processes import BenchError, Cores, Process, child, paced_upstream, tail
from tests.bench.progress import Line
from tests.bench.samples import Turn
from tests.rig.ports import free_port

_EVENTS, _RATE = 64, 50.0
_OPENINGS = 30
_SECONDS = 80.0  # about, of a run where nobody says how many rounds
_QUICK_ROUNDS, _QUICK_OPENINGS, _QUICK_EVENTS = 1, 3, 8
_LIMIT = 60.0  # seconds that a run may take beyond its usual time, and then as much again


def plan(paths: int, *, rounds: int | None, quick: bool) -> Job:
    """A job without its processes: as many rounds as fit, where their number is not said."""
    job = Job({}, 0, rounds or _QUICK_ROUNDS, _OPENINGS, _EVENTS, _RATE)
    if quick:
        return msgspec.structs.replace(job, openings=_QUICK_OPENINGS, events=_QUICK_EVENTS)
    return job if rounds else msgspec.structs.replace(job, rounds=max(int(_SECONDS / (paths * job.turn_seconds)), 1))


def heading(job: Job) -> str:
    stream = f"a stream of {job.events} events, {job.rate:g} a second, and {job.openings} openings"
    return f"One client with one stream at a time, {job.rounds} rounds of {stream} on each path"


def run(
    job: Job,
    contenders: Mapping[str, Contender],
    cores: Cores,
    upstream_port: int | None,
    line: Line,
) -> dict[str, list[Turn]]:
    """The samples of each path."""
    port = upstream_port or free_port()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name, ExitStack() as running:
        directory = Path(name)
        upstream = running.enter_context(paced_upstream(port, directory, cores))
        paths = {}
        for contender, start in contenders.items():
            line.tell(f"starting {contender}")
            site = Site(port, directory / contender, cores)
            site.directory.mkdir()
            paths[contender] = running.enter_context(start(site))
        job = msgspec.structs.replace(job, paths=paths, upstream_pid=upstream.pid)
        job_file, samples_file, log = directory / "job.json", directory / "samples.json", directory / "client.log"
        job_file.write_bytes(msgspec.json.encode(job))
        command = [sys.executable, "-m", "tests.bench.alone", str(job_file), str(samples_file)]
        client = running.enter_context(child(command, log=log, cores=cores.load))
        _wait(client, job, log, line)
        if client.returncode != 0:
            raise BenchError(last_line(tail(log)) if client.returncode else "the client got stuck")
        return msgspec.json.decode(samples_file.read_bytes(), type=dict[str, list[Turn]])


def _wait(client: Process, job: Job, log: Path, line: Line) -> None:
    begin = time.monotonic()
    while client.poll() is None and (elapsed := time.monotonic() - begin) < 2 * job.seconds + _LIMIT:
        said = log.read_text().split()
        place = f"round {said[-2]} of {job.rounds}: {said[-1]}" if len(said) > 1 else "starting the client"
        line.tell(f"{elapsed:.0f} s of about {job.seconds:.0f} s, {place}", same_as=place)
        time.sleep(0.2)


def with_base(contenders: Mapping[str, Contender], base: Contender) -> dict[str, Contender]:
    """Direct first: all else is measured over it."""
    return {BASE: base, **contenders}
