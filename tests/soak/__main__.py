"""A gateway at half load for half an hour, and whether anything in it grows: `python -m tests.soak`.

    python -m tests.soak --plot soak.svg
    SOAK=600 python -m tests.soak                 ten minutes; the slope of the memory is judged from 15 minutes on

Half load is the number of streams with which the gateway's process takes half of a core. A fifth of the time, from one
to five minutes, is the warm-up. The exit status is 1 if anything grows, if an answer ended as it should not, or if
anything is left at the end.
"""

import argparse
import os
import random
import sys
from pathlib import Path

import uvloop

from tests.chaos.__main__ import rows
from tests.soak.plot import svg, title_of
from tests.soak.run import Plan, Result, run
from tests.soak.samples import SERIES, SHORTEST, slope

# Seconds: pools, caches and the allocator have reached their sizes by the second one. Before the first one, no answer
# of the beginning has been forgotten yet (`_KEEP` in `run`).
_LEAST_WARM_UP, _WARM_UP = 60.0, 300.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("SOAK", "1800")))
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    plan = Plan(options.seed, options.seconds, min(max(options.seconds / 5, _LEAST_WARM_UP), _WARM_UP))
    print(f"seed {plan.seed}: {plan.seconds:g} s, of which {plan.warm_up:g} s are the warm-up", flush=True)
    result = uvloop.run(run(plan, _tell))
    print(*report(result), sep="\n")
    if options.plot:
        options.plot.write_text(svg(result.samples, warm_up=plan.warm_up, title=title_of(result.steady_samples)))
    return 1 if result.faults else 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def report(result: Result) -> list[str]:
    steady, ends = result.steady_samples, result.ends
    assert ends is not None
    lines = [f"{result.core:.0%} of a core, {result.steady} steady streams, {result.steady_answers} answers of these"]
    lines += ["", "what the other clients were told", *rows(ends.ends), "", "after the warm-up", ""]
    lines += [f"  {'series':14} {'least':>9} {'greatest':>9} {'per hour':>9}"]
    for name, value in [("memory, MiB", lambda one: one.rss_mib), *[(one.name, one.value) for one in SERIES]]:
        values = [value(one) for one in steady]
        rise = slope([(one.at, value(one)) for one in steady]) * 3600
        lines.append(f"  {name:14} {min(values):9.1f} {max(values):9.1f} {rise:+9.1f}")
    if steady[-1].at - steady[0].at < SHORTEST:
        lines.append("  (too short to judge the memory by its slope)")
    lines += ["", "types of which there are more", *[f"  {count:8} {name}" for name, count in result.types]]
    lines += ["", "places that hold more, in KiB", *[f"  {size / 1024:8.0f} {name}" for name, size in result.places]]
    lines += ["", *[f"FAULT {fault}" for fault in result.faults[:40]]]
    return [*lines, f"{len(result.faults)} faults" if result.faults else "nothing grew, and nothing is left"]


if __name__ == "__main__":
    raise SystemExit(main())
