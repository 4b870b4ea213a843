"""Tickets: secrets that open one stream, for reading, or for reading and stopping.

A page gets one instead of a key. Only hashes are kept; a ticket is 128 random bits, so a plain hash is enough.
"""

import hmac
import secrets
from collections.abc import Callable
from hashlib import sha256

_BYTES = 16
_LONGEST = 64  # characters of what is taken for a ticket at all; ours have 22
_MOST = 32  # of one stream: each retry of the request that started it is given two
_FIRST = 2  # that never make room for others: those of the request itself


class Tickets:
    """Those of one stream. They expire together, at a time fixed from the start. `now` is a clock, in seconds."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._now = now
        self._expires_at = now() + seconds
        self._may_stop: dict[bytes, bool] = {}  # by the ticket's hash

    def issue(self, *, may_stop: bool) -> str:
        if len(self._may_stop) >= _MOST:
            del self._may_stop[list(self._may_stop)[_FIRST]]
        ticket = secrets.token_urlsafe(_BYTES)
        self._may_stop[_hash(ticket)] = may_stop
        return ticket

    @property
    def expires_in(self) -> int:
        """Whole seconds."""
        return max(0, int(self._expires_at - self._now()))

    def admit(self, ticket: str, *, to_stop: bool) -> bool:
        """May its bearer read the stream, or stop it? All are compared, whichever it is."""
        if len(ticket) > _LONGEST or self._now() >= self._expires_at:
            return False
        offered = _hash(ticket)
        found = [may_stop for known, may_stop in self._may_stop.items() if hmac.compare_digest(known, offered)]
        return bool(found) and (found[0] or not to_stop)


def _hash(ticket: str) -> bytes:
    return sha256(ticket.encode(errors="surrogateescape")).digest()
