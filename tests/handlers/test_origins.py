"""Who may call: the rules as tables of header fields."""

from collections.abc import Callable

import pytest
from multidict import CIMultiDict

from gateway.config import Server
from gateway.errors import (
    GatewayError,
    HostNotServed,
    OriginNotAllowed,
    PrefetchNotAllowed,
    ProxyNotAllowed,
)
from gateway.handlers.origins import allowed_fields, check_anonymous, check_page, check_prefetch, is_direct, own_origin

OWN = "http://localhost:8080"
OTHER = "https://app.example"


def refused(check: Callable[[], None]) -> type[GatewayError] | None:
    try:
        check()
    except GatewayError as error:
        return type(error)
    return None


# Whose page

PAGES = [
    # the fields, whether they may ask
    ({}, True),  # no browser
    ({"Origin": OWN}, True),
    ({"Origin": OTHER}, True),
    ({"Origin": "https://evil.example"}, False),
    ({"Origin": "null"}, False),
    ({"Origin": ""}, False),
    ({"Origin": "http://localhost"}, False),
    ({"Origin": "https://localhost:8080"}, False),
    ({"Origin": f"{OWN}/"}, False),
    ({"Origin": f"{OWN}, {OTHER}"}, False),
    ({"Origin": "http://localhost:80800"}, False),
    ({"Origin": "https://app.example.evil.example"}, False),
    ({"Origin": "https://sub.app.example"}, False),
    ({"Origin": "http://app.example"}, False),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": ""}, False),
    ({"Sec-Fetch-Site": "anything"}, False),
    ({"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, True),
    ({"Origin": OTHER, "Sec-Fetch-Site": "cross-site"}, True),
    ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, False),
    ({"Origin": "https://evil.example", "Sec-Fetch-Site": "none"}, False),
    ({"origin": "https://evil.example"}, False),
    ({"sec-fetch-site": "cross-site"}, False),
]


@pytest.mark.parametrize(("fields", "allowed"), PAGES)
def test_fault_80_whose_page_may_ask(fields: dict[str, str], allowed: bool) -> None:
    """The gateway's own, and those of `cors_origins`, to the letter; an `Origin` outranks what else is said."""
    server = Server(cors_origins=[OTHER])
    result = refused(lambda: check_page(server, CIMultiDict(fields), own_origin=OWN))
    assert result is (None if allowed else OriginNotAllowed)


def test_fault_79_without_cors_origins_there_is_only_the_own_page() -> None:
    fields = CIMultiDict({"Origin": OTHER})
    assert refused(lambda: check_page(Server(), fields, own_origin=OWN)) is OriginNotAllowed
    assert refused(lambda: check_page(Server(), fields, own_origin=OTHER)) is None


@pytest.mark.parametrize(
    ("public_url", "scheme", "host", "origin"),
    [
        (None, "http", "localhost:8080", "http://localhost:8080"),
        (None, "https", "Chat.Example", "https://chat.example"),
        (None, "http", "[::1]:8080", "http://[::1]:8080"),
        ("https://chat.example", "http", "10.0.0.1:8080", "https://chat.example"),
        ("https://chat.example/", "http", "evil.example", "https://chat.example"),
        ("https://Chat.example:8443/gateway/", "http", "localhost", "https://chat.example:8443"),
        ("https://chat.example:443", "http", "localhost", "https://chat.example"),
        ("HTTP://Chat.example:80/", "http", "localhost", "http://chat.example"),
        ("http://chat.example:443", "http", "localhost", "http://chat.example:443"),
        (None, "http", "chat.example:80", "http://chat.example"),
        (None, "http", "chat.example:8080", "http://chat.example:8080"),
        (None, "http", "[::1]:80", "http://[::1]"),
    ],
)
def test_the_own_origin(public_url: str | None, scheme: str, host: str, origin: str) -> None:
    """Where there is a `public_url`, what the request says of itself counts for nothing. The usual port is left out."""
    assert own_origin(Server(public_url=public_url), scheme=scheme, host=host) == origin


# What a page may send

FIXED = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-API-Key, X-Request-ID"
OPENAI_NODE = "authorization,content-type," + ",".join(
    f"x-stainless-{name}"
    for name in ("arch", "lang", "os", "package-version", "retry-count", "runtime", "runtime-version", "timeout")
)
ASKED = [
    # what a page asks for, and what it may send beside the fixed list
    ("", ""),
    ("authorization", ""),
    ("x-api-key,last-event-id", ""),
    (OPENAI_NODE, ", " + ", ".join(OPENAI_NODE.split(",")[2:])),
    ("b,a", ", b, a"),
    ("a, b ,\tc", ", a, b, c"),
    ("a,a,A", ", a, A"),
    ("!#$%&'+-.^_`|~09AZaz", ", !#$%&'+-.^_`|~09AZaz"),
    ("x" * 64, ", " + "x" * 64),
    ("x" * 65, ""),
    (",".join(f"x-{n}" for n in range(64)), ", " + ", ".join(f"x-{n}" for n in range(64))),
    (",".join(f"x-{n}" for n in range(65)), ""),
    (",".join(["x" * 50] * 41), ""),  # too long in all
    ("a,,b", ""),
    ("a b", ""),
    ("a:b", ""),
    ("a;b", ""),
    ('"a"', ""),
    ("a\r\nSet-Cookie: b", ""),
    ("a\0", ""),
    ("é", ""),
    ("\udcff", ""),
    ("a,*", ""),  # which would allow any
    ("*", ""),
]


@pytest.mark.parametrize(("asked", "more"), ASKED)
def test_fault_79_a_page_of_a_listed_origin_may_send_the_fields_it_asks_for(asked: str, more: str) -> None:
    """A list that is malformed or too long is answered as if it were empty, and so is any other page."""
    server = Server(cors_origins=[OTHER])
    assert allowed_fields(server, OTHER, asked) == FIXED + more
    for origin in (None, OWN, "https://evil.example", "null", ""):
        assert allowed_fields(server, origin, asked) == FIXED
    assert allowed_fields(Server(), OTHER, asked) == FIXED


# Which host, and through what

HOSTS = [
    ("localhost", True),
    ("localhost:80", True),
    ("localhost:8080", True),
    ("LOCALHOST:80", True),
    ("127.0.0.1", True),
    ("127.0.0.1:80", True),
    ("[::1]", True),
    ("[::1]:80", True),
    ("", False),
    (":80", False),
    ("::1", False),
    ("[::1", False),
    ("[::2]", False),
    ("127.0.0.2", False),
    ("127.1", False),
    ("2130706433", False),
    ("0.0.0.0", False),
    ("localhost.", False),
    ("localhost:", False),
    ("localhost:80:80", False),
    ("localhost:80@evil.example", False),
    ("localhost@evil.example", False),
    ("localhost.evil.example", False),
    ("localhost.evil.example:80", False),
    ("evil.example", False),
    ("evil.example:80", False),
    ("evil.example#localhost", False),
    (" localhost", False),
    ("localhost, evil.example", False),
    ("10.0.0.1", False),
]


@pytest.mark.parametrize(("host", "served"), HOSTS)
def test_without_keys_only_this_machines_names_are_served(host: str, served: bool) -> None:
    """A page whose name was made to point at 127.0.0.1 still sends its own name."""
    result = refused(lambda: check_anonymous(Server(), CIMultiDict({"Host": host}), is_http_10=False))
    assert result is (None if served else HostNotServed)


def test_a_request_without_a_host_is_not_served() -> None:
    assert refused(lambda: check_anonymous(Server(), CIMultiDict(), is_http_10=False)) is HostNotServed


PROXY_FIELDS = [
    "Forwarded",
    "Via",
    "X-Real-IP",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Anything",
    "x-forwarded-for",
    "X-FORWARDED-FOR",
    "via",
]


@pytest.mark.parametrize("value", ["127.0.0.1", ""])
@pytest.mark.parametrize("field", PROXY_FIELDS)
def test_fault_82_without_keys_nothing_comes_through_a_proxy(field: str, value: str) -> None:
    """A quick start behind nginx is not an open relay, whatever the field holds."""
    fields = CIMultiDict({"Host": "localhost", field: value})
    assert refused(lambda: check_anonymous(Server(), fields, is_http_10=False)) is ProxyNotAllowed


@pytest.mark.parametrize("field", ["Forward", "X-Forwarded", "X-Forwarder", "Viaduct", "X-Request-ID", "Accept"])
def test_other_fields_are_no_proxys(field: str) -> None:
    fields = CIMultiDict({"Host": "localhost", field: "x"})
    assert refused(lambda: check_anonymous(Server(), fields, is_http_10=False)) is None


@pytest.mark.parametrize(
    ("connection", "is_http_10", "served"),
    [
        ("close", True, False),
        ("Close", True, False),
        ("close", False, True),
        ("keep-alive", True, True),
        ("", True, True),
    ],
)
def test_fault_82_an_nginx_that_tells_nothing_is_a_proxy(connection: str, is_http_10: bool, served: bool) -> None:
    """By default it speaks HTTP/1.0, and says that it closes the connection."""
    fields = CIMultiDict({"Host": "localhost", "Connection": connection})
    result = refused(lambda: check_anonymous(Server(), fields, is_http_10=is_http_10))
    assert result is (None if served else ProxyNotAllowed)


@pytest.mark.parametrize(
    ("remote", "fields", "is_http_10", "direct"),
    [
        ("127.0.0.1", {"Host": "localhost:8080"}, False, True),
        ("::1", {"Host": "[::1]:8080"}, False, True),
        ("127.0.0.1", {}, True, True),
        ("127.0.0.1", {"Host": "evil.example"}, False, False),
        ("127.0.0.1", {"Host": ""}, False, False),
        ("127.0.0.1", {"Host": "localhost", "Via": "x"}, False, False),
        ("127.0.0.1", {"Host": "localhost", "Connection": "close"}, True, False),
        ("10.0.0.1", {"Host": "localhost"}, False, False),
        ("", {"Host": "localhost"}, False, False),
        (None, {"Host": "localhost"}, False, False),
    ],
)
def test_what_comes_from_this_machine(
    remote: str | None, fields: dict[str, str], is_http_10: bool, direct: bool
) -> None:
    assert is_direct(remote, CIMultiDict(fields), is_http_10=is_http_10) is direct


@pytest.mark.parametrize(
    "fields", [{}, {"Host": "evil.example"}, {"Host": "h", "X-Forwarded-For": "1.2.3.4", "Via": "x"}]
)
def test_who_says_so_serves_anyone(fields: dict[str, str]) -> None:
    assert refused(lambda: check_anonymous(Server(allow_anonymous=True), CIMultiDict(fields), is_http_10=False)) is None


# A real request


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({}, True),
        ({"Sec-Purpose": ""}, True),
        ({"Sec-Purpose": "prefetch"}, False),
        ({"Sec-Purpose": "prefetch;prerender"}, False),
        ({"sec-purpose": "prefetch;anonymous-client-ip"}, False),
        ({"Purpose": "prefetch"}, False),
        ({"Purpose": "preview"}, True),
    ],
)
def test_a_prefetch_spends_no_tokens(fields: dict[str, str], allowed: bool) -> None:
    result = refused(lambda: check_prefetch(CIMultiDict(fields)))
    assert result is (None if allowed else PrefetchNotAllowed)


@pytest.mark.parametrize(
    ("error", "status"),
    [(OriginNotAllowed, 403), (ProxyNotAllowed, 403), (PrefetchNotAllowed, 403), (HostNotServed, 421)],
)
def test_refusals_are_statuses(error: type[GatewayError], status: int) -> None:
    assert error().status == status
