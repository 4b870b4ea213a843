"""Attacker: someone with a ticket, or an address, that is not for what it is used for.

It was sent a link to watch an answer, found one in a history or a log, or kept one for too long. It wants to stop the
answer, to read another one, to ask, or to read on after the ticket has expired.
"""

import asyncio
import logging
from collections.abc import Mapping

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, api_key, bearer, create
from tests.rig.inside import held
from tests.rig.scripted_upstream import ScriptedUpstream, Stall, delta, stream

from .routes import ANSWERS, KEYS, ONE, ROUTES, Names, What, begun, code_of, is_running, send

LASTING = stream(delta("a"), Stall())
EVERY_OWNER = pytest.mark.parametrize("owner", [ONE, ""], ids=["a key's", "nobody's"])


def ways(ticket: str) -> Mapping[str, tuple[str, dict[str, str]]]:
    """All places of a ticket: what is added to the address, and the fields."""
    return {
        "the query": (f"?ticket={ticket}", {}),
        "a bearer": ("", bearer(ticket)),
        "x-api-key": ("", api_key(ticket)),
        "both fields": ("", bearer(ticket) | api_key(ticket)),
        "the query and a bearer": (f"?ticket={ticket}", bearer(ticket)),
    }


async def refused(client: Client, method: str, path: str, **headers: str) -> None:
    async with client.request(method, path, headers=headers) as response:
        assert await code_of(response) == (404, "stream_not_found"), (method, path)


def config(owner: str) -> str:
    return KEYS if owner else ""


@EVERY_OWNER
async def test_one_that_only_reads_stops_nothing(gateway: MakeGateway, upstream: ScriptedUpstream, owner: str) -> None:
    """However it is sent, and whatever is sent with it."""
    upstream.script(ANSWERS)
    client = await gateway(config(owner))
    names = await begun(client, upstream, owner)
    address = f"/streams/{names.stream}"
    for query, headers in ways(names.viewing).values():
        await refused(client, "DELETE", address + query, **headers)
    for more in ("&to_stop=1", "&method=DELETE", f"&ticket2={names.ticket}", "&may_stop=true"):
        await refused(client, "DELETE", f"{address}?ticket={names.viewing}{more}")
    async with client.delete(f"{address}?ticket={names.viewing}&ticket={names.ticket}") as response:
        assert await code_of(response) == (400, "invalid_query")
    assert await is_running(client, names, owner)


async def test_a_viewer_that_leaves_stops_nothing(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Even if nobody else watches, and an answer is cancelled as soon as its owner leaves."""
    upstream.script(LASTING)
    client = await gateway()
    made = await create(client, {"question": "hi", "on_disconnect": "cancel"})
    for _ in range(2):
        async with client.get(made["viewer_url"], headers=EVENTS) as response:
            assert b"data: a" in await response.content.readuntil(b"data: a\n")
    async with client.get(made["url"]) as response:
        assert (await response.json())["state"] == "running"
    assert upstream.left == 0


@pytest.mark.parametrize("query", ["", "?q=hi", "?lastEventId={id}.0", "?last_event_id={id}.0"])
async def test_the_id_in_an_address_is_not_a_second_way_in(
    gateway: MakeGateway, upstream: ScriptedUpstream, query: str
) -> None:
    """Where there are no keys, an answer of /chat opens to its id. One with an address opens to its tickets only.

    Else who may only watch could come in as its owner, and cancel the answer by leaving, and a ticket that has expired
    would still be good for its id.
    """
    upstream.script(LASTING)
    client = await gateway()
    made = await create(client, {"question": "hi", "on_disconnect": "cancel"})
    await upstream.until(requests=1)
    for headers in ({}, bearer(made["viewer_url"].partition("ticket=")[2])):
        event = {} if "vent" in query else {"Last-Event-ID": f"{made['id']}.0"}
        for accept in ("text/event-stream", "text/plain", "application/json"):
            await refused(client, "GET", f"/chat{query.format(id=made['id'])}", Accept=accept, **event, **headers)
            await refused(client, "GET", f"/streams/{made['id']}", Accept=accept, **event)
    async with client.get(made["url"], headers=EVENTS) as response:
        assert await response.content.readuntil(b"data: a\n")
    assert len(upstream.requests) == 1


async def test_its_key_comes_back_at_either_address(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(LASTING)
    client = await gateway(KEYS)
    made = await create(client, **bearer(ONE))
    for path in ("/chat", f"/streams/{made['id']}"):
        headers = {**EVENTS, **bearer(ONE), "Last-Event-ID": f"{made['id']}.0"}
        async with client.get(path, headers=headers) as response:
            assert await response.content.readuntil(b"data: a\n")


def wrong(ticket: str, other: str, name: str) -> Mapping[str, str]:
    """Tickets that are nearly right."""
    return {
        "without its last character": ticket[:-1],
        "without its first character": ticket[1:],
        "its first half": ticket[:11],
        "with one more": f"{ticket}A",
        "with padding": f"{ticket}%3D%3D",
        "twice": ticket * 2,
        "in the other case": ticket.swapcase(),
        "with a NUL": f"{ticket}%00",
        "with a line end": f"{ticket}%0A",
        "in quotes": f'"{ticket}"',
        "with a wildcard": f"{ticket[:-1]}*",
        "only a wildcard": "*",
        "empty": "",
        "null": "null",
        "the id": name,
        "of another stream": other,
        "of both streams": f"{ticket},{other}",
    }


@EVERY_OWNER
async def test_a_wrong_one_opens_nothing(gateway: MakeGateway, upstream: ScriptedUpstream, owner: str) -> None:
    upstream.script(ANSWERS)
    client = await gateway(config(owner))
    names, others = [await begun(client, upstream, owner) for _ in range(2)]
    for case, ticket in wrong(names.ticket, others.ticket, names.stream).items():
        for method in ("GET", "DELETE"):
            async with client.request(method, f"/streams/{names.stream}?ticket={ticket}") as response:
                assert await code_of(response) == (404, "stream_not_found"), case
    for path in (f"/streams/{names.stream}/", f"/streams/{names.stream}%2F", f"/streams/{names.stream.lower()}x"):
        async with client.get(f"{path}?ticket={names.ticket}") as response:
            assert response.status == 404, path
    assert await is_running(client, names, owner)


async def test_it_is_no_key(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """On every other route it is a wrong key, wherever it stands."""
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    names = await begun(client, upstream, ONE)
    for route in ROUTES:
        if route.what in (What.ASKS, What.LISTS, What.READS, What.STOPS) and not route.path.startswith("/streams/"):
            for ticket in (names.ticket, names.viewing):
                for headers in (bearer(ticket), api_key(ticket)):
                    response = await send(client, route, names, **headers)
                    assert response.status == 401, str(route)
    assert len(upstream.requests) == 2
    assert await is_running(client, names, ONE)


async def test_it_opens_no_answer_of_another_surface(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A stream is no response, and a response no stream, though both have ids of the same form."""
    upstream.script(ANSWERS)
    client = await gateway()
    names = await begun(client, upstream)
    swapped = Names(names.response.partition("_")[2], f"resp_{names.stream}", names.ticket, names.viewing)
    for route in ROUTES:
        if route.what in (What.READS, What.STOPS):
            response = await send(client, route, swapped, query=f"ticket={names.ticket}")
            assert response.status == 404, str(route)
    assert await is_running(client, names)


@EVERY_OWNER
async def test_one_that_has_expired_opens_nothing(gateway: MakeGateway, upstream: ScriptedUpstream, owner: str) -> None:
    """Its stream may still be there, and its id is known from the address."""
    upstream.script(LASTING)
    client = await gateway(f"{config(owner)}[timeouts]\ntotal = 60\n[stream]\nkeep_seconds = 40")
    made = await create(client, **(bearer(owner) if owner else {}))
    now = asyncio.get_running_loop().time
    held(client, made["id"]).tickets._now = lambda: now() + 100
    for ticket in (made["ticket"], made["viewer_url"].partition("ticket=")[2]):
        for query, headers in ways(ticket).values():
            for method in ("GET", "DELETE"):
                await refused(client, method, f"/streams/{made['id']}{query}", **headers)
    async with client.get("/chat", headers={**EVENTS, "Last-Event-ID": f"{made['id']}.0"}) as response:
        assert await code_of(response) == (404, "stream_not_found")
    assert upstream.playing == 1


async def test_it_is_in_no_line_of_the_log(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if the address was put together wrongly, so that the ticket has become a part of the path."""
    caplog.set_level(logging.DEBUG)
    upstream.script(LASTING)
    client = await gateway()
    made = await create(client)
    address, ticket = f"/streams/{made['id']}", made["ticket"]
    for path in (
        f"{address}?ticket={ticket}",
        f"{address}%3Fticket={ticket}",
        f"{address}%253fticket%3D{ticket}",
        f"{address}%25253Fticket={ticket}",
        f"{address}&ticket={ticket}",
        f"{address}%26ticket={ticket}",
        f"{address}?a=b?ticket={ticket}",
        f"{address}?ticket%3D{ticket}",
    ):
        async with client.get(path) as response:
            await response.read()
    assert caplog.text.count(f"GET {address} ") == 8
    assert ticket not in caplog.text
