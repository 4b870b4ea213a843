"""Content codings: what is decoded, in which pieces, and what happens to a damaged body."""

import asyncio
import gzip
import zlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamIncomplete, UpstreamMisconfigured
from gateway.upstream.codings import inflater_for

TEXT = b"data: hello\n\n" * 50
_BARE = zlib.compressobj(wbits=-15)
BARE = _BARE.compress(TEXT) + _BARE.flush()


async def decoded(fields: Sequence[str], reads: Sequence[bytes]) -> bytes:
    return b"".join(await pieces(fields, reads))


async def pieces(fields: Sequence[str], reads: Sequence[bytes]) -> list[bytes]:
    waiting = [read for read in reads if read]

    async def source() -> bytes:
        return waiting.pop(0) if waiting else b""

    inflater = inflater_for(fields)
    assert inflater is not None
    found = []
    while piece := await inflater.read(source):
        found.append(piece)
    return found


@pytest.mark.parametrize(
    "fields",
    [[], [""], ["identity"], ["none"], ["utf-8"], ["UTF-8", "None"], ["binary, 8bit"], ["chunked"], ["é"], ["gzipped"]],
)
def test_a_name_that_is_no_coding_is_none(fields: list[str]) -> None:
    assert inflater_for(fields) is None


@pytest.mark.parametrize(
    "fields", [["br"], ["zstd"], ["compress"], ["gzip, gzip"], ["gzip", "br"], ["identity", "BR"], ["deflate, gzip"]]
)
def test_a_coding_that_cannot_be_decoded_is_the_operators_trouble(fields: list[str]) -> None:
    with pytest.raises(UpstreamMisconfigured, match="encoding"):
        inflater_for(fields)


CODED: dict[str, tuple[list[str], bytes]] = {
    "gzip": (["gzip"], gzip.compress(TEXT)),
    "x-gzip": (["x-gzip"], gzip.compress(TEXT)),
    "in capitals": ([" X-GZip "], gzip.compress(TEXT)),
    "with a name that is no coding": (["gzip, utf-8"], gzip.compress(TEXT)),
    "in two fields": (["identity", "gzip"], gzip.compress(TEXT)),
    "deflate": (["deflate"], zlib.compress(TEXT)),
    "bare deflate": (["deflate"], BARE),
    "gzip in two members": (["gzip"], gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
    "gzip with padding": (["gzip"], gzip.compress(TEXT) + b"\0" * 50),
    "gzip without its end": (["gzip"], gzip.compress(TEXT)[:-8]),
    "gzip by its label alone": (["gzip"], TEXT),
}


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
@pytest.mark.parametrize("case", CODED)
async def test_bodies_are_decoded_however_they_are_cut(case: str, size: int) -> None:
    fields, body = CODED[case]
    assert await decoded(fields, [body[n : n + size] for n in range(0, len(body), size)]) == TEXT


async def test_each_read_gives_what_it_holds() -> None:
    """An event that was flushed is not held back until the next one."""
    coder = zlib.compressobj(wbits=31)
    reads = [coder.compress(part) + coder.flush(zlib.Z_SYNC_FLUSH) for part in (b"a", b"b", b"c")]
    assert await pieces(["gzip"], reads) == [b"a", b"b", b"c"]


async def test_fault_47_a_small_body_comes_in_bounded_pieces_and_holds_nobody_up() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    found = await pieces(["gzip"], [gzip.compress(bytes(20_000_000))])
    other.cancel()
    assert sum(map(len, found)) == 20_000_000
    assert max(map(len, found)) <= 262_144
    assert turns >= len(found) - 1


async def test_a_damaged_body_is_incomplete() -> None:
    body = gzip.compress(TEXT)
    for damaged in (b"\x1f\x8b\x09" + body[3:], body[:10] + b"\xff" * 20, body[:-8] + b"\0" * 8):
        with pytest.raises(UpstreamIncomplete):
            await decoded(["gzip"], [damaged])
    with pytest.raises(UpstreamIncomplete):
        await decoded(["deflate"], [b"\xff" * 20])


async def test_members_of_gzip_are_bounded() -> None:
    """Each copies the rest of the input."""
    with pytest.raises(UpstreamIncomplete):
        await decoded(["gzip"], [gzip.compress(b"a") * 2_000])


@given(
    st.lists(st.binary(max_size=200), min_size=1), st.lists(st.integers(0, 900)), st.sampled_from(["gzip", "deflate"])
)
def test_any_cut_decodes_to_the_same(parts: list[bytes], cuts: list[int], name: str) -> None:
    coder = zlib.compressobj(wbits=31 if name == "gzip" else 15)
    body = b"".join([coder.compress(part) + coder.flush(zlib.Z_SYNC_FLUSH) for part in parts]) + coder.flush()
    reads = [body[start:end] for start, end in pairwise([0, *sorted(cuts), len(body)]) if start < end]
    assert asyncio.run(decoded([name], reads or [body])) == b"".join(parts)
