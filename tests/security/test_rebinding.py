"""Attacker: a page whose own name is made to point at the gateway's machine (DNS rebinding).

To the browser, the gateway is then the page's own server. So `Origin` agrees with the address, fields of Fetch Metadata
are missing because the address is no secure one, and the page may read what it gets. Only `Host` still has its name.
"""

from itertools import cycle

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import bearer, exchange
from tests.rig.scripted_upstream import ScriptedUpstream

from .routes import ANSWERS, BY_ID, GUARDED, KEYS, ONE, ROUTES, Route, What, begun, code_of, is_running, send

HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example:{port}",
    "localhost.evil.example",
    "localhost.",
    "localhost.:{port}",
    "127.0.0.1.:{port}",
    "127.1:{port}",
    "127.0.0.2:{port}",
    "0.0.0.0:{port}",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "[::]",
    "[::ffff:127.0.0.1]:{port}",
    "[0:0:0:0:0:0:0:1]",
    "[::1%25lo]",
    "[::1",
    "::1",
    "localhost@evil.example",
    "evil.example@localhost",
    "user:localhost@evil.example:{port}",
    "evil.example#localhost",
    "evil.example/localhost",
    "localhost, evil.example",
    "localhost:{port}:{port}",
    "localhost:http",
    "10.0.0.1",
    "",
]


def head(route: Route, *fields: str, version: str = "1.1") -> bytes:
    path = route.path.replace("{id}", "x").replace("{name}", "client.js") + route.query
    lines = [f"{route.method} {path} HTTP/{version}", *fields, "Connection: close", "", ""]
    return "\r\n".join(lines).encode()


def status(raw: bytes) -> int:
    return int(raw.split(b" ", 2)[1])


@pytest.mark.parametrize("host", HOSTS)
async def test_without_keys_another_name_reaches_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, host: str
) -> None:
    """As a page sends it, with its own origin, and as an image of it does, without one."""
    upstream.script(ANSWERS)
    client = await gateway()
    names = await begun(client, upstream)
    host = host.format(port=client.port)
    origins = cycle([[], [f"Origin: http://{host}"]])
    for route, fields in zip(GUARDED, origins, strict=False):
        assert status(await exchange(client, head(route, f"Host: {host}", *fields))) == 421, str(route)
        if route in BY_ID:
            response = await send(client, route, names, query=f"ticket={names.ticket}", Host=host)
            assert response.status == 421, str(route)
    assert len(upstream.requests) == 2
    assert await is_running(client, names)


@pytest.mark.parametrize("name", ["localhost", "LocalHost", "127.0.0.1", "[::1]"])
@pytest.mark.parametrize("port", ["", ":80", ":{port}"])
async def test_the_names_of_this_machine_reach_it(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str, port: str
) -> None:
    client = await gateway()
    async with client.get(
        "/v1/doctor?events=2&pace_ms=10", headers={"Host": name + port.format(port=client.port)}
    ) as response:
        assert response.status == 200


@pytest.mark.parametrize("first", ["localhost", "evil.example"])
@pytest.mark.parametrize("second", ["localhost", "evil.example"])
async def test_two_hosts_are_none(gateway: MakeGateway, upstream: ScriptedUpstream, first: str, second: str) -> None:
    client = await gateway()
    for route in ROUTES:
        raw = await exchange(client, head(route, f"Host: {first}", f"Host: {second}"))
        assert status(raw) == 400, str(route)
    assert not upstream.requests


@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_no_host_is_not_this_machine(gateway: MakeGateway, upstream: ScriptedUpstream, version: str) -> None:
    client = await gateway()
    for route in GUARDED:
        assert status(await exchange(client, head(route, version=version))) in (400, 421), str(route)
    assert not upstream.requests


TARGETS = [
    "http://evil.example",
    "http://localhost@evil.example",
    "http://user@localhost:8080",
    "http://localhost.:8080",
    "http://localhost:8081",
    "https://localhost:8443",
    "//evil.example",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_the_target_of_the_request_is_held_to_the_same(
    gateway: MakeGateway, upstream: ScriptedUpstream, target: str
) -> None:
    """An absolute target would win over `Host`. Behind `//`, there is a path and no host."""
    client = await gateway()
    for route in GUARDED:
        request = head(route, "Host: localhost:8080").replace(b" /", f" {target}/".encode(), 1)
        assert status(await exchange(client, request)) in (400, 404, 405, 421), str(route)
    assert not upstream.requests


FORWARDED = ["X-Forwarded-Host", "X-Host", "X-Original-Host", "X-HTTP-Host-Override", "Forwarded"]


@pytest.mark.parametrize("field", FORWARDED)
async def test_no_other_field_names_the_host(gateway: MakeGateway, upstream: ScriptedUpstream, field: str) -> None:
    client = await gateway()
    value = "host=localhost" if field == "Forwarded" else "localhost"
    async with client.get("/chat?q=hi", headers={"Host": "evil.example", field: value}) as response:
        assert await code_of(response) == (421, "host_not_served")


# With keys, any name is served: what opens is a key, which a page has not


async def watching(client: Client, **headers: str) -> dict[str, int]:
    """The status of each request about the gateway itself; for its health, 200 only with details."""
    found = {}
    for route in ROUTES:
        if route.what is What.WATCHES or route.path == "/readyz":
            async with client.get(route.path + route.query, headers=headers) as response:
                is_told = route.path != "/readyz" or "running" in await response.json()
                found[route.path] = response.status if is_told else 403
    return found


@pytest.mark.parametrize("more", ["", "[server]\nallow_anonymous = true\n"], ids=["keys", "and anonymous callers"])
async def test_what_is_for_this_machine_is_not_for_a_rebound_page(
    gateway: MakeGateway, upstream: ScriptedUpstream, more: str
) -> None:
    """Its request comes from the browser on this machine, as those of an operator do, but for another name."""
    client = await gateway(KEYS + more)
    own, rebound = await watching(client), await watching(client, Host="evil.example:8080")
    assert set(own.values()) == {200}
    assert {path for path, seen in rebound.items() if seen == 200} <= (
        {"/doctor", "/chat/doctor", "/v1/doctor"} if more else set()
    )
    assert rebound["/metrics"] == rebound["/readyz"] == 403


async def test_with_keys_a_rebound_page_has_none(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    names = await begun(client, upstream, ONE)
    own = {"Host": "evil.example", "Origin": "http://evil.example"}
    for route in GUARDED:
        if route.what is not What.FILES and route.path != "/playground/offer.json":
            response = await send(client, route, names, **own)
            assert response.status in (401, 403, 404), str(route)
    async with client.get("/v1/models", headers={**own, **bearer(ONE)}) as response:
        assert response.status == 200
    assert await is_running(client, names, ONE)


@pytest.mark.parametrize("path", ["/chat?q=hi", "/v1/models", "/playground/offer.json"])
async def test_with_a_public_url_a_rebound_page_is_a_foreign_one(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str
) -> None:
    """Where anonymous callers are served, its POSTs are refused by their `Origin`."""
    client = await gateway('[server]\nallow_anonymous = true\npublic_url = "https://chat.example"\n')
    async with client.get(path, headers={"Host": "evil.example", "Origin": "http://evil.example"}) as response:
        assert await code_of(response) == (403, "origin_not_allowed")
