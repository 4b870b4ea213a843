"""How many tokens an answer took, as every provider says it or as it is guessed, and what they cost."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.tokens import cost, prompt, taken, tokens_to_reserve
from gateway.config import Prices
from gateway.endpoints import Endpoint
from gateway.upstream.dialects.usage import Tokens, measured

COUNTED = {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50}

USAGE: dict[str, tuple[dict[str, Any], Tokens]] = {
    "the textbook": (COUNTED, Tokens(30, 20)),
    "OpenAI": (
        COUNTED
        | {
            "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 12, "accepted_prediction_tokens": 0},
        },
        Tokens(30, 20, cached=16, reasoning=12),
    ),
    "DeepSeek": (
        COUNTED | {"prompt_cache_hit_tokens": 24, "prompt_cache_miss_tokens": 6},
        Tokens(30, 20, cached=24),
    ),
    "DeepSeek, both ways": (
        COUNTED | {"prompt_cache_hit_tokens": 24, "prompt_tokens_details": {"cached_tokens": 24}},
        Tokens(30, 20, cached=24),
    ),
    "DeepSeek, thinking": (
        COUNTED | {"completion_tokens_details": {"reasoning_tokens": 19}},
        Tokens(30, 20, reasoning=19),
    ),
    "Anthropic, as its answers are translated": (
        COUNTED | {"prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 5}},
        Tokens(30, 20, cached=4, written=5),
    ),
    "OpenAI, with a cache that costs": (
        COUNTED | {"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 5}},
        Tokens(30, 20, cached=4, written=5),
    ),
    "Moonshot": (COUNTED | {"cached_tokens": 8}, Tokens(30, 20, cached=8)),
    "Groq": (COUNTED | {"queue_time": 0.1, "prompt_time": 0.2, "total_time": 0.3}, Tokens(30, 20)),
    "Gemini, at first": ({"prompt_tokens": 30, "total_tokens": 30}, Tokens(30)),
    "vLLM": (COUNTED | {"prompt_tokens_details": None}, Tokens(30, 20)),
    "OpenRouter": (
        COUNTED | {"cost": 0.01, "is_byok": False, "cost_details": {"upstream_inference_cost": None}},
        Tokens(30, 20),
    ),
    "nothing": ({}, Tokens()),
    "a total alone": ({"total_tokens": 5}, Tokens()),
    "null": ({"prompt_tokens": None, "completion_tokens": None, "prompt_tokens_details": None}, Tokens()),
    "details that are none": (
        COUNTED | {"prompt_tokens_details": [1], "completion_tokens_details": "many"},
        Tokens(30, 20),
    ),
    "strings": ({"prompt_tokens": "30", "completion_tokens": "20"}, Tokens()),
    "fault_41 floats": ({"prompt_tokens": 30.0, "completion_tokens": 20.0}, Tokens(30, 20)),
    "numbers that no count is": ({"prompt_tokens": float("nan"), "completion_tokens": float("inf")}, Tokens()),
    "fault_41 reasoning apart from the completion": (
        {"prompt_tokens": 10_120, "completion_tokens": 1_499, "total_tokens": 14_428, "reasoning_tokens": 2_809},
        Tokens(10_120, 4_308, reasoning=2_809),
    ),
    "fault_41 reasoning apart, and told among the details": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 18}
        | {"completion_tokens_details": {"reasoning_tokens": 3}},
        Tokens(10, 8, reasoning=3),
    ),
    "fault_41 reasoning apart, and told by the total alone": (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 18},
        Tokens(10, 8, reasoning=3),
    ),
    "fault_41 reasoning within the completion": (
        {"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18}
        | {"completion_tokens_details": {"reasoning_tokens": 3}},
        Tokens(10, 8, reasoning=3),
    ),
    "truths": ({"prompt_tokens": True, "completion_tokens": False}, Tokens()),
    "negative ones": ({"prompt_tokens": -1, "completion_tokens": -5, "cached_tokens": -1}, Tokens()),
    "lists": ({"prompt_tokens": [30], "completion_tokens": {}}, Tokens()),
}


def estimated(body: bytes, said: int) -> Tokens:
    return taken(None, complete=False, prompt=lambda: prompt(body), said=said)


@pytest.mark.parametrize("case", USAGE)
def test_fault_41_what_an_upstream_says(case: str) -> None:
    usage, expected = USAGE[case]
    assert measured(usage) == expected
    assert not measured(usage).estimated


def test_all_of_them() -> None:
    assert Tokens(30, 20, cached=16, reasoning=12).all == 50


# Estimates


def body(*messages: object, **fields: object) -> bytes:
    return json.dumps({"model": "m", "messages": messages, **fields}, ensure_ascii=False).encode()


def user(content: object) -> dict[str, object]:
    return {"role": "user", "content": content}


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}

PROMPTS = {
    "nothing": (body(), 0),
    "four bytes": (body(user("abcd")), 1),
    "five bytes": (body(user("abcde")), 2),
    "Chinese": (body(user("你好世界")), 3),
    "several messages": (body(user("abcd"), user("abcd"), {"role": "assistant", "content": "abcd"}), 3),
    "parts of text": (body(user([{"type": "text", "text": "abcd"}, {"type": "text", "text": "abcd"}])), 2),
    "a picture is not counted by its bytes": (body(user([{"type": "text", "text": "abcd"}, PICTURE])), 1001),
    "two pictures": (body(user([PICTURE, PICTURE])), 2000),
    "content that is null": (body({"role": "assistant", "content": None, "tool_calls": []}), 0),
    "no content": (body({"role": "assistant"}), 0),
    "tools": (body(user("abcd"), tools=[1, 2]), 3),  # `[1, 2]` and `abcd`: ten bytes
    "no JSON: by its size": (b"{" * 8, 2),
    "no object": (b"[]", 1),
    "another form": (body(user(7)), 1),
    "messages that are none": (b'{"messages": "hi"}', 1),
    "nested deeply": (b'{"messages":' + b"[" * 100_000, 25_003),
    "not UTF-8": (b'{"messages": [{"content": "\xff"}]}', 8),
    "a great many objects": (b'{"messages":[' + b"{}," * 20_000 + b"{}]}", 15_005),
}


@pytest.mark.parametrize("case", PROMPTS)
def test_the_prompt_is_guessed_by_its_bytes(case: str) -> None:
    request, tokens = PROMPTS[case]
    assert estimated(request, 0) == Tokens(input=tokens, estimated=True)


@pytest.mark.parametrize(("said", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (4000, 1000)])
def test_the_answer_is_guessed_by_its_bytes(said: int, tokens: int) -> None:
    assert estimated(body(), said) == Tokens(output=tokens, estimated=True)


RESERVATIONS = {
    "no bound": (body(user("abcd")), 257),
    "max_tokens": (body(user("abcd"), max_tokens=10), 11),
    "max_completion_tokens": (body(user("abcd"), max_completion_tokens=20), 21),
    "both: the larger one": (body(user("abcd"), max_tokens=10, max_completion_tokens=20), 21),
    "fault_89 a small bound hides no large one": (
        body(user("abcd"), max_tokens=10**6, max_completion_tokens=1),
        10**6 + 1,
    ),
    "a bound that is null": (body(user("abcd"), max_tokens=None), 257),
    "a bound that is none": (body(user("abcd"), max_tokens=-1), 257),
    "several answers": (body(user("abcd"), max_tokens=10, n=3), 31),
    "several answers without a bound": (body(user("abcd"), n=2), 513),
    "n that is null": (body(user("abcd"), n=None), 257),
    "a bound with a point": (body(user("abcd"), max_tokens=10.0), 11),
    "a bound as a text": (body(user("abcd"), max_tokens=" 1_000 "), 1001),
    "a bound that is true, beside one that is not": (
        body(user("abcd"), max_completion_tokens=True, max_tokens=900),
        901,
    ),
    "answers that are true": (body(user("abcd"), n=True, max_tokens=10**6), 10**6 + 1),
    "half an answer": (body(user("abcd"), n=2.5, max_tokens=10), 31),
    "what the upstream will refuse": (body(user("abcd"), max_tokens="many"), 10**9 + 1),
    "an odd type hides no prompt": (body(user("a" * 4000), {"role": "user", "content": {}}, n="1.5"), 1512),
    "no JSON": (b"{", 257),
}


@pytest.mark.parametrize("case", RESERVATIONS)
def test_what_is_reserved(case: str) -> None:
    """The prompt, and as much of an answer as the request allows."""
    request, tokens = RESERVATIONS[case]
    assert tokens_to_reserve(request) == tokens


def test_what_a_response_reserves() -> None:
    """Its input counts as a chat's messages do."""
    picture = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}
    request = json.dumps({"input": [user([picture])], "max_output_tokens": 10}).encode()
    assert tokens_to_reserve(request, Endpoint.RESPONSES) == prompt(request) + 10
    assert 1000 <= prompt(request) < 1100


def test_a_value_has_no_tokens_of_its_own() -> None:
    request = json.dumps({"input": "x" * 4000, "max_tokens": 7, "n": 3}).encode()
    for endpoint in (Endpoint.EMBEDDINGS, Endpoint.MODERATIONS, Endpoint.RERANK):
        assert tokens_to_reserve(request, endpoint) == prompt(request) == 1002


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": ["a", "b"]}, 2),
        ({"prompt": [[1], [2], [3]], "n": 2}, 6),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": ["a", "b"], "n": 2, "best_of": 5}, 10),
        ({"best_of": 5}, 5),
    ],
)
def test_what_text_completions_reserve(fields: dict[str, Any], answers: int) -> None:
    request = json.dumps({**fields, "max_tokens": 10}).encode()
    assert tokens_to_reserve(request, Endpoint.COMPLETIONS) == prompt(request) + 10 * answers


@pytest.mark.parametrize("fields", [{"n": -5, "max_tokens": 10}, {"n": -5}, {"max_tokens": -(10**9), "n": 3}])
def test_fault_89_no_request_reserves_less_than_its_prompt(fields: dict[str, int]) -> None:
    """A number that makes no sense must give nothing back to the one who sends it."""
    assert tokens_to_reserve(body(user("abcd"), **fields)) >= 1


LONG = "x" * 40_000
PLACES: dict[str, bytes] = {
    "content": body(user(LONG)),
    "a part": body(user([{"type": "text", "text": LONG}])),
    "a part of an unknown type": body(user([{"type": LONG}, {"type": "file", "file": {"file_data": LONG}}])),
    "a picture that is a text": body(user([{"type": "image_url", "image_url": {"url": f"data:text/plain,{LONG}"}}])),
    "beside a picture": body(
        user([{"type": "image_url", "image_url": {"url": "data:image/png;base64,", "alt": LONG}}])
    ),
    "no picture at all": body(user([{"type": "text", "text": "", "image_url": {"url": f"data:image/png,{LONG}"}}])),
    "a name": body({"role": "user", "content": "", "name": LONG}),
    "a role": body({"role": LONG, "content": ""}),
    "reasoning": body({"role": "assistant", "content": "", "reasoning_content": LONG}),
    "arguments": body({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": LONG}}]}),
    "tools": body(tools=[{"type": "function", "function": {"name": "f", "description": LONG}}]),
    "functions": body(functions=[{"name": "f", "parameters": {LONG: {}}}]),
    "response_format": body(response_format={"type": "json_schema", "json_schema": {"schema": {"enum": [LONG]}}}),
    "prediction": body(prediction={"type": "content", "content": LONG}),
    "numbers": body(logit_bias={str(number): 1 for number in range(10_000)}),
    "types of a schema": body(tools=[{"anyOf": [{"type": "x" * 16}] * 1_000}] * 2),
    "nulls of a schema": body(tools=[{"enum": [None] * 9_000}]),
    "messages without a text": body(*[{"role": "x" * 16, "content": ""}] * 1_000),
    "a picture in a schema": body(tools=[{"type": "image_url", "image_url": {"url": f"data:image/{LONG}"}}]),
    "a field of tomorrow": body(context=[[[LONG]]]),
}


@pytest.mark.parametrize("place", PLACES)
def test_fault_89_a_long_text_is_reserved_wherever_it_stands(place: str) -> None:
    assert tokens_to_reserve(PLACES[place]) >= 10_000


def test_fault_89_pictures_are_reserved_whatever_stands_beside_them() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "https://images.example/1.png"}, "text": ""}] * 50
    assert tokens_to_reserve(body(user(parts))) >= 50_000


_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
_leaves = st.recursive(_texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3))
_fields = st.sampled_from(["tools", "functions", "response_format", "prediction", "metadata", "user", "messages"])


def texts_in(value: Any) -> int:
    """Bytes of all texts and names in a JSON value, but for the names that make the form of a message."""
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, list):
        return sum(map(texts_in, value))
    names = [name for name in value if name not in ("role", "content", "type", "text", "messages")]
    return sum(map(texts_in, [*names, *value.values()]))


@given(st.dictionaries(_fields, _leaves), st.lists(_leaves, max_size=3))
def test_fault_89_nothing_that_is_sent_is_reserved_as_less_than_a_quarter_of_its_bytes(
    fields: dict[str, Any], contents: list[Any]
) -> None:
    messages = [{"role": "user", "content": content} for content in contents]
    request = json.dumps({"messages": messages, **fields}).encode()
    assert tokens_to_reserve(request) * 4 >= sum(map(texts_in, contents))
    assert tokens_to_reserve(request) * 4 >= sum(texts_in(value) for value in fields.values())


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_names = st.sampled_from(["messages", "tools", "max_tokens", "max_completion_tokens", "n"])
_requests = st.dictionaries(_names, _json).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50)


@given(_requests, st.integers(0, 10**9))
def test_any_request_is_guessed_at_and_nothing_is_negative(request: bytes, said: int) -> None:
    assert tokens_to_reserve(request) >= 0
    guess = estimated(request, said)
    assert guess.input >= 0
    assert guess.output * 4 >= said


@given(st.dictionaries(st.sampled_from([*COUNTED, "prompt_tokens_details", "cached_tokens"]), _json))
def test_any_usage_is_measured_and_nothing_is_negative(usage: dict[str, Any]) -> None:
    tokens = measured(usage)
    assert min(tokens.input, tokens.output, tokens.cached, tokens.written, tokens.reasoning, *tokens.inputs) >= 0
    assert cost(tokens, Prices(1.0, 1.0)) >= 0


# Money


@pytest.mark.parametrize(
    ("tokens", "prices", "expected"),
    [
        (Tokens(), Prices(1.0, 2.0), 0.0),
        (Tokens(1_000_000, 0), Prices(1.5, 2.0), 1.5),
        (Tokens(0, 1_000_000), Prices(1.5, 2.0), 2.0),
        (Tokens(1_000_000, 1_000_000), Prices(1.5, 2.0), 3.5),
        (Tokens(1_000_000, 0, cached=400_000), Prices(1.5, 2.0, 0.5), 0.9 + 0.2),
        (Tokens(1_000_000, 0, cached=400_000), Prices(1.5, 2.0), 1.5),
        (Tokens(1_000_000, 0, cached=400_000), Prices(1.5, 2.0, 0.0), 0.9),
        (Tokens(100, 0, cached=1_000_000), Prices(1_000_000.0, 1.0, 500_000.0), 50.0),
        (Tokens(1_000_000, 0, written=400_000), Prices(1.5, 2.0, written=3.0), 0.9 + 1.2),
        (Tokens(1_000_000, 0, written=400_000), Prices(1.5, 2.0), 1.5),
        (Tokens(1_000_000, 0, cached=500_000, written=400_000), Prices(1.5, 2.0, 0.5, 3.0), 0.15 + 0.25 + 1.2),
        (Tokens(100, 0, cached=60, written=60), Prices(1.0, 1.0, 0.0, 1_000_000.0), 40.0),
        (Tokens(0, 1_000_000, reasoning=900_000), Prices(1.5, 2.0), 2.0),
        (Tokens(1_000_000, 1_000_000), Prices(0.0, 0.0), 0.0),
        (Tokens(1_000_000, 0, estimated=True), Prices(1.5, 2.0), 1.5),
    ],
)
def test_what_they_cost(tokens: Tokens, prices: Prices, expected: float) -> None:
    """Prices are for a million; what a cache had or got is part of the input, and thoughts are part of the output."""
    assert cost(tokens, prices) == pytest.approx(expected)


def test_fault_38_a_count_that_no_float_holds_breaks_nothing() -> None:
    """An upstream may say so; what it costs then is nobody's to know, but the stream has to end."""
    assert cost(measured({"prompt_tokens": 10**400}), Prices(1.0, 1.0)) >= 0
