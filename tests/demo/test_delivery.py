"""In time, no faster than it is read, and no longer than anybody listens."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from gateway.demo import create_demo
from tests.rig.clients import eventually, remains

from .conversation import PATH, ask, asking, deltas, payloads, stream, streaming, text


@asynccontextmanager
async def serving(app: web.Application, *, handler_cancellation: bool = False) -> AsyncIterator[web.AppRunner]:
    runner = web.AppRunner(app, handler_cancellation=handler_cancellation, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner
    finally:
        await runner.cleanup()


@asynccontextmanager
async def connected(runner: web.AppRunner, head: bytes, body: bytes) -> AsyncIterator[asyncio.StreamReader]:
    """A client of bare bytes, which reads only when told to."""
    host, port = runner.addresses[0][:2]
    reader, writer = await asyncio.open_connection(host, port, limit=1024)
    try:
        writer.write(head + b"Host: demo\r\n\r\n" + body)
        yield reader
    finally:
        writer.close()


@asynccontextmanager
async def posted(runner: web.AppRunner, fields: dict[str, object]) -> AsyncIterator[asyncio.StreamReader]:
    body = json.dumps(fields).encode()
    head = f"POST {PATH} HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode()
    async with connected(runner, head, body) as reader:
        yield reader


def held(runner: web.AppRunner) -> int:
    """The bytes that the server keeps for its one client."""
    assert runner.server
    [connection] = runner.server.connections
    assert connection.transport
    return connection.transport.get_write_buffer_size()


def requests(runner: web.AppRunner) -> int:
    """How many have begun to be handled."""
    assert runner.server
    return runner.server.requests_count


# Pace


async def test_tokens_come_one_by_one_at_the_interval(aiohttp_client):
    client = await aiohttp_client(create_demo(tokens=20, interval=0.01))
    start = time.monotonic()
    async with client.post(PATH, json=streaming()) as response:
        parts = [part async for part in response.content.iter_any()]
    assert 0.2 <= time.monotonic() - start < 1.0
    assert len(parts) > 15
    assert text(payloads(b"".join(parts)))


async def test_a_whole_answer_takes_as_long_as_its_stream(aiohttp_client):
    client = await aiohttp_client(create_demo(tokens=20, interval=0.01))
    start = time.monotonic()
    await ask(client)
    assert 0.2 <= time.monotonic() - start < 1.0


async def test_the_pace_holds_when_the_loop_is_late(aiohttp_client):
    """Deadlines are absolute: what one wait took too long, the next ones make up for."""
    client = await aiohttp_client(create_demo(tokens=50, interval=0.01))
    start = time.monotonic()
    answer = asyncio.ensure_future(stream(client))
    await asyncio.sleep(0.05)  # a few of its tokens
    time.sleep(0.4)  # noqa: ASYNC251 - the loop is to be held up
    await answer
    assert time.monotonic() - start < 0.85


async def test_a_realistic_pace_starts_within_half_a_second(aiohttp_client):
    client = await aiohttp_client(create_demo())
    events = await stream(client, max_tokens=3)
    assert len(deltas(events)) == 1 + 3 + 1


# A slow reader


@pytest.mark.parametrize(("model", "tokens"), [("demo-clock", None), ("demo", 1_000_000)])
async def test_a_reader_that_stops_reading_stops_the_answer(model, tokens):
    """What is held for it stays bounded, others are served meanwhile, and the answer goes on when it reads on."""
    async with serving(create_demo(tokens=tokens, interval=0)) as runner, posted(runner, streaming(model)) as reader:
        await eventually(lambda: held(runner) > 0)
        await remains(lambda: held(runner) < 256 * 1024, seconds=0.2)
        async with posted(runner, asking(max_tokens=1)) as other:
            assert await other.readline() == b"HTTP/1.1 200 OK\r\n"
        async with asyncio.timeout(5):
            for _ in range(20_000):
                await reader.readline()


# A client that leaves


@pytest.mark.parametrize("handler_cancellation", [False, True])
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("model", ["demo", "demo-clock", "demo-stall", "demo-slow"])
async def test_a_client_that_leaves_ends_its_answer(model, streamed, handler_cancellation, caplog):
    """Also in the middle of a silence, and without a line in the log."""
    caplog.set_level("WARNING")
    others = asyncio.all_tasks()
    app = create_demo(tokens=10_000, interval=0.01)
    async with serving(app, handler_cancellation=handler_cancellation) as runner:
        async with posted(runner, asking(model=model, stream=streamed)) as reader:
            if streamed:
                await reader.readuntil(b"chatcmpl")
            else:
                await eventually(lambda: requests(runner) == 1)
            assert asyncio.all_tasks() > others
        await eventually(lambda: asyncio.all_tasks() == others)
    assert not caplog.records


@pytest.mark.parametrize("handler_cancellation", [False, True])
async def test_a_client_that_leaves_while_it_does_not_read_ends_its_answer(handler_cancellation, caplog):
    caplog.set_level("WARNING")
    others = asyncio.all_tasks()
    async with serving(create_demo(interval=0), handler_cancellation=handler_cancellation) as runner:
        async with posted(runner, streaming("demo-clock")):
            await eventually(lambda: held(runner) > 0)
        await eventually(lambda: asyncio.all_tasks() == others)
    assert not caplog.records


@pytest.mark.parametrize("handler_cancellation", [False, True])
async def test_a_client_that_leaves_in_the_middle_of_its_request_is_ordinary(handler_cancellation, caplog):
    caplog.set_level("WARNING")
    others = asyncio.all_tasks()
    async with serving(create_demo(interval=0), handler_cancellation=handler_cancellation) as runner:
        async with connected(runner, f"POST {PATH} HTTP/1.1\r\nContent-Length: 1000\r\n".encode(), b'{"mess'):
            await eventually(lambda: requests(runner) == 1)
        await eventually(lambda: asyncio.all_tasks() == others)
    assert not caplog.records


async def test_a_connection_serves_one_answer_after_another(aiohttp_client):
    client = await aiohttp_client(create_demo(tokens=2, interval=0))
    for _ in range(3):
        assert (await stream(client))[-1] == "[DONE]"
    assert len(client.server.runner.server.connections) == 1
