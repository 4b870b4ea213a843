"""`GET /doctor`: who may ask for the measured stream, its form, and its bounds."""

import asyncio
import json
from contextlib import AsyncExitStack
from hashlib import sha256

import pytest
from aiohttp import ClientPayloadError

from gateway.handlers.services import SERVICES
from tests.conftest import MakeGateway
from tests.rig.clients import Answer

PROXIED = {"Via": "1.1 proxy"}
KEYS = '[[keys]]\nname = "k"\nkey = "a-key-of-sixteen-characters"\n[metrics]\ntoken = "a-token-for-prometheus"\n'
QUICK = "/doctor?events=3&pace_ms=10"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        (PROXIED, 401),
        ({**PROXIED, "Authorization": "Bearer another-key"}, 401),
        ({**PROXIED, "Authorization": "Bearer a-key-of-sixteen-characters"}, 200),
        ({**PROXIED, "X-API-Key": "a-key-of-sixteen-characters"}, 200),
        ({**PROXIED, "Authorization": "Bearer a-token-for-prometheus"}, 200),
        ({"Origin": "https://elsewhere.example"}, 403),
    ],
)
async def test_who_may_ask(gateway: MakeGateway, headers: dict[str, str], status: int) -> None:
    """Direct requests from this machine, those with the token of the metrics, and those with a key."""
    client = await gateway(KEYS)
    async with client.get(QUICK, headers=headers) as response:
        assert response.status == status


async def test_the_end_sums_up_what_was_sent_before(gateway: MakeGateway) -> None:
    """Each event has the time at which it was sent, and the heartbeats keep their interval."""
    client = await gateway("[stream]\nheartbeat_seconds = 0.1\n")
    async with client.get("/doctor?events=3&pace_ms=20&pause_ms=250") as response:
        body = await response.read()
    sent, _, end = body.partition(b"event: end\n")
    assert json.loads(end.removeprefix(b"data: ")) == {"bytes": len(sent), "sha256": sha256(sent).hexdigest()}
    assert 1 <= body.count(b": heartbeat\n\n") <= 2
    times = [json.loads(data)["at"] for data in Answer(sent).data("message")]
    assert times == [pytest.approx(0.0, abs=0.2), pytest.approx(0.02, abs=0.2), pytest.approx(0.29, abs=0.2)]


@pytest.mark.parametrize("query", ["events=1", "events=101", "pace_ms=9", "pause_ms=120001", "cut=2", "events=x"])
async def test_its_length_is_bounded(gateway: MakeGateway, query: str) -> None:
    client = await gateway()
    async with client.get(f"/doctor?{query}") as response:
        assert response.status == 400
        assert (await response.json())["error"]["param"] == query.partition("=")[0]


async def test_the_number_of_streams_is_bounded(gateway: MakeGateway) -> None:
    client = await gateway()
    async with AsyncExitStack() as open_ones:
        for _ in range(16):
            await open_ones.enter_async_context(client.get("/doctor?pause_ms=60000"))
        async with client.get(QUICK) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "busy")
    async with asyncio.timeout(5):  # the places are free again once the clients have left
        while True:
            async with client.get(QUICK) as response:
                if response.status == 200:
                    return


async def test_it_does_not_hold_up_a_stop(gateway: MakeGateway) -> None:
    client = await gateway()
    async with client.get("/doctor?events=2&pause_ms=60000") as response:
        await response.content.readuntil(b"\n\n")
        client.app[SERVICES].streams.closing = True
        async with asyncio.timeout(5):
            with pytest.raises(ClientPayloadError):
                await response.read()
    async with client.get(QUICK) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (503, "shutting_down")
