"""Overloads the gateway in each way, and shows what came of it.

    python -m tests.overload [--seconds 20] [--clients 50] [NAME ...]

Its exit status is 1 if a running answer was not whole, if a refusal was not a 503 with `retry-after`, or if the event
loop was late by 100 ms or more in over one of 100 measurements.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.processes import open_files_limit
from tests.overload.run import Figures, run, upstream
from tests.overload.scenes import SCENES

_LAG_MS = 100
_SLOWER_MS = 100  # by which gaps between events may grow
_SPIN = 0.05  # of a core, that connections in the system's queue may cost


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.overload")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each flood")
    parser.add_argument("--clients", type=int, default=50, help="that ask again and again")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENES))
    options = parser.parse_args(arguments)
    open_files_limit()
    status = 0
    for name in options.names or SCENES:
        with TemporaryDirectory() as folder, upstream(Path(folder)) as port:
            scene = run(SCENES[name], Path(folder), port, seconds=options.seconds, clients=options.clients)
            figures = asyncio.run(scene)
        wrong = [*faults(figures), *slowness(figures)]
        print(text(figures), *[f"    WRONG: {one}" for one in wrong], "", sep="\n", flush=True)
        status |= bool(wrong)
    return status


def faults(figures: Figures) -> Iterator[str]:
    """What must not be, on any machine."""
    if figures.answers != figures.scene.running:
        yield f"{figures.answers} of {figures.scene.running} running answers were whole"
    if figures.faults:
        yield f"clients met {dict(figures.faults)}"
    if set(figures.codes) - {figures.scene.code, "overloaded_error"}:
        yield f"refusals with other codes: {dict(figures.codes)}"
    if not figures.recovered:
        yield "there was no answer behind it"


def slowness(figures: Figures) -> Iterator[str]:
    """What must not be on a machine that does nothing else."""
    if figures.lag_ms[0] > _LAG_MS:
        yield f"the event loop was late by up to {figures.lag_ms[0]:g} ms"
    if figures.flood.gaps[1] > figures.calm.gaps[1] + _SLOWER_MS:
        yield "gaps between events grew"
    if figures.scene.silent and figures.flood.cpu > figures.calm.cpu + _SPIN:
        yield "waiting connections cost CPU time"


def text(figures: Figures) -> str:
    calm, flood = figures.calm, figures.flood
    refused = sum(figures.refused.values())
    lines = [
        f"{figures.scene.name}: {figures.answers} running answers, whole",
        f"    gaps between events, ms (p50, p99, most): {_row(calm.gaps)} before, {_row(flood.gaps)} in the flood",
        f"    CPU: {calm.cpu:.1%} of a core before, {flood.cpu:.1%} in the flood",
        f"    event-loop lag: p99 at most {figures.lag_ms[0]:g} ms, of {figures.lag_ms[1]} measurements",
    ]
    if figures.scene.silent:
        lines.append(f"    {figures.scene.silent} silent connections, {figures.scene.files} open files")
    else:
        codes = ", ".join(f"{number:,} {code}" for code, number in figures.codes.items())
        lines.append(f"    {refused:,} refusals on {len(figures.refused)} paths, {figures.let_in} let in: {codes}")
        lines.append(f"    time to a refusal, ms (p50, p99): {_row(figures.refusal_ms)}")
    return "\n".join(lines)


def _row(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.1f}" for value in values)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
