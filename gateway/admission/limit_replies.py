"""What the replies of `limit_commands` say: what was charged, what the caller is told, and why a request is refused."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from gateway.admission.budgets import amount
from gateway.admission.limits import Allowance
from gateway.admission.refusals import (
    BudgetState,
    budget_headers,
    limit_headers,
    over_budget,
    rate_limited,
    too_many_streams,
)


class Charge(NamedTuple):
    amount: int
    over: int  # the end of its window, as Redis tells it


def is_limited(allowance: Allowance) -> bool:
    limits = (allowance.requests_per_minute, allowance.tokens_per_minute, allowance.max_streams, allowance.budget)
    return limits != (None, None, None, None)


def amounts_of(allowance: Allowance, tokens: int) -> dict[str, int]:
    """A request above the whole limit is admitted if it is the only one."""
    wanted = {"requests": 1, "tokens": tokens}
    return {kind: min(wanted[kind], limit) for kind, limit in _limits(allowance).items()}


def charges_of(states: list[Any], amounts: Mapping[str, int]) -> dict[str, Charge]:
    return {kind.decode(): Charge(amounts[kind.decode()], over) for kind, _, _, over in states}


def admitted(refused: str, states: list[Any], allowance: Allowance, money: list[int]) -> Mapping[str, str]:
    """The headers of a request that is admitted. Raises the errors of `Limiter.reserve` if it is not.

    `money` is what the reply says of a budget, if there is one.
    """
    limits, headers = _limits(allowance), dict[str, str]()
    for name, count, left, _ in states:
        kind = name.decode()
        if kind == refused:
            raise rate_limited(kind, limits[kind], count, left / 1000, headers)
        headers |= limit_headers(kind, limits[kind], count, left / 1000)
    if allowance.budget is not None and money:
        _, spent, _, left = money
        state = BudgetState(amount(allowance.budget), spent, left / 1000)
        if refused:
            raise over_budget(allowance.budget, state, headers, is_running=refused == "reserved")
        headers |= budget_headers(state)
    if refused:
        raise too_many_streams()
    return headers


def raise_refusal(refused: str, left: int, spent: list[int], allowance: Allowance) -> None:
    """What a check has found. `left` are the milliseconds of the window or period, `spent` is there with a budget."""
    if refused == "streams":
        raise too_many_streams()
    if spent and allowance.budget is not None:
        state = BudgetState(amount(allowance.budget), spent[0], left / 1000)
        raise over_budget(allowance.budget, state, {}, is_running=refused == "reserved")
    limit = _limits(allowance).get(refused)
    if limit is not None:
        raise rate_limited(refused, limit, limit, left / 1000, {})


def _limits(allowance: Allowance) -> dict[str, int]:
    limits = {"requests": allowance.requests_per_minute, "tokens": allowance.tokens_per_minute}
    return {kind: limit for kind, limit in limits.items() if limit is not None}
