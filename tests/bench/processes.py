"""Starts and stops what a run needs: every process by its own pid, and none that this run did not start.

Cores. Upstream and client share one core and the contender has another to itself, where there are two or more.
Left to the scheduler, the three wander, and a contender's CPU time then depends on whose cache it landed in and on
whether the client happened to run beside it or in its stead. The first and the last core are taken: on
machines with hyper-threads these are not siblings. Affinity is inherited, so this process takes on the child's for the
moment of the start. A contender of several workers wants `--no-pin`.
"""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.rig.ports import HOST

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0

Process = subprocess.Popen[bytes]


class BenchError(Exception):
    """The run cannot go on; the message says why."""


class Cores(NamedTuple):
    """Which cores each side may use."""

    load: frozenset[int]
    contender: frozenset[int]

    @property
    def pinned(self) -> bool:
        return self.load.isdisjoint(self.contender)


def choose_cores(allowed: Sequence[int], *, pin: bool) -> Cores:
    if not pin or len(allowed) < 2:
        return Cores(frozenset(allowed), frozenset(allowed))
    ordered = sorted(allowed)
    return Cores(frozenset(ordered[:1]), frozenset(ordered[-1:]))


@contextmanager
def running_on(cores: frozenset[int]) -> Iterator[None]:
    """This process, and what it starts meanwhile, uses only `cores`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def server(
    command: Sequence[str],
    port: int,
    *,
    log: Path,
    cores: frozenset[int],
    cwd: Path = ROOT,
    health: str = "/healthz",
    stop_seconds: float = _STOP_SECONDS,
) -> Iterator[Process]:
    """A server that is ready, for as long as the block runs."""
    with child(command, log=log, cores=cores, cwd=cwd, stop_seconds=stop_seconds) as process:
        deadline = time.monotonic() + _START_SECONDS
        while not _healthy(port, health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"{log.stem} did not start:\n{tail(log)}")
            time.sleep(0.02)
        yield process


@contextmanager
def child(
    command: Sequence[str],
    *,
    log: Path,
    cores: frozenset[int],
    cwd: Path = ROOT,
    stop_seconds: float = _STOP_SECONDS,
) -> Iterator[Process]:
    """A process for as long as the block runs; what it says goes to `log`."""
    # A session of its own: Ctrl-C reaches this process alone, which then stops the others in order.
    with log.open("wb") as output, running_on(cores):
        process = subprocess.Popen(
            command, cwd=cwd, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        _stop(process, stop_seconds)


@contextmanager
def paced_upstream(port: int, directory: Path, cores: Cores) -> Iterator[Process]:
    """The upstream that all contenders stand before, for as long as the block runs."""
    command = [sys.executable, "-m", "tests.bench.upstream", str(port)]
    with server(command, port, log=directory / "upstream.log", cores=cores.load) as process:
        yield process


def _stop(process: Process, seconds: float) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the session made above: it, and the workers it would leave behind
        process.wait()
    assert process.stdin
    process.stdin.close()


def _healthy(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def open_files_limit() -> int:
    """Raises the soft limit of open files to the hard one, for this process and what it starts."""
    import resource  # here, because the tests import this module also on systems that have none

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
