"""Hundreds of clients, an upstream that lies, and processes that die: `python -m tests.chaos`.

    python -m tests.chaos --seconds 600 --clients 300
    python -m tests.chaos --alone                one gateway without Redis
    python -m tests.chaos --seed 7               the clients and answers of an earlier run

The exit status is 1 if any answer ended in a way that nothing explains, or if anything is left at the end.
"""

import argparse
import os
import random
import sys
from collections import Counter

import uvloop

from tests.chaos.run import Plan, Result, run

_SHOWN = 40  # faults; more of them say no more


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("CHAOS", "30")))
    parser.add_argument("--clients", type=int, default=200, help="that are there at the same time")
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help="one gateway without Redis")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    options = parser.parse_args()
    plan = Plan(options.seed, options.seconds, options.clients, 1 if options.alone else options.gateways)
    print(f"seed {plan.seed}: {plan.clients} clients, {plan.gateways} gateways, {plan.seconds:g} s", flush=True)
    result = uvloop.run(run(plan, _tell))
    print(*report(result), sep="\n")
    return 1 if result.faults else 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def report(result: Result) -> list[str]:
    lines = [f"{result.answers} answers, {result.calls} requests to the upstream"]
    tables = {
        "what clients did": result.done,
        "disturbances": result.disturbed,
        "what the upstream did": result.fates,
        "what clients were told": result.ends,
        "times that a client was sent away, or cut": result.waits,
    }
    for title, counts in tables.items():
        lines += ["", title, *rows(counts)]
    faults = result.faults
    lines += ["", *[f"FAULT {fault}" for fault in faults[:_SHOWN]]]
    verdict = f"{len(faults)} faults" if faults else "every answer ended as it should, and nothing is left"
    return [*lines, f"seed {result.plan.seed}: {verdict}"]


def rows(counts: Counter[str]) -> list[str]:
    return [f"  {count:8} {name}" for name, count in counts.most_common() if count]


if __name__ == "__main__":
    raise SystemExit(main())
