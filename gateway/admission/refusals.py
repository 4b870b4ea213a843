"""What callers are told of their limits: fields of the response, and errors. Both limiters use the same words."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from gateway.config import Budget
from gateway.errors import BudgetReserved, InsufficientQuota, RateLimited, TooManyStreams

_MILLION = 1_000_000
_STREAM_RETRY = 5  # seconds for `Retry-After`, since nobody knows when a stream will end


def limit_headers(kind: str, limit: int, count: int, left: float) -> dict[str, str]:
    """The state of a limit whose window is over in `left` seconds.

    The fields have OpenAI's names: https://platform.openai.com/docs/guides/rate-limits
    """
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(max(0, limit - count)),
        f"x-ratelimit-reset-{kind}": f"{_whole(left)}s",
    }


def rate_limited(kind: str, limit: int, count: int, left: float, others: Mapping[str, str]) -> RateLimited:
    """`others` are the fields of the limits that were counted before."""
    seconds = _whole(left)
    words = f"This is more than your limit of {limit:,} {kind} a minute. Try again in {seconds} s."
    headers = limit_headers(kind, limit, count, left)
    return RateLimited(words, headers={**others, **headers, "Retry-After": str(seconds)})


def too_many_streams() -> TooManyStreams:
    return TooManyStreams(headers={"Retry-After": str(_STREAM_RETRY)})


class BudgetState(NamedTuple):
    """Sums in millionths, and the seconds that are left of the period."""

    amount: int
    spent: int
    left: float


def budget_headers(state: BudgetState) -> dict[str, str]:
    """Sums are shown in whole units, with up to six decimals."""
    return {
        "x-ratelimit-limit-budget": _money(state.amount),
        "x-ratelimit-remaining-budget": _money(max(0, state.amount - state.spent)),
        "x-ratelimit-reset-budget": f"{_whole(state.left)}s",
    }


def over_budget(budget: Budget, state: BudgetState, others: Mapping[str, str], *, is_running: bool) -> RateLimited:
    """`is_running`: answers of this key run, and may give back some of what they have reserved."""
    seconds = _STREAM_RETRY if is_running else _whole(state.left)
    headers = {**others, **budget_headers(state), "Retry-After": str(seconds)}
    if is_running:
        return BudgetReserved(headers=headers)
    words = (
        f"This request costs more than the rest of your budget of {_money(state.amount)} a {budget.per}. "
        f"The next {budget.per} begins in {seconds} s."
    )
    return InsufficientQuota(words, headers=headers)


def _money(millionths: int) -> str:
    text = f"{millionths // _MILLION}.{millionths % _MILLION:06d}"
    return text.rstrip("0").rstrip(".")


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
