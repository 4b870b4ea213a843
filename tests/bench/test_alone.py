"""Single streams: how their times are told, the connection that rests between questions, and a short run."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.bench import measure, samples, turns, wire
from tests.bench.alone import Solo
from tests.bench.client import LoadError, Target, open_connection, question
from tests.bench.processes import ROOT
from tests.bench.samples import Turn

needs_proc = pytest.mark.skipif(not measure.supported(), reason="needs Linux's /proc")


def turn(ways: Sequence[int] = (0, 0), *, firsts: Sequence[int] = (0,), others: float = 0) -> Turn:
    return Turn(list(firsts), list(ways), others)


def row(found: Mapping[str, Sequence[Turn]], title: str, percent: int) -> samples.Row:
    return next(one for one in samples.rows(found) if (one.title, one.percent) == (title, percent))


def test_a_gap_counts_as_what_it_grew_by_on_its_way():
    """Events that took 100, 130 and 90 µs: the first gap is 30 µs longer than it was sent, the second 40 shorter."""
    assert turn([100_000, 130_000, 90_000]).gaps == [30_000, -40_000]


def test_no_gap_lies_between_two_streams():
    found = {"direct": [turn([1, 1]), turn([900_000, 900_000])]}
    assert row(found, "Gap beyond the one sent", 99).base == 0


def test_times_are_added_over_going_direct():
    found = {
        "direct": [turn([50_000, 50_000], firsts=[1_000_000])],
        "gateway": [turn([70_000, 90_000], firsts=[1_500_000])],
    }
    assert row(found, "First event", 99).added == {"gateway": 0.5}
    assert row(found, "Event on its way", 50).added == {"gateway": 20}
    assert row(found, "Gap beyond the one sent", 99).added == {"gateway": 20}


def test_turns_that_others_disturbed_are_left_out():
    found = {"direct": [turn(), turn()], "gateway": [turn([5_000, 5_000]), turn([9, 9_000_000], others=0.4)]}
    assert row(found, "Event on its way", 99).added == {"gateway": 5}
    assert "Left out: 1 turns" in samples.text(found)
    assert "Noisy" not in samples.text(found)


def test_where_most_turns_are_disturbed_the_quieter_half_counts_and_the_report_says_so():
    noisy = [turn([1, 1], others=others) for others in (0.9, 0.01, 0.4, 0.7, 0.3)]
    assert [one.others for one in samples.quiet(noisy)] == [0.01, 0.4, 0.3]
    told = samples.text({"direct": [turn()], "gateway": noisy})
    assert "Noisy: others used more than 0.05 cores in most turns of gateway." in told


def test_the_table_gives_the_aims_as_information():
    told = samples.text({"direct": [turn(firsts=[0])], "gateway": [turn([0, 70_000], firsts=[2_000_000])]})
    assert "First event, p99: at most +1.5 ms is aimed at; gateway +2.00." in told
    assert "Gap beyond the one sent, p99: at most +50 µs is aimed at; gateway +70.0." in told


@pytest.mark.parametrize("paths", [2, 4, 6])
def test_a_usual_run_ends_within_ninety_seconds(paths: int):
    job = turns.plan(paths, rounds=None, quick=False)
    seconds = job.rounds * paths * job.turn_seconds
    assert job.events == 64
    assert 60 < seconds < 90
    assert turns.plan(paths, rounds=40, quick=False).rounds == 40


async def test_a_connection_asks_again_when_it_is_told_to():
    """Its events are in order, and each question has a tally of its own."""
    bodies = [b"".join(wire.EVENT_CHUNK % stamp for stamp in stamps) for stamps in ((1, 2), (3, 4))]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in bodies:
            await reader.readuntil(b'stream":true}')
            writer.write(wire.ANSWER_HEAD + body + wire.LAST_CHUNKS)
        assert await reader.read() == b""
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        target = Target("127.0.0.1", port, "/", {}, wire.DEFAULT_BODY, pids=[])
        solo = Solo()
        await open_connection(target, lambda: solo)
        asking = question(target, 50, 2)
        tallies = [await solo.ask(asking, seconds=0) for _ in bodies]
        solo.close()
    assert [(len(tally.firsts), len(tally.latencies)) for tally in tallies] == [(1, 2), (1, 2)]
    before, after = tallies[0].latencies
    assert before - after == 1  # read at once, sent at 1 and at 2 ns


async def test_a_broken_answer_fails_the_run():
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'stream":true}')
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops")
        with suppress(ConnectionError):  # the client leaves without a word
            await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        target = Target("127.0.0.1", port, "/", {}, wire.DEFAULT_BODY, pids=[])
        solo = Solo()
        await open_connection(target, lambda: solo)
        with pytest.raises(LoadError, match="status 502"):
            await solo.ask(question(target, 50, 2), seconds=0)


@pytest.mark.long
@needs_proc
def test_a_quick_run_of_one_client_tells_what_is_added(tmp_path: Path):
    saved = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--alone", "--quick", "--only", "relay", "--json", str(saved)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "round 1 of 1: relay" in done.stderr
    assert "Event on its way, µs, p50" in done.stdout
    found = json.loads(saved.read_bytes())["samples"]
    assert list(found) == ["direct", "relay"]
    assert all(len(own[0]["ways"]) == 8 and len(own[0]["firsts"]) == 4 for own in found.values())
    assert all(min(own[0]["ways"]) > 0 for own in found.values())


@needs_proc
def test_a_path_that_fails_is_named():
    peer = ["--peer", "nobody=http://127.0.0.1:1/v1", "--only", "nobody"]
    command = [sys.executable, "-m", "tests.bench", "--alone", "--quick", *peer]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "nobody: 127.0.0.1:1" in done.stderr
    assert done.stdout == ""
