"""What one answer costs a budget, with all attempts at it: those that run, and those that failed or were outrun.

Each attempt costs at most its prompt and its bound. It counts with that much from its beginning on. The sum is replaced
by the real cost if the upstream has told the usage of a whole answer, or by nothing if the upstream refused. In all
other cases it stays: nobody knows what an upstream charges for an answer that was cut, or whose usage it does not tell.

The first attempt is covered by the reservation. A further one has to be, too, with what the others cost: else more is
reserved, and if the budget has no more, there is no further attempt.
"""

from collections.abc import Hashable

from gateway.admission.budgets import Quote, cost
from gateway.admission.limits import Reservation
from gateway.config import Prices
from gateway.upstream.dialects.usage import Tokens


class NoBill:
    """An answer for which no budget pays."""

    __slots__ = ()

    @property
    def total(self) -> int:
        """In millionths."""
        return 0

    async def covers(self, prices: Prices | None) -> bool:
        """Whether a further attempt at these prices may begin."""
        return True

    def begin(self, attempt: Hashable, prices: Prices | None) -> None:
        """An attempt begins."""

    def end(self, attempt: Hashable, tokens: Tokens, *, is_whole: bool) -> None:
        """An attempt has ended. Its tokens are none if the upstream did nothing for it."""


class Bill(NoBill):
    """`bound` is that of each answer, as it is sent to the upstream."""

    __slots__ = ("_bound", "_costs", "_prices", "_quote", "_reservation")

    def __init__(self, quote: Quote, bound: int, reservation: Reservation) -> None:
        self._quote = quote
        self._bound = bound
        self._reservation = reservation
        self._costs: dict[Hashable, int] = {}
        self._prices: dict[Hashable, Prices] = {}

    @property
    def total(self) -> int:
        return sum(self._costs.values())

    async def covers(self, prices: Prices | None) -> bool:
        missing = self.total + self._most(prices or self._quote.prices) - self._reservation.granted
        return missing <= 0 or await self._reservation.extend(missing)

    def begin(self, attempt: Hashable, prices: Prices | None) -> None:
        self._prices[attempt] = prices or self._quote.prices
        self._costs[attempt] = self._most(self._prices[attempt])

    def end(self, attempt: Hashable, tokens: Tokens, *, is_whole: bool) -> None:
        prices = self._prices[attempt]
        told = cost(tokens, prices)
        is_known = not tokens.estimated and (is_whole or not tokens.all)
        self._costs[attempt] = told if is_known else max(told, self._most(prices))

    def _most(self, prices: Prices) -> int:
        return self._quote.cost(self._bound, prices)


NO_BILL = NoBill()
