"""Measures what relaying a stream costs, against going direct and against nginx.

    python -m tests.bench --quick                       some seconds: does it work at all
    python -m tests.bench                               about two minutes: the figures to quote
    python -m tests.bench --scale                       10,000 events/s as 100, 300, 1,000 and 3,000 streams
    python -m tests.bench --checkout before=../before   this tree against another one, in the same rounds
    python -m tests.bench --pair gateway,relay          two at once, as ratios with an interval: 2.5 minutes
    python -m tests.bench --pair plain,guarded          the same for keys, limits and the access log together
    python -m tests.bench --viewers                     a stream that 1 to 300 watch, beside nginx: 4 minutes
    python -m tests.bench --stalled                     the same beside 1,000 that read nothing: 2 minutes

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
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from tests.bench import contenders, measure, pairs, plot, report, stalled
from tests.bench.contenders import Contender
from tests.bench.doubts import doubts
from tests.bench.figures import Pass, summarize
from tests.bench.options import parse
from tests.bench.processes import BenchError, choose_cores, open_files_limit, running_on
from tests.bench.rounds import Failure, Plan, Steps, run, step_seconds, steps


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
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
    pair, margin = options.pair, options.margin
    compared = pairs.compare(passes, pair, margin=margin / 100) if pair else []
    effects = stalled.effects(passes)
    print(report.text(facts, passes))
    if pair:
        print("", report.pair_text(pair, compared, margin=margin), sep="\n")
    for effect in effects:
        print("", stalled.text(effect), sep="\n")
    if options.json:
        summary = [
            {"load": load, "contender": name, "figures": figures}
            for load, by_name in summaries.items()
            for name, figures in by_name.items()
        ]
        document = {"machine": facts, "summary": summary, "pair": compared, "stalled": effects}
        document |= {"doubts": doubts(passes), "passes": passes}
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
    loads = options.loads
    files, needed = open_files_limit(), 2 * max(load.streams + load.stalled for load in loads) + 200
    if files < needed:
        raise BenchError(f"{needed} open files are needed, and the hard limit is {files} (ulimit -Hn)")
    return Plan(
        rounds=options.rounds,
        loads=loads,
        short_seconds=options.short_seconds,
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
    usual = {name: made for name, made in others.items() if name.endswith("viewers")} if options.stalled else usual
    chosen = options.pair or (options.only.split(",") if options.only else list(usual))
    if unknown := [name for name in chosen if name not in found]:
        raise BenchError(f"no such contender here: {', '.join(unknown)} (there are {', '.join(found)})")
    return {name: found[name] for name in chosen}


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise BenchError(f"a header is written 'Name: value', not {text!r}")
    return name.strip(), value.strip()


if __name__ == "__main__":
    sys.exit(main())
