"""Rows 46 to 53: content codings, redirects, and connections that are not made or do not hold."""

import asyncio
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trustme

from tests.faults.scenario import HELLO, WELL, Scenario, before_content, fails, harmless, later, rescued, unharmed
from tests.rig.ports import HOST, refusing
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    Reset,
    Send,
    Stall,
    Step,
    chunked,
    delta,
    finish,
    head,
    stream,
)

Place = Callable[[], AbstractAsyncContextManager[str]]

_CONNECT = "[timeouts]\nconnect = 0.3"
_SMALL = "[stream]\nmax_event_bytes = 100_000"


def _gzip(data: bytes, *rest: Step) -> Sequence[Step]:
    packer = zlib.compressobj(9, wbits=31)
    return stream(packer.compress(data) + packer.flush(), *rest, Content_Encoding="gzip")


def _bomb() -> Scenario:
    outcome = fails("event_too_large")
    script = _gzip(b"data: " + b"x" * 20_000_000, Stall())
    return Scenario(47, "a decompression bomb", [script], outcome, outcome, _SMALL)


def _broken_chunk(size: bytes) -> Sequence[Step]:
    return [*stream(delta("Hello"), Pause(0.05), Stall())[:-1], Send(size + b"\r\n"), Stall()]


# Places where no upstream answers


@asynccontextmanager
async def _unknown_name() -> AsyncIterator[str]:
    yield "http://name.invalid"


@asynccontextmanager
async def _untrusted() -> AsyncIterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), HOST, 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def _refusing() -> AsyncIterator[str]:
    with refusing() as port:
        yield f"http://{HOST}:{port}"


@asynccontextmanager
async def _black_hole() -> AsyncIterator[str]:
    """Its queue of connections is full, so the system drops whatever comes."""
    with socket.socket() as listening, socket.socket() as first, socket.socket() as second:
        listening.bind((HOST, 0))
        listening.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://{HOST}:{listening.getsockname()[1]}"


def _at(number: int, name: str, place: Place, code: str, *, again: bool = False, settings: str = "") -> Scenario:
    times = 2 if again else 1
    return Scenario(number, name, [WELL], fails(code, requests=times), rescued(), settings, elsewhere=place)


def _stale() -> Scenario:
    """The connection of an earlier request is closed as the next one is sent. That is one attempt in two requests."""
    twice = unharmed(requests=2)
    return Scenario(50, "a stale connection", [WELL, [Close()], WELL], twice, twice, before=1, resent=1)


_REDIRECT = [Send(head(307, Location="http://x", Content_Length="0"))]

CONNECTIONS = [
    harmless(46, "gzip", _gzip(delta(HELLO) + finish() + DONE)),
    before_content(46, "brotli", stream(b"xx", Content_Encoding="br"), "upstream_misconfigured", whole=True),
    _bomb(),
    before_content(48, "a redirect", _REDIRECT, "upstream_misconfigured", whole=True),
    Scenario(49, "a malformed chunk", [_broken_chunk(b"zz")], fails("upstream_incomplete", "Hello"), rescued()),
    harmless(49, "bytes behind the body", [*WELL, Pause(0.02), Send(chunked(b"more"))]),
    _stale(),
    _at(51, "an unknown name", _unknown_name, "upstream_unreachable", again=True),
    _at(52, "a certificate that nobody trusts", _untrusted, "upstream_tls"),
    later(53, "a reset before the header", [Reset()], "upstream_unreachable"),
    _at(53, "a refused connection", _refusing, "upstream_unreachable", again=True),
    _at(53, "a black hole", _black_hole, "connect_timeout", settings=_CONNECT),
]
