"""The samples of a soak, and what they say: a line through each series, and whether it rises."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

RSS_BOUND = 10.0  # MiB per hour
# Seconds after the warm-up below which the slope of the memory says nothing: a process of 70 MiB whose allocator takes
# one more arena of 1 MiB in a minute seems to grow by 60 MiB per hour.
SHORTEST = 900.0
_MOST_PAIRS = 300  # samples that a slope is taken of: the pairs of more take seconds


@dataclass(frozen=True)
class Sample:
    at: float  # seconds since the load began
    rss_mib: float
    tasks: int
    sockets: int
    descriptors: int
    objects: int


@dataclass(frozen=True)
class Series:
    """`bound`: by how much it may have grown over the whole time, as the line through it says."""

    name: str
    unit: str
    value: Callable[[Sample], float]
    bound: Callable[[float], float]  # of the median, for counts


# Counts at one moment of a load that comes and goes by chance. A leak of one in a thousand answers passes these bounds
# within minutes: at half load, a process ends some hundred answers a second.
_COUNT = 0.05
SERIES = (
    Series("tasks", "", lambda one: one.tasks, lambda middle: max(_COUNT * middle, 10)),
    Series("sockets", "", lambda one: one.sockets, lambda middle: max(_COUNT * middle, 10)),
    Series("descriptors", "", lambda one: one.descriptors, lambda middle: max(_COUNT * middle, 10)),
    Series("live objects", "", lambda one: one.objects, lambda middle: _COUNT * middle),
)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes of all pairs (Theil and Sen): single samples that lie far off do not move it."""
    points = points[:: -(-len(points) // _MOST_PAIRS)] if points else points
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x2 > x1]
    return median(slopes) if slopes else 0.0


def rss_slope(samples: Sequence[Sample]) -> float:
    """In MiB per hour."""
    return slope([(one.at, one.rss_mib) for one in samples]) * 3600


def faults(samples: Sequence[Sample], *, is_judged_by_memory: bool | None = None) -> list[str]:
    """What has grown over these samples, which are those behind the warm-up."""
    if len(samples) < 2:
        return ["there are too few samples"]
    seconds = samples[-1].at - samples[0].at
    found = []
    for series in SERIES:
        values = [series.value(one) for one in samples]
        growth = slope([(one.at, series.value(one)) for one in samples]) * seconds
        bound = series.bound(median(values))
        if growth > bound:
            found.append(
                f"{series.name} grew by {growth:.0f} from about {median(values):.0f}; the bound is {bound:.0f}"
            )
    judged = seconds >= SHORTEST if is_judged_by_memory is None else is_judged_by_memory
    if judged and (rise := rss_slope(samples)) > RSS_BOUND:
        found.append(f"the memory grew by {rise:.1f} MiB per hour; the bound is {RSS_BOUND:g}")
    return found


def growers(before: Mapping[str, int], after: Mapping[str, int], *, most: int = 10) -> list[tuple[str, int]]:
    """The names whose numbers grew most."""
    grown = {name: number - before.get(name, 0) for name, number in after.items()}
    return sorted(((name, number) for name, number in grown.items() if number > 0), key=lambda one: -one[1])[:most]
