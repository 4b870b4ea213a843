"""Says on stderr how far a run is: one line that changes, or a line for each change where stderr is no terminal."""

import sys
import time
from collections.abc import Sequence

from tests.bench.rounds import Plan, Steps, step_seconds, steps


class Line:
    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def tell(self, text: str, *, same_as: str | None = None) -> None:
        """`same_as` names what the text is about: told once where there is no terminal."""
        about = text if same_as is None else same_as
        if self._terminal or about != self._last:
            before, after = ("\r\x1b[K", "") if self._terminal else ("", "\n")
            print(before + text, end=after, file=sys.stderr, flush=True)
            self._last = about

    def close(self) -> None:
        if self._terminal and self._last:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class Progress:
    """Of a run in passes."""

    def __init__(self, plan: Plan, names: Sequence[str], line: Line) -> None:
        self._steps = steps(plan, names)
        self._expected = sum(step_seconds(plan, turn[0].load) for turn in self._steps)
        self._begin = time.monotonic()
        self._line = line

    def tell(self, turn: Steps) -> None:
        elapsed = time.monotonic() - self._begin
        place = f"pass {self._steps.index(turn) + 1} of {len(self._steps)}"
        names = " and ".join(step.contender for step in turn)
        about = f"{place}: {names}, {turn[0].load.title}"
        self._line.tell(f"{elapsed:.0f} s of about {self._expected:.0f} s, {about}", same_as=about)
