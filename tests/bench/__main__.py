"""Measures what relaying a stream costs, against going direct and against nginx.

    python -m tests.bench --quick                       some seconds: does it work at all
    python -m tests.bench                               about two minutes: the figures to quote
    python -m tests.bench --scale                       10,000 events/s as 100, 300, 1,000 and 3,000 streams
    python -m tests.bench --checkout before=../before   this tree against another one, in the same rounds
    python -m tests.bench --pair gateway,relay          two at once, as ratios with an interval: 2.5 minutes
    python -m tests.bench --pair plain,guarded          the same for keys, limits and the access log together

What is read first is CPU time per event: it hardly depends on how fast or how busy the machine is otherwise, and it
is what decides how many streams a worker holds. Latency and streams per second depend on both. CPU per event falls as
the load rises, because a busy process finds more events at each wake-up: compare what ran under one load and in the
same rounds, best as a ratio to nginx, and never a figure with one from another day. Upstream and client share one
core and the contender has another to itself; see `processes` for the reason, `load` for what a pass is.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from tests.bench import contenders, measure, pairs, plot, report
from tests.bench.contenders import Contender
from tests.bench.figures import Load, Pass, doubts, summarize
from tests.bench.processes import BenchError, choose_cores, open_files_limit, running_on
from tests.bench.rounds import Failure, Plan, Steps, run, step_seconds, steps

_SCALE_RATE = 10_000  # events a second in all, however many streams they are spread over
_SCALE_STREAMS = (100, 300, 1000, 3000)

_Number = TypeVar("_Number", int, float)


class Defaults(NamedTuple):
    rounds: int
    streams: int
    rate: float
    seconds: float
    short_seconds: float


# Half a core for a contender of 100 µs per event: nearer to saturation, events queue, and batches make them cheaper.
_USUAL = Defaults(rounds=3, streams=100, rate=50, seconds=6, short_seconds=2)
_QUICK = Defaults(rounds=1, streams=20, rate=20, seconds=1, short_seconds=0.5)
_PAIR = Defaults(rounds=12, streams=100, rate=25, seconds=5, short_seconds=4)  # two at once: half the rate for each
_SCALE = Defaults(rounds=1, streams=0, rate=0, seconds=6, short_seconds=0)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if not (sys.platform == "linux" and measure.supported()):
        print("The benchmark needs Linux: it reads CPU time and memory from /proc.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every `finally` stops its process
    try:
        chosen = _contenders(options)
        plan = _plan(options)
        passes, failures = _run(plan, chosen)
    except (BenchError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    if passes:
        _publish(plan, passes, options)
    for failure in failures:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failures else 0


def _run(plan: Plan, chosen: dict[str, Contender]) -> tuple[list[Pass], list[str]]:
    """The passes that are whole, and why others are not."""
    ended: list[Pass | Failure] = []
    interrupted = []
    progress = Progress(plan, list(chosen))
    with running_on(plan.cores.load), closing(run(plan, chosen, progress.tell)) as running:
        try:
            ended.extend(running)
        except KeyboardInterrupt:
            interrupted = ["Interrupted: the figures are those of the passes before."]
        finally:
            progress.end()
    passes = [one for one in ended if isinstance(one, Pass)]
    return passes, [*(str(one) for one in ended if isinstance(one, Failure)), *interrupted]


def _publish(plan: Plan, passes: list[Pass], options: argparse.Namespace) -> None:
    facts, summaries = report.machine(plan.cores), summarize(passes)
    compared = pairs.compare(passes, options.pair, margin=options.margin / 100) if options.pair else []
    print(report.text(facts, passes))
    if options.pair:
        print("", report.pair_text(options.pair, compared, margin=options.margin), sep="\n")
    if options.json:
        summary = [
            {"load": load, "contender": name, "figures": figures}
            for load, by_name in summaries.items()
            for name, figures in by_name.items()
        ]
        document = {"machine": facts, "summary": summary, "pair": compared, "doubts": doubts(passes), "passes": passes}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    if options.plot:
        options.plot.write_text(plot.svg(plot.rows(summaries)))


class Progress:
    """One line on stderr that says how far the run is; a line for each pass where stderr is no terminal."""

    def __init__(self, plan: Plan, names: Sequence[str]) -> None:
        self._steps = steps(plan, names)
        self._expected = sum(step_seconds(plan, turn[0].load) for turn in self._steps)
        self._begin = time.monotonic()
        self._last: Steps | None = None
        self._terminal = sys.stderr.isatty()

    def tell(self, turn: Steps) -> None:
        if self._terminal or turn != self._last:
            elapsed = time.monotonic() - self._begin
            place = f"pass {self._steps.index(turn) + 1} of {len(self._steps)}"
            names = " and ".join(step.contender for step in turn)
            line = f"{elapsed:.0f} s of about {self._expected:.0f} s, {place}: {names}, {turn[0].load.title}"
            before, after = ("\r\x1b[K", "") if self._terminal else ("", "\n")
            print(before + line, end=after, file=sys.stderr, flush=True)
            self._last = turn

    def end(self) -> None:
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# From arguments to a plan.


def _plan(options: argparse.Namespace) -> Plan:
    base = _SCALE if options.scale else _QUICK if options.quick else _PAIR if options.pair else _USUAL
    seconds = options.seconds or base.seconds
    if options.scale:
        loads = [Load(streams, _SCALE_RATE / streams, seconds) for streams in _SCALE_STREAMS]
    else:
        loads = [Load(options.streams or base.streams, options.rate or base.rate, seconds)]
    files, needed = open_files_limit(), 2 * max(load.streams for load in loads) + 200
    if files < needed:
        raise BenchError(f"{needed} open files are needed, and the hard limit is {files} (ulimit -Hn)")
    return Plan(
        rounds=options.rounds or base.rounds,
        loads=loads,
        short_seconds=base.short_seconds,
        cores=choose_cores(sorted(os.sched_getaffinity(0)), pin=options.pin),
        upstream_port=options.upstream_port,
        together=options.pair is not None,
    )


def _contenders(options: argparse.Namespace) -> dict[str, Contender]:
    usual, others = contenders.own_contenders(), contenders.variants()
    for name, directory in options.checkout:
        usual[name] = contenders.checkout(Path(directory))
        others |= contenders.variants(Path(directory), prefix=f"{name}-")
    headers, bodies, pids = options.peer_header, dict(options.peer_body), dict(options.peer_pid)
    peers = dict(options.peer)
    if strangers := ({name for name, _ in headers} | set(bodies) | set(pids)) - set(peers):
        raise BenchError(f"no --peer is called {', '.join(sorted(strangers))}")
    for name, url in peers.items():
        usual[name] = contenders.peer(
            url,
            headers=dict(_header(text) for owner, text in headers if owner == name),
            body=Path(bodies[name]).read_text() if name in bodies else None,
            pid=int(pids[name]) if name in pids else None,
        )
    found = usual | others
    chosen = options.pair or (options.only.split(",") if options.only else list(usual))
    if unknown := [name for name in chosen if name not in found]:
        raise BenchError(f"no such contender here: {', '.join(unknown)} (there are {', '.join(found)})")
    return {name: found[name] for name in chosen}


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise BenchError(f"a header is written 'Name: value', not {text!r}")
    return name.strip(), value.strip()


def _pair(text: str) -> tuple[str, str]:
    names = text.split(",")
    if not (all(names) and len(names) == len(set(names)) == 2):
        raise argparse.ArgumentTypeError(f"{text!r} is not two names, as in gateway,relay")
    return names[0], names[1]


def _item(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measures what relaying a stream costs.")
    add = parser.add_argument
    add("--quick", action="store_true", help="a smoke test of some seconds; its figures mean nothing")
    add("--scale", action="store_true", help="10,000 events/s as 100, 300, 1,000 and 3,000 streams; one round")
    rounds = f"passes of each contender, interleaved (default {_USUAL.rounds}, with --pair {_PAIR.rounds})"
    add("--rounds", type=_positive(int), help=rounds)
    add("--streams", type=_positive(int), help=f"open at the same time (default {_USUAL.streams})")
    add("--rate", type=_positive(float), help=f"events a second in each stream (default {_USUAL.rate})")
    add("--seconds", type=_positive(float), help=f"of each pass that are measured (default {_USUAL.seconds})")
    choice = parser.add_mutually_exclusive_group().add_argument
    names = "direct, nginx, gateway, relay, plain, guarded, and those added below"
    choice("--only", metavar="NAME,...", help=f"contenders to run: {names}")
    choice("--pair", type=_pair, metavar="NAME,NAME", help="two of them, the second as a multiple of the first")
    add("--margin", type=float, default=5, metavar="PERCENT", help="that the second may cost more (default 5)")
    add("--checkout", type=_item, action="append", default=[], metavar="NAME=DIR", help="another tree's gateway")
    add("--peer", type=_item, action="append", default=[], metavar="NAME=URL", help="a server that runs already")
    add(
        "--peer-header", type=_item, action="append", default=[], metavar="NAME='Header: value'", help="may be repeated"
    )
    add("--peer-body", type=_item, action="append", default=[], metavar="NAME=FILE", help="$MODEL in it is filled in")
    add("--peer-pid", type=_item, action="append", default=[], metavar="NAME=PID", help="to measure its CPU and memory")
    add("--upstream-port", type=_positive(int), metavar="PORT", help="where a peer finds the upstream (default: any)")
    add("--no-pin", dest="pin", action="store_false", help="leave the choice of cores to the scheduler")
    add("--json", type=Path, metavar="FILE", help="everything that was measured")
    add("--plot", type=Path, metavar="FILE.svg", help="CPU per event as a bar chart")
    return parser


def _positive(kind: Callable[[str], _Number]) -> Callable[[str], _Number]:
    def positive(text: str) -> _Number:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return positive


if __name__ == "__main__":
    sys.exit(main())
