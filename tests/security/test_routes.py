"""The table of routes is that of the app, and each route answers those for whom it is."""

import pytest

from tests.conftest import MakeGateway
from tests.rig.clients import bearer
from tests.rig.scripted_upstream import ScriptedUpstream

from .routes import ANSWERS, BY_ID, KEYS, ONE, ROUTES, Names, What, begun, of_the_app, send

OPEN = (What.HEALTH, What.PAGE, What.FILES)


def test_every_route_has_a_rule() -> None:
    """A new one gets its place in `routes.py`, and with it all attacks of this folder."""
    table = [(route.method, route.path) for route in ROUTES]
    assert len(set(table)) == len(table)
    assert set(table) == set(of_the_app())


async def test_every_route_answers_the_one_whom_it_is_for(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """So that a refusal in the other tests comes from what they change, and not from a request that is wrong anyway."""
    upstream.script(ANSWERS)
    client = await gateway()
    for route in ROUTES:
        names = await begun(client, upstream) if route in BY_ID else Names("", "", "", "")
        query = f"ticket={names.ticket}" if route.path == "/streams/{id}" else ""
        response = await send(client, route, names, query=query)
        assert response.status < 300, (str(route), await response.text())


@pytest.mark.parametrize("headers", [{}, bearer("test-key-of-nobody-0123456789")], ids=["no key", "a wrong key"])
async def test_with_keys_every_other_route_needs_one(
    gateway: MakeGateway, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    """Those that watch the gateway are open to its own machine, so this request comes through a proxy."""
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    names = await begun(client, upstream, ONE)
    before = len(upstream.requests)
    statuses = {}
    for route in ROUTES:
        if route.what not in OPEN:
            response = await send(client, route, names, **{"Via": "1.1 proxy", **headers})
            statuses[str(route)] = response.status
    expected = dict.fromkeys(statuses, 401)
    expected |= {"GET /metrics": 403, "GET /streams/{id}": 404, "DELETE /streams/{id}": 404}
    if not headers:
        expected["GET /playground/offer.json"] = 200  # it says that a key is needed
    assert statuses == expected
    assert len(upstream.requests) == before
