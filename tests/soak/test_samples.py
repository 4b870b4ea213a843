"""Growth is seen through noise, noise is not taken for growth, and the picture of it is one."""

import random
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tests.soak.plot import svg, title_of
from tests.soak.samples import Sample, faults, growers, rss_slope, slope

HOUR = 3600.0


def samples(seconds: float = 1800.0, **per_hour: float) -> list[Sample]:
    """A sample every five seconds, with noise, and with a growth of some series."""
    chance = random.Random(7)
    steady = Sample(0, 70.0, 500, 340, 360, 40_000)
    taken = []
    for number in range(int(seconds / 5)):
        at = number * 5.0
        noise = {
            "rss_mib": chance.gauss(0, 0.5),
            "tasks": chance.randint(-15, 15),
            "objects": chance.randint(-900, 900),
        }
        values = {name: getattr(steady, name) + noise.get(name, 0) for name in ("rss_mib", "tasks", "objects")}
        values |= {"sockets": steady.sockets, "descriptors": steady.descriptors}
        grown = {name: value + per_hour.get(name, 0.0) * at / HOUR for name, value in values.items()}
        taken.append(replace(steady, at=at, **grown))
    return taken


def test_a_slope_is_that_of_most_points() -> None:
    points = [(float(x), 3.0 * x) for x in range(100)]
    points[50] = (50.0, 1e6)
    assert slope(points) == pytest.approx(3.0)
    assert slope([]) == slope([(1.0, 2.0)]) == 0.0


def test_noise_is_no_growth() -> None:
    assert faults(samples()) == []


@pytest.mark.parametrize(
    ("series", "per_hour", "words"),
    [
        ("rss_mib", 14.0, "the memory grew by"),
        ("tasks", 100.0, "tasks grew"),
        ("sockets", 60.0, "sockets grew"),
        ("descriptors", 60.0, "descriptors grew"),
        ("objects", 6_000.0, "live objects grew"),
    ],
)
def test_growth_is_seen(series: str, per_hour: float, words: str) -> None:
    (fault,) = faults(samples(**{series: per_hour}))
    assert fault.startswith(words)


def test_memory_is_judged_only_where_the_time_is_long_enough() -> None:
    grown = samples(300.0, rss_mib=100.0)
    assert rss_slope(grown) == pytest.approx(100.0, rel=0.2)
    assert faults(grown) == []


def test_too_few_samples_show_nothing() -> None:
    assert faults(samples(5.0)) == ["there are too few samples"]


def test_what_grew_most() -> None:
    assert growers({"a": 1, "b": 5}, {"a": 4, "b": 3, "c": 1}) == [("a", 3), ("c", 1)]


def test_the_picture_has_each_series_and_the_line_through_it() -> None:
    taken = samples(rss_mib=5.0)
    picture = ElementTree.fromstring(svg(taken, warm_up=300, title=title_of(taken)))
    lines = picture.findall("{*}polyline")
    assert len(lines) == 10
    assert all(len(line.attrib["points"].split()) in (2, len(taken)) for line in lines)
    assert "MiB per hour" in "".join(picture.itertext())
