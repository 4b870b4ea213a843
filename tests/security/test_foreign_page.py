"""Attacker: a web page of someone else, in the browser of a person who can reach the gateway.

It wants to spend tokens, to read answers, or to stop them. The browser names the page in `Origin` or tells its relation
in `Sec-Fetch-Site`, and the page can choose neither. It does choose the address, the method, the body, and fields that
need no preflight.
"""

from itertools import cycle

import pytest

from tests.conftest import MakeGateway
from tests.rig.clients import bearer, exchange
from tests.rig.scripted_upstream import ScriptedUpstream

from .routes import ANSWERS, GUARDED, KEYS, ONE, ROUTES, What, begun, code_of, is_running, send

# Each is the origin of a page that is not the gateway's own, which is `http://127.0.0.1:PORT` here.
ORIGINS = {
    "of another site": "https://evil.example",
    "of a sandboxed frame, a file, or behind a redirect": "null",
    "empty": "",
    "of another port": "http://127.0.0.1:1",
    "without a port": "http://127.0.0.1",
    "of another scheme": "https://127.0.0.1:{port}",
    "of another name of this machine": "http://localhost:{port}",
    "of its IPv6 address": "http://[::1]:{port}",
    "of its mapped address": "http://[::ffff:127.0.0.1]:{port}",
    "of its address as one number": "http://2130706433:{port}",
    "of its short address": "http://127.1:{port}",
    "with a dot behind the host": "http://127.0.0.1.:{port}",
    "with a longer port": "http://127.0.0.1:{port}0",
    "with a port of other digits": "http://127.0.0.1:0{port}",
    "with the own one as its first label": "http://127.0.0.1.evil.example:{port}",
    "with the own one as a user": "http://127.0.0.1:{port}@evil.example",
    "with a user": "http://evil@127.0.0.1:{port}",
    "with a path": "http://127.0.0.1:{port}/",
    "with a fragment": "http://evil.example#http://127.0.0.1:{port}",
    "with the own one in a query": "http://evil.example?http://127.0.0.1:{port}",
    "in capitals": "HTTP://127.0.0.1:{port}",
    "behind the own one": "http://127.0.0.1:{port} https://evil.example",
    "before the own one": "https://evil.example http://127.0.0.1:{port}",
    "in a list with the own one": "http://127.0.0.1:{port}, https://evil.example",
    "of a file": "file://",
    "of an extension": "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
    "of one that is listed, with more behind it": "https://app.example.evil.example",
    "of one that is listed, with more before it": "https://evil-app.example",
    "of one that is listed, without TLS": "http://app.example",
    "of one that is listed, at another port": "https://app.example:8443",
}
SITES = ["cross-site", "same-site", "", "None", "none, cross-site", "same-origin;x", "same-origin cross-site"]
LISTED = '[server]\ncors_origins = ["https://app.example"]\n'


@pytest.mark.parametrize("case", ORIGINS)
async def test_an_origin_that_is_not_ours_reaches_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """On every route, with every method that a form or a script can send, and whatever ticket the page holds."""
    upstream.script(ANSWERS)
    client = await gateway(LISTED)
    names = await begun(client, upstream)
    origin = ORIGINS[case].format(port=client.port)
    sites = cycle([{}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}])
    for route, more in zip(GUARDED, sites, strict=False):
        response = await send(client, route, names, query=f"ticket={names.ticket}", Origin=origin, **more)
        assert response.status == 403, (str(route), await response.text())
        assert not {name for name in response.headers if name.startswith("Access-Control-")}, str(route)
    assert len(upstream.requests) == 2
    assert await is_running(client, names)


@pytest.mark.parametrize("site", SITES)
async def test_a_request_without_an_origin_from_elsewhere_reaches_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, site: str
) -> None:
    """An image, a link or a form that GETs has no `Origin`, but this field."""
    upstream.script(ANSWERS)
    client = await gateway(LISTED)
    names = await begun(client, upstream)
    for route in GUARDED:
        response = await send(client, route, names, query=f"ticket={names.ticket}", **{"Sec-Fetch-Site": site})
        assert response.status == 403, str(route)
    assert len(upstream.requests) == 2
    assert await is_running(client, names)


async def test_a_key_that_the_page_has_got_changes_nothing(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    names = await begun(client, upstream, ONE)
    for route in GUARDED:
        response = await send(client, route, names, Origin="https://evil.example", **bearer(ONE))
        assert response.status == 403, str(route)
    assert len(upstream.requests) == 2
    assert await is_running(client, names, ONE)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_no_preflight_of_it_is_answered(gateway: MakeGateway, upstream: ScriptedUpstream, method: str) -> None:
    """Also none that asks to reach a private network."""
    client = await gateway(LISTED)
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Private-Network": "true"}
    for route in GUARDED:
        path = route.path.replace("{id}", "x").replace("{name}", "client.js")
        async with client.options(path, headers={"Origin": "https://evil.example", **asked}) as response:
            assert response.status == 403, str(route)
            assert not {name for name in response.headers if name.startswith("Access-Control-")}


async def test_what_is_open_to_every_page_can_be_read_by_none(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The health of the process, and the page itself: without a field for CORS, a browser shows them to no script."""
    client = await gateway(LISTED)
    for route in ROUTES:
        if route not in GUARDED:
            async with client.get(route.path, headers={"Origin": "https://evil.example"}) as response:
                assert response.status == 200, str(route)
                assert not {name for name in response.headers if name.startswith("Access-Control-")}
                assert (
                    route.what is not What.PAGE
                    or "frame-ancestors 'none'" in response.headers.getall("Content-Security-Policy").pop()
                )


@pytest.mark.parametrize("override", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
async def test_no_field_makes_another_method_of_it(
    gateway: MakeGateway, upstream: ScriptedUpstream, override: str
) -> None:
    upstream.script(ANSWERS)
    client = await gateway()
    names = await begun(client, upstream)
    async with client.post(f"/streams/{names.stream}?ticket={names.ticket}", headers={override: "DELETE"}) as response:
        assert await code_of(response) == (405, "method_not_allowed")
    async with client.get("/streams", headers={override: "POST"}) as response:
        assert await code_of(response) == (405, "method_not_allowed")
    assert await is_running(client, names)


SIMPLE_TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]


@pytest.mark.parametrize("content_type", [*SIMPLE_TYPES, "text/plain; application/json", "application/jsonx"])
async def test_a_body_that_a_form_can_send_is_no_question(
    gateway: MakeGateway, upstream: ScriptedUpstream, content_type: str
) -> None:
    """Were both fields missing, as in an old browser, a form would still not do: it has no JSON."""
    upstream.script(ANSWERS)
    client = await gateway()
    names = await begun(client, upstream)
    for route in GUARDED:
        if route.body is not None:
            response = await send(client, route, names, **{"Content-Type": content_type})
            assert response.status == 415, str(route)
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site", "origin"])
async def test_of_two_fields_neither_is_believed(gateway: MakeGateway, upstream: ScriptedUpstream, name: str) -> None:
    client = await gateway()
    ours, foreign = {"Sec-Fetch-Site": ("none", "cross-site")}.get(
        name, (f"http://127.0.0.1:{client.port}", "https://evil.example")
    )
    for route in GUARDED:
        for values in ((ours, foreign), (foreign, ours)):
            path = route.path.replace("{id}", "x").replace("{name}", "client.js") + route.query
            fields = "".join([f"{name}: {value}\r\n" for value in values])
            head = (
                f"{route.method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nConnection: close\r\n{fields}\r\n"
            )
            raw = await exchange(client, head.encode())
            assert raw.startswith(b"HTTP/1.1 400 "), str(route)
    assert not upstream.requests
