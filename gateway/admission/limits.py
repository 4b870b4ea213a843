"""How much a caller may ask: which limits hold for whom, and the port behind which they are counted.

A request is charged when its answer begins to be made: one request, an estimate of its tokens, and one stream that is
open. At the end, the estimate gives way to what it really was, and the stream's place is free again. Attaching to a
stream that is there reserves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.admission.addresses import limit_scope
from gateway.admission.auth import Caller
from gateway.config import Assistant


@dataclass(frozen=True, slots=True)
class Allowance:
    """What holds for everything that is counted together in `scope`. None: no limit."""

    scope: str
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_streams: int | None = None


class Reservation(Protocol):
    """What a request was charged. Whoever holds it settles it once and releases it, or takes it back."""

    headers: Mapping[str, str]
    """What the response says of the limits: `x-ratelimit-...`."""

    async def settle(self, tokens: int) -> None:
        """Puts what it really took in the place of the estimate."""
        ...

    async def take_back(self) -> None:
        """Makes it as if nothing had been charged."""
        ...

    def release(self) -> None:
        """Frees the stream's place. It may be called again, and then does nothing."""
        ...


class Limiter(Protocol):
    async def check(self, allowance: Allowance) -> None:
        """Raises what `reserve` would raise for the smallest request, and reserves nothing."""
        ...

    async def reserve(self, allowance: Allowance, tokens: int) -> Reservation:
        """Charges a request that may take `tokens`. Raises RateLimited or TooManyStreams, and then reserves nothing."""
        ...


def allowance(caller: Caller, name: str | None, assistant: Assistant) -> Allowance:
    """A key's own limits; for anonymous callers, those of the public assistant `name`, by address."""
    if caller.key is not None:
        key = caller.key
        return Allowance(identity(caller), key.requests_per_minute, key.tokens_per_minute, key.max_streams)
    if not assistant.public:
        return Allowance(identity(caller))
    scope = f"assistant:{name}:{limit_scope(caller.address)}"
    return Allowance(scope, assistant.requests_per_minute, None, assistant.max_streams)


def identity(caller: Caller) -> str:
    """What tells one caller from another: its key, or else its address."""
    return f"address:{limit_scope(caller.address)}" if caller.key is None else f"key:{caller.key.name}"
