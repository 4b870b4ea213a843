"""Who asks: the API key that a request brings, or nobody in particular. Pure: header fields and date in, caller out.

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
from gateway.errors import TwoKeys, Unauthorized


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

    def identify(self, address: str, authorization: str | None, today: date, *, api_key: str | None = None) -> Caller:
        """Who asks, by the fields `Authorization` and `x-api-key`; `today` is in UTC.

        A gateway without keys does not look at the fields, since SDKs always send one. Without a field the caller is
        anonymous, and admission decides what that may do. Raises Unauthorized for fields that hold no valid key, and
        TwoKeys for two that differ.
        """
        if not self._keys or (authorization is None and api_key is None):
            return Caller(address)
        return Caller(address, self._find(secret_in(authorization, api_key), today))

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


def secret_in(authorization: str | None, api_key: str | None) -> str:
    """The key or ticket that the fields hold; empty where they hold none. Raises TwoKeys.

    OpenAI's SDKs send `Authorization: Bearer`, Anthropic's send `x-api-key`. Another scheme in `Authorization` is no
    key of ours: a proxy in front may ask for Basic credentials there.

    Two different secrets are refused, although one field could win. An SDK that must have an `api_key` is often given
    a made-up one, with the real key in the other field; Anthropic's takes both from the environment. Whichever field
    won, it would be the wrong one for some, and they would see a 401 for a key that is right, or spend on the account
    of somebody else.
    """
    scheme, _, credentials = (authorization or "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    other = (api_key or "").strip()
    if bearer and other and bearer != other:
        raise TwoKeys()
    return bearer or other


def _has_expired(key: Key, today: date) -> bool:
    return key.expires is not None and today > key.expires
