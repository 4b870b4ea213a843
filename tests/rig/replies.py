"""Reads all answers on a connection, and nothing but whole answers: what a client sees of HTTP that is malformed."""

import asyncio
from dataclasses import dataclass

from tests.conftest import Client


@dataclass(frozen=True)
class Reply:
    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def field(self, name: str) -> str | None:
        """The value of a field, which may be there once."""
        values = [value for known, value in self.fields if known == name]
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None


async def replies(client: Client, *parts: bytes, pause: float = 0.0) -> list[Reply]:
    """Sends the parts, and reads up to the end of the connection. Fails if the gateway does not close it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    try:
        async with asyncio.timeout(10):
            sending = asyncio.create_task(_send(writer, parts, pause))
            raw = await _read(reader)
            sending.cancel()
            await asyncio.wait([sending])
    finally:
        writer.close()
    return parsed(raw)


async def _send(writer: asyncio.StreamWriter, parts: tuple[bytes, ...], pause: float) -> None:
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause)


async def _read(reader: asyncio.StreamReader) -> bytes:
    raw = b""
    try:
        while part := await reader.read(65_536):
            raw += part
    except ConnectionError:
        pass  # it was closed before it had read all: what it had answered has come
    return raw


def parsed(raw: bytes) -> list[Reply]:
    """Fails on any byte that is of no answer."""
    found = []
    while raw:
        head, end, raw = raw.partition(b"\r\n\r\n")
        assert end, f"half a head: {head!r}"
        line, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = line.split(" ", 2)
        assert version in ("HTTP/1.0", "HTTP/1.1"), line
        fields = [(name.lower(), value) for name, value in (text.split(": ", 1) for text in lines)]
        if status == "100":
            continue
        reply = Reply(int(status), fields, b"")
        body, raw = _body(reply, raw)
        found.append(Reply(reply.status, fields, body))
    return found


def _body(reply: Reply, raw: bytes) -> tuple[bytes, bytes]:
    """The body, and what is behind it."""
    if reply.status in (204, 304):
        return b"", raw
    if reply.field("transfer-encoding") == "chunked":
        return _chunks(raw)
    length = reply.field("content-length")
    if length is None:  # up to the end of the connection
        return raw, b""
    assert len(raw) >= int(length), "half a body"
    return raw[: int(length)], raw[int(length) :]


def _chunks(raw: bytes) -> tuple[bytes, bytes]:
    parts = []
    while True:
        line, end, raw = raw.partition(b"\r\n")
        assert end, "half a chunk"
        size = int(line, 16)
        parts.append(raw[:size])
        assert raw[size : size + 2] == b"\r\n", "half a chunk"
        raw = raw[size + 2 :]
        if size == 0:
            return b"".join(parts), raw
