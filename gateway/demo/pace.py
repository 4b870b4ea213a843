"""The waits between the steps of an answer. Nothing here sleeps, so tests of long waits are fast."""

import math
from random import Random
from typing import Protocol

from .completion import Delta
from .models import Act, Pause, Step


class Pace(Protocol):
    def before(self, step: Step) -> float:
        """The seconds to wait before `step`. It is called once for every step of one answer, in order."""
        ...


class Steady:
    """The same interval before every token, for load tests."""

    def __init__(self, interval: float) -> None:
        self._interval = interval

    def before(self, step: Step) -> float:
        return self._interval if isinstance(step, Delta) else _silence(step, self._interval)


class Lifelike:
    """25 to 60 tokens a second, with a short pause at the start and after each sentence."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._previous = "."

    def before(self, step: Step) -> float:
        if not isinstance(step, Delta):
            return _silence(step, _SLOWEST)
        breath = self._random.uniform(0.1, 0.3) if self._previous.endswith(_SENTENCE_ENDS) else 0.0
        self._previous = step.text
        return self._random.uniform(_FASTEST, _SLOWEST) + breath


_FASTEST, _SLOWEST = 1 / 60, 1 / 25  # seconds for one token
_SENTENCE_ENDS = (".", "!", "?", "。", "！", "？")


def _silence(step: Pause | Act, token: float) -> float:
    if isinstance(step, Pause):
        return step.tokens * token
    return math.inf if step is Act.STALL else 0.0
