"""Limits, counted in this process's memory. The only place that knows the library `limits`.

Its counters with an expiry are used, which are fixed windows: a window is the minute that begins with a caller's first
request in it. They are what the library has that takes counts back, as settling needs, and whose every step Redis has,
too.

Each caller has a storage of its own, because the library's looks through all that it holds with every count: shared,
a request would cost more the more callers there are.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from limits.aio.storage import MemoryStorage

from gateway.admission.limits import Allowance
from gateway.errors import RateLimited, TooManyStreams

_WINDOW = 60  # seconds
_STREAM_RETRY = 5  # seconds after which one may try again, where it is a stream's end that is waited for


class MemoryLimiter:
    """See Limiter. Its clock is `time.time`, since that is the library's."""

    def __init__(self) -> None:
        self._callers: OrderedDict[str, _Caller] = OrderedDict()  # the one that was charged last is last

    @property
    def streams(self) -> int:
        """How many places are taken now."""
        return sum(caller.streams for caller in self._callers.values())

    async def check(self, allowance: Allowance) -> None:
        caller = self._callers.get(allowance.scope)
        if caller is None:
            return
        for kind, limit in (("requests", allowance.requests_per_minute), ("tokens", allowance.tokens_per_minute)):
            if limit is not None and await caller.counts.get(kind) >= limit:
                raise _limited(kind, limit, limit, await caller.counts.get_expiry(kind), {})
        _check_streams(caller, allowance)

    async def reserve(self, allowance: Allowance, tokens: int) -> "MemoryReservation":
        caller = self._caller(allowance.scope)
        reservation = MemoryReservation(caller)
        try:
            await reservation.count("requests", allowance.requests_per_minute, 1)
            await reservation.count("tokens", allowance.tokens_per_minute, tokens)
            _check_streams(caller, allowance, own=1)
        except BaseException:
            await reservation.take_back()
            raise
        return reservation

    def _caller(self, scope: str) -> "_Caller":
        self._forget(time.time() - _WINDOW)
        caller = self._callers.get(scope)
        if caller is None:
            caller = self._callers[scope] = _Caller()
        caller.last_used = time.time()
        self._callers.move_to_end(scope)
        return caller

    def _forget(self, before: float) -> None:
        """Drops callers whose windows are over. One with open streams is kept, and looked at again a window later."""
        while self._callers:
            scope, caller = next(iter(self._callers.items()))
            if caller.last_used >= before:
                return
            del self._callers[scope]
            if caller.streams:
                caller.last_used = time.time()
                self._callers[scope] = caller


class _Caller:
    """What is counted for one scope."""

    @cached_property
    def counts(self) -> MemoryStorage:
        """Made where there is a limit to count for."""
        return MemoryStorage()

    def __init__(self) -> None:
        self.streams = 0
        self.last_used = 0.0


@dataclass(frozen=True, slots=True)
class _Count:
    amount: int
    over: float  # when its window is, in seconds since the epoch


class MemoryReservation:
    """See Reservation."""

    def __init__(self, caller: _Caller) -> None:
        caller.streams += 1
        self.headers: Mapping[str, str] = {}
        self._caller = caller
        self._released = False
        self._counted: dict[str, _Count] = {}

    async def count(self, kind: str, limit: int | None, amount: int) -> None:
        """Counts `amount` against `limit`. Raises RateLimited, with nothing counted, where that would pass it."""
        if limit is None:
            return
        counts = self._caller.counts
        amount = min(amount, limit)  # one request that is larger than the limit is let in when nothing else is
        count = await counts.incr(kind, _WINDOW, amount)
        over = await counts.get_expiry(kind)
        if count > limit:
            await counts.decr(kind, amount)
            raise _limited(kind, limit, count - amount, over, self.headers)
        self.headers = {**self.headers, **_headers(kind, limit, count, _seconds(over))}
        self._counted[kind] = _Count(amount, over)

    async def settle(self, tokens: int) -> None:
        """What goes beyond the estimate is charged now; what the estimate was too high is given back in its window."""
        self._caller.last_used = time.time()
        reserved = self._counted.pop("tokens", None)
        if reserved is None:
            return
        if tokens > reserved.amount:
            await self._caller.counts.incr("tokens", _WINDOW, tokens - reserved.amount)
        else:
            await self._give_back("tokens", reserved, reserved.amount - tokens)

    async def take_back(self) -> None:
        self.release()
        for kind, counted in self._counted.items():
            await self._give_back(kind, counted, counted.amount)

    async def _give_back(self, kind: str, counted: "_Count", amount: int) -> None:
        if time.time() < counted.over:
            await self._caller.counts.decr(kind, amount)

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._caller.streams -= 1


def _check_streams(caller: _Caller, allowance: Allowance, *, own: int = 0) -> None:
    """Is there a place? `own` is taken already. The rates come first: a request that they refuse takes no place."""
    if allowance.max_streams is not None and caller.streams - own >= allowance.max_streams:
        raise TooManyStreams(headers={"Retry-After": str(_STREAM_RETRY)})


def _limited(kind: str, limit: int, count: int, over: float, others: Mapping[str, str]) -> RateLimited:
    seconds = _seconds(over)
    words = f"This is more than your limit of {limit:,} {kind} a minute. Try again in {seconds} s."
    headers = _headers(kind, limit, count, seconds)
    return RateLimited(words, headers={**others, **headers, "Retry-After": str(seconds)})


def _seconds(over: float) -> int:
    """Until a window is over."""
    return max(1, math.ceil(over - time.time()))


def _headers(kind: str, limit: int, count: int, seconds: int) -> dict[str, str]:
    """By OpenAI's names: https://platform.openai.com/docs/guides/rate-limits"""
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(max(0, limit - count)),
        f"x-ratelimit-reset-{kind}": f"{seconds}s",
    }
