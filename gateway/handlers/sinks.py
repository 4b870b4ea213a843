"""Connections to clients as sinks. The only place that knows aiohttp-sse.

Its `EventSourceResponse` gives the event stream's headers. The rest of it is not used: `send()` formats, encodes and
arms a timer for every event, and the ping beats on a fixed clock and not on silence. Ready bytes are written instead,
and each write holds whole events.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from gateway.errors import ClientGone
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.sse import HEARTBEAT

_ROOM = 65_536  # bytes that may wait in the transport before a viewer lags: where asyncio's own flow control begins


class _Chunk:
    """Bytes as a chunk of a body. Viewers of one stream are written the same bytes one after the other.

    So the last ones are framed once, and, where viewers lag, held once: 35 KiB less for each that stalls.
    """

    data = framed = b""


_last = _Chunk()


class _BodySink:
    """The body of a streamed response. `response` is to be returned to the server, which ends it."""

    response: web.StreamResponse

    __slots__ = (
        "_ends_cleanly",
        "_header_alone",
        "_heartbeat",
        "_is_chunked",
        "_request",
        "_transport",
        "_writer",
        "response",
    )

    def __init__(self, request: web.Request, ends_cleanly: Callable[[], bool] | None = None) -> None:
        """Where `ends_cleanly` says no at the end, the body is broken off after its last bytes."""
        self._request = request
        self._ends_cleanly = ends_cleanly
        self._writer: AbstractStreamWriter | None = None
        self._is_chunked = False
        self._header_alone = False
        self._heartbeat = HEARTBEAT
        self._transport: asyncio.Transport | None = None  # from the moment that the header has left

    async def open(self) -> None:
        """The headers leave with the first bytes that are written: one packet, where aiohttp would send two."""
        if self._writer is None:
            if not self._header_alone:
                hold_header(self.response)
            try:
                self._writer = await _prepared(self.response, self._request)
            except ConnectionError as error:
                raise ClientGone from error
            self._is_chunked = self.response.headers.get("Transfer-Encoding") == "chunked"
            self.response.headers.clear()  # they are written, and take 1 KiB
            if self._header_alone:
                self._transport = self._request.transport

    async def write(self, data: bytes) -> None:
        if self._writer is None:
            await self.open()
        if data is HEARTBEAT:
            self._request[EXCHANGE].services.metrics.sent_heartbeat()
            data = self._heartbeat
        try:
            await self.response.write(data)
            self._transport = self._request.transport
            if self._writer is not None:
                await self._writer.drain()  # aiohttp's own waits only once in 64 KiB, and does not see `write_now`
        except ConnectionError as error:
            raise ClientGone from error

    async def finish(self, data: bytes) -> None:
        """The last bytes and the end of the body leave together."""
        if self._writer is None:
            await self.open()
        if self._ends_cleanly is not None and not self._ends_cleanly():
            await self.write(data)
            self.break_off()
            return
        try:
            await self.response.write_eof(data)
        except ConnectionError as error:
            raise ClientGone from error
        watch_tail(self._request)

    def write_now(self, data: bytes) -> bool:
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > _ROOM:
            return False
        if self._is_chunked:
            if _last.data is not data:
                _last.data, _last.framed = data, b"%x\r\n%b\r\n" % (len(data), data)
            data = _last.framed
        try:
            transport.write(data)
        except (OSError, RuntimeError):  # uvloop raises where the connection was lost in this turn of the loop
            return False
        assert self._writer is not None
        self._writer.output_size += len(data)
        return True

    @property
    def opened(self) -> bool:
        return self._writer is not None

    def break_off(self) -> None:
        """Sends what was written and closes, without the chunk that would end the body cleanly."""
        transport = self._request.transport
        if transport is None:
            return
        transport.close()
        watch_tail(self._request)

    def abort(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()  # not close(), which would wait until the buffer is taken


async def _prepared(response: web.StreamResponse, request: web.Request) -> AbstractStreamWriter:
    """aiohttp's writer with the response's header in it. From here on it is too late for another response."""
    request[EXCHANGE].response = response
    writer = await response.prepare(request)
    assert writer is not None  # it has not ended
    return writer


def hold_header(response: web.StreamResponse) -> None:
    """Has the header leave with the first bytes of the body. aiohttp has no public way to ask for that.

    A version without the name sends the header alone, which costs a packet.
    """
    if hasattr(response, "_send_headers_immediately"):
        response._send_headers_immediately = False  # as in aiohttp's own `web.Response`


async def deliver(request: web.Request, whole: web.Response, *, parts: Sequence[bytes] = ()) -> web.StreamResponse:
    """Sends a response piece by piece; aiohttp would wait for its client without a limit. Raises ClientGone.

    The body is that of `whole`, or `parts`, which several responses may share. A client that takes nothing of a piece
    for `Bounds.stall_seconds` is cut; one that is merely slow is not.
    """
    parts = parts or [whole.body if isinstance(whole.body, bytes) else b""]
    response = web.StreamResponse(status=whole.status, headers=whole.headers)
    response.content_length = sum(map(len, parts))
    try:
        writer = await _prepared(response, request)
        for piece in _pieces(parts):
            async with asyncio.timeout(request.app[BOUNDS].stall_seconds):
                await response.write(piece)
                await writer.drain()
        await response.write_eof()
    except ConnectionError as error:
        raise ClientGone from error
    except TimeoutError as error:
        if request.transport is not None:
            request.transport.abort()
        raise ClientGone from error
    watch_tail(request)
    return response


def _pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), _ROOM):
            yield part[start : start + _ROOM]


def watch_tail(request: web.Request) -> None:
    """Cuts a client that takes nothing of the last bytes: no task waits for them, and a transport has no limit.

    uvloop sends in the next turn of the loop. Nearly always the transport is empty then, and nothing is to watch.
    """
    if request.transport is not None:
        seconds = request.app[BOUNDS].stall_seconds
        asyncio.get_running_loop().call_soon(_look_at_tail, request.transport, seconds, math.inf)


def _look_at_tail(transport: asyncio.Transport, seconds: float, before: float) -> None:
    left = transport.get_write_buffer_size()
    if left >= before:
        transport.abort()
    elif left:
        asyncio.get_running_loop().call_later(seconds, _look_at_tail, transport, seconds, left)


class Sent(web.Response):
    """A response that the server neither prepares nor writes."""

    async def prepare(self, request: web.BaseRequest) -> None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def send_bare(request: web.Request, whole: web.Response, headers: Mapping[str, str]) -> web.Response:
    """Sends the response without the hooks that prepare one, and closes the connection."""
    assert isinstance(whole.body, bytes)
    fields = {"Content-Type": whole.content_type, "Content-Length": str(len(whole.body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {whole.status} {whole.reason}", *[f"{k}: {v}" for k, v in {**fields, **headers}.items()]]
    if request.transport is not None:
        request.transport.write("\r\n".join([*lines, "", ""]).encode() + whole.body)
        request.transport.close()
    return Sent(status=whole.status)


class _EventStream(EventSourceResponse):
    """Without what the library does for each response: a task for its ping, and four calls of the system.

    Those set TCP_USER_TIMEOUT, which connections have from `Door`. Together they cost a twentieth of a short stream.
    """

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return await web.StreamResponse.prepare(self, request)

    async def write_eof(self, data: bytes = b"") -> None:
        await web.StreamResponse.write_eof(self, data)


class EventStreamSink(_BodySink):
    """A `text/event-stream` response. `open` it before anything is written.

    `header_alone` sends the header at once: it tells the client of a stream that may be silent for a while that it is
    connected. `heartbeat` is what is sent as one.
    """

    __slots__ = ()

    def __init__(
        self,
        request: web.Request,
        *,
        ends_cleanly: Callable[[], bool] | None = None,
        header_alone: bool = False,
        heartbeat: bytes = HEARTBEAT,
    ) -> None:
        super().__init__(request, ends_cleanly)
        self._header_alone = header_alone
        self._heartbeat = heartbeat
        self.response = _EventStream()
        if request.version < HttpVersion11:
            self.response.force_close()  # without chunks, the end of the connection is the end of the body


class TextSink(_BodySink):
    """A `text/plain` response. Its headers wait for the first byte: a failure before it is a status."""

    __slots__ = ()

    def __init__(self, request: web.Request, *, ends_cleanly: Callable[[], bool]) -> None:
        super().__init__(request, ends_cleanly)
        self.response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        self.response.content_type = "text/plain"
        self.response.charset = "utf-8"

    async def finish(self, data: bytes) -> None:
        if data or self.opened:  # else there was no text at all, and whether that is a failure is the caller's to say
            await super().finish(data)
