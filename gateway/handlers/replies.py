"""Parts of replies that several handlers use."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import web

from gateway.entries import Entry
from gateway.errors import GatewayError, Stopped
from gateway.handlers.services import EXCHANGE
from gateway.handlers.sinks import EventStreamSink
from gateway.log.views import start_block
from gateway.streams.followed import FollowedStream
from gateway.streams.held import HeldStream
from gateway.streams.viewer import until
from gateway.streams.watched import Watched

Answer = Coroutine[Any, Any, web.StreamResponse]
"""Sends a stream. A handler returns it instead of awaiting it, so that the handler's frame ends: see `observed`."""

ENTRIES_AT_ONCE = 1_000  # that are read again in one turn of the event loop; they take about 1 ms

_encode_json = msgspec.json.Encoder().encode


def json_response(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=_encode_json(value), status=status, content_type="application/json")


def error_response(error: GatewayError, body: dict[str, Any] | None = None) -> web.Response:
    """`body` is for APIs that have a form of their own for it."""
    response = json_response(error.body() if body is None else body, status=error.status)
    response.headers.update(error.headers)
    if not error.retryable and (error.status >= 500 or error.status in (409, 429)):
        response.headers["X-Should-Retry"] = "false"  # otherwise the OpenAI SDKs retry these statuses
    return response


class Attached:
    """Within the block, the request is a viewer of the stream. A guest may not stop the stream."""

    __slots__ = ("_as_guest", "_request", "_stream")

    def __init__(self, request: web.Request, stream: HeldStream[Any] | Watched, *, as_guest: bool = False) -> None:
        self._request = request
        self._stream = stream
        self._as_guest = as_guest

    def __enter__(self) -> None:
        claim(self._request, self._stream)
        self._stream.attach(self.cut, as_guest=self._as_guest)

    def __exit__(self, *error: object) -> None:
        self._stream.detach(self.cut)

    def cut(self) -> None:
        """Closes the connection at once."""
        if self._request.transport is not None:
            self._request.transport.abort()


@contextmanager
def counted(stream: Watched, size: int) -> Iterator[None]:
    """Within the block, the stream counts the bytes of a body that is held until its client has read it."""
    stream.log.grow(size)
    try:
        yield
    finally:
        stream.log.grow(-size)


def claim(request: web.Request, stream: HeldStream[Any] | Watched) -> None:
    """The first request started the stream, and its log line has the record. Later requests only viewed it."""
    started = stream.claim()
    if started is None:
        request[EXCHANGE].viewed = stream.id
    else:
        request[EXCHANGE].started = started


async def start_with(ticket: str, request: web.Request, stream: Watched) -> bytes:
    """The start block for the client that asked, with its ticket."""
    block = start_block(stream.id, retry_ms=request[EXCHANGE].services.config.stream.retry_ms, ticket=ticket)
    if isinstance(stream, FollowedStream):
        await stream.publish()  # a stream of this process is published soon, and is looked for until then
    return block


async def opened(sink: EventStreamSink, stream: HeldStream[Any] | Watched, *, within: float) -> bool:
    """Sends the header after the first content, or after `within` seconds. Returns whether there was any content.

    Raises the GatewayError with which the stream failed before that.
    """
    log = stream.log
    spoke = await until(log, lambda: stream.has_content or log.ended, within=within)
    if stream.failure is not None and not stream.has_content:
        raise stream.failure.copy()
    await sink.open()
    return spoke


async def read_all(stream: Watched, add: Callable[[Entry], None]) -> None:
    """Calls `add` with all entries of a stream that has ended, in as many turns of the event loop as that needs."""
    for number, entry in enumerate(stream.log.entries, 1):
        add(entry)
        if number % ENTRIES_AT_ONCE == 0:
            await asyncio.sleep(0)


async def success(stream: HeldStream[Any] | Watched) -> None:
    """Waits until the answer is complete. Raises the GatewayError with which it failed."""
    await until(stream.log, lambda: stream.log.ended)
    if not stream.is_whole:
        failure = stream.failure
        raise Stopped() if failure is None else failure.copy()
