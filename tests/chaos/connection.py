"""One request on a connection of its own, which its client reads as slowly as it likes and cuts as it likes."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

from tests.rig.ports import HOST
from tests.rig.reset import reset
from tests.rig.whatwg import Dispatched, interpret

_SILENCE = 30.0  # seconds without a byte after which a client gives up; heartbeats come every second
_SMALL = 4096  # bytes of a receive buffer, so that what a slow client leaves waits at the gateway


class Broken(Exception):
    """The gateway closed or refused the connection before the response was whole."""


class Silent(Exception):
    """Nothing came for so long that the gateway must have forgotten the client."""


class Connection:
    status: int
    fields: dict[str, str]

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def ask(
        cls,
        port: int,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] = {},
        *,
        is_small: bool = False,
    ) -> "Connection":
        """Sends a request and reads the header of its response. Raises Broken and Silent."""
        connection = await cls.open(port, is_small=is_small)
        try:
            connection.send(method, path, body, headers)
            await connection._read_head()
        except BaseException:
            connection.cut("fin")
            raise
        return connection

    @classmethod
    async def open(cls, port: int, *, is_small: bool = False) -> "Connection":
        sock = socket.socket()
        if is_small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (HOST, port))
        except OSError as error:
            sock.close()
            raise Broken(str(error)) from error
        return cls(*await asyncio.open_connection(sock=sock, limit=_SMALL if is_small else 65_536))

    def send(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        fields = {"Host": "localhost", **headers}
        if body is not None:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
        lines = [f"{method} {path} HTTP/1.1", *[f"{name}: {value}" for name, value in fields.items()], "", ""]
        self._writer.write("\r\n".join(lines).encode() + data)

    async def parts(self) -> AsyncIterator[bytes]:
        """The data of the body, until it is whole. Raises Broken and Silent."""
        if "chunked" not in self.fields.get("transfer-encoding", ""):
            left = int(self.fields.get("content-length", "0"))
            if left:
                yield await self._exactly(left)
            return
        while size := int(await self._until(b"\r\n"), 16):
            yield (await self._exactly(size + 2))[:-2]
        await self._exactly(2)

    async def body(self) -> bytes:
        return b"".join([part async for part in self.parts()])

    async def json(self) -> Any:
        return json.loads(await self.body())

    async def events(self) -> AsyncIterator[Dispatched]:
        buffer = b""
        async for part in self.parts():
            *blocks, buffer = (buffer + part).split(b"\n\n")
            for block in blocks:
                for event in interpret(block + b"\n\n"):
                    yield event
        if buffer:
            raise Broken(f"the body ended within a block: {buffer[:200]!r}")

    def cut(self, how: str) -> None:
        if how == "rst":
            reset(self._writer)
        else:
            with suppress(OSError):
                self._writer.close()

    async def _read_head(self) -> None:
        first, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        self.status = int(first.split(" ")[1])
        self.fields = dict(line.lower().split(": ", 1) for line in lines)

    async def _until(self, end: bytes) -> bytes:
        return await self._within(self._reader.readuntil(end))

    async def _exactly(self, size: int) -> bytes:
        return await self._within(self._reader.readexactly(size))

    @staticmethod
    async def _within(reading: Any) -> bytes:
        try:
            data: bytes = await asyncio.wait_for(reading, _SILENCE)
        except TimeoutError:
            raise Silent from None
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Broken(str(error)) from error
        return data
