"""The kinds of run that ask for one figure: their loads, their sentences, and a short run of each."""

import subprocess
import sys
from collections.abc import Sequence

import msgspec
import pytest

from tests.bench import capacity, choice, measure
from tests.bench.figures import Load, Pass
from tests.bench.options import parse
from tests.bench.processes import ROOT
from tests.bench.test_bench import one_pass

needs_proc = pytest.mark.skipif(not measure.supported(), reason="needs Linux's /proc")

FEW, MANY = Load(100, 50, 6), Load(1000, 5, 6)


def under(load: Load, costs: Sequence[float], **changes: object) -> list[Pass]:
    passes = [one_pass("gateway", number, cpu_us=cost, **changes) for number, cost in enumerate(costs, 1)]
    return [msgspec.structs.replace(one, load=load) for one in passes]


@pytest.mark.parametrize(
    ("arguments", "loads"),
    [
        (["--constant"], [(100, 50), (1000, 5)]),
        (["--memory"], [(100, 0.2), (4000, 0.2)]),
        (["--hold"], [(5000, 1)]),
        (["--short"], [(1, 50)]),
        (["--hold", "--quick"], [(200, 2)]),
    ],
    ids=str,
)
def test_each_kind_has_its_loads(arguments: list[str], loads: list[tuple[int, float]]):
    options = parse(arguments)
    assert [(load.streams, load.rate) for load in options.loads] == loads
    chosen = set(choice.choose(options, tell=print).contenders)
    assert {"gateway", "relay"} <= chosen <= {"nginx", "gateway", "relay"}


def test_streams_are_held_that_come_a_thousand_a_second():
    assert parse(["--hold"]).loads[0].openings == 1000
    assert parse([]).loads[0].openings == 200


def test_loads_are_compared_within_a_round():
    """Each round of a machine that drifts has the same ratio; the ratio of the medians would be 3."""
    passes = under(FEW, [10, 20, 100]) + under(MANY, [12, 60, 120])
    assert capacity.ratios(passes, "gateway", FEW, MANY) == pytest.approx([1.2, 1.2, 3])
    told = ["gateway: an event costs 1.20 (1.20–3.00) times as much with 1,000 streams as with 100 streams."]
    assert capacity.sentences("constant", passes) == told


def test_enough_rounds_have_an_interval():
    [told] = capacity.sentences("constant", under(FEW, [10] * 6) + under(MANY, [11, 12, 12, 12, 12, 13]))
    assert "costs 1.20 (95 % interval 1.10 to 1.30, 6 rounds) times" in told


def test_a_round_that_lacks_either_load_is_left_out():
    assert capacity.sentences("constant", under(FEW, [10])) == []
    assert capacity.ratios(under(FEW, [10]) + under(MANY, [12, 13]), "gateway", FEW, MANY) == pytest.approx([1.2])


def test_a_stream_of_two_tokens_is_told_in_ms():
    assert capacity.sentences("short", [one_pass()]) == ["gateway: a stream of two tokens takes 1.00 ms of CPU."]


def test_memory_is_told_with_and_without_the_answer():
    told = ["gateway: 20.0 KiB for each of 10 streams, 18.0 without the answer that it had sent."]
    assert capacity.sentences("memory", [one_pass()]) == told


def test_those_that_are_held_are_told_with_their_first_event():
    load = Load(5000, 1, 10, openings=1000)
    told = (
        "gateway: 5,000 streams of 1 events/s, 1,000 opened a second: no error;"
        " first event after 1.00 ms (p50) and 2.00 ms (p99)."
    )
    assert capacity.sentences("hold", under(load, [10])) == [told]


def test_other_kinds_say_all_in_their_table():
    assert capacity.sentences("", [one_pass()]) == capacity.sentences("scale", [one_pass()]) == []


@pytest.mark.long
@needs_proc
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("--constant", "times as much with 40 streams as with 4 streams."),
        ("--short", "relay: a stream of two tokens takes "),
        ("--memory", "KiB for each of 160 streams, "),
        ("--hold", "relay: 200 streams of 2 events/s, 1,000 opened a second: no error; first event after "),
    ],
    ids=str,
)
def test_a_quick_run_of_each_tells_its_figure(kind: str, told: str):
    command = [sys.executable, "-m", "tests.bench", kind, "--quick", "--only", "relay"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert told in done.stdout
