"""Removes keys and addresses from messages of an upstream.

There are two steps. Patterns remove all texts that look like a key or an address. Then the values that the gateway
itself uses for the upstream (its key, its header values, its host, and its proxy) are removed, because they are known
exactly.

The patterns have bounded repetitions, because an upstream may repeat any text that a caller sent.
"""

import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from gateway.config import Upstream, is_loopback
from gateway.errors import GatewayError

_MAX_MESSAGE = 500  # characters of a message that are passed on; the longest useful messages have about 300
_SHORTEST_SECRET = 4  # characters; to remove shorter ones would damage words, and they can be guessed anyway

# The patterns match only ASCII letters (flag `a`). In scripts without spaces, a sentence would otherwise look like a
# key, and a key after a letter would not begin at a word boundary.

_SECRETS = re.compile(
    r"""(?aix)
      \b (?: bearer | basic ) \s+ [\w.~+/=*-]{6,}         # credentials of an Authorization field
    | \b (?: sk | pk | rk | gsk | xai | org | proj ) [-_] [\w*.-]{6,}   # provider keys and account ids
    | \b [\w.-]{0,40} (?P<field> (?: api [-_ ]? key [\w-]* (?: \s provided )? | (?<!\w) (?: authorization | token ) )
      ["']? \s* [:=] \s* ["']? ) (?: bearer \s+ | basic \s+ )? \S+             # a field and its value
    | \b [\w*-]{32,} \b                                    # any word that is long enough to be a key
    """
)
_ADDRESSES = re.compile(
    r"""(?aix)
      \b [a-z][a-z0-9+.-]{0,20} :// \S+                         # URLs
    | (?<![\w.]) \d{1,3} (?: \. \d{1,3} ){3} (?: : \d+ )? (?! \w | \.\d )   # IPv4
    | \[? (?: [0-9a-f]{1,4} : ){3,7} [0-9a-f:]* \]? (?: : \d+ )?      # IPv6, roughly; the next has omitted zeros
    | \[? (?<![\w:]) (?: [0-9a-f]{1,4} (?: : [0-9a-f]{1,4} )* )? :: [0-9a-f]{1,4} \b [0-9a-f:.]* \]? (?: : \d+ )?
    | (?<![a-z0-9.-]) (?: [a-z0-9-]++ \. )+ (?: internal | local | lan | svc | cluster | corp )\b [\w.:-]*
    | (?<![\w.-]) [a-z] [a-z0-9-]{0,62}+ (?: \. [a-z0-9-]{1,63}+ ){0,8} : \d{4,5} \b    # host:port, not a time of day
    """
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def cleaned(words: str) -> str:
    """A message of an upstream without control characters, and without texts that look like a key or an address."""
    words = words[: 4 * _MAX_MESSAGE]  # so that no pattern runs over megabytes; `redacted` cuts it to the final length
    words = _CONTROLS.sub(" ", words)
    words = _ADDRESSES.sub("[address]", words)
    words = _SECRETS.sub(lambda found: f"{found['field'] or ''}[redacted]", words)
    return words.encode(errors="replace").decode().strip()


def redacted(words: str, upstream: Upstream) -> str:
    """Cleaned words for a caller: without the values that the gateway sent to this upstream, and then cut.

    The cut comes last, because a cut inside a key would leave the beginning of the key.
    """
    return _without(words, [*_sent(upstream), *_hosts(upstream)])


def redact(error: GatewayError, upstream: Upstream) -> str:
    """Redacts the error's fields for the caller. Returns the text for the log: its code and its note.

    The log may name the host of an upstream on this machine, because that is not a secret.
    """
    error.message = redacted(error.message, upstream)
    error.code = redacted(error.code, upstream)
    error.param = error.param and redacted(error.param, upstream)
    if not error.note:
        return error.code
    note = _without(error.note, [*_sent(upstream), *[host for host in _hosts(upstream) if not is_loopback(host)]])
    return f"{error.code}: {note}"


def _without(words: str, secrets: Sequence[str]) -> str:
    """In any case of letters, except for what may be an ordinary word: a server at `ollama` may call itself Ollama."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            flags = 0 if secret.isalpha() else re.IGNORECASE
            words = re.sub(re.escape(secret), "[redacted]", words, flags=flags)
    return words if len(words) <= _MAX_MESSAGE else words[:_MAX_MESSAGE] + "…"


def gives_away(text: str, upstream: Upstream) -> bool:
    """Whether the text contains a value that the gateway sends to this upstream, or its address. It may be JSON.

    A host of one label, such as `vllm`, may be an ordinary word. It counts only as a part of an address.
    """
    for sign in ("/", '"', "\\"):
        text = text.replace(f"\\{sign}", sign)
    parts = urlsplit(upstream.base_url)
    host = parts.hostname or ""
    is_word = "." not in host and ":" not in host
    addresses = [f"//{host}", f"{host}:{parts.port}"] if is_word else [host]
    return any(secret in text for secret in _sent(upstream)) or any(address in text.lower() for address in addresses)


def _hosts(upstream: Upstream) -> Sequence[str]:
    """Those of the upstream and of its proxy."""
    return [urlsplit(url).hostname or "" for url in (upstream.base_url, upstream.proxy) if url is not None]


def _sent(upstream: Upstream) -> Sequence[str]:
    """The key, the values of header fields, and the password for the proxy, without very short ones."""
    values = [secret.reveal() for secret in (upstream.api_key, *upstream.headers.values()) if secret is not None]
    values.append(unquote(urlsplit(upstream.proxy or "").password or ""))
    return [value for value in values if len(value) >= _SHORTEST_SECRET]
