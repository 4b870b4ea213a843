"""A wire to a gateway that cuts each answer once, after as many bytes as its request asks for.

A request says `cut=N` in its query, of which the gateway knows nothing. The first connection with that N gets the first
N bytes of the response, and then the end of the connection. Every later one gets its response whole, and so does a
request that does not say it.
"""

import asyncio
import re
from typing import Self

_BACKLOG = 4096  # connections that wait to be accepted: one for each byte of an answer, all at once
_CUT = re.compile(rb"[?&]cut=(\d+)")


class CuttingWire:
    """`passed`: the bytes of each first response that reached the client, by their number."""

    def __init__(self, port: int | None) -> None:
        self.address = ""
        self.passed: dict[int, bytes] = {}
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

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._exchange(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request and its response. The gateway is asked to close behind it: a client may reuse no connection."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", request):
                request += await reader.readexactly(int(length[1]))
            far_writer.write(re.sub(rb"(?i)(\r\nconnection: *)keep-alive", rb"\1close", request, count=1))
            found = _CUT.search(request)
            cut = int(found[1]) if found else None
            if cut is None or cut in self.passed:
                await _pass_on(far_reader, writer)
            else:
                await self._cut(cut, far_reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # a client that has its end leaves at once
        finally:
            writer.close()
            far_writer.close()

    async def _cut(self, cut: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed[cut] = b""
        while data := await reader.read(65_536):
            data = data[: cut - len(self.passed[cut])]
            self.passed[cut] += data
            writer.write(data)
            if len(self.passed[cut]) == cut:
                return


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
