"""Measures what relaying a stream costs, against going direct and against nginx.

    python -m tests.bench --quick                       some seconds: does it work at all
    python -m tests.bench                               about two minutes: the figures to quote
    python -m tests.bench --scale                       10,000 events/s as 100, 300, 1,000 and 3,000 streams
    python -m tests.bench --checkout before=../before   this tree against another one, in the same rounds
    python -m tests.bench --pair gateway,relay          two at once, as ratios with an interval: 2.5 minutes
    python -m tests.bench --pair plain,gateway          the same for the access log and the metrics together
    python -m tests.bench --pair plain,guarded          the same with keys and limits, too
    python -m tests.bench --pair gateway,targets        the same for a model with three targets
    python -m tests.bench --pair gateway,shared         the same with streams that are written to Redis
    python -m tests.bench --viewers                     a stream that 1 to 300 watch, beside nginx: 4 minutes
    python -m tests.bench --stalled                     the same beside 1,000 that read nothing: 2 minutes
    python -m tests.bench --whole                       streams that begin and end meanwhile: 5 minutes
    python -m tests.bench --alone                       what is added to one client's stream: under 90 seconds
    python -m tests.bench --peers vllm-router,smg       beside other routers, which it installs from PyPI and starts

One figure each: `--constant`, 5,000 events/s as 1,000 streams against 100; `--short`, CPU of two tokens; `--memory`, of
an open stream; `--hold`, 5,000 streams that come 1,000 a second.

What is read first is CPU time per event: it hardly depends on how fast or how busy the machine is otherwise, and it
is what decides how many streams a worker holds. Latency and streams per second depend on both. CPU per event falls as
the load rises, because a busy process finds more events at each wake-up: compare what ran under one load and in the
same rounds, best as a ratio to nginx, and never a figure with one from another day. Upstream and client share one
core and the contender has another to itself; see `processes` for the reason, `load` for what a pass is.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import msgspec

from tests.bench import capacity, choice, contenders, measure, pairs, plot, report, samples, stalled, turns
from tests.bench.choice import Chosen
from tests.bench.contenders import Contender
from tests.bench.doubts import doubts
from tests.bench.figures import Pass, summarize
from tests.bench.options import parse
from tests.bench.processes import BenchError, running_on
from tests.bench.progress import Line, Progress
from tests.bench.rounds import Failure, Plan, run


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if not (sys.platform == "linux" and measure.supported()):
        print("The benchmark needs Linux: it reads CPU time and memory from /proc.", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every `finally` stops its process
    try:
        with closing(Line()) as line:
            chosen = choice.choose(options, line.tell)
        failures = [] if options.alone else _passes(options, chosen)
        if options.alone:
            _alone(options, chosen)
    except (BenchError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 1
    for failure in [*chosen.reasons, *failures]:
        print(f"\n{failure}", file=sys.stderr)
    return 1 if failures else 0


def _alone(options: argparse.Namespace, chosen: Chosen) -> None:
    """The run of one client: all of it, or none."""
    paths = turns.with_base(chosen.contenders, contenders.direct)
    job, cores = turns.plan(len(paths), rounds=options.rounds_said, quick=options.quick), choice.cores_of(options)
    with running_on(cores.load), closing(Line()) as line:
        found = turns.run(job, paths, cores, options.upstream_port, line)
    facts = report.machine(cores) | chosen.versions
    print("\n".join([*report.facts_text(facts), "", turns.heading(job), "", samples.text(found)]))
    _save(options, {"machine": facts, "rows": samples.rows(found), "samples": found})


def _passes(options: argparse.Namespace, chosen: Chosen) -> list[str]:
    """All other kinds of run: those passes that are whole, and why others are not."""
    planned = choice.plan(options)
    passes, failures = _run(planned, chosen.contenders)
    if passes:
        _publish(planned, passes, options, chosen.versions)
    return failures


def _run(plan: Plan, chosen: dict[str, Contender]) -> tuple[list[Pass], list[str]]:
    """The passes that are whole, and why others are not."""
    ended: list[Pass | Failure] = []
    interrupted = []
    with closing(Line()) as line, running_on(plan.cores.load):
        progress = Progress(plan, list(chosen), line)
        with closing(run(plan, chosen, progress.tell)) as running:
            try:
                ended.extend(running)
            except KeyboardInterrupt:
                interrupted = ["Interrupted: the figures are those of the passes before."]
    passes = [one for one in ended if isinstance(one, Pass)]
    return passes, [*(str(one) for one in ended if isinstance(one, Failure)), *interrupted]


def _publish(plan: Plan, passes: list[Pass], options: argparse.Namespace, versions: dict[str, str]) -> None:
    facts, summaries = report.machine(plan.cores) | versions, summarize(passes)
    pair, margin = options.pair, options.margin
    compared = pairs.compare(passes, pair, margin=margin / 100) if pair else []
    effects = stalled.effects(passes)
    told = capacity.sentences(options.kind_name, passes)
    print(report.text(facts, passes, options.kind.metrics))
    if told:
        print("", *told, sep="\n")
    if pair:
        print("", report.pair_text(pair, compared, margin=margin), sep="\n")
    for effect in effects:
        print("", stalled.text(effect), sep="\n")
    summary = [
        {"load": load, "contender": name, "figures": figures}
        for load, by_name in summaries.items()
        for name, figures in by_name.items()
    ]
    document = {"machine": facts, "summary": summary, "pair": compared, "stalled": effects, "told": told}
    _save(options, document | {"doubts": doubts(passes), "passes": passes})
    if options.plot:
        options.plot.write_text(plot.svg(plot.rows(summaries)))


def _save(options: argparse.Namespace, document: dict[str, Any]) -> None:
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
