"""The benchmark's arithmetic, its reading of HTTP and of /proc, and one short run of the whole."""

import argparse
import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import choice, contenders, figures, measure, pairs, plot, report, stalled, wire
from tests.bench.client import LoadError, Question, Tally, Target, open_connection, question
from tests.bench.contenders import Contender, Site, nginx_program
from tests.bench.doubts import doubts
from tests.bench.figures import Figures, Load, Pass, ShortFigures, StreamFigures
from tests.bench.options import parse
from tests.bench.pairs import Verdict
from tests.bench.processes import ROOT, BenchError, Cores, choose_cores
from tests.bench.rounds import Plan, steps
from tests.bench.watch import Watcher

needs_proc = pytest.mark.skipif(not measure.supported(), reason="needs Linux's /proc")
needs_nginx = pytest.mark.skipif(nginx_program() is None, reason="nginx is not installed")

LOAD = Load(streams=10, rate=20, seconds=1)
CHUNKED = wire.ANSWER_HEAD + wire.FIRST_CHUNK + b"".join(wire.EVENT_CHUNK % ns for ns in (1, 2, 3)) + wire.LAST_CHUNKS
WITH_LENGTH = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops"


def chosen_by(options: argparse.Namespace) -> dict[str, Contender]:
    return choice.choose(options, tell=print).contenders


# Reading an answer.


def fed(answer: wire.Answer, stamps: wire.Stamps, pieces: Sequence[bytes]) -> list[int]:
    return [int(stamp, 16) for piece in pieces for stamp in stamps.feed(answer.feed(piece))]


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(at), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(0, len(CHUNKED)), max_size=8))
def test_stamps_are_found_however_the_answer_is_cut(at: list[int]):
    answer = wire.Answer()
    assert fed(answer, wire.Stamps(), cut(CHUNKED, at)) == [1, 2, 3]
    assert answer.ended


def test_an_answer_is_read_byte_by_byte():
    answer = wire.Answer()
    assert fed(answer, wire.Stamps(), cut(CHUNKED, range(1, len(CHUNKED)))) == [1, 2, 3]
    assert answer.ended


def test_a_chunk_may_end_within_a_stamp():
    body = b"data: @%016x;\n\n" % 7
    data = wire.ANSWER_HEAD + wire.chunk(body[:12]) + wire.chunk(body[12:]) + b"0\r\n\r\n"
    assert fed(wire.Answer(), wire.Stamps(), [data]) == [7]


@pytest.mark.parametrize("missing", [1, 4, 5, 50])
def test_a_cut_answer_has_not_ended(missing: int):
    answer = wire.Answer()
    answer.feed(CHUNKED[:-missing])
    answer.close()
    assert not answer.ended


def test_a_body_may_have_a_length():
    answer = wire.Answer()
    assert b"".join(answer.feed(piece) for piece in cut(WITH_LENGTH, range(1, len(WITH_LENGTH)))) == b"oops"
    assert answer.ended
    assert answer.head == wire.Head(status=502, chunked=False, length=4)


def test_a_body_may_end_with_the_connection():
    answer = wire.Answer()
    assert answer.feed(b"HTTP/1.0 200 OK\r\n\r\nall of it") == b"all of it"
    assert not answer.ended
    answer.close()
    assert answer.ended


@pytest.mark.parametrize("data", [b"SSH-2.0-OpenSSH\r\n\r\n", wire.ANSWER_HEAD + b"what\r\n"])
def test_what_is_not_http_is_refused(data: bytes):
    with pytest.raises(wire.WireError):
        wire.Answer().feed(data)


# What the upstream reads and sends.


def test_an_event_is_a_chunk_as_openai_sends_it():
    size, frame = (wire.EVENT_CHUNK % 255).split(b"\r\n", 1)
    frame = frame.removesuffix(b"\r\n")
    assert 250 <= len(frame) == int(size, 16) <= 300
    event = json.loads(frame.removeprefix(b"data: "))
    assert event["object"] == "chat.completion.chunk"
    assert event["choices"][0]["delta"] == {"content": "@00000000000000ff;"}


def test_requests_are_taken_out_of_the_buffer_one_by_one():
    body = wire.DEFAULT_BODY.replace(wire.MODEL_PLACEHOLDER, wire.model_name(3.5, 40)).encode()
    whole = wire.request("127.0.0.1", "/v1/chat/completions", {}, body)
    buffer = bytearray(whole + whole[:-1])
    taken = wire.take_request(buffer)
    assert taken == (b"POST /v1/chat/completions HTTP/1.1", body)
    assert wire.asked(taken[1]) == wire.Asked(rate=3.5, events=40)
    assert wire.take_request(buffer) is None
    buffer += whole[-1:]
    assert wire.take_request(buffer) == taken
    assert not buffer


@pytest.mark.parametrize("body", [b"", b'{"model": "gpt-4o"}', b'{"model": "bench-x-1"}'])
def test_any_other_model_is_not_asked(body: bytes):
    assert wire.asked(body) is None


def test_an_event_may_be_padded():
    body = wire.DEFAULT_BODY.replace(wire.MODEL_PLACEHOLDER, wire.model_name(3.5, 40, 100)).encode()
    assert wire.asked(body) == wire.Asked(rate=3.5, events=40, padding=100)
    padded = wire.event_chunk(100) % 255
    assert len(padded) == len(wire.EVENT_CHUNK % 255) + 100
    pieces = cut(wire.ANSWER_HEAD + padded + wire.LAST_CHUNKS, range(0, len(padded), 7))
    assert fed(wire.Answer(), wire.Stamps(), pieces) == [255]


# Viewers of one stream.


@pytest.mark.parametrize("stamps", [(1, 1), (1, 2)], ids=["the same", "another"])
async def test_viewers_must_be_told_the_same(stamps: tuple[int, int]):
    answers = iter([wire.ANSWER_HEAD + wire.EVENT_CHUNK % stamp + wire.LAST_CHUNKS for stamp in stamps])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in stamps:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /streams/1 ")
            writer.write(next(answers))
        assert await reader.read() == b""
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        target = Target("127.0.0.1", port, "/streams", {}, wire.DEFAULT_BODY, pids=[], watched=True)
        tally, asking = Tally(1), Question(wire.watching("127.0.0.1", "/streams/1"), events=1)
        await open_connection(target, lambda: Watcher(tally, iter([asking, asking])))
        if stamps[0] == stamps[1]:
            await tally.all_finished(timeout=5)
            assert tally.answers == 2
        else:
            with pytest.raises(LoadError, match="unlike that of another viewer"):
                await tally.all_finished(timeout=5)


def test_viewers_are_measured_beside_as_many_streams_of_nginx():
    options = parse(["--viewers"])
    assert (options.pair, options.margin) == (("nginx", "viewers"), 50)
    assert [load.streams for load in options.loads] == [1, 10, 100, 300]
    assert parse(["--viewers", "--only", "viewers", "--streams", "7"]).pair is None


def test_those_that_stall_are_measured_beside_the_same_without_them():
    options = parse(["--stalled", "--checkout", "before=."])
    assert [load.stalled for load in options.loads] == [0, 1000]
    assert list(chosen_by(options)) == ["viewers", "before-viewers"]


def test_those_that_stall_are_not_to_be_cut_meanwhile():
    with pytest.raises(SystemExit):
        parse(["--stalled", "--seconds", "60"])


def stalling(number: int, *, open_kib: int, **changes: float) -> list[Pass]:
    """A round: at rest 1,000 KiB, by the viewers that read 200 more, and `open_kib` beside 10 that stall."""
    load = msgspec.structs.replace(LOAD, stalled=10)
    one = one_pass("viewers", number, open_kib=open_kib, kernel_kib=500.0, gap_ms=(20, 26), stalled=10, **changes)
    return [one_pass("viewers", number), msgspec.structs.replace(one, load=load)]


def test_what_stalls_is_told_apart_from_what_reads():
    passes = [*stalling(1, open_kib=2200, held_kib=900), *stalling(2, open_kib=2400, held_kib=901)]
    [effect] = stalled.effects(passes)
    assert effect.kib_each == figures.Spread(median=110, least=100, greatest=120)
    assert effect.kernel_kib_each == figures.Spread(median=50, least=50, greatest=50)
    assert (effect.bounded, effect.lagging) == (True, True)
    assert effect.changes["Gap between events, ms, p99"].added.median == 1
    assert "holds 110 (100–120) KiB, within 160 KiB, and the kernel 50.0 KiB" in stalled.text(effect)
    assert figures.kib_per_stream(passes[1].figures, {}) == 60


def test_too_much_for_what_stalls_is_said():
    [effect] = stalled.effects(stalling(1, open_kib=1200 + 1700, held_kib=900))
    assert "ABOVE 160 KiB" in stalled.text(effect)
    assert "NOT STALLED" not in stalled.text(effect)


def test_an_answer_too_short_to_stall_anybody_is_said():
    [effect] = stalled.effects(stalling(1, open_kib=2200, held_kib=149))
    assert "NOT STALLED" in stalled.text(effect)


def test_a_round_without_both_says_nothing_of_what_stalls():
    without, beside = stalling(1, open_kib=2200)
    assert stalled.effects([without]) == stalled.effects([beside]) == []


# Arithmetic.


def one_pass(contender: str = "gateway", number: int = 1, *, cpu_us: float | None = 20, **changes: object) -> Pass:
    streams = StreamFigures(
        window_seconds=1,
        streams=10,
        events=200,
        cpu_ns=None if cpu_us is None else int(cpu_us * 200_000),
        first_ms=(1, 2),
        latency_ms=(0.5, 4),
        gap_ms=(20, 25),
        idle_kib=1000,
        open_kib=1200,
        held_events=30,
        held_kib=2,
        load_busy=0.1,
        other_busy=0,
        stolen=0,
    )
    short = ShortFigures(seconds=2, streams=1000, cpu_ns=1_000_000_000)
    return Pass(number, contender, LOAD, Figures(msgspec.structs.replace(streams, **changes), short))


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 2), (51, 3), (75, 3), (99, 4), (100, 4)], ids=str
)
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float):
    assert figures.percentile([1, 2, 3, 4], percent) == expected


def test_ratios_are_taken_within_a_round():
    """Each round of a machine that slows down has the same ratio; the ratio of the medians would be another."""
    costs = {1: (10, 30), 2: (20, 60), 3: (100, 300)}
    passes = [
        one_pass(name, number, cpu_us=cost)
        for number, pair in costs.items()
        for name, cost in zip(("nginx", "gateway"), pair, strict=True)
    ]
    summary = figures.summarize(passes)[LOAD]
    assert summary["gateway"]["cpu_us_per_event"] == figures.Spread(median=60, least=30, greatest=300)
    assert summary["gateway"]["cpu_ratio"] == figures.Spread(median=3, least=3, greatest=3)


def test_times_are_added_over_going_direct():
    changed = one_pass("gateway", first_ms=(1.25, 7), latency_ms=(0.75, 3), gap_ms=(20, 27))
    passes = [one_pass("direct", cpu_us=None), changed]
    summary = figures.summarize(passes)[LOAD]
    assert summary["direct"]["first_ms_p50"].median == 1
    assert summary["gateway"]["added_first_ms_p50"].median == 0.25
    assert summary["gateway"]["added_first_ms_p99"].median == 5
    assert summary["gateway"]["added_latency_ms_p99"].median == -1
    assert summary["gateway"]["added_gap_ms_p99"].median == 2


def test_what_is_not_known_is_left_out():
    summary = figures.summarize([one_pass(cpu_us=None, idle_kib=None)])[LOAD]["gateway"]
    assert not {"cpu_us_per_event", "cpu_ratio", "kib_per_stream", "added_first_ms_p50"} & set(summary)
    assert summary["short_per_second"].median == 500


def test_memory_is_what_the_open_streams_add():
    assert figures.summarize([one_pass()])[LOAD]["gateway"]["kib_per_stream"].median == 20


@pytest.mark.parametrize(
    ("passes", "doubt"),
    [
        ([one_pass("nginx", 1, cpu_us=20), one_pass("nginx", 2, cpu_us=40)], "differs by 67% between rounds"),
        ([one_pass(other_busy=0.5)], "Other processes used up to 0.50 cores"),
        ([one_pass(stolen=0.2)], "The hypervisor kept up to 0.20 cores"),
        ([one_pass(events=100)], "50% of the events arrived in time"),
        ([one_pass(load_busy=0.9)], "upstream and client used 0.90 cores"),
        ([one_pass(cpu_us=4500)], "it used 0.90 cores"),
    ],
    ids=["spread", "others", "stolen", "lagging", "load side", "contender"],
)
def test_a_doubtful_result_says_so(passes: list[Pass], doubt: str):
    assert [doubt in line for line in doubts(passes)] == [True]


def test_a_quiet_run_raises_no_doubt():
    assert doubts([one_pass("nginx", 1), one_pass("nginx", 2, other_busy=None)]) == []


# A pair.


def costing(name: str, costs: Sequence[float | None]) -> list[Pass]:
    """A round for each cost of an event, in µs."""
    return [one_pass(name, number, cpu_us=cost) for number, cost in enumerate(costs, 1)]


def compared(passes: Sequence[Pass], metric: str, *, margin: float = 0.05) -> list[pairs.Comparison]:
    return [one for one in pairs.compare(passes, ("a", "b"), margin=margin) if one.metric == metric]


def test_a_pair_is_compared_within_each_round():
    """Each round of a machine that drifts has nearly the same ratio; the ratio of the medians would be 2.2."""
    passes = costing("a", [10, 20, 100]) + costing("b", [11, 44, 110])
    [found] = compared(passes, "cpu_us_per_event")
    assert (found.rounds, found.interval) == (3, None)
    assert found.median == pytest.approx(1.1)


def test_a_round_that_lacks_either_is_left_out():
    passes = costing("a", [10, 10, None]) + costing("b", [20])
    assert [one.rounds for one in compared(passes, "cpu_us_per_event")] == [1]
    assert compared(costing("a", [10]), "cpu_us_per_event") == []


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, None), (5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (12, (3, 10)), (20, (6, 15))],
    ids=str,
)
def test_the_interval_is_that_of_the_sign_test(count: int, expected: tuple[int, int] | None):
    """The ranks are those of any table of confidence intervals for a median."""
    assert pairs.interval(range(1, count + 1)) == expected


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ([1.0, 1.01, 1.02, 1.03, 1.04, 1.05], Verdict.WITHIN),
        ([1.0, 1.01, 1.02, 1.03, 1.04, 1.5], Verdict.LIKELY_WITHIN),
        ([0.9, 1.01, 1.06, 1.07, 1.08, 1.5], Verdict.LIKELY_ABOVE),
        ([1.06, 1.07, 1.08, 1.09, 1.1, 1.5], Verdict.ABOVE),
        ([1.0] * 5, Verdict.TOO_FEW),
    ],
    ids=str,
)
def test_a_verdict_is_on_the_whole_interval(ratios: list[float], verdict: Verdict):
    passes = costing("a", [1000] * len(ratios)) + costing("b", [1000 * ratio for ratio in ratios])
    assert [one.verdict for one in compared(passes, "cpu_us_per_event")] == [verdict]


def test_only_costs_are_judged():
    found = pairs.compare(costing("a", [10]) + costing("b", [10]), ("a", "b"), margin=0)
    assert {one.metric for one in found if one.verdict} == {"cpu_us_per_event", "short_cpu_us"}
    assert {one.metric for one in found} >= {"first_ms_p50", "gap_ms_p99", "kib_per_stream"}


def test_a_pair_has_a_choice_of_its_own():
    options = parse(["--pair", "plain,guarded"])
    assert list(chosen_by(options)) == ["plain", "guarded"]
    assert choice.plan(options).rounds > choice.plan(parse(["--streams", "10"])).rounds


@pytest.mark.parametrize("names", ["gateway", "gateway,gateway", "gateway,", "a,b,c"])
def test_a_pair_is_two_names(names: str):
    with pytest.raises(SystemExit):
        parse(["--pair", names])


def test_variants_run_only_where_they_are_named():
    options = parse(["--checkout", "before=."])
    assert not {"relay", "plain", "guarded", "before-relay"} & set(chosen_by(options))
    options.only = "relay,before-relay"
    assert list(chosen_by(options)) == ["relay", "before-relay"]


VARIANTS = ("relay", "targets")  # of the gateway with all that it has


@needs_proc
@pytest.mark.parametrize(
    ("name", "observes"),
    [("guarded", True), ("plain", False), *[pytest.param(name, True, marks=pytest.mark.long) for name in VARIANTS]],
)
def test_plain_alone_neither_logs_nor_counts(tmp_path: Path, name: str, observes: bool):
    """Neither at the end of a stream nor on a timer. `guarded` has keys with limits, and sends one."""
    with contenders.variants()[name](Site(1, tmp_path, choose_cores([*os.sched_getaffinity(0)], pin=False))) as to:
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
        fields = {"Content-Type": "application/json", **to.headers}
        asked = Request(f"http://{to.host}:{to.port}/v1/chat/completions", body, fields)
        with pytest.raises(HTTPError, match="502"):  # nothing listens at the port of the upstream
            urlopen(asked, timeout=5)
        with urlopen(f"http://{to.host}:{to.port}/metrics", timeout=5) as response:
            metrics = response.read()
    assert ("gateway.access" in (tmp_path / "gateway.log").read_text()) is observes  # it was asked for its health, too
    assert (b'gateway_streams_ended_total{reason="upstream_error"} 1.0' in metrics) is observes
    assert (b"gateway_time_before_upstream_seconds_count 1.0" in metrics) is observes
    keys = tomllib.loads((tmp_path / "gateway.toml").read_text()).get("keys", [])
    sent = hashlib.sha256(to.headers.get("Authorization", "").removeprefix("Bearer ").encode()).hexdigest()
    assert (f"sha256:{sent}" in [key["hash"] for key in keys]) is (name == "guarded")
    assert all({"requests_per_minute", "tokens_per_minute", "max_streams"} <= key.keys() for key in keys)


def test_contenders_take_turns_and_each_round_begins_with_another_one():
    plan = Plan(rounds=3, loads=[LOAD], short_seconds=0, cores=choose_cores([0], pin=True), upstream_port=None)
    order = [[(step.round, step.contender) for step in turn] for turn in steps(plan, ["a", "b"])]
    assert order == [[(1, "a")], [(1, "b")], [(2, "b")], [(2, "a")], [(3, "a")], [(3, "b")]]


def test_a_pair_runs_at_once_and_each_round_starts_the_other_one_first():
    plan = choice.plan(parse(["--pair", "a,b", "--rounds", "2", "--no-pin"]))
    order = [[(step.round, step.contender) for step in turn] for turn in steps(plan, ["a", "b"])]
    assert order == [[(1, "a"), (1, "b")], [(2, "b"), (2, "a")]]


@pytest.mark.parametrize(
    ("allowed", "pin", "expected"),
    [
        ([3], True, ({3}, {3})),
        ([0, 1], True, ({0}, {1})),
        ([2, 3, 4, 5], True, ({2}, {5})),
        ([0, 1], False, ({0, 1}, {0, 1})),
    ],
)
def test_the_contender_has_a_core_to_itself(allowed: list[int], pin: bool, expected: tuple[set[int], set[int]]):
    assert choose_cores(allowed, pin=pin) == Cores(frozenset(expected[0]), frozenset(expected[1]))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--only", "direct,nobody"], "no such contender here: nobody"),
        (["--peer-pid", "other=7"], "no --peer is called other"),
        (["--peer", "other=https://example.org"], "over plain HTTP"),
        (["--peer", "other=http://127.0.0.1:1", "--peer-header", "other=Authorization"], "'Name: value'"),
    ],
    ids=["only", "stranger", "https", "header"],
)
def test_a_contender_that_cannot_be_is_refused(arguments: list[str], fault: str):
    with pytest.raises(BenchError, match=fault):
        chosen_by(parse(arguments))


def test_a_peer_is_asked_as_it_wishes(tmp_path: Path):
    (tmp_path / "body").write_text('{"model": "other/$MODEL"}')
    arguments = ["--peer", "other=http://127.0.0.1:99/ask?x=1", "--peer-header", "other=Authorization: Bearer k"]
    arguments += ["--peer-body", f"other={tmp_path / 'body'}", "--peer-pid", "other=7", "--only", "other"]
    chosen = chosen_by(parse(arguments))
    with chosen["other"](Site(1, tmp_path, choose_cores([0], pin=True))) as target:
        assert (target.host, target.port, target.path, target.pids) == ("127.0.0.1", 99, "/ask?x=1", [7])
    asking = question(target, 0, 2).request
    assert b"\r\nAuthorization: Bearer k\r\n" in asking
    assert asking.endswith(b'\r\n\r\n{"model": "other/bench-0.0000-2"}')


# Reading /proc.

SOCKETS = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 98 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C001 01 00000012:00000000 00:00000000 00000000     0        0 99 1 0 100 0 0 10 0
   2: 0100007F:C001 0100007F:1F90 01 00000400:00000007 00:00000000 00000000     0        0 97 1 0 100 0 0 10 0
   3: 0100007F:1F90 0100007F:C002 01 00000100:00000000 00:00000000 00000000     0        0 96 1 0 100 0 0 10 0
"""


def test_proc_files_are_parsed():
    assert measure.parse_parent("7 (a (strange) name) S 5 7 7 0") == 5
    assert measure.parse_schedstat("33056624 3530029 62\n") == 33056624
    assert measure.parse_schedstat("") == 0
    assert measure.parse_pss("00-ff ---p [rollup]\nRss:  3936 kB\nPss:   1276 kB\nPss_Anon: 545 kB\n") == 1276
    assert measure.parse_unsent(SOCKETS, 0x1F90) == 0x12 + 0x0100
    assert measure.parse_ticks("cpu  100 1 50 1000 20 3 4 30 0 0\ncpu0 1 1 1\n") == measure.Ticks(158, 30, 1208)


def test_a_process_tree_holds_all_generations():
    assert measure.descendants([1], {2: 1, 3: 2, 4: 9, 5: 3}) == [1, 2, 3, 5]


@needs_proc
def test_cpu_time_is_that_of_this_process():
    before, used = measure.cpu_ns([os.getpid()]), time.process_time_ns()
    while time.process_time_ns() - used < 50_000_000:
        pass
    assert 40_000_000 < measure.cpu_ns([os.getpid()]) - before < 500_000_000


# Words.


@pytest.mark.parametrize(
    ("value", "sign", "expected"),
    [
        (0, "-", "0.00"),
        (9.94, "-", "9.94"),
        (9.96, "-", "10.0"),
        (99.6, "-", "100"),
        (12345.6, "-", "12,346"),
        (0.25, "+", "+0.25"),
        (-14.04, "+", "-14.0"),
    ],
)
def test_numbers_have_three_digits(value: float, sign: str, expected: str):
    assert report.number(value, sign) == expected


def test_the_table_has_a_column_for_each_contender():
    passes = [one_pass(name, number) for number in (1, 2) for name in ("direct", "nginx", "gateway")]
    rows = {row[0]: row[1:] for row in report.table([*passes, one_pass("gateway", 3, cpu_us=25)])}
    assert rows[""] == ["direct", "nginx", "gateway"]
    assert rows["CPU per event, µs"] == ["20.0", "20.0", "20.0 (20.0–25.0)"]
    assert rows["First event, ms, p99"] == ["2.00", "+0.00", "+0.00"]
    assert rows["Short streams per second"] == ["≥ 500", "≥ 500", "≥ 500"]


def test_a_pair_is_a_table_with_its_interval():
    passes = costing("a", [10] * 6) + costing("b", [11] * 6)
    rows = {row[0]: row[1:] for row in report.pair_table(pairs.compare(passes, ("a", "b"), margin=0.05))}
    assert rows[""] == ["median", "95 % interval"]
    assert rows["CPU per event"] == ["1.100", "1.100–1.100", Verdict.ABOVE]
    assert rows["KiB per open stream"] == ["1.000", "1.000–1.000", ""]


def test_several_loads_are_rows_below_each_figure():
    larger = msgspec.structs.replace(one_pass(), load=Load(streams=3000, rate=1, seconds=1))
    rows = report.table([one_pass(), larger])
    assert rows[:4] == [["", "gateway"], ["CPU per event, µs"], ["  10 streams", "20.0"], ["  3,000 streams", "20.0"]]


def test_the_chart_is_well_formed_and_holds_the_figures():
    chart = plot.svg(plot.rows(figures.summarize([one_pass("a<b"), one_pass("nginx", cpu_us=40)])))
    words = [element.text for element in ElementTree.fromstring(chart).iter() if element.text]
    assert {"a<b", "20.0", "nginx", "40.0"} <= set(words)


# The whole.

COMMAND = [sys.executable, "-m", "tests.bench", "--quick", "--streams", "4", "--seconds", "0.5"]


@needs_proc
@needs_nginx
def test_a_quick_run_measures_and_reports(tmp_path: Path):
    files = ["--json", str(tmp_path / "bench.json"), "--plot", str(tmp_path / "bench.svg")]
    done = subprocess.run([*COMMAND, "--only", "direct,nginx", *files], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert b"CPU per event" in done.stdout
    document = json.loads((tmp_path / "bench.json").read_bytes())
    passes = {one["contender"]: one["figures"] for one in document["passes"]}
    assert list(passes) == ["direct", "nginx"]
    assert passes["nginx"]["streams"]["cpu_ns"] > 0
    assert all(one["streams"]["events"] > 20 and one["short"]["streams"] > 20 for one in passes.values())
    assert "nginx" in (tmp_path / "bench.svg").read_text()


@pytest.mark.long
@needs_proc
def test_a_pair_of_gateways_is_measured_and_compared(tmp_path: Path):
    command = [*COMMAND, "--pair", "guarded,relay", "--json", str(tmp_path / "bench.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "relay as a multiple of guarded" in done.stdout
    found = {one["metric"]: one["verdict"] for one in json.loads((tmp_path / "bench.json").read_bytes())["pair"]}
    assert found["cpu_us_per_event"] == found["short_cpu_us"] == Verdict.TOO_FEW


@pytest.mark.long
@needs_proc
@needs_nginx
def test_viewers_are_measured_beside_nginx(tmp_path: Path):
    command = [*COMMAND[:3], "--viewers", "--streams", "3", "--seconds", "0.3", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "bench.json")], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "viewers as a multiple of nginx" in done.stdout
    passes = {one["contender"]: one["figures"] for one in json.loads((tmp_path / "bench.json").read_bytes())["passes"]}
    assert list(passes) == ["nginx", "viewers"]
    assert passes["viewers"]["streams"]["events"] > 10


@pytest.mark.long
@needs_proc
def test_those_that_stall_are_measured_and_miss_nothing():
    command = [*COMMAND[:3], "--stalled", "25", "--streams", "2", "--seconds", "0.3", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "viewers: 2 viewers that read, without and beside 25 that stall" in done.stdout


@needs_proc
def test_a_contender_that_fails_is_not_measured():
    peer = ["--peer", "nobody=http://127.0.0.1:1/v1", "--only", "nobody"]
    done = subprocess.run([*COMMAND, *peer], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "FAILED: nobody, 4 streams of 20 events/s, round 1" in done.stderr
    assert done.stdout == ""


@needs_proc
@needs_nginx
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_run_that_is_stopped_leaves_no_process(number: signal.Signals):
    command = ["env", "--default-signal=INT", *COMMAND]  # a shell starts its background jobs with SIGINT ignored
    run = subprocess.Popen([*command, "--only", "nginx"], cwd=ROOT, stderr=subprocess.PIPE)
    assert run.stderr
    while len(started := measure.process_tree([run.pid])) < 5:  # itself, upstream, client, nginx and its worker
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(number)
    assert run.wait(timeout=20) in (1, 143)
    run.stderr.close()
    deadline = time.monotonic() + 5  # nginx's worker is nobody's child by then, and the system buries it when it can
    while (left := [pid for pid in started if (measure.PROC / str(pid)).exists()]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []
