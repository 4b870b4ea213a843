"""A wire to a gateway that cuts each answer once, after as many bytes as its request asks for.

A request says `cut=N` in its query, of which the gateway knows nothing. The first connection with that N gets the first
N bytes of the response, and then the end of the connection. Every later one gets its response whole, and so does a
request that does not say it.
"""

import asyncio
import re

from tests.rig.relay_wire import RelayWire, pass_on

_CUT = re.compile(rb"[?&]cut=(\d+)")


class CuttingWire(RelayWire):
    """`passed`: the bytes of each first response that reached the client, by their number."""

    def __init__(self, port: int | None) -> None:
        super().__init__(port)
        self.passed: dict[int, bytes] = {}

    async def respond(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = _CUT.search(request)
        cut = int(found[1]) if found else None
        if cut is None or cut in self.passed:
            await pass_on(reader, writer)
        else:
            await self._cut(cut, reader, writer)

    async def _cut(self, cut: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed[cut] = b""
        while (data := await reader.read(65_536)) and not writer.is_closing():  # uvloop would raise RuntimeError
            data = data[: cut - len(self.passed[cut])]
            self.passed[cut] += data
            writer.write(data)
            if len(self.passed[cut]) == cut:
                return
