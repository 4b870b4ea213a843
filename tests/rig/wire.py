"""A client with a socket of its own, so that a test can cut its connection at any byte and any time.

It frames its requests and decodes the chunked coding (RFC 9112, section 7.1) itself, so a test sees every byte.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from tests.conftest import Client
from tests.rig.across import Across
from tests.rig.reset import reset
from tests.rig.whatwg import interpret

CUTS = ("fin", "rst")
HEARTBEAT = b":\n\n"


@dataclass(frozen=True)
class Response:
    """The received part of one response. `is_whole`: its body has the end that HTTP/1.1 requires."""

    status: int
    fields: dict[str, str]
    body: bytes
    is_whole: bool


def read_response(raw: bytes) -> Response | None:
    """The response in `raw`, or None if its header is not complete."""
    head, found, rest = raw.partition(b"\r\n\r\n")
    if not found:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    if fields.get("transfer-encoding") == "chunked":
        body, is_whole = _dechunked(rest)
    else:
        body, is_whole = rest, len(rest) == int(fields.get("content-length", "0"))
    return Response(int(first.split(" ")[1]), fields, body, is_whole)


def _dechunked(rest: bytes) -> tuple[bytes, bool]:
    """The received data, including those of an unfinished chunk, and whether the last chunk has come."""
    pieces: list[bytes] = []
    at = 0
    while (line_end := rest.find(b"\r\n", at)) >= 0:
        size = int(rest[at:line_end], 16)
        if size == 0:
            return b"".join(pieces), rest[line_end:] == b"\r\n\r\n"
        at = line_end + 2
        pieces.append(rest[at : at + size])
        at += size + 2
    return b"".join(pieces), False


class Wire:
    """One connection with one request on it. `raw` has all received bytes, or those before a cut."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.raw = b""
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, client: Client, request: bytes) -> "Wire":
        port = client.port_for(request) if isinstance(client, Across) else client.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        wire = cls(reader, writer)
        _opened.add(wire)
        return wire

    @property
    def response(self) -> Response:
        response = read_response(self.raw)
        assert response is not None, f"there is no header in {self.raw!r}"
        return response

    @property
    def body(self) -> bytes:
        response = read_response(self.raw)
        return b"" if response is None else response.body

    async def head(self) -> Response:
        """The response as soon as its header is complete."""
        await self._read(lambda: b"\r\n\r\n" in self.raw)
        return self.response

    async def whole(self) -> Response:
        """The whole response. The connection is closed after it."""
        await self._read(lambda: (read_response(self.raw) or _NOTHING).is_whole)
        self.cut("fin")
        assert self.response.is_whole, f"the body broke off: {self.raw!r}"
        return self.response

    async def blocks(self, count: int) -> bytes:
        """The first blocks of the body, and nothing after them. Heartbeats are left out and do not count."""
        await self._read(lambda: len(_blocks(self.body)) >= count)
        found = _blocks(self.body)[:count]
        assert len(found) == count, f"the body ended too early: {self.raw!r}"
        return b"".join(found)

    async def heartbeats(self, count: int) -> None:
        await self._read(lambda: self.body.count(HEARTBEAT) >= count)

    async def some(self, *, size: int, seconds: float) -> bool:
        """Reads that many bytes, or for that long, and keeps no more. Returns whether that is only a part."""
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(seconds):
                await self._read(lambda: len(self.raw) >= size or (read_response(self.raw) or _NOTHING).is_whole)
        self.raw = self.raw[:size]
        return not (read_response(self.raw) or _NOTHING).is_whole

    def cut(self, how: str) -> None:
        _opened.discard(self)
        if how == "rst":
            reset(self._writer)
        else:
            self._writer.close()

    async def _read(self, is_enough: Callable[[], bool]) -> None:
        """Reads until it is, or until the other side has closed the connection."""
        async with asyncio.timeout(10):
            while not is_enough() and (data := await self._reader.read(65_536)):
                self.raw += data


_opened: set[Wire] = set()


def close_all() -> None:
    """Closes all sockets, so that a failed test leaves none to the next."""
    for wire in list(_opened):
        wire.cut("rst")


_NOTHING = Response(0, {}, b"", is_whole=False)


def get(path: str, **fields: str | bytes) -> bytes:
    return _request(b"GET", path, fields)


def post(path: str, body: object, **fields: str | bytes) -> bytes:
    data = json.dumps(body).encode()
    return (
        _request(b"POST", path, {"Content-Type": "application/json", "Content-Length": str(len(data))} | fields) + data
    )


def _request(method: bytes, path: str, fields: Mapping[str, str | bytes]) -> bytes:
    lines = [b"%b %b HTTP/1.1" % (method, path.encode()), b"Host: localhost"]
    for name, value in fields.items():
        field = value if isinstance(value, bytes) else value.encode()
        lines.append(b"%b: %b" % (name.replace("_", "-").encode(), field))
    return b"\r\n".join([*lines, b"", b""])


# The event stream as a client receives it


def whole_blocks(body: bytes) -> bytes:
    """The blocks that a browser would dispatch, without an unfinished one and without heartbeats."""
    return b"".join(_blocks(body))


def last_event_id(body: bytes) -> str:
    """The last event ID that a browser would send. Empty if it has received no event."""
    events = interpret(body)
    return events[-1].last_event_id if events else ""


def without_names(body: bytes) -> bytes:
    """The body without the random parts of every stream: its id and its ticket."""
    (stream_id,) = {event.last_event_id.partition(".")[0] for event in interpret(body)}
    return re.sub(rb',"ticket":"[\w-]{22}"', b"", body.replace(stream_id.encode(), b"STREAM"))


def _blocks(body: bytes) -> list[bytes]:
    blocks = [block + b"\n\n" for block in body.split(b"\n\n")[:-1]]
    return [block for block in blocks if block != HEARTBEAT]
