"""Two contenders, round by round: how many times as much the second takes as the first, and how sure that is. Pure.

From one round to the next a shared machine drifts by far more than what is to be shown, so both run at once (`rounds`),
a ratio is taken in each round, and what is reported is the median of the ratios with a 95 % interval for it: the order
statistics that hold the median of *any* distribution with that probability (the sign test, turned round). Noise here is
skewed and has outliers; this interval minds neither, and unlike a bootstrap it is exact and needs no random numbers.
"""

from collections.abc import Sequence
from enum import StrEnum
from math import comb
from statistics import median

import msgspec

from tests.bench.figures import METRICS, Load, Pass, by_round

_RISK = 0.05  # that the interval does not hold the median
_COSTS = ("cpu_us_per_event", "short_cpu_us")  # what is judged; all else also depends on who else was busy
_METRICS = [name for name in METRICS if name != "short_per_second"]  # two that run at once share the seconds evenly


class Verdict(StrEnum):
    WITHIN = "shown: within the margin"
    ABOVE = "shown: ABOVE THE MARGIN"
    LIKELY_WITHIN = "median within the margin, interval not: more rounds"
    LIKELY_ABOVE = "median above the margin, interval not: more rounds"
    TOO_FEW = "too few rounds to say"


class Comparison(msgspec.Struct, frozen=True):
    """One figure of the second contender as a multiple of the first one's."""

    load: Load
    metric: str
    rounds: int
    median: float
    interval: tuple[float, float] | None  # for the median; None: too few rounds for any
    verdict: Verdict | None  # None: a figure that is not judged


def compare(passes: Sequence[Pass], pair: tuple[str, str], *, margin: float) -> list[Comparison]:
    """`margin` is how much more the second may take, as a share of what the first takes."""
    found = []
    for load in dict.fromkeys(one.load for one in passes):
        for metric in _METRICS:
            ratios = sorted(_ratios(passes, load, metric, pair))
            if ratios:
                found.append(_comparison(load, metric, ratios, limit=1 + margin))
    return found


def _ratios(passes: Sequence[Pass], load: Load, metric: str, pair: tuple[str, str]) -> list[float]:
    """One for each round that has both."""
    ratios = []
    for own in by_round(passes, load):
        first, second = (METRICS[metric](own[name], own) if name in own else None for name in pair)
        if first is not None and second is not None and first > 0:
            ratios.append(second / first)
    return ratios


def _comparison(load: Load, metric: str, ratios: Sequence[float], *, limit: float) -> Comparison:
    middle, around = median(ratios), interval(ratios)
    return Comparison(
        load=load,
        metric=metric,
        rounds=len(ratios),
        median=middle,
        interval=around,
        verdict=judge(middle, around, limit) if metric in _COSTS else None,
    )


def interval(ordered: Sequence[float]) -> tuple[float, float] | None:
    """The narrowest one for the median; below six rounds there is none."""
    count, left_out = len(ordered), 0
    outside = 1 / 2**count  # the probability that the median lies below all, and so on
    while 2 * outside <= _RISK:
        left_out += 1
        outside += comb(count, left_out) / 2**count
    return (ordered[left_out - 1], ordered[count - left_out]) if left_out else None


def judge(middle: float, around: tuple[float, float] | None, limit: float) -> Verdict:
    if around is None:
        return Verdict.TOO_FEW
    least, greatest = around
    if greatest <= limit:
        return Verdict.WITHIN
    if least > limit:
        return Verdict.ABOVE
    return Verdict.LIKELY_WITHIN if middle <= limit else Verdict.LIKELY_ABOVE
