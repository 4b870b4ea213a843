"""Clients that leave together, that vanish without a word, and that read statuses as `EventSource` does."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator

import pytest

from gateway.app import create_app, server_options
from gateway.bounds import Bounds
from gateway.handlers.services import SERVICES
from gateway.serve import listening
from tests.conftest import MakeGateway, configured
from tests.rig.clients import EVENTS, eventually
from tests.rig.inside import at_rest, streams
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    Reset,
    ScriptedUpstream,
    Stall,
    Step,
    answer,
    delta,
    event,
    finish,
    stream,
)
from tests.rig.silence import vanish
from tests.rig.whatwg import interpret
from tests.rig.wire import Wire, close_all, post

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
PATHS = ["/chat", "/v1/chat/completions"]
CANCEL = '[stream]\non_disconnect = "cancel"\n'


@pytest.fixture(autouse=True)
async def nothing_left_open() -> AsyncIterator[None]:
    yield
    close_all()
    await asyncio.sleep(0)


# Many at once

MANY = 300
EVERY = 0.02  # seconds between two events of the one who stays
LONGEST_GAP = 2.0  # a hundred times as much: half a second of work for each of the 300 would be two minutes


@pytest.mark.parametrize("path", PATHS)
async def test_fault_56_those_who_leave_together_hold_nobody_up(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str
) -> None:
    steady = [part for number in range(100) for part in (delta(f"{number} "), Pause(EVERY))]
    upstream.script(stream(*steady, finish(), DONE), stream(delta("a" * 1000), Stall()))
    client = await gateway(CANCEL)
    async with client.post(path, json=BODY, headers=EVENTS) as stays:
        await stays.content.readany()
        crowd = await asyncio.gather(*[Wire.open(client, post(path, BODY, **EVENTS)) for _ in range(MANY)])
        await upstream.until(requests=MANY + 1, within=30)
        await eventually(lambda: len(streams(client)) == MANY + 1, within=30)
        loop = asyncio.get_running_loop()
        for wire in crowd:
            wire.cut("rst")
        gaps, body, before = [0.0], b"", loop.time()
        while part := await stays.content.readany():
            gaps.append(loop.time() - before)
            body, before = body + part, loop.time()
    assert b"99 " in body
    assert max(gaps) < LONGEST_GAP
    await upstream.until(left=MANY, within=10)
    await at_rest(client)


# Without a word


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("goes_on", [True, False], ids=["while events come", "while heartbeats come"])
async def test_fault_58_a_client_that_vanishes_is_given_up(
    upstream: ScriptedUpstream, path: str, goes_on: bool
) -> None:
    """It sends neither FIN nor RST. What is written to it is not acknowledged, and the system ends the connection."""
    tail: list[bytes | Step] = (
        [part for _ in range(500) for part in (delta("b"), Pause(0.02))] if goes_on else [Stall()]
    )
    upstream.script(stream(delta("a"), *tail, Stall()))
    app = create_app(configured(upstream.url, f"{CANCEL}heartbeat_seconds = 0.05"))
    quick = Bounds(unacknowledged_seconds=1.0)
    async with listening(app, "127.0.0.1", 0, bounds=quick, **server_options()) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(post(path, BODY, **EVENTS))
        await reader.readuntil(b'"a"' if path != "/chat" else b"data: a")
        vanish(_socket(writer))
        assert len(app[SERVICES].streams) == 1
        await upstream.until(left=1, within=20)
        await eventually(lambda: len(app[SERVICES].streams) == 0)
        writer.transport.abort()


def _socket(writer: asyncio.StreamWriter) -> socket.socket:
    sock: socket.socket = writer.get_extra_info("socket")
    return sock


# A status before the stream, an event within it

KEYS = '[[keys]]\nname = "one"\nkey = "test-key-of-one-12345"\nmodels = ["m"]\nrequests_per_minute = 2\n'
KEY = {"Authorization": "Bearer test-key-of-one-12345"}
REFUSED: dict[str, tuple[dict[str, str], dict[str, object], int]] = {
    "no key": ({}, BODY, 401),
    "a model that the key may not ask": (KEY, {**BODY, "model": "other"}, 404),
    "a field of a wrong type": (KEY, {**BODY, "model": 7}, 400),
    "a foreign page": ({**KEY, "Origin": "https://evil.example"}, BODY, 403),
    "not JSON": ({**KEY, "Content-Type": "text/plain"}, BODY, 415),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", REFUSED)
async def test_fault_64_what_the_gateway_refuses_is_a_status(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str, case: str
) -> None:
    """`EventSource` gives up at any status but 200, so it does not ask for ever what is refused for ever."""
    headers, body, status = REFUSED[case]
    client = await gateway(KEYS)
    json_type = {"Content-Type": "application/json"}
    async with client.post(path, data=json.dumps(body), headers={**EVENTS, **json_type, **headers}) as response:
        assert response.status == status, await response.text()
        assert response.content_type == "application/json"
        assert set(await response.json()) == {"error"}
    assert not upstream.requests


@pytest.mark.parametrize("path", PATHS)
async def test_fault_64_a_limit_is_a_status(gateway: MakeGateway, upstream: ScriptedUpstream, path: str) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway(KEYS)
    statuses = []
    for _ in range(3):
        async with client.post(path, json=BODY, headers={**EVENTS, **KEY}) as response:
            await response.read()
            statuses.append(response.status)
    assert statuses == [200, 200, 429]


BROKEN: dict[str, tuple[list[Step], str]] = {
    "a refusal": (answer(400, {"error": {"message": "no"}}), "upstream_rejected"),
    "a status of its own trouble": (answer(500, {"error": {"message": "no"}}), "upstream_error"),
    "a cut": (stream(Reset()), "upstream_incomplete"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_fault_64_what_fails_behind_the_start_is_in_the_stream(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """On `/chat` the stream starts before the upstream answers. Else the browser would ask, and pay, again."""
    upstream.script(BROKEN[case][0])
    client = await gateway()
    async with client.post("/chat", json=BODY, headers=EVENTS) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        events = interpret(await response.read())
    assert [one.type for one in events] == ["start", "failure", "end"]


@pytest.mark.parametrize("case", BROKEN)
async def test_fault_64_sdks_get_a_status_until_the_first_content(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """They retry a status, and cannot retry an answer that has begun."""
    upstream.script(BROKEN[case][0])
    client = await gateway()
    async with client.post(PATHS[1], json=BODY) as response:
        assert response.status >= 400
        assert response.content_type == "application/json"
    upstream.script(stream(delta("a"), event({"error": {"message": "no"}})))
    async with client.post(PATHS[1], json=BODY) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        *_, last = interpret(await response.read())
    assert set(json.loads(last.data)) == {"error"}
