"""A proxy before a gateway that drops, doubles or changes one byte in the text of each answer.

It passes the chunks of an answer on as they come, each with its new length, so nothing else about the answer is wrong.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Self

Change = Callable[[bytes, int], bytes]
"""`change(data, at)`: the data with another byte at that place."""

CHANGES: dict[str, Change] = {
    "dropped": lambda data, at: data[:at] + data[at + 1 :],
    "doubled": lambda data, at: data[: at + 1] + data[at:],
    "changed": lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
}
TEXT = rb'(?:\A|\n\n)data: (?:\{"content":")?(?=[A-Za-z])'  # the text of a message begins behind it


class ChangingWire:
    """`how` is one of `CHANGES`, or None to pass everything on. `place` ends before the byte that is changed."""

    def __init__(self, port: int | None, how: str | None, *, place: bytes = TEXT) -> None:
        self.address = ""
        self.how = how
        self.place = place
        self.changed = 0  # answers
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
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
        """One request and its response. The gateway is asked to close behind it."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        with suppress(ConnectionError, asyncio.IncompleteReadError):  # either side may leave at any time
            request = await reader.readuntil(b"\r\n\r\n")
            if length := re.search(rb"(?i)\r\ncontent-length: *(\d+)", request):
                request += await reader.readexactly(int(length[1]))
            far_writer.write(re.sub(rb"(?i)(\r\nconnection: *)keep-alive", rb"\1close", request, count=1))
            head = await far_reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            if b"text/event-stream" in head.lower():
                await self._pass_events(far_reader, writer)
            else:
                await _pass_on(far_reader, writer)
        writer.close()
        far_writer.close()

    async def _pass_events(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_left = self.how is not None
        while size := int(await reader.readuntil(b"\r\n"), 16):
            data = (await reader.readexactly(size + 2))[:-2]
            if is_left and self.how is not None and (found := re.search(self.place, data)):
                data = CHANGES[self.how](data, found.end())
                is_left = False
                self.changed += 1
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
        writer.write(b"0\r\n\r\n")


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
