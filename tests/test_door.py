"""The door is shut while there is no room, and opens again whoever leaves it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from gateway.admission.descriptors import Descriptors
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.serve import listening

LIMIT = 50  # ten descriptors for clients and upstreams

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def opened(descriptors: Descriptors, bounds: Bounds = DEFAULT_BOUNDS) -> AsyncIterator[int]:
    async def hello(request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    async with listening(app, "127.0.0.1", 0, descriptors, bounds) as address:
        yield int(address.rpartition(":")[2])


async def connected(port: int, number: int) -> list[Connection]:
    return [await asyncio.open_connection("127.0.0.1", port) for _ in range(number)]


async def answered(port: int) -> bool:
    """Is a new client answered, and not left waiting?"""
    ((reader, writer),) = await connected(port, 1)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    try:
        async with asyncio.timeout(0.2):
            return b"hello" in await reader.read()
    except TimeoutError:
        return False
    finally:
        writer.close()


async def until_answered(port: int) -> None:
    async with asyncio.timeout(5):
        while not await answered(port):
            pass


async def test_the_system_gives_up_on_a_peer_that_acknowledges_nothing() -> None:
    """Also of connections that come after it was shut."""

    async def timeout(request: web.Request) -> web.Response:
        assert request.transport is not None
        connection = request.transport.get_extra_info("socket")
        return web.Response(text=str(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)))

    app = web.Application()
    app.router.add_get("/", timeout)
    async with listening(app, "127.0.0.1", 0, Descriptors(LIMIT)) as address, aiohttp.ClientSession() as session:
        for _ in range(2):
            async with session.get(address, headers={"Connection": "close"}) as response:
                assert await response.text() == "120000"
            clients = await connected(int(address.rpartition(":")[2]), 12)  # it is shut
            for _, writer in clients:
                writer.close()


async def test_it_opens_when_a_client_leaves() -> None:
    async with opened(Descriptors(LIMIT)) as port:
        clients = await connected(port, 10)
        assert not await answered(port)
        clients[0][1].close()
        await until_answered(port)
        for _, writer in clients:
            writer.close()


async def test_it_opens_when_an_upstream_leaves() -> None:
    """That of an answer whose own client has left before."""
    descriptors = Descriptors(LIMIT)
    for _ in range(5):
        descriptors.add_upstream()
    async with opened(descriptors, Bounds(door_seconds=0.01)) as port:
        clients = await connected(port, 5)
        assert not await answered(port)
        descriptors.drop_upstream()
        await until_answered(port)
        for _, writer in clients:
            writer.close()


async def test_it_can_be_closed_while_it_is_shut() -> None:
    async with opened(Descriptors(LIMIT)) as port:
        clients = await connected(port, 12)
        assert not await answered(port)
    with pytest.raises(ConnectionRefusedError):
        await connected(port, 1)
    for _, writer in clients:
        writer.close()
