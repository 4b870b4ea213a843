"""What a request may cost, and how long an answer a sum of money buys. Pure.

Money is counted in whole millionths of the currency. Prices are taken as the decimal numbers that the configuration
has. Costs are rounded up, and budgets and lengths of answers down, so no rounding favours the spender.

The targets of a model may have different prices, and any of them may be asked. A request is reserved, and its answer
bounded, by the highest price of its prompt and the highest price of its answer.
"""

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor

import msgspec

from gateway.admission.limits import Wish
from gateway.admission.tokens import answers_of, prompt
from gateway.config import Budget, Prices
from gateway.endpoints import Endpoint
from gateway.upstream.dialects.usage import Tokens

MILLION = 1_000_000
_MOST = 10**15  # millionths: the largest budget; Redis's scripts count exactly up to 2**53, which is nine times as much
_LEAST_ANSWER = 16  # tokens: a shorter answer helps nobody, unless it was asked for; OpenAI's Responses API agrees
_LEGACY_ANSWER = 16  # tokens: the default of `max_tokens` of OpenAI's `/v1/completions`
_PRICES = 256  # that are remembered as fractions; a configuration has some dozens


class Quote(msgspec.Struct, frozen=True):
    """A request as far as its cost is concerned. `wanted` is the bound that each of its `answers` shall have."""

    prompt: int  # tokens, as an estimate
    answers: int  # 0 if no model writes any
    wanted: int  # tokens
    prices: Prices  # the highest ones of all targets

    @property
    def wish(self) -> Wish:
        """What to reserve: for the shortest answers that are of use, up to the longest ones that are wanted."""
        least = self.cost(min(_LEAST_ANSWER, self.wanted), self.prices)
        return Wish(max(1, least), max(1, self.cost(self.wanted, self.prices)))

    def bound(self, granted: int) -> int:
        """Tokens of each answer that the sum buys beside the prompt."""
        of_one_more = self.answers * _exact(self.prices.output)
        if not of_one_more:
            return self.wanted
        return min(self.wanted, max(0, floor((granted - self.prompt * _exact(self.prices.input)) / of_one_more)))

    def cost(self, bound: int, prices: Prices) -> int:
        """The most that one attempt costs whose answers have this bound."""
        dearest = _exact(max(prices.inputs))  # nobody knows before what the upstream has in a cache, or writes to it
        return _whole(self.prompt * dearest + bound * self.answers * _exact(prices.output))


def quote(body: bytes, endpoint: Endpoint, budget: Budget, prices: Iterable[Prices | None]) -> Quote:
    """`prices` are those of the targets. The configuration was checked: each of them has some."""
    highest = _highest([one for one in prices if one is not None])
    if not endpoint.is_written:
        return Quote(prompt(body), 0, 0, highest)
    answers, bound = answers_of(body, endpoint)
    if bound is None:
        bound = _LEGACY_ANSWER if endpoint is Endpoint.COMPLETIONS else budget.max_tokens
    return Quote(prompt(body), answers, bound, highest)


def amount(budget: Budget) -> int:
    return floor(_exact(budget.amount) * MILLION)


def cost(tokens: Tokens, prices: Prices) -> int:
    parts = zip(tokens.inputs, prices.inputs, strict=True)
    money = sum([count * _exact(price) for count, price in parts])
    return _whole(money + tokens.output * _exact(prices.output))


def _highest(prices: list[Prices]) -> Prices:
    return Prices(max([max(one.inputs) for one in prices]), max([one.output for one in prices]))


def _whole(money: Fraction) -> int:
    return min(ceil(money), _MOST)


@lru_cache(maxsize=_PRICES)
def _exact(number: float) -> Fraction:
    """The number that the configuration has: 0.15 is 3/20, and not the binary fraction beside it."""
    return Fraction(repr(float(number)))
