"""Lines from bytes, however the bytes are cut into reads."""

import re
import tracemalloc

import pytest
from hypothesis import given

from gateway.sse import LineSplitter
from tests.sse.cases import BOM, SPLITTER_CASES, WAYS, cut_soups


def split(reads: list[bytes]) -> tuple[list[bytes], int]:
    """The lines, and how much is held; without comments, which are passed on only where they came in one read."""
    splitter = LineSplitter()
    lines = [line for read in reads for line in splitter.feed(read)]
    return [line for line in lines if not line.startswith(b":")], splitter.held


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", SPLITTER_CASES)
def test_lines(case: str, way: str) -> None:
    expected = SPLITTER_CASES[case]
    lines, held = split(WAYS[way](expected.stream))
    assert lines == expected.lines, expected.rule
    assert held == len(expected.unfinished)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", SPLITTER_CASES)
def test_lines_with_trailing_data(case: str, way: str) -> None:
    """What comes first is not changed by what comes behind it, and the other way round."""
    expected = SPLITTER_CASES[case]
    lines, held = split(WAYS[way](expected.stream + b"\n\nnext\n"))
    first = [*expected.lines, expected.unfinished] if expected.unfinished else expected.lines
    assert lines[: len(first)] == first
    assert lines[-1] == b"next"
    assert held == 0


@given(cut_soups())
def test_any_cut_gives_the_same_lines(soup: tuple[bytes, list[bytes]]) -> None:
    stream, reads = soup
    assert split(reads) == split([stream]) == split(WAYS["byte by byte"](stream))


@given(cut_soups())
def test_the_lines_are_those_of_the_standard(soup: tuple[bytes, list[bytes]]) -> None:
    stream, reads = soup
    lines, _ = split(reads)
    *expected, _unfinished = re.split(b"\r\n|\r|\n", stream.removeprefix(BOM))
    assert lines == [line for line in expected if not line.startswith(b":")]


@pytest.mark.parametrize(
    ("reads", "lines"),
    [
        ([b"a\r"], [[b"a"]]),
        ([b"a\r", b"\n"], [[b"a"], []]),
        ([b"a\r", b"\nb\n"], [[b"a"], [b"b"]]),
        ([b"a\r", b"", b"\nb\n"], [[b"a"], [], [b"b"]]),
        ([b"a\r", b"b\r"], [[b"a"], [b"b"]]),
        ([b"a\r", b"\r", b"\n\n"], [[b"a"], [b""], [b""]]),
        ([b"a\r", b"\n", b"\n"], [[b"a"], [], [b""]]),
        ([b"a\r", b"\n\r", b"\n"], [[b"a"], [b""], []]),
        ([BOM + b"\r", b"\na\n"], [[b""], [b"a"]]),
    ],
)
def test_fault_32_a_cr_ends_its_line_now_and_swallows_an_lf_later(reads: list[bytes], lines: list[list[bytes]]) -> None:
    splitter = LineSplitter()
    assert [splitter.feed(read) for read in reads] == lines


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_fault_33_a_byte_order_mark_split_over_reads(cut: int) -> None:
    stream = BOM + b"a\n"
    splitter = LineSplitter()
    assert splitter.feed(stream[:cut]) + splitter.feed(stream[cut:]) == [b"a"]


@pytest.mark.parametrize("cut", range(1, 4))
def test_fault_34_a_character_split_over_reads_is_intact(cut: int) -> None:
    text = "👍".encode()
    splitter = LineSplitter()
    assert splitter.feed(text[:cut]) == []
    assert splitter.feed(text[cut:] + b"\n") == [text]


def test_only_the_unfinished_line_is_held() -> None:
    splitter = LineSplitter()
    held = []
    for read in (b"ab", b"c", b"d\ne", b"\r", b": comment", b" goes on\nfg", b"\n"):
        splitter.feed(read)
        held.append(splitter.held)
    assert held == [2, 3, 1, 0, 0, 2, 0]


def test_fault_30_an_endless_comment_takes_no_memory() -> None:
    splitter = LineSplitter()
    splitter.feed(b": ")
    read = b"x" * 65_536
    tracemalloc.start()
    for _ in range(1_000):
        assert splitter.feed(read) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(read)
    assert splitter.held == 0
    assert splitter.feed(b"end\ndata: a\n") == [b"data: a"]


class CountingBuffer(bytearray):
    """Counts the bytes that are put into it, and taken out of it as a whole."""

    moved = 0

    def __iadd__(self, more: bytes) -> "CountingBuffer":  # type: ignore[override,misc] # bytearray's own says Self
        self.moved += len(more)
        self.extend(more)
        return self

    def __bytes__(self) -> bytes:
        self.moved += len(self)
        return bytes(memoryview(self))


def test_fault_31_one_byte_per_read_takes_linear_work() -> None:
    """Every byte of a line is moved twice: into the buffer, and out of it when the line ends."""
    splitter = LineSplitter()
    splitter.feed(b"data: ")
    buffer = splitter._held = CountingBuffer(splitter._held)
    for _ in range(50_000):
        splitter.feed(b"x")
    assert splitter.held == 50_006
    assert splitter.feed(b"\n") == [b"data: " + b"x" * 50_000]
    assert splitter._held is buffer
    assert buffer.moved <= 2 * 50_006
