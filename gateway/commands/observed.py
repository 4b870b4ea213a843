"""Asks a gateway for its stream of numbered events, once, and notes what arrived and when."""

import asyncio
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import SplitResult

import msgspec

from gateway.commands.wire import Ending, Reply, Unreached, asked

_LARGEST_PART = 1_048_576  # bytes of one part without its compression: a check has at most 64 KiB
_MARGIN_SECONDS = 30.0  # over the time that the gateway takes to send: a proxy may hold a whole stream back


@dataclass
class Seen:
    """One answer. Times are in seconds since the request was sent, `sent` on the gateway's own clock."""

    fault: str = ""  # why there is no answer at all
    version: str = ""
    status: int = 0
    fields: Mapping[str, str] = field(default_factory=dict)
    connected: float = 0.0
    header: float = 0.0
    over: float = 0.0
    ending: Ending = Ending.BROKEN
    start: dict[str, Any] = field(default_factory=dict)
    end: dict[str, Any] = field(default_factory=dict)
    sent: list[float] = field(default_factory=list)  # of each event
    arrived: list[float] = field(default_factory=list)  # of each event
    heartbeats: int = 0
    is_unchanged: bool = False  # the bytes before the end are those that the gateway sent, and nothing follows it
    excess: int = 0  # bytes before the end that arrived, less those that the gateway sent

    @property
    def coding(self) -> str:
        coding = self.fields.get("content-encoding", "").lower()
        return "" if coding == "identity" else coding


async def observe(
    url: SplitResult, query: str, fields: Mapping[str, str], context: ssl.SSLContext, *, seconds: float
) -> Seen:
    """`seconds` is the time that the gateway takes to send the stream."""
    seen = Seen()
    try:
        async with asyncio.timeout(seconds + _MARGIN_SECONDS):
            async with asked(url, f"{url.path.rstrip('/')}/doctor{query}", fields, context) as reply:
                await _read(reply, seen)
    except Unreached as error:
        seen.fault = str(error)
    except TimeoutError:
        seen.fault = f"The answer did not end within {seconds + _MARGIN_SECONDS:.0f} seconds."
    return seen


async def _read(reply: Reply, seen: Seen) -> None:
    now = asyncio.get_running_loop().time
    asked_at = now() - reply.waited
    seen.version, seen.status, seen.fields = reply.version, reply.status, reply.fields
    seen.connected, seen.header = reply.connected, reply.waited
    inflater = zlib.decompressobj(wbits=47) if seen.coding in ("gzip", "deflate") else None  # 47: either of the two
    blocks = Blocks(seen)
    async for part in reply.parts():
        try:
            plain = part if inflater is None else inflater.decompress(part, _LARGEST_PART)
        except zlib.error:
            break
        blocks.feed(plain, now() - asked_at)
    blocks.finish()
    seen.over, seen.ending = now() - asked_at, reply.ending


class Blocks:
    """Notes in `seen` each block of the stream as it becomes whole."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._sum = sha256()
        self._size = 0
        self._rest = b""

    def feed(self, data: bytes, time: float) -> None:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            self._note(block + b"\n\n", time)

    def finish(self) -> None:
        """The stream is over."""
        self._seen.is_unchanged &= not self._rest

    def _note(self, block: bytes, time: float) -> None:
        data = _data(block)
        if block.startswith(b"event: end\ndata: {"):
            self._end(data)
            return
        self._seen.is_unchanged = False
        self._sum.update(block)
        self._size += len(block)
        if block.startswith(b"event: start\n"):
            self._seen.start = data
        elif block.startswith(b":"):
            self._seen.heartbeats += 1
        elif isinstance(at := data.get("at"), int | float):
            self._seen.sent.append(float(at))
            self._seen.arrived.append(time)

    def _end(self, data: dict[str, Any]) -> None:
        size = data.get("bytes")
        self._seen.end = data
        self._seen.excess = self._size - size if isinstance(size, int) else 0
        self._seen.is_unchanged = data.get("sha256") == self._sum.hexdigest() and size == self._size


def _data(block: bytes) -> dict[str, Any]:
    """The object in the block's data, or an empty one: something on the way may have changed it."""
    try:
        return msgspec.json.decode(block.partition(b"data: ")[2], type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
