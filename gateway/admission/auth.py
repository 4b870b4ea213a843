"""Identifies the caller by the API key of a request. Pure: header fields and a date in, a caller out.

Keys are stored as their SHA-256, on disk and in memory. They are long and random, so they cannot be guessed, and a
plain hash is enough. A slow hash would let a flood of wrong keys load the process. A key is looked up by its digest,
whose bits a caller cannot choose, and the digests are then compared in constant time.
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
    """`key` is None for an anonymous caller. `address` is the client's, as reported by trusted proxies."""

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
        """The caller by the fields `Authorization` and `x-api-key`. `today` is in UTC.

        A gateway without keys does not look at the fields, since SDKs always send one. Who sends no key is anonymous,
        and admission decides what it may do. Raises Unauthorized for a key that is not valid, and TwoKeys for two
        different keys.
        """
        if not self._keys or (api_key is None and (authorization is None or _is_for_others(authorization))):
            return Caller(address)
        return Caller(address, self._find(secret_in(authorization, api_key), today))

    def holds(self, name: str | None, today: date) -> bool:
        """Whether the key of this name is still valid. None, for an anonymous caller, is always valid."""
        return name is None or any(key.name == name and not _has_expired(key, today) for _, key in self._keys.values())

    def _find(self, secret: str, today: date) -> Key:
        if not secret:
            raise Unauthorized()
        offered = sha256(secret.encode(errors="surrogateescape")).hexdigest()
        known, key = self._keys.get(offered, ("", None))
        if key is None or not hmac.compare_digest(known, offered):
            raise Unauthorized()
        if _has_expired(key, today):
            raise Unauthorized()
        return key


def secret_in(authorization: str | None, api_key: str | None) -> str:
    """The key or ticket in the fields, or an empty text. Raises TwoKeys.

    OpenAI's SDKs send `Authorization: Bearer`, and Anthropic's send `x-api-key`. Other schemes of `Authorization` are
    ignored: see `_is_for_others`.

    Two different secrets are refused, and neither field wins. An SDK that requires an `api_key` often gets a made-up
    one, with the real key in the other field. Anthropic's SDK takes both from the environment. With a fixed order, some
    callers would get a 401 for a valid key, or spend tokens on another account.
    """
    scheme, _, credentials = (authorization or "").partition(" ")
    bearer = credentials.strip() if scheme.lower() == "bearer" else ""
    other = (api_key or "").strip()
    if bearer and other and bearer != other:
        raise TwoKeys()
    return bearer or other


def _is_for_others(authorization: str) -> bool:
    """Whether the field has a scheme that is not the gateway's: a proxy in front may ask for Basic credentials there.

    A single word is no scheme with credentials, and most likely a key whose `Bearer` was forgotten.
    """
    scheme, _, credentials = authorization.partition(" ")
    return scheme.lower() not in ("", "bearer") and bool(credentials.strip())


def _has_expired(key: Key, today: date) -> bool:
    return key.expires is not None and today > key.expires
