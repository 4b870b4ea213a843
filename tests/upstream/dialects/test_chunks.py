"""JSON is read by msgspec, and near-JSON by the tolerant reader: what both can read has the same value."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.dialects.chunks import _read_near_json, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Whether they are equal in type, too: `1`, `1.0` and `True` are equal to each other."""
    return repr(one) == repr(other)


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_both_readers_agree(value: Any, ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")
    assert same(read_json(data), _read_near_json(data))


@given(st.binary(max_size=40) | st.text('{}[]":,0123456789.eE+-ntfalsru\\ \n\t', max_size=40).map(str.encode))
def test_both_readers_agree_on_any_bytes(data: bytes) -> None:
    assert same(read_json(data), _read_near_json(data))


@pytest.mark.parametrize(
    "data",
    [
        *(b"1" * 4300, b"-" + b"1" * 4300, b"1" * 4301, b"18446744073709551616", b"-9223372036854775809"),
        *(b"1e308", b"1e309", b"-1e309", b"1E5", b"-0", b"-0.0", b"00", b"1.", b"12345678901234567890.5"),
        *(b'{"a":1,"a":2}', b"\xef\xbb\xbf{}", b' {"a":1}\r\n', b'{"a":1}x', b"\x0b{}", b'"\x01"', b'"\\u0000"'),
        *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\ude00"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xff"'),
    ],
)
def test_both_readers_agree_at_the_edges(data: bytes) -> None:
    assert same(read_json(data), _read_near_json(data))


def test_what_is_no_number_in_json_is_none() -> None:
    assert read_json(b'[NaN,Infinity,-Infinity,1e999,"x"]') == [None, None, None, None, "x"]
    assert math.isfinite(read_json(b"1e308"))
