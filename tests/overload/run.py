"""Runs one scene with real processes: the answers that run, then what comes on top of them, then a new answer."""

import asyncio
import math
import os
import re
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench.client import Asker, Tally, Target, open_connection, question
from tests.bench.figures import percentile
from tests.bench.processes import Cores, paced_upstream
from tests.bench.wire import DEFAULT_BODY
from tests.overload.knocking import Knocking
from tests.overload.scenes import CALM, RATE, Scene, lasting
from tests.rig.clients import eventually
from tests.rig.ports import HOST, free_port
from tests.rig.processes import shell

_LATE = 30.0  # seconds that anything may take on a machine that is busy with other things
_TICKS = os.sysconf("SC_CLK_TCK")
_LAG = re.compile(r'gateway_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)')


@dataclass(frozen=True)
class Half:
    """What the running answers noticed, and what the process used."""

    gaps: tuple[float, float, float]  # in ms between two events: half of them, 99 of 100, all
    cpu: float  # share of a core


@dataclass(frozen=True)
class Figures:
    scene: Scene
    answers: int  # of those that ran: whole ones
    calm: Half
    flood: Half
    refused: Counter[str]
    codes: Counter[str]
    faults: Counter[str]
    let_in: int
    refusal_ms: tuple[float, float]  # half of them, 99 of 100
    lag_ms: tuple[float, int]  # an upper bound for 99 of 100, and how many there are
    recovered: bool


@contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """The upstream of any number of scenes. Yields its port."""
    cores, port = frozenset(os.sched_getaffinity(0)), free_port()
    with paced_upstream(port, folder, Cores(cores, cores)):
        yield port


async def run(scene: Scene, folder: Path, upstream: int, *, seconds: float, clients: int) -> Figures:
    async with _gateway(scene, folder, upstream, seconds) as (pid, port):
        tally = Tally(scene.running)
        await _start(scene, port, tally, scene.events(seconds))
        await eventually(lambda: len(tally.firsts) == scene.running, within=_LATE)
        calm = await _watched(tally, pid, asyncio.sleep(seconds * CALM))
        before, knocking = await _lags(port), Knocking(port)
        if scene.silent:
            silent = [await asyncio.open_connection(HOST, port) for _ in range(scene.silent)]
            flood = await _watched(tally, pid, asyncio.sleep(seconds))
            for _, writer in silent:
                writer.transport.abort()
        else:
            await knocking.until_refused(within=lasting(seconds))
            flood = await _watched(tally, pid, knocking.go_on(clients, seconds))
            await knocking.leave()
        await tally.all_finished(timeout=lasting(seconds) + _LATE)
        recovered = await _recovers(port)
        lag = _lag(before, await _lags(port))
    waits = sorted(knocking.seconds)
    return Figures(
        scene,
        tally.answers,
        calm,
        flood,
        knocking.refused,
        knocking.codes,
        knocking.faults,
        knocking.let_in,
        (percentile(waits, 50) * 1000, percentile(waits, 99) * 1000) if waits else (0.0, 0.0),
        lag,
        recovered,
    )


@asynccontextmanager
async def _gateway(scene: Scene, folder: Path, upstream: int, seconds: float) -> AsyncIterator[tuple[int, int]]:
    """Its process and its port. It must be alive at the end, and stop cleanly."""
    file = folder / "gateway.toml"
    base = f'[[upstreams]]\nname = "bench"\nbase_url = "http://{HOST}:{upstream}/v1"\n'
    file.write_text(f"[server]\ndrain_seconds = 0\n{scene.toml(seconds)}{base}", encoding="utf-8")
    words = f'ulimit -n {scene.files}; exec "$@" 2>"{folder}/gateway.log"'
    async with shell(words, "serve", "--config", str(file)) as (process, address):
        yield process.pid, int(address.rpartition(":")[2])
        assert process.returncode is None, "the process has ended"
        process.terminate()
        async with asyncio.timeout(_LATE):
            assert await process.wait() == 0


async def _start(scene: Scene, port: int, tally: Tally, events: int) -> None:
    for number in range(scene.running):
        path = scene.paths[number % len(scene.paths)]
        target = Target(HOST, port, path, {}, DEFAULT_BODY, None)
        asked = question(target, RATE, events, scene.padding)
        await open_connection(target, partial(Asker, tally, iter([asked])))


async def _watched(tally: Tally, pid: int, load: Coroutine[Any, Any, None]) -> Half:
    loop = asyncio.get_running_loop()
    tally.gaps = array("q")
    began, used = loop.time(), _cpu_seconds(pid)
    await load
    cpu = (_cpu_seconds(pid) - used) / (loop.time() - began)
    gaps = sorted(tally.gaps)
    return Half((percentile(gaps, 50) / 1e6, percentile(gaps, 99) / 1e6, gaps[-1] / 1e6), cpu)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def _lags(port: int) -> dict[float, float]:
    """The delays of the event loop's timer: how many were at most so long, in seconds."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{HOST}:{port}/metrics") as response:
        return {float(bound): float(number) for bound, number in _LAG.findall(await response.text())}


def _lag(before: dict[float, float], after: dict[float, float]) -> tuple[float, int]:
    counts = {bound: number - before[bound] for bound, number in after.items()}
    enough = counts[math.inf] * 0.99
    return min(bound for bound, number in counts.items() if number >= enough) * 1000, int(counts[math.inf])


async def _recovers(port: int) -> bool:
    """Whether a new answer is whole."""
    target, tally = Target(HOST, port, "/chat", {}, DEFAULT_BODY, None), Tally(1)
    await open_connection(target, partial(Asker, tally, iter([question(target, 0, 3)])))
    await tally.all_finished(timeout=_LATE)
    return tally.answers == 1
