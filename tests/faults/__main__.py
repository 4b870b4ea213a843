"""Shows what a client sees of each fault, with one target and with two.

    python -m tests.faults              all faults, in some seconds
    python -m tests.faults 9 17 26      these numbers only

Each row is asked on `/chat` and on `/v1`, with the first target alone and with a second one that answers well. It has
the text and the failure that the client got, the requests to each target, and the time. The status is 1 if anything is
not as `.github/docs/faults.md` says; the last lines then tell what.
"""

import asyncio
import logging
import sys
from collections.abc import Sequence

from tests.faults.client import STREAMED
from tests.faults.run import Run, run
from tests.faults.scenario import Scenario
from tests.faults.table import SCENARIOS

_ROW = "{:<40} {:<11} {:<38} {:>8} {:>7}  {}"
_MOST = 16  # characters of a text; some are long on purpose


async def show(scenarios: Sequence[Scenario]) -> int:
    """Prints the table as it grows. Returns the exit status."""
    print(_ROW.format("fault", "targets", "the client saw", "requests", "seconds", ""))
    wrong: list[str] = []
    for scenario in scenarios:
        for paired in (False, True):
            wrong += await _row(scenario, paired=paired)
    print(f"\n{len(wrong)} differences from the table" if wrong else "\nall as the table says")
    print("\n".join(wrong))
    return 1 if wrong else 0


async def _row(scenario: Scenario, *, paired: bool) -> list[str]:
    """Prints the rows of one scenario: one line where both surfaces show the same."""
    wrong: dict[str, list[str]] = {}
    rows: dict[str, str] = {}
    for surface in STREAMED:
        try:
            done = await run(scenario, surface, paired=paired)
        except (AssertionError, TimeoutError) as error:
            rows[surface], wrong[surface] = f"nothing that can be read: {error!r:.60}", ["the answer cannot be read"]
        else:
            rows[surface], wrong[surface] = _saw(done), done.differences
    name = f"{scenario.number:02} {scenario.name}"
    targets = "two" if paired else "one"
    same = len({row[:38] for row in rows.values()}) == 1
    for surface, row in list(rows.items())[: 1 if same else None]:
        mark = "DIFFERS" if any(wrong.values()) else "" if same else surface
        print(_ROW.format(name, targets, row[:38], row[38:46], row[46:], mark).rstrip(), flush=True)
    return [f"{name}, {targets}, {surface}: {words}" for surface, found in wrong.items() for words in found]


def _saw(done: Run) -> str:
    text = done.seen.text if len(done.seen.text) <= _MOST else f"{done.seen.text[:_MOST]}..."
    seen = f"{text!r} " if text else ""
    return f"{seen + (done.seen.code or ''):<38}{done.requests[0]:>4} + {done.requests[1]}{done.seconds:.2f}"


def main(numbers: Sequence[int]) -> int:
    logging.getLogger("gateway").addHandler(logging.NullHandler())  # the table says it all
    logging.getLogger("gateway").propagate = False
    chosen = [scenario for scenario in SCENARIOS if not numbers or scenario.number in numbers]
    return asyncio.run(show(chosen))


if __name__ == "__main__":
    sys.exit(main([int(argument) for argument in sys.argv[1:]]))
