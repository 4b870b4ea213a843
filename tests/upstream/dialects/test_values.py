"""Values that are passed on: any JSON that is no error passes, and nothing that is cut or wrong does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamEmpty, UpstreamError, UpstreamIncomplete, UpstreamRateLimited
from gateway.upstream.dialects.usage import of_value
from gateway.upstream.dialects.values import ValueRelay

EMBEDDINGS = b'{"object":"list","data":[{"embedding":[0.5,-1e-7]}],"model":"m-1","usage":{"prompt_tokens":2}}'


def passed(body: bytes) -> tuple[bytes, ValueRelay]:
    relay, entries = ValueRelay(), list[Entry]()
    relay.decode_completion(body, entries)
    relay.finish()
    (entry,) = entries + relay.rest()
    assert entry.kind is Kind.CHUNK
    return entry.payload, relay


def test_what_is_known_of_an_answer() -> None:
    body, relay = passed(EMBEDDINGS)
    assert body is EMBEDDINGS
    assert (relay.model, relay.usage, relay.said) == ("m-1", {"prompt_tokens": 2}, 0)
    assert relay.complete
    assert relay.has_content
    assert relay.finish_reason is None


@pytest.mark.parametrize("cut", range(len(EMBEDDINGS)))
def test_part_of_an_answer_is_none(cut: int) -> None:
    with pytest.raises(UpstreamIncomplete):
        passed(EMBEDDINGS[:cut])


REFUSED: dict[str, tuple[object, type[UpstreamError], str]] = {
    "OpenAI's": ({"error": {"message": "no", "code": "c"}}, UpstreamError, "no"),
    "beside values": ({"data": [], "error": {"message": "no"}}, UpstreamError, "no"),
    "a text": ({"error": "no"}, UpstreamError, "no"),
    "a limit": ({"error": {"message": "no", "code": 429}}, UpstreamRateLimited, "no"),
    "FastAPI's": ({"detail": [{"loc": ["body", "input"], "msg": "no"}]}, UpstreamError, "input: no"),
    "flat": ({"code": 20012, "message": "no", "data": None}, UpstreamError, "no"),
    "a message alone": ({"message": "no"}, UpstreamError, "no"),
    "in a list": ([{"error": {"message": "no"}}], UpstreamError, "no"),
    "nothing": ({}, UpstreamEmpty, UpstreamEmpty.message),
    "nulls": ({"data": None, "x": None}, UpstreamEmpty, UpstreamEmpty.message),
    "a number": (7, UpstreamError, "The model's server answered with something that is not a JSON object."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_answer(case: str) -> None:
    value, kind, words = REFUSED[case]
    with pytest.raises(kind) as raised:
        passed(json.dumps(value).encode())
    assert raised.value.message == words


@pytest.mark.parametrize("depth", [500, 900, 950, 990, 2_000, 100_000])
@pytest.mark.parametrize("inner", [b"", b"NaN"])
def test_deep_values_pass_or_are_an_error(depth: int, inner: bytes) -> None:
    body = b'{"data":' + b"[" * depth + inner + b"]" * depth + b"}"
    try:
        assert passed(body)[0] == body.replace(b"NaN", b"null")
    except UpstreamError:
        assert depth >= 900


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(_values, max_size=3), st.dictionaries(st.text(max_size=8), _values, max_size=4))
def test_any_list_of_values_passes(values: list[Any], more: dict[str, Any]) -> None:
    more.pop("error", None)
    for name in ("data", "results"):
        body = json.dumps({**more, name: values}).encode()
        assert passed(body)[0] == body


@given(_values)
def test_any_value_passes_or_is_an_error(value: Any) -> None:
    body = json.dumps(value).encode()
    try:
        assert passed(body)[0] == body
    except UpstreamError:
        assert not isinstance(value, list) or len(value) == 1


@pytest.mark.parametrize(
    ("usage", "meta", "tokens"),
    [
        ({"prompt_tokens": 8, "total_tokens": 9}, None, 8),
        ({"total_tokens": 9}, None, 9),
        ({"input_tokens": 7}, None, 7),
        (None, {"billed_units": {"search_units": 1}}, None),
        (None, {"billed_units": {"input_tokens": 5}}, 5),
        ({"prompt_tokens": 0}, {"tokens": {"input_tokens": 4}}, 4),
        ([], "x", None),
        ({"prompt_tokens": "8", "total_tokens": -1}, {"tokens": [], "billed_units": None}, None),
        (None, None, None),
    ],
)
def test_where_usage_is_told(usage: Any, meta: Any, tokens: int | None) -> None:
    told = of_value(usage, meta)
    assert (None if told is None else told["prompt_tokens"]) == tokens
