"""One GET over HTTP/1.1, read as it is on the wire: the version, every header field, each part of the body in its time.

`gateway doctor` has its own reading, because a client library hides what a doctor looks for: it decodes the body,
follows redirects, and takes a body without an end mark for a whole one.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from urllib.parse import SplitResult

from gateway.upstream.tls import certificate_fault, speaks_no_tls

_LONGEST_HEADER = 65_536  # bytes of a header, and of a line of it; the gateway's own has under 1 KiB
_LONGEST_BODY = 1_048_576  # bytes: a check has at most 64 KiB, so a longer body is of something else


class Ending(Enum):
    """How a body ended."""

    WHOLE = "whole"  # with the mark of its end
    BROKEN = "broken"  # before the mark of its end
    CLOSED = "closed"  # with the connection: whether it is whole cannot be told


class Unreached(Exception):
    """There is no HTTP answer. The message says why, and what to do."""


@dataclass
class Reply:
    """The header of an answer. `ending` is set when its `parts` are over."""

    version: str
    status: int
    fields: Mapping[str, str]  # by the lower-case name
    connected: float  # seconds until the connection, with its TLS, was open
    waited: float  # seconds from the request to the header
    _reader: asyncio.StreamReader
    ending: Ending = Ending.BROKEN

    async def parts(self) -> AsyncIterator[bytes]:
        """The parts of the body as they arrive, without the chunked coding."""
        size = 0
        try:
            async for part in self._framed():
                size += len(part)
                if size > _LONGEST_BODY:
                    return
                yield part
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            self.ending = Ending.BROKEN

    async def _framed(self) -> AsyncIterator[bytes]:
        if self.fields.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self._reader.readuntil(b"\r\n")).partition(b";")[0], 16):
                if size > _LONGEST_BODY:
                    return
                yield (await self._reader.readexactly(size + 2))[:-2]
            self.ending = Ending.WHOLE
            return
        length = self.fields.get("content-length", "")
        left = int(length) if length.isdigit() else None
        while left != 0 and (part := await self._reader.read(min(left or _LONGEST_BODY, 65_536))):
            left = None if left is None else left - len(part)
            yield part
        self.ending = Ending.CLOSED if left is None else Ending.WHOLE if left == 0 else Ending.BROKEN


@asynccontextmanager
async def asked(
    url: SplitResult, target: str, fields: Mapping[str, str], context: ssl.SSLContext
) -> AsyncIterator[Reply]:
    """Sends a GET for `target` to the host of `url`. Raises Unreached. The caller bounds the time."""
    loop = asyncio.get_running_loop()
    is_tls = url.scheme == "https"
    started = loop.time()
    try:
        reader, writer = await asyncio.open_connection(
            url.hostname, url.port or (443 if is_tls else 80), ssl=context if is_tls else None, limit=_LONGEST_HEADER
        )
    except OSError as error:
        raise Unreached(_words(error)) from None
    except UnicodeError:  # a part of the host name is empty or over 63 characters
        raise Unreached("The host name in the URL is not valid.") from None
    try:
        connected = loop.time() - started
        lines = [f"GET {target} HTTP/1.1", f"Host: {url.netloc}", *[f"{k}: {v}" for k, v in fields.items()]]
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        yield await _reply(reader, connected, is_tls=is_tls)
    finally:
        writer.transport.abort()


async def _reply(reader: asyncio.StreamReader, connected: float, *, is_tls: bool) -> Reply:
    loop = asyncio.get_running_loop()
    sent = loop.time()
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, OSError):
        advice = "" if is_tls else " A server that speaks TLS needs https in the URL."
        raise Unreached(f"The server closed the connection without an answer.{advice}") from None
    except asyncio.LimitOverrunError:
        raise Unreached("The server does not answer in HTTP. Check the port in the URL.") from None
    first, *rest = head.split("\r\n")
    version, _, status = first.partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdigit():
        raise Unreached("The server does not answer in HTTP/1.1. Check the port in the URL.")
    named = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in rest if line)}
    return Reply(version, int(status[:3]), named, connected, loop.time() - sent, reader)


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"The server's certificate {certificate_fault(error, place='the URL', option='--ca-file')}."
    if isinstance(error, ssl.SSLError):
        if speaks_no_tls(error):
            return "The server does not speak TLS at this port: use http in the URL, or the port for https."
        return f"No TLS connection can be made: {error.reason or 'the server broke it off'}."
    if isinstance(error, socket.gaierror):
        return "The host name in the URL is not known."
    if isinstance(error, ConnectionRefusedError):
        return "Nothing listens at this address and port. Start the gateway or its proxy, or correct the URL."
    return f"No connection can be made: {os.strerror(error.errno) if error.errno else 'the server broke it off'}."
