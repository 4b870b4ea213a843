"""Who asks: the API key that a request brings, or nobody in particular. Pure: header field and date in, caller out.

Keys are known by their SHA-256, at rest and in memory. They are long and random, so a plain hash is enough: there is
nothing to guess, and no slow hash to be made to work by a flood of wrong keys. A key is found by its digest, whose bits
a caller cannot choose, and the digests are then compared in constant time.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256

from gateway.config import Key, digest
from gateway.errors import Unauthorized


@dataclass(frozen=True, slots=True)
class Caller:
    """`key` is None for an anonymous one. `address` is the client's, as far as the proxies on the way are trusted."""

    address: str
    key: Key | None = None

    @property
    def name(self) -> str | None:
        return None if self.key is None else self.key.name


class KeyRing:
    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = {digest(key): (digest(key), key) for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def identify(self, address: str, authorization: str | None, today: date) -> Caller:
        """Who asks, by the `Authorization` field; `today` is in UTC.

        A gateway without keys does not look at the field, since SDKs always send one. Raises Unauthorized for a field
        that holds no valid key; without the field the caller is anonymous, and admission decides what that may do.
        """
        if not self._keys or authorization is None:
            return Caller(address)
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized()
        return Caller(address, self._find(secret.strip(), today))

    def holds(self, name: str | None, today: date) -> bool:
        """Is the key of this name still valid? What was given to nobody in particular is valid in any case."""
        return name is None or any(key.name == name and not _has_expired(key, today) for _, key in self._keys.values())

    def _find(self, secret: str, today: date) -> Key:
        offered = sha256(secret.encode(errors="surrogateescape")).hexdigest()
        known, key = self._keys.get(offered, ("", None))
        if key is None or not hmac.compare_digest(known, offered):
            raise Unauthorized()
        if _has_expired(key, today):
            raise Unauthorized()
        return key


def _has_expired(key: Key, today: date) -> bool:
    return key.expires is not None and today > key.expires
