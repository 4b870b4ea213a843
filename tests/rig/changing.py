"""A proxy before a gateway that drops, doubles or changes one byte in the text of each answer.

It passes the chunks of an answer on as they come, each with its new length, so nothing else about the answer is wrong.
"""

import asyncio
import re
from collections.abc import Callable

from tests.rig.relay_wire import RelayWire, pass_on

Change = Callable[[bytes, int], bytes]
"""`change(data, at)`: the data with another byte at that place."""

CHANGES: dict[str, Change] = {
    "dropped": lambda data, at: data[:at] + data[at + 1 :],
    "doubled": lambda data, at: data[: at + 1] + data[at:],
    "changed": lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
}
TEXT = rb'(?:\A|\n\n)data: (?:\{"content":")?(?=[A-Za-z])'  # the text of a message begins behind it


class ChangingWire(RelayWire):
    """`how` is one of `CHANGES`, or None to pass everything on. `place` ends before the byte that is changed."""

    def __init__(self, port: int | None, how: str | None, *, place: bytes = TEXT) -> None:
        super().__init__(port)
        self.how = how
        self.place = place
        self.changed = 0  # answers

    async def respond(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        if b"text/event-stream" in head.lower():
            await self._pass_events(reader, writer)
        else:
            await pass_on(reader, writer)

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
