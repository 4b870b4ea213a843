"""The address of a client, for limits and for the log: the peer of the connection, or what trusted proxies report."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

_MOST_HOPS = 20  # of an X-Forwarded-For, from its end; real paths are shorter


def client_address(peer: str | None, forwarded_for: str, trusted_proxies: Sequence[str]) -> str:
    """The nearest address that does not belong to a trusted proxy.

    `forwarded_for` is the value of X-Forwarded-For. Each proxy appends the address of its peer. The value is read from
    its end, as far as trusted proxies wrote it, because the client can invent the beginning.
    """
    address = peer or ""
    if not forwarded_for:
        return address
    for said in reversed(forwarded_for.split(",")[-_MOST_HOPS:]):
        said = _without_port(said.strip())
        if not said or not _is_trusted(address, tuple(trusted_proxies)):
            return address
        if "%" in said or _parsed(said) is None:  # behind `%`, the name of an interface may be any text
            return address  # a trusted proxy passed on another text; the proxy is the last known address
        address = said
    return address


@lru_cache(maxsize=4096)  # of those who ask now: parsing takes 3 µs, and each request asks three times
def limit_scope(address: str) -> str:
    """The network that counts as one client: an IPv4 address, or a /64, from which an IPv6 client can choose."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), 64), strict=False))
    return address if parsed is None else str(parsed)


@lru_cache(maxsize=1024)  # every request has the same few proxies
def _is_trusted(address: str, proxies: tuple[str, ...]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in ip_network(proxy) for proxy in proxies)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Maps an IPv4 address in IPv6 form (`::ffff:10.0.0.1`), as a dual-stack socket shows it, to IPv4."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


def _without_port(text: str) -> str:
    """Removes the port of `1.2.3.4:567` and `[::1]:567`, which some proxies write."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
