"""Where a client is, for limits and for the log: its connection's other end, or what trusted proxies say of it."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

_MOST_HOPS = 20  # of an X-Forwarded-For that are looked at, from the near end; more is nobody's real path


def client_address(peer: str | None, forwarded_for: str, trusted_proxies: Sequence[str]) -> str:
    """The nearest address that is not a trusted proxy's.

    `forwarded_for` is the value of X-Forwarded-For, to which each proxy appends whom it was called by. So it is read
    from its end, and only as long as whoever wrote the part is trusted: the beginning is the client's to invent.
    """
    address = peer or ""
    for said in reversed(forwarded_for.split(",")[-_MOST_HOPS:]):
        said = _without_port(said.strip())
        if not said or not _is_trusted(address, tuple(trusted_proxies)):
            return address
        if _parsed(said) is None:
            return address  # what a trusted proxy passed on is no address: the proxy is the last that is known
        address = said
    return address


@lru_cache(maxsize=4096)  # of those who ask now: parsing takes 3 µs, and each request asks three times
def limit_scope(address: str) -> str:
    """What is counted as one client: an IPv4 address, or the /64 that an IPv6 client can choose addresses from."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), 64), strict=False))
    return address if parsed is None else str(parsed)


@lru_cache(maxsize=1024)  # the same few proxies, with every request
def _is_trusted(address: str, proxies: tuple[str, ...]) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in ip_network(proxy) for proxy in proxies)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """IPv4 in IPv6's clothes (`::ffff:10.0.0.1`), as a dual-stack socket shows it, is IPv4."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


def _without_port(text: str) -> str:
    """`1.2.3.4:567` and `[::1]:567`, which some proxies write."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
