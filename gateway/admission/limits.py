"""Limits of callers, and the interface of the part that counts them.

A request is charged when its answer starts: one request, an estimate of its tokens, and one open stream. At the end the
estimate is replaced by the real number, and the stream's place is free again. Attaching to an existing stream reserves
nothing. A key with a budget also reserves the most that the answer may cost (see `budgets`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gateway.admission.addresses import limit_scope
from gateway.admission.auth import Caller
from gateway.config import Assistant, Budget


@dataclass(frozen=True, slots=True)
class Allowance:
    """The limits of everything that is counted together in `scope`. None means no limit."""

    scope: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_streams: int | None = None
    budget: Budget | None = None


class Wish(NamedTuple):
    """A sum to reserve of a budget, in millionths: at least the one, and at most the other."""

    least: int
    most: int


class Reservation(Protocol):
    """The charge of a request. Its owner settles it once and releases it, or takes it back."""

    headers: Mapping[str, str]
    """The fields `x-ratelimit-...` of the response."""

    @property
    def granted(self) -> int:
        """The sum that is reserved of the budget. 0 without one."""
        ...

    async def extend(self, money: int) -> bool:
        """Reserves more of the budget, for a further attempt. False, without a charge, if that much is not left."""
        ...

    async def settle(self, tokens: int, cost: int = 0) -> None:
        """Replaces the estimate by the real number of tokens, and the sum that is reserved by the cost."""
        ...

    async def take_back(self) -> None:
        """Removes the charge."""
        ...

    def release(self) -> None:
        """Frees the stream's place. Further calls do nothing."""
        ...


class Limiter(Protocol):
    async def close(self) -> None:
        """Called once, behind the ends of all streams."""
        ...

    async def check(self, allowance: Allowance) -> None:
        """Raises the error that `reserve` would raise for the smallest request. It reserves nothing."""
        ...

    async def reserve(self, allowance: Allowance, tokens: int, wish: Wish | None = None) -> Reservation:
        """Charges a request that may take `tokens`. `wish` is for an allowance with a budget.

        Raises RateLimited, TooManyStreams, BudgetReserved or InsufficientQuota, without a charge.
        """
        ...

    def budgets(self) -> Mapping[str, float]:
        """What is left of each budget that was used here, by its scope, as far as this process knows."""
        ...


def allowance(caller: Caller, name: str | None, assistant: Assistant) -> Allowance:
    """The limits of the caller's key. Anonymous callers have those of the public assistant `name`, by address."""
    if caller.key is not None:
        key = caller.key
        limits = (key.requests_per_minute, key.tokens_per_minute, key.max_streams, key.budget)
        return Allowance(identity(caller), *limits)
    if not assistant.public:
        return Allowance(identity(caller))
    scope = f"assistant:{name}:{limit_scope(caller.address)}"
    return Allowance(scope, assistant.requests_per_minute, None, assistant.max_streams)


def identity(caller: Caller) -> str:
    """A name that tells callers apart: the key's name, or else the address."""
    return f"address:{limit_scope(caller.address)}" if caller.key is None else f"key:{caller.key.name}"
