"""Attacker: a client that writes the fields of a proxy itself, or that comes through a proxy nobody configured.

It wants to be served by a gateway without keys that is meant for its own machine, to count as another client, or to
have the gateway take another address for its own.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import MakeGateway
from tests.rig.clients import EVENTS, bearer, exchange
from tests.rig.nginx import nginx_with
from tests.rig.ports import free_port
from tests.rig.scripted_upstream import ScriptedUpstream

from .routes import ANSWERS, GUARDED, KEYS, ONE, Names, Route, What, begun, code_of, is_running, send

FIELDS = {
    "Forwarded": "for=127.0.0.1;host=localhost;proto=http",
    "Via": "1.1 localhost",
    "X-Real-IP": "127.0.0.1",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "localhost",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "80",
    "X-Forwarded-Server": "localhost",
    "x-forwarded-prefix": "/",
    "X-FORWARDED-SSL": "off",
}


@pytest.mark.parametrize("field", FIELDS)
async def test_without_keys_nothing_comes_through_a_proxy(
    gateway: MakeGateway, upstream: ScriptedUpstream, field: str
) -> None:
    """Even if the field says that the client is on this machine: anyone can write that."""
    upstream.script(ANSWERS)
    client = await gateway()
    names = await begun(client, upstream)
    for route in GUARDED:
        response = await send(client, route, names, query=f"ticket={names.ticket}", **{field: FIELDS[field]})
        assert response.status == 403, str(route)
        assert route.path.startswith("/v1/messages") or (await code_of(response))[1] == "proxy_not_allowed"
    assert len(upstream.requests) == 2
    assert await is_running(client, names)


@asynccontextmanager
async def bare_nginx(port: int, folder: Path) -> AsyncIterator[str]:
    """nginx with nothing but a `proxy_pass`, as in the first example of its documents."""
    own = free_port()
    outside = f"pid {folder}/pid; error_log {folder}/error.log crit; worker_processes 1;\nevents {{}}\n"
    place = f"location / {{ proxy_pass http://127.0.0.1:{port}; }}"
    server = f"server {{ listen 127.0.0.1:{own}; access_log off; {place} }}"
    async with nginx_with(f"{outside}http {{ {server} }}\n", folder, own):
        yield f"http://127.0.0.1:{own}"


async def test_without_keys_nothing_comes_through_an_nginx_that_tells_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """It makes `Host` the gateway's own address and adds no field. So a first try behind nginx is no open relay."""
    upstream.script(ANSWERS)
    client = await gateway()
    names = await begun(client, upstream)
    async with bare_nginx(client.port or 0, tmp_path) as address, aiohttp.ClientSession(address) as session:
        for route in GUARDED:
            async with session.request(route.method, route.filled(names), json=route.body) as response:
                assert response.status == 403, str(route)
    assert len(upstream.requests) == 2
    assert await is_running(client, names)


async def test_what_is_for_this_machine_is_not_for_those_behind_such_an_nginx(
    gateway: MakeGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    client = await gateway(KEYS)
    async with bare_nginx(client.port or 0, tmp_path) as address, aiohttp.ClientSession(address) as session:
        async with session.get("/metrics") as response:
            assert response.status == 403
        async with session.get("/readyz") as response:
            assert await response.json() == {"status": "ready"}
        async with session.get("/doctor") as response:
            assert response.status == 401


@pytest.mark.parametrize("connection", ["", "Connection: keep-alive\r\n"])
async def test_a_client_that_speaks_http_1_0_is_none(
    gateway: MakeGateway, upstream: ScriptedUpstream, connection: str
) -> None:
    """`ab` is one. The connection ends with the response anyway, so it does not say so."""
    upstream.script(ANSWERS)
    client = await gateway()
    raw = await exchange(client, f"GET /chat?q=hi HTTP/1.0\r\nHost: localhost\r\n{connection}\r\n".encode(), until=b"]")
    assert raw.startswith(b"HTTP/1.0 200 ")


# Whom the log and the limits take the client for

INVENTED = {
    "Forwarded": "for=203.0.113.7",
    "X-Forwarded-For": "203.0.113.7",
    "X-Real-IP": "203.0.113.7",
    "X-Client-IP": "203.0.113.7",
    "True-Client-IP": "203.0.113.7",
    "CF-Connecting-IP": "203.0.113.7",
    "X-Cluster-Client-IP": "203.0.113.7",
    "X-Envoy-External-Address": "203.0.113.7",
    "X-Original-Forwarded-For": "203.0.113.7",
    "Gateway-Client": "203.0.113.7",  # by which processes of the gateway tell each other, on a socket of their own
}
NO_PROXY = "[server]\ntrusted_proxies = []\n"
NOBODY = Names("", "", "", "")


@pytest.mark.parametrize("field", INVENTED)
async def test_an_invented_address_is_not_believed(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]], field: str
) -> None:
    client = await gateway(KEYS + NO_PROXY)
    for value in (INVENTED[field], f"{INVENTED[field]}, 127.0.0.1", "::1", "", "x" * 500):
        response = await send(client, Route("GET", "/v1/models", What.LISTS), NOBODY, **{field: value})
        assert response.status == 401
    assert {line["client"] for line in lines} == {"127.0.0.1"}


@pytest.mark.parametrize("field", [name for name in INVENTED if name != "X-Forwarded-For"])
async def test_from_a_trusted_proxy_only_one_field_is_read(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]], field: str
) -> None:
    """A proxy that sets this one passes others on as its client wrote them."""
    client = await gateway(KEYS)
    headers = {"X-Forwarded-For": "198.51.100.7", field: INVENTED[field]}
    await send(client, Route("GET", "/v1/models", What.LISTS), NOBODY, **headers)
    assert [line["client"] for line in lines] == ["198.51.100.7"]


LIES = {
    "before the proxy's part": "203.0.113.7, 198.51.100.7",
    "that is this machine": "127.0.0.1, 198.51.100.7",
    "many": "203.0.113.7, " * 500 + "198.51.100.7",
    "with a line of the log": "203.0.113.7%\\n{}, 198.51.100.7",
}


@pytest.mark.parametrize("case", LIES)
async def test_behind_a_trusted_proxy_only_its_own_part_counts(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]], case: str
) -> None:
    client = await gateway(KEYS)
    await send(client, Route("GET", "/v1/models", What.LISTS), NOBODY, **{"X-Forwarded-For": LIES[case]})
    assert [line["client"] for line in lines] == ["198.51.100.7"]


async def test_an_interface_is_no_place_for_a_text(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    """Behind `%`, an address may have the name of an interface, which could be anything."""
    client = await gateway(KEYS)
    for value in ("203.0.113.7%a text of a client", "fe80::1%\xff"):
        await send(client, Route("GET", "/v1/models", What.LISTS), NOBODY, **{"X-Forwarded-For": value})
    assert {line["client"] for line in lines} == {"127.0.0.1"}


async def test_no_field_makes_another_origin_the_gateways_own(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway(KEYS)
    told = {
        "Origin": "https://evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Server": "evil.example",
        "Forwarded": "host=evil.example;proto=https",
        "X-Scheme": "https",
        "Front-End-Https": "on",
    }
    async with client.get("/chat?q=hi", headers={**told, **bearer(ONE)}) as response:
        assert await code_of(response) == (403, "origin_not_allowed")


@pytest.mark.parametrize("field", ["X-Original-URL", "X-Rewrite-URL", "X-Original-URI", "X-Forwarded-Path"])
async def test_no_field_leads_to_another_route(gateway: MakeGateway, upstream: ScriptedUpstream, field: str) -> None:
    """A proxy that lets only /healthz pass is not gone around."""
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    async with client.get("/healthz", headers={field: "/chat?q=hi", **bearer(ONE), **EVENTS}) as response:
        assert await response.json() == {"status": "ok"}
    assert not upstream.requests
