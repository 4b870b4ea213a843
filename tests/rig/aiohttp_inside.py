"""What the gateway takes for granted of aiohttp, beyond its documents: each function here fails where it is not so.

They do with aiohttp alone what a module of the gateway does with it. `tests/test_private_names.py` says which.
"""

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from gateway.app import server_options
from gateway.handlers.sinks import hold_header
from gateway.serve import listening
from gateway.upstream.tap import collecting
from tests.rig.clients import eventually

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def a_header_can_be_held() -> None:
    sizes: dict[str, list[int]] = {"/": [], "/held": []}

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.path == "/held":
            hold_header(response)
        for step in (response.prepare(request), response.write(b"a")):
            await step
            sizes[request.path].append(request.writer.output_size)
        return response

    for path in sizes:
        await answer_of(answer, path)
    assert sizes["/held"][0] == 0
    assert sizes["/"][0] > 0
    assert sizes["/held"][1] == sizes["/"][1]


async def chunks_can_pass_the_writer() -> None:
    sent = []

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        writer = await response.prepare(request)
        assert response.headers["Transfer-Encoding"] == "chunked"
        await response.write(b"a")
        assert request.transport is not None
        assert writer is request.writer
        await writer.drain()
        request.transport.write(b"1\r\nb\r\n")
        writer.output_size += 6
        await response.write_eof(b"c")
        sent.append(writer.output_size)
        return response

    raw = await answer_of(answer)
    assert raw.partition(b"\r\n\r\n")[2] == b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"
    assert sent == [len(raw)]


async def a_server_is_told_of_connections() -> None:
    told = []
    server: Any = web.Server(aiohttp_answer)
    made, lost = server.connection_made, server.connection_lost

    def connection_made(*args: Any) -> None:
        told.append("made")
        made(*args)

    def connection_lost(*args: Any) -> None:
        told.append("lost")
        lost(*args)

    server.connection_made, server.connection_lost = connection_made, connection_lost
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    await eventually(lambda: told == ["made"])
    writer.close()
    await eventually(lambda: told == ["made", "lost"])
    listener.close()
    await server.shutdown()


async def a_handler_takes_the_options() -> None:
    """A server drops all options, with a warning, where one of them is unknown."""
    options = server_options()
    server = web.Server(aiohttp_answer, handler_cancellation=options.pop("handler_cancellation"))
    inspect.signature(web.AppRunner).bind(web.Application(), shutdown_timeout=options.pop("shutdown_timeout"))
    RequestHandler(server, loop=asyncio.get_running_loop(), **options)


async def what_is_not_http_is_logged_with_its_error() -> None:
    logged: list[logging.LogRecord] = []

    class Log(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record)

    logger = logging.Logger("a server's")
    logger.addHandler(Log())
    raw = await answer_of(aiohttp_answer, request=b"\x16\x03\x01\r\n\r\n", logger=logger)
    assert raw.startswith(b"HTTP/1.0 400 ")
    assert [isinstance(record.exc_info[1], HttpProcessingError) for record in logged if record.exc_info] == [True]


async def a_reader_can_collect() -> None:
    reader: Any = aiohttp.StreamReader(BaseProtocol(asyncio.get_running_loop()), 1024)
    assert not aiohttp.StreamReader.__dictoffset__
    assert reader._http_chunk_splits is None
    reader.feed_data(b"a")
    assert (list(reader._buffer), reader._size) == ([b"a"], 1)
    assert reader.read_nowait() == b"a"
    assert (list(reader._buffer), reader._size) == ([], 0)
    reader._http_chunk_splits = deque()
    reader.__class__ = collecting(aiohttp.StreamReader)
    for fed in (b"b", b"c"):
        reader.begin_http_chunk_receiving()
        reader.feed_data(fed)
        reader.end_http_chunk_receiving()
    assert list(reader._buffer) == [b"b", b"c"]
    reader.feed_eof()
    assert reader._eof
    assert not reader.at_eof()
    reader.__class__ = aiohttp.StreamReader
    reader._size = 2
    assert reader.read_nowait() == b"bc"
    assert reader._size == 0
    assert reader.at_eof()
    assert reader.exception() is None


async def a_handler_parses_in_the_call_that_brings_the_data() -> None:
    async with response_to(HEAD) as response:
        handler, transport = response.connection.protocol, response.connection.transport  # type: ignore[union-attr] # it is open
        assert isinstance(handler, ResponseHandler)
        assert transport is not None
        assert transport.get_protocol() is handler
        handler.data_received(b"2\r\nab\r\n")
        assert response.content.read_nowait() == b"ab"
        handler.data_received(b"0\r\n\r\n")
        assert response.content.is_eof()
        assert response.connection is None


async def a_lost_connection_is_told_of() -> None:
    async with response_to(HEAD + b"1\r\na\r\n") as response:
        assert response.connection is not None
        assert response.connection.protocol is not None
        assert response.connection.transport is not None
        closed = response.connection.protocol.closed
        assert closed is not None
        assert await response.content.readany() == b"a"
        told: list[object] = []
        closed.add_done_callback(told.append)
        reading = asyncio.ensure_future(response.content.readany())
        await asyncio.sleep(0)  # for it to wait
        response.content.set_exception(aiohttp.ClientPayloadError("ours"))
        with pytest.raises(aiohttp.ClientPayloadError, match="ours"):
            await reading
        response.connection.transport.abort()
        await eventually(lambda: told == [closed])
        closed.exception()


async def a_connection_tells_what_came_while_it_rested() -> None:
    told = []

    class Connector(aiohttp.TCPConnector):
        async def connect(self, *request: Any, **options: Any) -> Any:
            connection = await super().connect(*request, **options)
            assert connection.protocol is not None
            told.append(connection.protocol.should_close)
            return connection

    over = asyncio.Event()
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for extra in (b"", whole, b""):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(whole)
            await asyncio.sleep(0.05)
            writer.write(extra)
        await over.wait()
        writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession(connector=Connector()) as session:
            for _ in range(3):
                async with session.get(url) as response:
                    assert response.status == 200
                await asyncio.sleep(0.1)
    finally:
        over.set()
        server.close()
    assert told == [False, False, True]


async def an_error_says_whether_a_response_had_begun() -> None:
    for start, has_begun in ((b"", False), (HEAD[:-2], True)):
        with pytest.raises(aiohttp.ServerDisconnectedError) as caught:
            async with response_to(start, closes=True):
                pass
        assert isinstance(caught.value.message, str) is not has_begun


async def an_error_quotes_what_is_not_http() -> None:
    with pytest.raises(aiohttp.ClientResponseError) as caught:
        async with response_to(b"\x15\x03\x01\x00\x02\x02\x28", closes=True):
            pass
    assert r"\x15\x03" in caught.value.message


async def an_error_holds_what_the_system_said() -> None:
    listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    listener.close()
    await listener.wait_closed()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get(f"http://{host}:{port}")
    assert isinstance(caught.value.os_error, ConnectionRefusedError)
    assert (caught.value.host, caught.value.port) == (host, port)
    assert isinstance(aiohttp.ClientConnectorCertificateError.certificate_error, property)


# The other side of a connection


async def aiohttp_answer(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response()


async def answer_of(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    path: str = "/",
    *,
    request: bytes | None = None,
    **options: Any,
) -> bytes:
    """All bytes that a server sends whose `handler` answers a request."""
    app = web.Application()
    app.router.add_get("/{any:.*}", handler)
    async with listening(app, "127.0.0.1", 0, **options) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(request or b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path.encode())
        try:
            async with asyncio.timeout(5):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def response_to(data: bytes, *, closes: bool = False) -> AsyncIterator[aiohttp.ClientResponse]:
    """aiohttp's response to a server that answers with `data`, and then waits or closes."""
    over = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        if not closes:
            await over.wait()
        writer.close()

    server = await asyncio.start_server(play, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            yield response
    finally:
        over.set()
        server.close()
