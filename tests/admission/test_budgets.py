"""What a request may cost, and how long an answer a sum buys: tables, and what holds for any price and any sum."""

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.budgets import Quote, amount, cost, quote
from gateway.admission.periods import period_ends
from gateway.admission.tokens import answers_of
from gateway.config import Budget, Per, Prices
from gateway.endpoints import Endpoint
from gateway.upstream.dialects.usage import Tokens

CHEAP, DEAR = Prices(0.15, 0.6, 0.075), Prices(3.0, 15.0)
DAY = Budget(5.0, Per.DAY)

COSTS = {
    # tokens, prices, millionths
    "nothing": (Tokens(), CHEAP, 0),
    "a million of each": (Tokens(1_000_000, 1_000_000), CHEAP, 750_000),
    "a part of a millionth is a whole one": (Tokens(1), CHEAP, 1),
    "rounded up once for an answer": (Tokens(1, 1), CHEAP, 1),
    "decimals are meant as they are written": (Tokens(10), Prices(0.1, 0.0), 1),
    "cached input": (Tokens(1000, 0, cached=400), CHEAP, 120),
    "cached input without a price of its own": (Tokens(1000, 0, cached=400), DEAR, 3000),
    "more cached than there is": (Tokens(100, 0, cached=400), CHEAP, 8),
    "input written to a cache": (Tokens(1000, 0, written=400), Prices(3.0, 15.0, 0.3, 6.0), 600 * 3 + 400 * 6),
    "written without a price of its own": (Tokens(1000, 0, written=400), DEAR, 3000),
    "read and written": (
        Tokens(1000, 10, cached=500, written=400),
        Prices(3.0, 15.0, 0.3, 6.0),
        300 + 150 + 2400 + 150,
    ),
    "more read and written than there is": (Tokens(100, 0, cached=60, written=60), Prices(3.0, 0.0, 0.5, 6.0), 270),
    "free": (Tokens(10**9, 10**9), Prices(0.0, 0.0), 0),
    "beyond all sums": (Tokens(10**12, 10**12), Prices(1e9, 1e9), 10**15),
}


@pytest.mark.parametrize("case", COSTS)
def test_what_an_answer_costs(case: str) -> None:
    tokens, prices, expected = COSTS[case]
    assert cost(tokens, prices) == expected


@pytest.mark.parametrize(
    ("written", "millionths"), [(5.0, 5_000_000), (0.1, 100_000), (0.000001, 1), (0.0000019, 1), (1e9, 10**15)]
)
def test_a_budget_is_rounded_down(written: float, millionths: int) -> None:
    assert amount(Budget(written, Per.DAY)) == millionths


BOUNDS: dict[str, tuple[dict[str, object], Endpoint, int, int | None]] = {
    # fields, endpoint: answers, the bound of each
    "none": ({}, Endpoint.CHAT, 1, None),
    "null": ({"max_tokens": None}, Endpoint.CHAT, 1, None),
    "the old name": ({"max_tokens": 9}, Endpoint.CHAT, 1, 9),
    "the new name": ({"max_completion_tokens": 9}, Endpoint.CHAT, 1, 9),
    "of two, the smaller": ({"max_tokens": 9, "max_completion_tokens": 8}, Endpoint.CHAT, 1, 8),
    "of a response": ({"max_output_tokens": 9}, Endpoint.RESPONSES, 1, 9),
    "of llama.cpp": ({"max_tokens": 9, "n_predict": 8}, Endpoint.CHAT, 1, 8),
    "zero, to score a prompt": ({"max_tokens": 0}, Endpoint.COMPLETIONS, 1, 0),
    "zero, which is none for some servers": ({"max_tokens": 0}, Endpoint.CHAT, 1, None),
    "zero, of a response": ({"max_output_tokens": 0}, Endpoint.RESPONSES, 1, None),
    "less than one": ({"max_tokens": 0.5}, Endpoint.CHAT, 1, None),
    "false": ({"max_tokens": False}, Endpoint.CHAT, 1, None),
    "a text of zero": ({"max_tokens": "0"}, Endpoint.CHAT, 1, None),
    "zero, beside a bound": ({"max_tokens": 0, "n_predict": 8}, Endpoint.CHAT, 1, 8),
    "minus one, for no bound": ({"max_tokens": -1}, Endpoint.CHAT, 1, None),
    "a text": ({"max_tokens": "10"}, Endpoint.CHAT, 1, 10),
    "a text that is no number": ({"max_tokens": "many"}, Endpoint.CHAT, 1, None),
    "not a number": ({"max_tokens": "nan"}, Endpoint.CHAT, 1, None),
    "a fraction": ({"max_tokens": 9.9}, Endpoint.CHAT, 1, 9),
    "a list": ({"max_tokens": [9]}, Endpoint.CHAT, 1, None),
    "several answers": ({"max_tokens": 9, "n": 3}, Endpoint.CHAT, 3, 9),
    "no number of answers": ({"n": "x"}, Endpoint.CHAT, 1_000_000_000, None),
    "the best of several": ({"max_tokens": 9, "n": 1, "best_of": 4}, Endpoint.COMPLETIONS, 4, 9),
    "several prompts": ({"max_tokens": 9, "n": 2, "prompt": ["a", "b", "c"]}, Endpoint.COMPLETIONS, 6, 9),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_the_bound_that_a_request_has(case: str) -> None:
    fields, endpoint, answers, bound = BOUNDS[case]
    assert answers_of(json.dumps(fields).encode(), endpoint) == (answers, bound)


def quoted(endpoint: Endpoint = Endpoint.CHAT, *prices: Prices, **fields: object) -> Quote:
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 400}], **fields}).encode()
    return quote(body, endpoint, DAY, prices or (CHEAP,))


def test_an_answer_without_a_bound_gets_that_of_the_budget() -> None:
    assert quoted().wanted == 16_384
    for none in (-1, 0, 0.5, False):
        assert quoted(max_tokens=none).wanted == 16_384
    assert quoted(Endpoint.RESPONSES).wanted == 16_384


def test_a_text_completion_without_a_bound_keeps_that_of_openai() -> None:
    assert quoted(Endpoint.COMPLETIONS).wanted == 16


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.MODERATIONS, Endpoint.RERANK])
def test_what_no_model_writes_costs_its_prompt(endpoint: Endpoint) -> None:
    asked = quoted(endpoint, max_tokens=1000)
    assert (asked.answers, asked.prompt) == (0, 100)
    assert asked.wish == (15, 15)


def test_the_dearest_target_counts_for_each_side() -> None:
    """A prompt may be dearer here, and an answer there. What is cached may be dearer than what is not."""
    asked = quoted(Endpoint.CHAT, Prices(3.0, 1.0, 4.0), Prices(1.0, 15.0), max_tokens=100)
    assert asked.prompt == 100
    assert asked.wish == (100 * 4 + 16 * 15, 100 * 4 + 100 * 15)
    assert asked.bound(100 * 4 + 50 * 15) == 50
    assert asked.bound(100 * 4 + 50 * 15 - 1) == 49


def test_a_prompt_may_be_written_to_a_cache_that_costs_more() -> None:
    asked = quoted(Endpoint.CHAT, Prices(3.0, 1.0, 0.3, 6.0), Prices(4.0, 15.0), max_tokens=100)
    assert asked.wish == (100 * 6 + 16 * 15, 100 * 6 + 100 * 15)
    assert asked.bound(100 * 6 + 50 * 15) == 50
    assert asked.cost(10, Prices(3.0, 1.0, 0.3, 6.0)) == 100 * 6 + 10


def test_the_least_is_what_the_request_asks_for_if_that_is_less() -> None:
    assert quoted(Endpoint.CHAT, DEAR, max_tokens=1).wish == (300 + 15, 300 + 15)
    assert quoted(Endpoint.COMPLETIONS, DEAR, max_tokens=0).wish == (300, 300)


def test_a_model_that_costs_nothing_asks_for_the_smallest_sum() -> None:
    """So a budget that is spent is spent for every model."""
    free = quoted(Endpoint.CHAT, Prices(0.0, 0.0))
    assert free.wish == (1, 1)
    assert free.bound(1) == free.wanted


_price = st.one_of(
    st.sampled_from([0.0, 0.1, 0.15, 0.6, 1 / 3, 15.0, 1e-7, 1e9]),
    st.floats(min_value=0, max_value=1000, allow_nan=False),
)


@given(
    prompt=st.integers(0, 10**6),
    answers=st.integers(1, 200),
    wanted=st.integers(0, 10**6),
    prices=st.builds(Prices, _price, _price),
    data=st.data(),
)
def test_what_a_sum_buys_costs_no_more_than_the_sum(
    prompt: int, answers: int, wanted: int, prices: Prices, data: st.DataObject
) -> None:
    """And a token more for each answer would. By exact fractions, whatever the prices."""
    asked = Quote(prompt, answers, wanted, prices)
    least, most = asked.wish
    granted = data.draw(st.integers(least, most))
    bound = asked.bound(granted)
    price_in, price_out = Fraction(repr(prices.input)), Fraction(repr(prices.output))
    assert min(16, wanted) <= bound <= wanted
    assert prompt * price_in + answers * bound * price_out <= granted
    if bound < wanted:
        assert prompt * price_in + answers * (bound + 1) * price_out > granted


ENDS = {
    # period, seconds since the epoch: the ends of the period before, this one and the next
    "an hour": (Per.HOUR, 1_700_000_000, (1_699_999_200, 1_700_002_800, 1_700_006_400)),
    "a day": (Per.DAY, 1_700_000_000, (1_699_920_000, 1_700_006_400, 1_700_092_800)),
    "its first moment": (Per.DAY, 1_699_920_000, (1_699_920_000, 1_700_006_400, 1_700_092_800)),
    "its last moment": (Per.DAY, 1_700_006_399.999, (1_699_920_000, 1_700_006_400, 1_700_092_800)),
    "a month": (Per.MONTH, 1_700_000_000, (1_698_796_800, 1_701_388_800, 1_704_067_200)),
    "the last day of a long month": (Per.MONTH, 1_706_659_200, (1_704_067_200, 1_706_745_600, 1_709_251_200)),
    "the February of a leap year": (Per.MONTH, 1_709_164_800, (1_706_745_600, 1_709_251_200, 1_711_929_600)),
}


@pytest.mark.parametrize("case", ENDS)
def test_when_a_period_is_over(case: str) -> None:
    per, now, ends = ENDS[case]
    assert period_ends(per, now) == tuple([end * 1000 for end in ends])


@given(st.sampled_from(Per), st.integers(0, 4_000_000_000))
def test_a_moment_lies_in_its_period(per: Per, now: int) -> None:
    ends = period_ends(per, now)
    assert ends.before <= now * 1000 < ends.running < ends.after
    following = period_ends(per, ends.running / 1000)
    assert (following.before, following.running) == (ends.running, ends.after)
