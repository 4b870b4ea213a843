"""The commands that count limits in Redis. Each of them is one short script, so that it is done whole or not at all.

Up to three keys of a scope hold everything. They share a hash tag, which puts them on one node of a cluster:

    {prefix}l:{HASH}:counts    a hash: for `requests` and `tokens` the count of the window, and when the window is over
    {prefix}l:{HASH}:places    a sorted set: the places of open streams, by the time when their leases are over
    {prefix}l:{HASH}:day       a hash, for a budget per `day`, `hour` or `month`: `spent`, and when the period is `over`

The time is that of Redis, in milliseconds since the epoch, so the clocks of gateways may differ. A window is named by
its end. Scripts are sent whole: that costs no more than their hashes, which Redis may not know after a restart. Hashes
of scopes keep keys short, and addresses and names out of lists of keys. They are no secrets: who can guess an address
can check the guess.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

from gateway.admission.budgets import amount
from gateway.admission.limits import Allowance, Wish
from gateway.admission.periods import period_ends
from gateway.config import Budget
from gateway.shared.base import Command

# ARGV[1] is the length of a window. A window that counts nothing begins anew with the next request.
_COUNTS = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window = tonumber(ARGV[1])

local function current(kind)
  local stored = redis.call('HMGET', KEYS[1], kind, kind .. ':over')
  local count, over = tonumber(stored[1] or 0), tonumber(stored[2] or 0)
  if count == 0 or over <= now then
    return 0, now + window
  end
  return count, over
end

local function store(kind, count, over)
  redis.call('HSET', KEYS[1], kind, count, kind .. ':over', over)
  redis.call('PEXPIRE', KEYS[1], window)
end
"""

# Of a budget. Its period is the first of three in ARGV, from `first` on, that is not over. Sums are in millionths.
_BUDGET = """
local function spending(first)
  local over
  for n = first, first + 2 do
    over = tonumber(ARGV[n])
    if over > now then
      break
    end
  end
  local stored = redis.call('HMGET', KEYS[3], 'spent', 'over')
  if tonumber(stored[2] or 0) == over then
    return tonumber(stored[1]), over
  end
  return 0, over
end

local function spend(spent, over)
  redis.call('HSET', KEYS[3], 'spent', string.format('%.0f', spent), 'over', string.format('%.0f', over))
  redis.call('PEXPIRE', KEYS[3], math.max(1, over - now))
end
"""

# Replies with what refuses the request, or with an empty text, and with the state of each limit up to that. With a
# budget, the sum that is granted follows, and all that is spent, when the period is over, and how long that is.
_RESERVE = (
    _COUNTS
    + _BUDGET
    + """
local lease, place, most = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local states = {}
for n, kind in ipairs({'requests', 'tokens'}) do
  local limit, amount = tonumber(ARGV[3 + 2 * n]), tonumber(ARGV[4 + 2 * n])
  if limit then
    local count, over = current(kind)
    local fits = count + amount <= limit
    if fits then
      count = count + amount
    end
    table.insert(states, {kind, count, over - now, over})
    if not fits then
      return {kind, states}
    end
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if most and redis.call('ZCARD', KEYS[2]) >= most then
  return {'streams', states}
end
local budget = {}
if ARGV[9] then
  local spent, over = spending(12)
  local granted = math.min(tonumber(ARGV[11]), tonumber(ARGV[9]) - spent)
  if granted < tonumber(ARGV[10]) then
    local why = redis.call('ZCARD', KEYS[2]) > 0 and 'reserved' or 'spent'
    return {why, states, 0, spent, over, over - now}
  end
  spent = spent + granted
  spend(spent, over)
  budget = {granted, spent, over, over - now}
end
redis.call('ZADD', KEYS[2], now + lease, place)
redis.call('PEXPIRE', KEYS[2], lease)
for _, state in ipairs(states) do
  store(state[1], state[2], state[4])
end
return {'', states, unpack(budget)}
"""
)

# Replies with what would refuse the smallest request, or with an empty text, and with the rest of its window. For a
# budget, what is spent follows.
_CHECK = (
    _COUNTS
    + _BUDGET
    + """
for n, kind in ipairs({'requests', 'tokens'}) do
  local limit = tonumber(ARGV[1 + n])
  if limit then
    local count, over = current(kind)
    if count >= limit then
      return {kind, over - now}
    end
  end
end
local most = tonumber(ARGV[4])
if most and redis.call('ZCOUNT', KEYS[2], '(' .. now, '+inf') >= most then
  return {'streams', 0}
end
if ARGV[5] then
  local spent, over = spending(6)
  if spent >= tonumber(ARGV[5]) then
    local running = redis.call('ZCOUNT', KEYS[2], '(' .. now, '+inf') > 0
    return {running and 'reserved' or 'spent', over - now, spent}
  end
end
return {'', 0}
"""
)

# More is charged now. What is given back must belong to the window that still runs.
_CORRECT = (
    _COUNTS
    + _BUDGET
    + """
if ARGV[2] ~= '' then
  redis.call('ZREM', KEYS[2], ARGV[2])
end
for n, kind in ipairs({'requests', 'tokens'}) do
  local more, over = tonumber(ARGV[1 + 2 * n]), tonumber(ARGV[2 + 2 * n])
  local count, running = current(kind)
  if more > 0 then
    store(kind, count + more, running)
  elseif more < 0 and over == running then
    store(kind, math.max(0, count + more), over)
  end
end
if ARGV[7] then
  local more, over = tonumber(ARGV[7]), tonumber(ARGV[8])
  local spent, running = spending(9)
  if more > 0 or over == running then
    spend(math.max(0, spent + more), running)
  end
end
"""
)

# Replies with when the period of the sum is over, or with 0 if the budget has not so much left.
_EXTEND = (
    _COUNTS
    + _BUDGET
    + """
local spent, over = spending(4)
spent = spent + tonumber(ARGV[3])
if spent > tonumber(ARGV[2]) then
  return 0
end
spend(spent, over)
return over
"""
)

_RENEW = """
local time = redis.call('TIME')
local lease = tonumber(ARGV[1])
local over = time[1] * 1000 + math.floor(time[2] / 1000) + lease
for n = 2, #ARGV do
  redis.call('ZADD', KEYS[1], over, ARGV[n])
end
redis.call('PEXPIRE', KEYS[1], lease)
"""


class Keys(NamedTuple):
    """Of one scope. `spent` is empty without a budget."""

    counts: str
    places: str
    spent: str


class Correction(NamedTuple):
    """`more` is negative for what is given back."""

    more: int
    over: int


_NO_CORRECTION = Correction(0, 0)


class LimitCommands:
    """`prefix` begins every key."""

    def __init__(self, prefix: str, *, window_seconds: float, lease_seconds: float) -> None:
        self._prefix = prefix
        self._window = round(window_seconds * 1000)
        self._lease = round(lease_seconds * 1000)

    def keys(self, allowance: Allowance) -> Keys:
        tag = f"{self._prefix}l:{{{blake2b(allowance.scope.encode(), digest_size=16).hexdigest()}}}"
        return Keys(f"{tag}:counts", f"{tag}:places", f"{tag}:{allowance.budget.per}" if allowance.budget else "")

    def reserve(
        self, keys: Keys, place: str, allowance: Allowance, amounts: Mapping[str, int], wish: Wish | None, now: float
    ) -> Command:
        """`now`, in seconds since the epoch, need only be the time of Redis to within the period of a budget."""
        streams = _text(allowance.max_streams)
        requests = (_text(allowance.requests_per_minute), amounts.get("requests", 0))
        tokens = (_text(allowance.tokens_per_minute), amounts.get("tokens", 0))
        fixed = (self._window, self._lease, place, streams, *requests, *tokens)
        if allowance.budget is None or wish is None:
            return ("EVAL", _RESERVE, *_told(keys), *fixed)
        ends = period_ends(allowance.budget.per, now)
        return ("EVAL", _RESERVE, *_told(keys), *fixed, amount(allowance.budget), *wish, *ends)

    def check(self, keys: Keys, allowance: Allowance, now: float) -> Command:
        limits = (allowance.requests_per_minute, allowance.tokens_per_minute, allowance.max_streams)
        budget = allowance.budget
        spent = () if budget is None else (amount(budget), *period_ends(budget.per, now))
        return ("EVAL", _CHECK, *_told(keys), self._window, *map(_text, limits), *spent)

    def extend(self, keys: Keys, budget: Budget, money: int, now: float) -> Command:
        ends = period_ends(budget.per, now)
        return ("EVAL", _EXTEND, *_told(keys), self._window, amount(budget), money, *ends)

    def correct(
        self,
        keys: Keys,
        freed: str,
        corrections: Mapping[str, Correction],
        money: Correction | None = None,
        ends: Iterable[int] = (),
    ) -> Command:
        """Frees the place `freed`, unless it is empty, and corrects the counts.

        `money` corrects what is spent of a budget, and `ends` are then those of its periods.
        """
        if not corrections and money is None:
            return ("ZREM", keys.places, freed)  # the usual end of a request without a limit on tokens
        fields = [field for kind in ("requests", "tokens") for field in corrections.get(kind, _NO_CORRECTION)]
        spent = () if money is None else (*money, *ends)
        return ("EVAL", _CORRECT, *_told(keys), self._window, freed, *fields, *spent)

    def renew(self, keys: Keys, places: Iterable[str]) -> Command:
        return ("EVAL", _RENEW, 1, keys.places, self._lease, *places)


def _told(keys: Keys) -> tuple[int | str, ...]:
    """The keys of a script, behind their number."""
    return (3, *keys) if keys.spent else (2, *keys[:2])


def _text(limit: int | None) -> str:
    return "" if limit is None else str(limit)
