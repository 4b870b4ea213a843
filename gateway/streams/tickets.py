"""Tickets: secrets that give access to one stream, to read it, or to read and stop it.

A page gets a ticket instead of a key. Only hashes are kept. A ticket has 128 random bits, so a plain hash is enough.
"""

import hmac
import secrets
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256

_BYTES = 16
_LONGEST = 64  # characters of a text that is checked as a ticket; real ones have 22
_MOST = 32  # of one stream: each retry of the request that started it gets two
_MOST_KNOWN = 64  # with those of other processes; Redis has no more of a stream
_FIRST = 2  # that are never removed to make room: those of the first request
_HASH = 32  # bytes of SHA-256
_RECORD = _HASH + 1  # bytes of a ticket that is known: its hash, and whether it may stop the stream


class Tickets:
    """The tickets of one stream. All expire `seconds` after the start. `now` is a clock, in seconds."""

    __slots__ = ("_expires_at", "_known", "_now", "issued")

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        self._now = now
        self._expires_at = now() + seconds
        self._known = b""  # records, one behind the other: nearly every stream has one, and objects take twice the room
        self.issued = 0

    def issue(self, *, may_stop: bool) -> str:
        known = self._known
        if len(known) >= _MOST * _RECORD:
            known = known[: _FIRST * _RECORD] + known[(_FIRST + 1) * _RECORD :]
        self.issued += 1
        ticket = secrets.token_urlsafe(_BYTES)
        self._known = known + _record(_hash(ticket), may_stop)
        return ticket

    @property
    def hashes(self) -> Mapping[bytes, bool]:
        """The hashes of all tickets, and whether each ticket may stop the stream."""
        return dict(self._records())

    def restore(self, hashes: Mapping[bytes, bool]) -> None:
        """Admits the tickets with these hashes, which another process has issued. Of too many, some are left out.

        Ignores what is no SHA-256 hash.
        """
        known = self.hashes
        new = [one for one in hashes.items() if one[0] not in known and len(one[0]) == _HASH]
        room = max(0, _MOST_KNOWN - len(known))
        self._known += b"".join([_record(*one) for one in new[max(0, len(new) - room) :]])

    @property
    def expires_in(self) -> int:
        """Whole seconds until the tickets expire."""
        return max(0, int(self._expires_at - self._now()))

    def admit(self, ticket: str, *, to_stop: bool) -> bool:
        """Whether the ticket allows to read the stream, or to stop it. Every ticket is compared, in constant time."""
        if len(ticket) > _LONGEST or self._now() >= self._expires_at:
            return False
        offered = _hash(ticket)
        found = [may_stop for known, may_stop in self._records() if hmac.compare_digest(known, offered)]
        return bool(found) and (found[0] or not to_stop)

    def _records(self) -> Iterator[tuple[bytes, bool]]:
        """The hash of each ticket, and whether it may stop the stream."""
        for start in range(0, len(self._known), _RECORD):
            record = self._known[start : start + _RECORD]
            yield record[:-1], bool(record[-1])


def _record(ticket_hash: bytes, may_stop: bool) -> bytes:
    return ticket_hash + bytes([may_stop])


def _hash(ticket: str) -> bytes:
    return sha256(ticket.encode(errors="surrogateescape")).digest()
