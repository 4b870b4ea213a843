"""One whole chunk of a body is known without aiohttp's parser, and nothing else is taken for one."""

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamIncomplete
from gateway.upstream.chunked import whole_chunk
from tests.rig.reads import Run, rig
from tests.rig.scripted_upstream import Pause, Send, Step, head

TEXT = b"data: a\n\n"
CHUNKS: dict[str, tuple[bytes, bytes]] = {
    "one": (b"9\r\n" + TEXT + b"\r\n", TEXT),
    "small letters": (b"1a\r\n" + b"x" * 26 + b"\r\n", b"x" * 26),
    "capitals": (b"1A\r\n" + b"x" * 26 + b"\r\n", b"x" * 26),
    "line ends in it": (b"6\r\n\r\n\r\n\r\n\r\n", b"\r\n\r\n\r\n"),
    "as long as two": (b"4\r\n\r\n1\r\r\n", b"\r\n1\r"),
    "the last": (b"0\r\n\r\n", b""),
    "the last with a trailer": (b"0\r\nx: y\r\n\r\n", b""),
    "two": (b"1\r\na\r\n1\r\nb\r\n", b""),
    "one and the last": (b"1\r\na\r\n0\r\n\r\n", b""),
    "an extension": (b"1;a=b\r\na\r\n", b""),
    "a leading zero": (b"01\r\na\r\n", b""),
    "a sign": (b"+1\r\na\r\n", b""),
    "less than nothing": (b"-2\r\n", b""),
    "a prefix": (b"0x1\r\na\r\n", b""),
    "an underscore": (b"1_0\r\n0123456789abcdef\r\n", b""),
    "white space": (b"1 \r\na\r\n", b""),
    "no size": (b"\r\na\r\n", b""),
    "no line end": (b"1", b""),
    "nothing": (b"", b""),
    "a half": (b"9\r\ndata: \r\n", b""),
    "too much": (b"1\r\nabc\r\n", b""),
    "a bare line feed": (b"1\na\n", b""),
}


@pytest.mark.parametrize("case", CHUNKS)
def test_it_is_told_apart(case: str) -> None:
    data, content = CHUNKS[case]
    assert whole_chunk(data) == content


@given(st.lists(st.sampled_from([b"0", b"1", b"2", b"a", b"\r\n", b"\r", b"\n", b" ", b";"]), max_size=8))
def test_what_is_taken_is_as_long_as_it_says(parts: list[bytes]) -> None:
    data = b"".join(parts)
    if content := whole_chunk(data):
        found = re.fullmatch(rb"([1-9a-f][0-9a-f]*)\r\n(.*)\r\n", data, re.DOTALL)
        assert found is not None
        assert (int(found[1], 16), found[2]) == (len(content), content)


# With aiohttp's parser before, between and after

LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


A, B, C, D, E = map(chunk, [b"a", b"b", b"c", b"d", b"e"])
READS: dict[str, tuple[Sequence[bytes], bytes]] = {
    "whole ones": ([A, B, C, LAST], b"abc"),
    "a half between": ([A, B, b"2\r\nc", b"d\r\n", E, LAST], b"abcde"),
    "half a size": (
        [A, B, b"1", b"0\r\n0123456789abcdef\r\n", E, LAST],
        b"ab0123456789abcdefe",
    ),
    "half a line end": ([A, b"1\r", b"\nb\r", b"\n", C, LAST], b"abc"),
    "a size alone": (
        [A, B, b"9\r\n", b"4\r\nabcd\r\n\r\n", E, LAST],
        b"ab4\r\nabcd\r\ne",
    ),
    "a chunk in a chunk": (
        [A, b"c\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n", b"\r\n", LAST],
        b"a1\r\nb\r\n1\r\nc\r\n",
    ),
    "two at once": ([A, B + C, D, LAST], b"abcd"),
    "an extension": ([A, b"1;x=y\r\nb\r\n", C, LAST], b"abc"),
    "the last with one": ([A, B, C + LAST], b"abc"),
    "a trailer": ([A, B, b"0\r\nx: y\r\n", b"\r\n"], b"ab"),
}


def read_by_read(reads: Sequence[bytes]) -> list[Step]:
    return [part for read in reads for part in (Send(read), Pause(0.01))]


@pytest.mark.parametrize("case", READS)
def test_a_body_of_reads(run: Run, case: str) -> None:
    reads, content = READS[case]

    async def main() -> None:
        async with rig() as it:
            response = await it.ask(Send(head(Transfer_Encoding="chunked")), *read_by_read(reads))
            assert not await response.feed(it.take)
            assert it.taken == content
            await response.finish()

    run(main())


def test_chunks_in_a_body_that_is_not_chunked_are_content(run: Run) -> None:
    reads = [b"1\r\na\r\n"] * 3

    async def main() -> None:
        async with rig() as it:
            response = await it.ask(Send(head(Content_Length="18")), *read_by_read(reads))
            assert not await response.feed(it.take)
            assert it.taken == b"".join(reads)

    run(main())


def test_a_malformed_chunk_behind_whole_ones(run: Run) -> None:
    async def main() -> None:
        async with rig() as it:
            reads = [chunk(b"a"), chunk(b"b"), b"+1\r\nc\r\n", chunk(b"d")]
            response = await it.ask(Send(head(Transfer_Encoding="chunked")), *read_by_read(reads))
            with pytest.raises(UpstreamIncomplete):
                await response.feed(it.take)
            assert it.taken == b"ab"
            response.abort()

    run(main())
