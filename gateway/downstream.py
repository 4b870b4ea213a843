"""Connections to clients as sinks. The only place that knows aiohttp-sse.

What its `EventSourceResponse` is used for: the event stream's headers, and TCP_USER_TIMEOUT, by which the kernel gives
up on a peer that acknowledges nothing. What it is not used for: `send()`, which formats, encodes and arms a timer for
every event, and its ping, which beats on a fixed clock and not on silence. Ready bytes are written instead, each write
holding whole events.
"""

from typing import Self

from aiohttp import HttpVersion11, web
from aiohttp_sse import EventSourceResponse

from gateway.errors import ClientGone

_NEVER = 10.0 * 86_400  # seconds until the library's own ping: longer than any stream lives


class EventStreamSink:
    """The body of a `text/event-stream` response. Opened at once, before the upstream has answered."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = EventSourceResponse(allow_all_methods=True, ping_interval=_NEVER)
        if request.version < HttpVersion11:
            self.response.force_close()  # without chunks, the end of the connection is the end of the body

    async def __aenter__(self) -> Self:
        await self.response.prepare(self._request)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.response.stop_streaming()  # ends the library's ping; the body is ended by the server

    async def write(self, data: bytes) -> None:
        try:
            await self.response.write(data)
        except ConnectionError as error:
            raise ClientGone from error

    def abort(self) -> None:
        _abort(self._request)


class TextSink:
    """The body of a `text/plain` response. Its headers wait for the first byte: a failure before it is a status."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        self.response.content_type = "text/plain"
        self.response.charset = "utf-8"

    @property
    def opened(self) -> bool:
        return self.response.prepared

    async def open(self) -> None:
        if not self.opened:
            await self.response.prepare(self._request)

    async def write(self, data: bytes) -> None:
        await self.open()
        try:
            await self.response.write(data)
        except ConnectionError as error:
            raise ClientGone from error

    def abort(self) -> None:
        _abort(self._request)

    def break_off(self) -> None:
        """Sends what was written and closes, without the chunk that would end the body cleanly."""
        if self._request.transport is not None:
            self._request.transport.close()


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()  # not close(): that would wait until the buffer is sent, and it is not being taken
