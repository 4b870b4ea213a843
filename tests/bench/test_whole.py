"""Whole streams: their lengths, their place beside the usual load, and a short run."""

import json
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import msgspec
import pytest

from tests.bench import choice, measure, report
from tests.bench.figures import Figures, Load, Pass
from tests.bench.opening import ending_seconds, long_length, ramp_seconds, whole_lengths
from tests.bench.options import parse
from tests.bench.processes import ROOT
from tests.bench.rounds import step_seconds
from tests.bench.test_bench import one_pass

needs_proc = pytest.mark.skipif(not measure.supported(), reason="needs Linux's /proc")

WHOLE = Load(streams=100, rate=50, seconds=6, lasting=2.5)


def test_whole_streams_last_two_to_three_seconds_and_keep_no_step():
    """Their mean is what was asked for; no connection repeats its own lengths, nor those of its neighbour."""
    by_connection = [list(islice(whole_lengths(WHOLE, number), 20)) for number in range(100)]
    flat = [length for lengths in by_connection for length in lengths]
    assert (min(flat) >= 100, max(flat) <= 150) == (True, True)
    assert sum(flat) / len(flat) == pytest.approx(125, rel=0.01)
    assert all(len(set(lengths)) > 10 for lengths in by_connection)
    assert all(one != other for one, other in pairwise(by_connection))


def test_a_whole_stream_has_a_beginning_and_an_end():
    """Even one that should last no time: the first event comes with the head, the last with the end."""
    assert set(islice(whole_lengths(Load(1, 5, 1, lasting=0.1), 0), 10)) == {2}


def test_whole_streams_begin_over_the_time_that_one_lasts():
    assert ramp_seconds(WHOLE) == 2.5
    assert ending_seconds(WHOLE) == pytest.approx(0.4 + 3.0)


@pytest.mark.parametrize(("rate", "seconds"), [(50, 7.0), (1, 16.4), (0.2, 26.3), (20, 0.01)])
def test_a_long_stream_outlasts_the_window_and_ends_within_two_periods(rate: float, seconds: float):
    """The first event comes at once, the second within a period, and every other one a period later."""
    length = long_length(Load(1, rate, 1), seconds)
    earliest, latest = ((length - 2 + phase) / rate for phase in (0, 1))
    assert seconds <= earliest
    assert latest <= seconds + 2 / rate + 1e-9


def test_whole_streams_are_measured_beside_the_usual_load_on_both_surfaces():
    options = parse(["--whole", "--checkout", "before=."])
    assert [(load.streams, load.rate, load.lasting) for load in options.loads] == [(100, 50, 0), (100, 50, 2.5)]
    chosen = choice.choose(options, tell=print).contenders
    assert {"direct", "gateway", "relay", "before", "before-relay"} <= set(chosen)
    assert parse(["--whole", "--lasting", "4"]).loads[1].lasting == 4
    assert parse(["--whole", "--pair", "nginx,gateway"]).rounds == parse(["--pair", "nginx,gateway"]).rounds


def test_short_streams_are_asked_for_beside_one_of_the_loads_only():
    plan = choice.plan(parse(["--whole"]))
    without = plan._replace(short_seconds=0)
    usual, whole = plan.loads
    assert step_seconds(plan, usual) == step_seconds(without, usual) + plan.short_seconds
    assert step_seconds(plan, whole) == step_seconds(without, whole)


def test_the_table_tells_whole_streams_apart():
    usual = one_pass("nginx")
    streams = msgspec.structs.replace(usual.figures.streams, cpu_ns=6_000_000, answers=10, open_kib=None)
    load = msgspec.structs.replace(usual.load, lasting=2.5)
    whole = Pass(1, "nginx", load, Figures(streams, None))
    rows = report.table([usual, whole])
    assert rows[1:4] == [["CPU per event, µs"], ["  10 streams", "20.0"], ["  10 whole streams", "30.0"]]
    assert "Whole streams: about 10 began and ended in each window, of 20 events." in report.text({"cpu": "x"}, [whole])
    assert "KiB per open stream" not in [row[0] for row in report.table([whole])]


@pytest.mark.long
@needs_proc
def test_a_quick_run_counts_beginnings_and_ends(tmp_path: Path):
    command = [sys.executable, "-m", "tests.bench", "--whole", "--quick", "--only", "relay"]
    saved = tmp_path / "bench.json"
    done = subprocess.run([*command, "--json", str(saved)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "4 whole streams" in done.stdout
    passes = json.loads(saved.read_bytes())["passes"]
    assert [one["load"]["lasting"] for one in passes] == [0, 0.2]
    streams = passes[1]["figures"]["streams"]
    assert streams["answers"] >= 4  # each connection has seen the end of one
    assert streams["events"] > 20
    assert streams["cpu_ns"] > 0
