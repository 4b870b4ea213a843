"""A response whose body is being read: its reads are pushed or pulled, and its connection is put back or closed."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import aiohttp
from aiohttp import hdrs

from gateway.errors import UpstreamIncomplete, UpstreamMisconfigured
from gateway.upstream.codings import inflater_for
from gateway.upstream.dialects.status import error_from_status
from gateway.upstream.shapes import Shape, is_told, shape_of, stripped
from gateway.upstream.tap import Take, Tap, collecting, fits, join

_TAIL_SECONDS = 0.1  # how long the end of a finished response may take, so that its connection can be used again
_Collecting = collecting(aiohttp.StreamReader)


def can_push() -> bool:
    """Has aiohttp the names by which reads are pushed? Else they are pulled."""
    handler = getattr(getattr(aiohttp, "client_proto", None), "ResponseHandler", object)
    return fits(handler, aiohttp.StreamReader)


_PUSHES = can_push()


class UpstreamResponse:
    """A response whose body is being read."""

    __slots__ = ("_closed", "_content", "_inflater", "_response")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Raises UpstreamMisconfigured for a content coding that cannot be decoded."""
        self._inflater = inflater_for(response.headers.getall("Content-Encoding", ()))
        self._response = response
        self._content = response.content
        protocol = getattr(response.connection, "protocol", None)
        self._closed: asyncio.Future[None] | None = getattr(protocol, "closed", None)
        if self._closed is not None:
            self._closed.add_done_callback(self._on_closed)

    async def begin(self) -> tuple[Shape, bytes]:
        """The shape of the body, and its first bytes. Without any, the response is an error unless its status is 200.

        White space before them is dropped: DeepSeek keeps a connection open with empty lines. So none is held, and
        the time limits of the stream bound the wait. Raises UpstreamError.
        """
        start = b""
        while not is_told(start) and (chunk := await self.read()):
            start = stripped(start + chunk)
        if not start and self._response.status != 200:
            raise error_from_status(self._response.status, self._response.headers, b"")
        # Not aiohttp's `content_type`: it grows the response by three attributes, which takes 0.9 KiB.
        shape = shape_of(start, self._response.headers.get(hdrs.CONTENT_TYPE, ""))
        if shape is Shape.PAGE:
            raise UpstreamMisconfigured(
                "The model's server answered with a web page. The operator has to look at its `base_url`."
            )
        return shape, start

    async def read(self) -> bytes:
        """The bytes that have arrived since the last read, at least one; `b""` at the end.

        Raises UpstreamIncomplete when the body breaks off.
        """
        try:
            if self._inflater is not None:
                return await self._inflater.read(self._content.readany)
            if _PUSHES:
                join(self._content)
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamIncomplete() from error

    def feed(self, take: Take) -> Coroutine[Any, Any, bool]:
        """Calls `take` with each read of the rest of the body. True where it said stop, False where the body has ended.

        Reads are pushed, from within the event loop's own callback, where they can be; a body with a content coding is
        decoded piece by piece, and pulled. After a stop nothing is read: aiohttp's buffer fills, and TCP slows the
        upstream down. Raises UpstreamIncomplete when the body breaks off, and what `take` raises.
        """
        return self._push(take) if self._inflater is None and _PUSHES else self._pull(take)

    async def _pull(self, take: Take) -> bool:
        while chunk := await self.read():
            if take(chunk):
                return True
        return False

    async def _push(self, take: Take) -> bool:
        tap, connection = Tap(self._content, take), self._response.connection
        try:
            if connection is None:  # it is lost, or put back
                tap.open(None, None, _Collecting)
            else:
                tap.open(connection.protocol, connection.transport, _Collecting)
            return await tap.over
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamIncomplete() from error
        finally:
            tap.close()

    async def start_of(self, *, most: int, seconds: float) -> bytes:
        """As much of the body as comes in time, until there are `most` bytes of it; less where it breaks off."""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while size < most and (part := await self.read()):
                    parts.append(part)
                    size += len(part)
        except (UpstreamIncomplete, TimeoutError):
            pass
        return b"".join(parts)

    def abort(self) -> None:
        """Closes the connection at once: the upstream need not go on."""
        self.let_go()
        self._response.close()

    async def finish(self) -> None:
        """Puts the connection back for the next request if the response ends within moments, else closes it.

        An upstream usually sends the end of its response right behind `[DONE]`. Waiting that long saves the next stream
        a TCP and TLS handshake; nobody waits for it meanwhile, since the stream's own end was told before.
        """
        try:
            if not self._content.at_eof():  # the time limit alone costs a hundredth of a short stream
                async with asyncio.timeout(_TAIL_SECONDS):
                    while not self._content.at_eof():
                        await self._content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        finally:
            self.let_go()
            if self._response.connection is not None:  # else it has been put back
                self._response.close()

    def _on_closed(self, closed: asyncio.Future[None]) -> None:
        """Ends a read that would wait for ever.

        When a chunk is malformed in the middle of a body, aiohttp (3.14, its C parser) closes the connection and tells
        the reader nothing; so whoever reads is told here that the connection is gone.
        """
        _look_at(closed)
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("the body broke off"))

    def let_go(self) -> None:
        """The connection is somebody else's from now on, or nobody's."""
        if self._closed is not None:
            self._closed.remove_done_callback(self._on_closed)  # the next response on it is not ours
            self._closed.remove_done_callback(_look_at)  # that of the response before
            self._closed.add_done_callback(_look_at)


async def start_of(response: aiohttp.ClientResponse, *, most: int, seconds: float) -> bytes:
    """As `UpstreamResponse.start_of`. Nothing where its content coding cannot be decoded."""
    try:
        reading = UpstreamResponse(response)
    except UpstreamMisconfigured:
        return b""
    try:
        return await reading.start_of(most=most, seconds=seconds)
    finally:
        reading.let_go()


def _look_at(closed: asyncio.Future[None]) -> None:
    """A connection that is reset after its response was put away: without this, asyncio logs that nobody looked."""
    if not closed.cancelled():
        closed.exception()
