"""Measures how far the viewers at another gateway are behind those at the one that produces their streams.

    python -m tests.bench.following                     300 streams of 50 events a second, for ten seconds

Two gateways share a Redis. All streams start at the first one and are watched at the second; every tenth is watched at
the first one, too. Each event carries the time at which the upstream sent it. Six processes share the machine's cores,
so the times are upper bounds.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import uvloop

from tests.bench import contenders
from tests.bench.client import Asker, Question, Tally, Target, open_connection
from tests.bench.contenders import Setup, Site
from tests.bench.processes import choose_cores, open_files_limit, paced_upstream
from tests.bench.wire import model_name, watching
from tests.rig.ports import free_port

_NEAR = 10  # one of so many streams is watched where it is produced, too
_AT_ONCE = 20  # streams that are started together
_END_SECONDS = 30.0  # for the last events, on a busy machine


async def run(near: Target, far: Target, streams: int, rate: float, seconds: float) -> tuple[Tally, Tally]:
    """The events of the viewers at the first gateway, and of those at the second."""
    events = int(rate * seconds)
    body = near.body.replace("$MODEL", model_name(rate, events))
    close_by, afar = Tally((streams + _NEAR - 1) // _NEAR), Tally(streams)
    room = asyncio.Semaphore(_AT_ONCE)

    async with aiohttp.ClientSession(f"http://{near.host}:{near.port}") as session:

        async def start(number: int) -> None:
            async with room, session.post("/streams", data=body, headers={"Content-Type": "application/json"}) as made:
                address = (await made.json())["url"]
            targets = [(far, afar), *([(near, close_by)] if number % _NEAR == 0 else [])]
            for target, tally in targets:
                question = Question(watching(f"{target.host}:{target.port}", address), events)
                await open_connection(target, lambda tally=tally, question=question: Asker(tally, iter([question])))  # type: ignore[misc] # of the values of this turn

        await asyncio.gather(*[start(number) for number in range(streams)])
    for tally in (close_by, afar):
        await tally.all_finished(timeout=seconds + _END_SECONDS)
    return close_by, afar


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.following", description=__doc__)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second of each stream")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args(arguments)
    if shutil.which("redis-server") is None:
        print("redis-server is not installed", file=sys.stderr)
        return 2
    open_files_limit()
    cores = choose_cores([0], pin=False)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sites = []
        upstream_port = free_port()
        stack.enter_context(paced_upstream(upstream_port, Path(folder), cores))
        for name in ("near", "far"):
            directory = Path(folder) / name
            directory.mkdir()
            sites.append(Site(upstream_port, directory, cores))
        store = stack.enter_context(contenders.store(sites[0]))
        near, far = [
            stack.enter_context(contenders.gateway(site, setup=Setup(path="/streams", store=store))) for site in sites
        ]
        close_by, afar = uvloop.run(run(near, far, options.streams, options.rate, options.seconds))
    print(f"{options.streams} streams of {options.rate:g} events/s, {afar.events:,} events at the other gateway")
    for name, tally in (("where it is produced", close_by), ("at the other gateway", afar)):
        print(
            f"{name:>22}: p50 {_at(tally, 50):6.1f} ms   p99 {_at(tally, 99):6.1f} ms from the upstream to the viewer"
        )
    return 0


def _at(tally: Tally, percent: int) -> float:
    return statistics.quantiles(tally.latencies, n=100)[percent - 1] / 1e6


if __name__ == "__main__":
    sys.exit(main())
