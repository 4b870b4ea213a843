"""A process that is told to stop: running answers end, health checks and clients that come back are answered."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.commands.conftest import Mode
from tests.rig.clients import EVENTS, Answer
from tests.rig.completions import STREAMED
from tests.rig.processes import ends_cleanly, running
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, Until, delta, finish, stream
from tests.rig.served import toml
from tests.rig.wire import get, post

MANY = 200


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        yield session


def config(folder: Path, upstream: ScriptedUpstream, drain_seconds: float) -> str:
    path = folder / "gateway.toml"
    path.write_text(toml(upstream.url, f"[server]\ndrain_seconds = {drain_seconds}"), encoding="utf-8")
    return str(path)


async def test_fault_65_running_answers_end_while_new_ones_are_refused(
    upstream: ScriptedUpstream, session: aiohttp.ClientSession, tmp_path: Path, mode: Mode
) -> None:
    """The listener stays open: for health checks, for a client that comes back, and to tell others to come later."""
    go_on = asyncio.Event()
    upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    async with running("serve", *mode, "--config", config(tmp_path, upstream, 30)) as (process, address):
        url = f"{address}/chat?q=hi"
        answers = await asyncio.gather(*[session.get(url, headers=EVENTS) for _ in range(MANY)])
        first = await answers[0].content.readuntil(b"Hel\n")
        cut = first.rpartition(b"id: ")[2].split(b"\n")[0].decode()
        process.terminate()
        await until_status(session, f"{address}/readyz", 503)
        async with session.get(f"{address}/healthz") as response:
            assert response.status == 200
        for path in ("/chat?q=new", "/readyz"):
            async with session.get(f"{address}{path}", headers=EVENTS) as response:
                assert response.status == 503
                assert response.headers["Connection"] == "close"
        async with session.post(f"{address}/v1/chat/completions", json={"messages": []}) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (503, "shutting_down")
            assert response.headers["Retry-After"] == "5"
        resumed = await resume(session, url, cut)
        go_on.set()
        rests = [Answer(await answer.read()) for answer in [*answers[1:], resumed]]
        assert [rest.end["reason"] for rest in rests] == ["complete"] * MANY
        await ends_cleanly(process)
    assert len(upstream.requests) == MANY


async def test_fault_65_answers_that_take_longer_than_the_drain_end_with_a_failure(
    upstream: ScriptedUpstream, session: aiohttp.ClientSession, tmp_path: Path, mode: Mode
) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    async with running("serve", *mode, "--config", config(tmp_path, upstream, 0.3)) as (process, address):
        answer = await session.get(f"{address}/chat?q=hi", headers=EVENTS)
        relayed = await session.post(f"{address}/v1/chat/completions", json=STREAMED)
        await answer.content.readuntil(b"Hel\n")
        await relayed.content.readuntil(b"Hel")
        process.terminate()
        chunks = await relayed.read()
        assert b'"code":"shutting_down"' in chunks.split(b"data: ")[-1]
        assert b"[DONE]" not in chunks
        rest = Answer(await answer.read())
        assert (rest.failure["error"]["code"], rest.failure["retryable"]) == ("shutting_down", True)
        assert rest.end["reason"] == "shutting_down"
        await ends_cleanly(process)


@pytest.mark.parametrize("signals", [1, 2])
async def test_fault_66_the_second_signal_or_the_deadline_ends_it_although_readers_stall(
    upstream: ScriptedUpstream, session: aiohttp.ClientSession, tmp_path: Path, signals: int, mode: Mode
) -> None:
    upstream.script(stream(*[delta("x" * 65_536) for _ in range(60)], Stall()))
    seconds = 60.0 if signals == 2 else 0.2
    async with running("serve", *mode, "--config", config(tmp_path, upstream, seconds)) as (process, address):
        host, port = address.removeprefix("http://").split(":")
        asked = [get("/chat?q=hi", **EVENTS), post("/v1/chat/completions", STREAMED), get("/chat?q=hi", **EVENTS)]
        readers = [stalled_reader(host, int(port), request) for request in asked]
        await upstream.until(requests=3)
        started = time.monotonic()
        process.terminate()
        if signals == 2:
            await until_status(session, f"{address}/readyz", 503)
            process.terminate()
        await ends_cleanly(process)
        assert time.monotonic() - started < 6
        for reader in readers:
            reader.close()


async def test_without_answers_it_ends_at_once(
    upstream: ScriptedUpstream, session: aiohttp.ClientSession, tmp_path: Path, mode: Mode
) -> None:
    upstream.script(stream(delta("Hello"), finish(), DONE))
    async with running("serve", *mode, "--config", config(tmp_path, upstream, 60)) as (process, address):
        async with session.get(f"{address}/chat?q=hi", headers=EVENTS) as answer:
            assert Answer(await answer.read()).end["reason"] == "complete"
        process.terminate()
        await ends_cleanly(process)


async def resume(session: aiohttp.ClientSession, url: str, last_event_id: str) -> aiohttp.ClientResponse:
    """Asks until the process answers that holds the stream. Each time it is a new connection, for any worker."""
    async with asyncio.timeout(5):
        while True:
            response = await session.get(url, headers={**EVENTS, "Last-Event-ID": last_event_id})
            if response.status == 200:
                return response
            assert response.status == 404
            await response.read()


def stalled_reader(host: str, port: int, request: bytes) -> socket.socket:
    """A client that asks and then reads nothing."""
    reader = socket.create_connection((host, port))
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.sendall(request)
    return reader


async def until_status(session: aiohttp.ClientSession, url: str, status: int) -> None:
    async with asyncio.timeout(5):
        while True:
            async with session.get(url) as response:
                if response.status == status:
                    return
            await asyncio.sleep(0.01)
