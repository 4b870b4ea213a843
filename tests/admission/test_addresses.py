"""Where a client is, for limits and for the log: tables of what proxies say, and of who says it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission.addresses import client_address, limit_scope

LOOPBACK = ["127.0.0.1", "::1"]
NETWORKS = ["10.0.0.0/8", "fd00::/8", "192.0.2.1"]

ADDRESSES = {
    # peer, X-Forwarded-For, trusted proxies: address
    "nobody in between": ("198.51.100.7", "", LOOPBACK, "198.51.100.7"),
    "a trusted proxy that says nothing": ("127.0.0.1", "", LOOPBACK, "127.0.0.1"),
    "a trusted proxy": ("127.0.0.1", "198.51.100.7", LOOPBACK, "198.51.100.7"),
    "a trusted proxy over IPv6": ("::1", "2001:db8::7", LOOPBACK, "2001:db8::7"),
    "fault_89 an untrusted peer invents one": ("198.51.100.7", "203.0.113.1", LOOPBACK, "198.51.100.7"),
    "fault_89 an untrusted peer calls itself loopback": ("198.51.100.7", "127.0.0.1", LOOPBACK, "198.51.100.7"),
    "fault_89 a client invents one before the proxy's part": (
        "127.0.0.1",
        "203.0.113.1, 198.51.100.7",
        LOOPBACK,
        "198.51.100.7",
    ),
    "fault_89 a client invents a trusted one": ("127.0.0.1", "127.0.0.1, 198.51.100.7", LOOPBACK, "198.51.100.7"),
    "fault_89 a client invents many": ("127.0.0.1", "203.0.113.1," * 999 + "198.51.100.7", LOOPBACK, "198.51.100.7"),
    "nobody is trusted": ("127.0.0.1", "198.51.100.7", [], "127.0.0.1"),
    "two proxies": ("127.0.0.1", "198.51.100.7, 10.1.2.3", ["127.0.0.1", "10.0.0.0/8"], "198.51.100.7"),
    "two proxies, of which one is trusted": ("127.0.0.1", "198.51.100.7, 10.1.2.3", LOOPBACK, "10.1.2.3"),
    "all of them trusted": ("10.0.0.1", "10.0.0.3, 10.0.0.2", NETWORKS, "10.0.0.3"),
    "a network": ("10.255.255.255", "198.51.100.7", NETWORKS, "198.51.100.7"),
    "beside the network": ("11.0.0.0", "198.51.100.7", NETWORKS, "11.0.0.0"),
    "a network of IPv6": ("fd12::1", "198.51.100.7", NETWORKS, "198.51.100.7"),
    "a single address among networks": ("192.0.2.1", "198.51.100.7", NETWORKS, "198.51.100.7"),
    "beside the single address": ("192.0.2.2", "198.51.100.7", NETWORKS, "192.0.2.2"),
    "a trusted proxy in IPv6's clothes": ("::ffff:127.0.0.1", "198.51.100.7", LOOPBACK, "198.51.100.7"),
    "a link-local peer with its zone": ("fe80::1%eth0", "198.51.100.7", ["fe80::/10"], "198.51.100.7"),
    "a port": ("127.0.0.1", "198.51.100.7:4711", LOOPBACK, "198.51.100.7"),
    "brackets": ("127.0.0.1", "[2001:db8::7]", LOOPBACK, "2001:db8::7"),
    "brackets and a port": ("127.0.0.1", "[2001:db8::7]:4711", LOOPBACK, "2001:db8::7"),
    "a trusted hop with a port": ("127.0.0.1", "198.51.100.7, [::1]:80", LOOPBACK, "198.51.100.7"),
    "no spaces": ("127.0.0.1", "203.0.113.1,198.51.100.7", LOOPBACK, "198.51.100.7"),
    "spaces and tabs": ("127.0.0.1", "  203.0.113.1 ,\t198.51.100.7  ", LOOPBACK, "198.51.100.7"),
    "garbage": ("127.0.0.1", "unknown", LOOPBACK, "127.0.0.1"),
    "garbage before what is known": ("127.0.0.1", "<script>, 198.51.100.7", LOOPBACK, "198.51.100.7"),
    "garbage behind what is known": ("127.0.0.1", "198.51.100.7, _hidden", LOOPBACK, "127.0.0.1"),
    "a name": ("127.0.0.1", "client.example", LOOPBACK, "127.0.0.1"),
    "a number for an address": ("127.0.0.1", "2130706433", LOOPBACK, "127.0.0.1"),
    "an address with leading zeros": ("127.0.0.1", "010.0.0.1", LOOPBACK, "127.0.0.1"),
    "bytes that are not UTF-8": ("127.0.0.1", "\udcff", LOOPBACK, "127.0.0.1"),
    "a comma alone": ("127.0.0.1", ",", LOOPBACK, "127.0.0.1"),
    "an empty part at the end": ("127.0.0.1", "198.51.100.7,", LOOPBACK, "127.0.0.1"),
    "a Unix socket": (None, "", LOOPBACK, ""),
    "fault_89 a Unix socket is no trusted proxy": (None, "198.51.100.7", LOOPBACK, ""),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_the_address_of_a_client(case: str) -> None:
    """The nearest that is not a trusted proxy's: what stands before it is the client's to invent."""
    peer, forwarded_for, trusted, address = ADDRESSES[case]
    assert client_address(peer, forwarded_for, trusted) == address


def test_a_thousand_hops_end_at_a_trusted_proxy() -> None:
    """More than are looked at: the answer is one that a trusted proxy gave, not the invented first one."""
    hops = ["203.0.113.1", *[f"10.0.{n // 256}.{n % 256}" for n in range(1000)]]
    assert client_address("127.0.0.1", ", ".join(hops), [*LOOPBACK, "10.0.0.0/8"]).startswith("10.0.")


@given(
    st.none() | st.text(max_size=20),
    st.text(st.sampled_from("0123456789abcdef.:[]%, \t\udc80\u0661") | st.characters(), max_size=60),
)
def test_any_text_is_an_address_or_none(peer: str | None, forwarded_for: str) -> None:
    """What a stranger makes up ends nowhere but with the peer, or as an address."""
    assert client_address(peer, forwarded_for, LOOPBACK) == (peer or "")
    limit_scope(client_address("127.0.0.1", forwarded_for, LOOPBACK))


SCOPES = {
    "192.0.2.7": "192.0.2.7",
    "::ffff:192.0.2.7": "192.0.2.7",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
    "2001:db8:1:2::": "2001:db8:1:2::/64",
    "2001:DB8:1:2:ffff:ffff:ffff:ffff": "2001:db8:1:2::/64",
    "2001:db8:1:3::": "2001:db8:1:3::/64",
    "::1": "::/64",
    "fe80::1%eth0": "fe80::/64",
    "fe80::2%eth1": "fe80::/64",
    "": "",
    "unknown": "unknown",
}


@pytest.mark.parametrize("address", SCOPES)
def test_what_is_counted_as_one_client(address: str) -> None:
    """An IPv4 address, or the /64 that an IPv6 client can choose its addresses from."""
    assert limit_scope(address) == SCOPES[address]
