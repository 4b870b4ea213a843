"""A wire to a gateway: each connection carries one request and its response, which a subclass may spoil on the way."""

import asyncio
import re
from contextlib import suppress
from typing import Self

_BACKLOG = 4096  # connections that wait to be accepted: one for each byte of an answer, all at once


class RelayWire:
    """`port` is the gateway's. `address` is where clients reach the wire."""

    def __init__(self, port: int | None) -> None:
        self.address = ""
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=_BACKLOG)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def respond(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes the gateway's response on from `reader` to `writer`."""
        raise NotImplementedError

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._exchange(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The gateway is asked to close behind its response, so that a client reuses no connection."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):  # either side may leave at any time
                request = await reader.readuntil(b"\r\n\r\n")
                if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", request):
                    request += await reader.readexactly(int(length[1]))
                far_writer.write(re.sub(rb"(?i)(\r\nconnection: *)keep-alive", rb"\1close", request, count=1))
                await self.respond(request, far_reader, writer)
        finally:
            writer.close()
            far_writer.close()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while (data := await reader.read(65_536)) and not writer.is_closing():  # uvloop would raise RuntimeError
        writer.write(data)
        await writer.drain()
