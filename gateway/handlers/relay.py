"""Relays a request to another process of this gateway, and its response back, byte for byte.

The response is not parsed: how its body is framed and whether that is whole is for the client to see. So a body that
breaks off there breaks off here. Both connections end with it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from aiohttp import HttpVersion11, web

from gateway.errors import BodyTimeout, ClientGone, GatewayError, InvalidRequest
from gateway.handlers.services import BOUNDS, EXCHANGE, NEIGHBOUR_CLIENT
from gateway.handlers.sinks import Sent, watch_tail
from gateway.handover.neighbours import Neighbours
from gateway.observe.metrics import PassedOn

_PIECE = 65_536  # bytes of a response that are read at a time
# Fields for one connection only, and those that this process sets itself.
_OWN = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
    *(b"expect", b"content-length", b"x-request-id", NEIGHBOUR_CLIENT.lower().encode()),
}

T = TypeVar("T")


async def relay(
    request: web.Request, neighbours: Neighbours, epoch: str, kind: PassedOn, *, gone: GatewayError
) -> web.StreamResponse:
    """Raises `gone` if the other process leaves before it has answered, and ClientGone if the client does."""
    with request[EXCHANGE].services.descriptors.upstream():
        try:
            reader, writer = await neighbours.connect(epoch)
        except OSError:
            raise gone from None
        request[EXCHANGE].services.metrics.passed_on(kind)
        neighbours.passing.add(writer.transport)
        try:
            await _send(request, writer)
            return await _Back(request, reader, neighbours, epoch).run(gone)
        finally:
            neighbours.passing.discard(writer.transport)
            writer.transport.abort()


# The request


async def _send(request: web.Request, writer: asyncio.StreamWriter) -> None:
    """Sends the request. If the other process stops to read, it has answered already. Raises a GatewayError."""
    writer.write(b"\r\n".join([*_head(request), b"", b""]))
    try:
        async with asyncio.timeout(request.app[BOUNDS].body_seconds):
            await _send_body(request, writer)
    except TimeoutError:
        raise BodyTimeout() from None
    except web.RequestPayloadError:
        raise InvalidRequest("The body cannot be read.", code="invalid_body") from None
    except ConnectionError:
        return


def _head(request: web.Request) -> Iterator[bytes]:
    version = request.version
    yield f"{request.method} {request.raw_path} HTTP/{version.major}.{version.minor}".encode(errors="surrogateescape")
    for name, value in request.raw_headers:
        if name.lower() not in _OWN:
            yield name + b": " + value
    yield f"X-Request-ID: {request[EXCHANGE].request_id}".encode()
    yield f"{NEIGHBOUR_CLIENT}: {request[EXCHANGE].client}".encode()
    yield b"Connection: close"
    if request.content_length is not None:
        yield f"Content-Length: {request.content_length}".encode()
    elif request.body_exists:
        yield b"Transfer-Encoding: chunked"


async def _send_body(request: web.Request, writer: asyncio.StreamWriter) -> None:
    is_chunked = request.content_length is None
    expects = request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11
    if expects and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if not request.body_exists:
        return
    while part := await request.content.readany():
        writer.write(b"%x\r\n%b\r\n" % (len(part), part) if is_chunked else part)
        await writer.drain()
    if is_chunked:
        writer.write(b"0\r\n\r\n")


# The response


class _Back:
    """The way of the response to the client."""

    def __init__(self, request: web.Request, reader: asyncio.StreamReader, neighbours: Neighbours, epoch: str) -> None:
        self._request = request
        self._reader = reader
        self._neighbours = neighbours
        self._epoch = epoch
        self._seconds = request.app[BOUNDS].stall_seconds

    async def run(self, gone: GatewayError) -> web.StreamResponse:
        try:
            head = await self._within(lambda: self._reader.readuntil(b"\r\n\r\n"))
        except (OSError, EOFError, asyncio.LimitOverrunError):
            raise gone from None
        response = Sent(status=int(head[9:12]))
        self._request[EXCHANGE].response = response
        try:
            await self._write(head)
            while piece := await self._within(lambda: self._reader.read(_PIECE)):
                await self._write(piece)
        except OSError as error:
            self._transport.abort()
            raise ClientGone from error
        self._transport.close()
        watch_tail(self._request)
        return response

    @property
    def _transport(self) -> asyncio.Transport:
        if self._request.transport is None:
            raise ClientGone
        return self._request.transport

    async def _write(self, data: bytes) -> None:
        """Raises OSError if the client takes nothing for too long."""
        self._transport.write(data)
        self._request.writer.output_size += len(data)
        async with asyncio.timeout(self._seconds):
            await self._request.writer.drain()

    async def _within(self, read: Callable[[], Awaitable[T]]) -> T:
        """Waits for as long as the other process answers questions. Raises OSError.

        An answer as JSON may take minutes, so silence alone says nothing about the process.
        """
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    return await read()
            except TimeoutError:
                if not await self._neighbours.alive(self._epoch):
                    raise
