"""The commands that count limits in Redis. Each of them is one short script, so that it is done whole or not at all.

Two keys of a scope hold everything. They share a hash tag, which puts them on one node of a cluster:

    {prefix}l:{HASH}:counts    a hash: for `requests` and `tokens` the count of the window, and when the window is over
    {prefix}l:{HASH}:places    a sorted set: the places of open streams, by the time when their leases are over

The time is that of Redis, in milliseconds since the epoch, so the clocks of gateways may differ. A window is named by
its end. Scripts are sent whole: that costs no more than their hashes, which Redis may not know after a restart. Hashes
of scopes keep keys short, and addresses and names out of lists of keys. They are no secrets: who can guess an address
can check the guess.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import NamedTuple

from gateway.admission.limits import Allowance
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

# Replies with what refuses the request, or with an empty text, and with the state of each limit up to that.
_RESERVE = (
    _COUNTS
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
redis.call('ZADD', KEYS[2], now + lease, place)
redis.call('PEXPIRE', KEYS[2], lease)
for _, state in ipairs(states) do
  store(state[1], state[2], state[4])
end
return {'', states}
"""
)

# Replies with what would refuse the smallest request, or with an empty text, and with the rest of its window.
_CHECK = (
    _COUNTS
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
return {'', 0}
"""
)

# More is charged now. What is given back must belong to the window that still runs.
_CORRECT = (
    _COUNTS
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
    """Of one scope."""

    counts: str
    places: str


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

    def keys(self, scope: str) -> Keys:
        tag = f"{self._prefix}l:{{{blake2b(scope.encode(), digest_size=16).hexdigest()}}}"
        return Keys(f"{tag}:counts", f"{tag}:places")

    def reserve(self, keys: Keys, place: str, allowance: Allowance, amounts: Mapping[str, int]) -> Command:
        streams = _text(allowance.max_streams)
        requests = (_text(allowance.requests_per_minute), amounts.get("requests", 0))
        tokens = (_text(allowance.tokens_per_minute), amounts.get("tokens", 0))
        return ("EVAL", _RESERVE, 2, *keys, self._window, self._lease, place, streams, *requests, *tokens)

    def check(self, keys: Keys, allowance: Allowance) -> Command:
        limits = (allowance.requests_per_minute, allowance.tokens_per_minute, allowance.max_streams)
        return ("EVAL", _CHECK, 2, *keys, self._window, *map(_text, limits))

    def correct(self, keys: Keys, freed: str, corrections: Mapping[str, Correction]) -> Command:
        """Frees the place `freed`, unless it is empty, and corrects the counts."""
        if not corrections:
            return ("ZREM", keys.places, freed)  # the usual end of a request without a limit on tokens
        fields = [field for kind in ("requests", "tokens") for field in corrections.get(kind, _NO_CORRECTION)]
        return ("EVAL", _CORRECT, 2, *keys, self._window, freed, *fields)

    def renew(self, keys: Keys, places: Iterable[str]) -> Command:
        return ("EVAL", _RENEW, 1, keys.places, self._lease, *places)


def _text(limit: int | None) -> str:
    return "" if limit is None else str(limit)
