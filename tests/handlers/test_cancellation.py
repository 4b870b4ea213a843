"""A client that leaves is ordinary: nothing is left of it, and nothing logged as broken.

With `on_disconnect = "cancel"`, the upstream is let go within a second. What else may be wished for is in
`test_policies.py`.
"""

import asyncio
import logging
import random
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import ClientResponse

from gateway.bounds import Bounds
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, TEXT, access_records, ask, eventually, leave, send
from tests.rig.inside import at_rest, streams
from tests.rig.reset import NOW
from tests.rig.scripted_upstream import DONE, Pause, ScriptedUpstream, Stall, Step, chunk, delta, event, finish, stream

pytestmark = pytest.mark.usefixtures("both_ways")

CANCEL = '[stream]\non_disconnect = "cancel"\n'
WAYS = {"events": EVENTS, "text": TEXT, "json": {}}
MOMENTS: dict[str, Sequence[Step]] = {
    "before the headers": [Stall()],
    "before the first token": stream(event(chunk(role="assistant")), Stall()),
    "in the middle": stream(delta("a"), Stall()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_fault_54_a_client_that_leaves_stops_the_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, way: str, moment: str, how: str
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    upstream.script(MOMENTS[moment])
    client = await gateway(CANCEL)
    writer = await send(client, f"GET /chat?q=secret-question HTTP/1.1\r\nHost: localhost\r\n{fields(WAYS[way])}\r\n")
    await upstream.until(requests=1)
    if moment != "before the headers":
        await eventually(lambda: [one.generation.outcome().id for one in streams(client)] == ["chatcmpl-1"])
    leave(writer, how)
    await upstream.until(left=1, within=1)
    await at_rest(client)
    (record,) = access_records(caplog)
    assert record.stream is not None
    assert record.status == 499
    assert record.stream.end == "client_gone"
    assert "secret-question" not in caplog.text


async def test_cancelling_at_each_moment_of_the_main_path(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Whenever the client leaves, the gateway comes back to rest: no stream, no task, no upstream connection."""
    upstream.script(stream(delta("a"), Pause(0.01), delta("b"), Pause(0.01), finish(), DONE))
    client = await gateway(CANCEL)
    await ask(client)
    await at_rest(client)
    tasks = len(asyncio.all_tasks())
    moments = random.Random(7)
    for _ in range(60):
        writer = await send(client, f"GET /chat?q=x HTTP/1.1\r\nHost: localhost\r\n{fields(EVENTS)}\r\n")
        await asyncio.sleep(moments.random() * 0.04)  # that moment
        leave(writer, moments.choice(["fin", "rst"]))
    await at_rest(client)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 3 * upstream.open_connections)
    assert upstream.open_connections <= 2  # those that were put back whole, for the next stream


async def test_a_client_of_which_nothing_is_known_any_more_is_not_served(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    """No limit could count it, and no idempotency key is its own. uvloop asks the system for an address late."""
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway()
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", client.port)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOW)
            sock.sendall(b"GET /chat?q=x HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
    await ask(client)  # those before it have been accepted by then
    await at_rest(client)
    assert [line for line in lines if line.get("client") == "" and "stream" in line] == []


async def test_the_client_of_one_stream_leaves_and_the_others_go_on(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), Pause(0.3), delta("b"), finish(), DONE))
    client = await gateway(CANCEL)
    stays = asyncio.create_task(ask(client))
    leaves = asyncio.create_task(ask(client))
    await eventually(lambda: [one.log.last for one in streams(client)] == [1, 1])
    leaves.cancel()
    assert (await stays).end["reason"] == "complete"
    await at_rest(client)


async def test_fault_57_a_slow_reader_lags_without_holding_the_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Its text waits in the log once; what the kernel does not take is not copied into buffers of ours."""
    text = "x" * 100_000
    upstream.script(stream(*[delta(text)] * 40, finish(), DONE))
    client = await gateway(CANCEL)
    async with client.get("/chat?q=x", headers=EVENTS, read_bufsize=1024) as response:
        await eventually(lambda: all(one.log.ended for one in streams(client)))
        assert len(upstream.requests) == 1
        assert buffered(client) < 2_000_000
        raw = await read_slowly(response)
    assert raw.count(b"x" * 100_000) == 40
    assert b"event: end" in raw


async def test_a_reader_that_takes_nothing_is_cut_without_an_end(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(*[delta("x" * 100_000)] * 70, Stall()))
    client = await gateway(f"{CANCEL}heartbeat_seconds = 0.1", bounds=Bounds(stall_seconds=0.3))
    writer = await send(
        client, f"GET /chat?q=x HTTP/1.1\r\nHost: localhost\r\n{fields(EVENTS)}\r\n", receive_buffer=4096
    )
    await upstream.until(left=1, within=5)
    await at_rest(client)
    writer.close()


async def test_fault_69_a_log_that_a_slow_client_still_reads_takes_room(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The upstream has long finished; what it said is held until it has been read."""
    upstream.script(stream(*[delta("x" * 100_000)] * 60, finish(), DONE))
    client = await gateway(f"{CANCEL}[store]\nmax_streams = 1")
    writer = await send(
        client, f"GET /chat?q=x HTTP/1.1\r\nHost: localhost\r\n{fields(EVENTS)}\r\n", receive_buffer=4096
    )
    await upstream.until(requests=1)
    await eventually(lambda: all(g.log.ended for g in streams(client)), within=5)
    async with client.get("/chat?q=x") as response:
        assert response.status == 503
    leave(writer, "rst")
    await at_rest(client)


async def test_a_slow_reader_that_goes_on_taking_is_not_cut(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Neither as events nor as JSON: what counts is that it takes something, not how long the whole takes."""
    upstream.script(stream(*[delta("x" * 50_000)] * 140, finish(), DONE))
    client = await gateway(CANCEL, bounds=Bounds(stall_seconds=1.0))
    for headers in (EVENTS, {}):
        async with client.get("/chat?q=x", headers=headers, read_bufsize=1024) as response:
            started = asyncio.get_running_loop().time()
            taken = 0
            while part := await response.content.read(131_072):
                taken += len(part)
                await asyncio.sleep(0.025)  # its pace
            assert taken > 7_000_000
            assert asyncio.get_running_loop().time() - started > 1.0


async def test_a_reader_that_takes_no_json_is_cut(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*[delta("x" * 100_000)] * 70, finish(), DONE))
    client = await gateway(CANCEL, bounds=Bounds(stall_seconds=0.3))
    writer = await send(client, "GET /chat?q=x HTTP/1.1\r\nHost: localhost\r\n\r\n", receive_buffer=4096)
    await upstream.until(requests=1)
    await eventually(lambda: not client.server.handler.connections, within=5)
    writer.close()


async def test_shutting_down_ends_every_stream_with_a_failure_that_says_so(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway(CANCEL)
    asking = [asyncio.create_task(ask(client)) for _ in range(5)]
    await eventually(lambda: [one.log.last for one in streams(client)] == [1] * 5)
    await streams(client).close()
    for answer in await asyncio.gather(*asking):
        assert answer.failure == {
            "error": {
                "message": "The gateway is stopping, or restarting. Ask again in a moment.",
                "type": "server_error",
                "param": None,
                "code": "shutting_down",
            },
            "retryable": True,
        }
        assert answer.end["reason"] == "shutting_down"
    async with client.get("/readyz") as response:
        assert response.status == 503
    async with client.get("/chat?q=x") as response:
        assert response.status == 503
        assert response.headers["Retry-After"]


# What the tests are made of


def fields(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def buffered(client: Client) -> int:
    connections = client.server.handler.connections
    return sum(c.transport.get_write_buffer_size() for c in connections if c.transport is not None)


async def read_slowly(response: ClientResponse) -> bytes:
    parts = []
    while part := await response.content.read(65_536):
        parts.append(part)
        await asyncio.sleep(0.001)  # its pace
    return b"".join(parts)
