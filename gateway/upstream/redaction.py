"""What must not leave with an upstream's words: keys and addresses.

Two nets. Patterns catch what looks like a key or an address, whoever it belongs to. And what the gateway itself sent to
the upstream, its key, its header values and its host, is known to the letter, and taken out whatever it looks like.

The patterns have bounded runs: an upstream echoes what callers send it, so a message is a stranger's text.
"""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway.config import Upstream, is_loopback
from gateway.errors import GatewayError

_MAX_MESSAGE = 500  # characters of an upstream's words that are passed on; its longest useful ones are about 300
_SHORTEST_SECRET = 4  # characters; taking out shorter ones would garble words and tell nothing that a guess would not

# An upstream's words are passed on only after this. The patterns know ASCII letters alone (`a`): words run on in
# scripts without spaces, where a sentence would look like a key, and a key behind a letter would not begin a word.

_SECRETS = re.compile(
    r"""(?aix)
      \b (?: bearer | basic ) \s+ [\w.~+/=*-]{6,}         # credentials of an Authorization field
    | \b (?: sk | pk | rk | gsk | xai | org | proj ) [-_] [\w*.-]{6,}   # provider keys and account ids
    | \b (?: [\w.-]{0,40} api [-_ ]? key [\w-]* (?: \s provided )? | authorization | token ) ["']? \s* [:=] \s*
      ["']? (?: bearer \s+ | basic \s+ )? \S+             # a field and its value
    | \b [\w*-]{32,} \b                                    # anything long enough to be a key
    """
)
_ADDRESSES = re.compile(
    r"""(?aix)
      \b [a-z][a-z0-9+.-]{0,20} :// \S+                         # URLs
    | (?<![\w.]) \d{1,3} (?: \. \d{1,3} ){3} (?: : \d+ )? (?! \w | \.\d )   # IPv4
    | \[? (?: [0-9a-f]{1,4} : ){3,7} [0-9a-f:]* \]? (?: : \d+ )?      # IPv6, roughly, and with zeros left out
    | \[? (?<![\w:]) (?: [0-9a-f]{1,4} (?: : [0-9a-f]{1,4} )* )? :: [0-9a-f]{1,4} \b [0-9a-f:.]* \]? (?: : \d+ )?
    | (?<![a-z0-9.-]) (?: [a-z0-9-]++ \. )+ (?: internal | local | lan | svc | cluster | corp )\b [\w.:-]*
    | (?<![\w.-]) [a-z] [a-z0-9-]{0,62}+ (?: \. [a-z0-9-]{1,63}+ ){0,8} : \d{4,5} \b    # host:port, not a time of day
    """
)
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def cleaned(words: str) -> str:
    """An upstream's words without what looks like a key or an address, and without control characters."""
    words = words[: 4 * _MAX_MESSAGE]  # so that no pattern works on megabytes; `redacted` cuts the rest
    words = _CONTROLS.sub(" ", words)
    words = _ADDRESSES.sub("[address]", words)
    words = _SECRETS.sub("[redacted]", words)
    return words.encode(errors="replace").decode().strip()


def redacted(words: str, upstream: Upstream) -> str:
    """Cleaned words as they are told: without what the gateway itself sent to this upstream, and then cut.

    In this order, since a cut through the middle of a key would leave its beginning.
    """
    return _without(words, [*_sent(upstream), _host(upstream)])


def redact(error: GatewayError, upstream: Upstream) -> str:
    """Makes the error's words such as are told; returns those for the log: its code, and its note.

    The log tells the host of an upstream that is on this machine: that is no secret of anybody's.
    """
    error.message = redacted(error.message, upstream)
    error.code = redacted(error.code, upstream)
    error.param = error.param and redacted(error.param, upstream)
    if not error.note:
        return error.code
    host = _host(upstream)
    note = _without(error.note, [*_sent(upstream), *([] if is_loopback(host) else [host])])
    return f"{error.code}: {note}"


def _without(words: str, secrets: Sequence[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            words = words.replace(secret, "[redacted]")
    return words if len(words) <= _MAX_MESSAGE else words[:_MAX_MESSAGE] + "…"


def gives_away(text: str, upstream: Upstream) -> bool:
    """Does it hold what the gateway itself sends to this upstream, or its address? `text` may be JSON.

    A host of one label, such as `vllm`, is a word like any other, and counts only where it is a part of an address.
    """
    for sign in ("/", '"', "\\"):
        text = text.replace(f"\\{sign}", sign)
    parts = urlsplit(upstream.base_url)
    host = parts.hostname or ""
    is_word = "." not in host and ":" not in host
    addresses = [f"//{host}", f"{host}:{parts.port}"] if is_word else [host]
    return any(secret in text for secret in _sent(upstream)) or any(address in text.lower() for address in addresses)


def _host(upstream: Upstream) -> str:
    return urlsplit(upstream.base_url).hostname or ""


def _sent(upstream: Upstream) -> Sequence[str]:
    """The key, and the values of header fields."""
    values = [secret.reveal() for secret in (upstream.api_key, *upstream.headers.values()) if secret is not None]
    return [value for value in values if len(value) >= _SHORTEST_SECRET]
