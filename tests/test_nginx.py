"""README's nginx block, as it stands there, in a real nginx before a real gateway."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import MakeGateway
from tests.rig.clients import EVENTS, Answer
from tests.rig.nginx import nginx_with
from tests.rig.ports import free_port
from tests.rig.scripted_upstream import DONE, Pause, Reset, ScriptedUpstream, Stall, delta, finish, stream
from tests.test_readme import blocks

BEHIND_NGINX = '[server]\nallow_anonymous = true\npublic_url = "http://chat.example.com"\n'

StartNginx = Callable[[int], AbstractAsyncContextManager[str]]


@pytest.fixture
def nginx(tmp_path: Path) -> StartNginx:
    """`async with nginx(port_of_the_gateway) as address`."""

    @asynccontextmanager
    async def start(gateway: int) -> AsyncIterator[str]:
        port = free_port()
        (block,) = blocks("nginx")
        block = block.replace("127.0.0.1:8080", f"127.0.0.1:{gateway}")
        block = block.replace("listen 80;", f"listen 127.0.0.1:{port};").replace("/var/log/nginx/", f"{tmp_path}/")
        outside = f"pid {tmp_path}/pid; error_log {tmp_path}/error.log warn; worker_processes 1;\nevents {{}}\n"
        async with nginx_with(f"{outside}http {{\n{block}\n}}\n", tmp_path, port):
            yield f"http://127.0.0.1:{port}"

    return start


async def test_events_pass_one_by_one_with_their_gaps(
    gateway: MakeGateway, upstream: ScriptedUpstream, nginx: StartNginx
) -> None:
    upstream.script(stream(*[part for n in range(5) for part in (delta(f"{n}"), Pause(0.15))], finish(), DONE))
    client = await gateway(BEHIND_NGINX)
    loop = asyncio.get_running_loop()
    arrived: list[float] = []
    async with (
        nginx(client.port or 0) as address,
        aiohttp.ClientSession(address) as session,
        session.get("/chat?q=x", headers=EVENTS) as response,
    ):
        raw = b""
        while part := await response.content.readany():
            arrived += [loop.time()] * len(re.findall(rb"^data: \d$", part, re.MULTILINE))
            raw += part
    assert Answer(raw).text == "01234"
    gaps = [later - earlier for earlier, later in pairwise(arrived)]
    assert len(gaps) == 4
    assert min(gaps) > 0.1


async def test_a_broken_answer_is_broken_behind_nginx_too(
    gateway: MakeGateway, upstream: ScriptedUpstream, nginx: StartNginx
) -> None:
    upstream.script(stream(delta("a"), Pause(0.1), Reset()))
    client = await gateway(BEHIND_NGINX)
    async with nginx(client.port or 0) as address, aiohttp.ClientSession() as session:
        async with session.get(f"{address}/chat?q=x", headers=EVENTS) as response:
            assert Answer(await response.read()).end["reason"] == "incomplete"
        async with session.get(f"{address}/chat?q=x", headers={"Accept": "text/plain"}) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_a_client_that_leaves_nginx_stops_the_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream, nginx: StartNginx
) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway(BEHIND_NGINX)
    async with nginx(client.port or 0) as address, aiohttp.ClientSession() as session:
        async with session.get(f"{address}/chat?q=x&on_disconnect=cancel", headers=EVENTS) as response:
            await response.content.readuntil(b"data: a\n")
        await upstream.until(left=1, within=2)


async def test_nginx_logs_no_query_and_keeps_connections(
    gateway: MakeGateway, upstream: ScriptedUpstream, nginx: StartNginx, tmp_path: Path
) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway(BEHIND_NGINX)
    async with nginx(client.port or 0) as address, aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.get(f"{address}/chat?q=secret-question", headers=EVENTS) as response:
                await response.read()
        assert len(client.server.handler.connections) == 1
    log = (tmp_path / "gateway.log").read_text()
    assert log.count(" /chat") == 3
    assert "secret-question" not in log


async def test_a_request_is_never_sent_twice(
    gateway: MakeGateway, upstream: ScriptedUpstream, nginx: StartNginx
) -> None:
    """The gateway dies as it is asked: nginx says 502, and asks nobody else."""
    asked = 0

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.transport.abort()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    async with (
        nginx(server.sockets[0].getsockname()[1]) as address,
        aiohttp.ClientSession(address) as session,
        session.get("/chat?q=x") as response,
    ):
        assert response.status == 502
    server.close()
    assert asked == 1
