"""Tickets: secrets that give access to one stream, to read it, or to read and stop it.

A page gets a ticket instead of a key. Only hashes are kept. A ticket has 128 random bits, so a plain hash is enough.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from hashlib import sha256

_BYTES = 16
_LONGEST = 64  # characters of a text that is checked as a ticket; real ones have 22
_MOST = 32  # of one stream: each retry of the request that started it gets two
_FIRST = 2  # that are never removed to make room: those of the first request


class Tickets:
    """The tickets of one stream. All expire `seconds` after the start. `now` is a clock, in seconds."""

    __slots__ = ("_expires_at", "_known", "_now", "issued")

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._now = now
        self._expires_at = now() + seconds
        self._known: tuple[tuple[bytes, bool], ...] = ()  # the hash of each, and whether it may stop the stream
        self.issued = 0

    def issue(self, *, may_stop: bool) -> str:
        known = self._known
        if len(known) >= _MOST:
            known = known[:_FIRST] + known[_FIRST + 1 :]
        self.issued += 1
        ticket = secrets.token_urlsafe(_BYTES)
        self._known = (*known, (_hash(ticket), may_stop))
        return ticket

    @property
    def hashes(self) -> Mapping[bytes, bool]:
        """The hashes of all tickets, and whether each ticket may stop the stream."""
        return dict(self._known)

    def restore(self, hashes: Mapping[bytes, bool]) -> None:
        """Admits the tickets with these hashes, which another process has issued."""
        self._known = tuple({**dict(self._known), **hashes}.items())

    @property
    def expires_in(self) -> int:
        """Whole seconds until the tickets expire."""
        return max(0, int(self._expires_at - self._now()))

    def admit(self, ticket: str, *, to_stop: bool) -> bool:
        """Whether the ticket allows to read the stream, or to stop it. Every ticket is compared, in constant time."""
        if len(ticket) > _LONGEST or self._now() >= self._expires_at:
            return False
        offered = _hash(ticket)
        found = [may_stop for known, may_stop in self._known if hmac.compare_digest(known, offered)]
        return bool(found) and (found[0] or not to_stop)


def _hash(ticket: str) -> bytes:
    return sha256(ticket.encode(errors="surrogateescape")).digest()
