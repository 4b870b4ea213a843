"""Parts of responses that several handlers use."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import GatewayError, Stopped
from gateway.handlers.services import LIMITS, SERVICES, STARTED, VIEWED
from gateway.log.views import start_block
from gateway.streams.generation import Generation
from gateway.streams.held import HeldStream
from gateway.streams.viewer import until

_encode_json = msgspec.json.Encoder().encode


def json_response(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=_encode_json(value), status=status, content_type="application/json")


def error_response(error: GatewayError) -> web.Response:
    response = json_response(error.body(), status=error.status)
    response.headers.update(error.headers)
    if not error.retryable and (error.status >= 500 or error.status == 409):
        response.headers["X-Should-Retry"] = "false"  # otherwise the OpenAI SDKs retry these statuses
    return response


@contextmanager
def attached(request: web.Request, stream: HeldStream[Any], *, as_guest: bool = False) -> Iterator[None]:
    """Within the block, the request is a viewer of the stream. A guest may not stop the stream."""
    streams = request.app[SERVICES].streams
    claim(request, stream)
    cut = partial(_cut, request)
    streams.attach(stream, cut, as_guest=as_guest)
    try:
        yield
    finally:
        streams.detach(stream, cut)


@contextmanager
def counted(stream: HeldStream[Any], size: int) -> Iterator[None]:
    """Within the block, the stream counts the bytes of a body that is held until its client has read it."""
    stream.log.grow(size)
    try:
        yield
    finally:
        stream.log.grow(-size)


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def claim(request: web.Request, stream: HeldStream[Any]) -> None:
    """The first request started the stream, and its log line has the record. Later requests only viewed it."""
    if stream.is_claimed:
        request[VIEWED] = stream.id
        return
    stream.is_claimed = True
    request[STARTED] = stream
    request[LIMITS] = stream.generation.reservation.headers


def ticketed_start(request: web.Request, stream: HeldStream[Any]) -> bytes:
    """The start block for the client that asked, with a ticket."""
    retry_ms = request.app[SERVICES].config.stream.retry_ms
    return start_block(stream.id, retry_ms=retry_ms, ticket=stream.tickets.issue(may_stop=True))


async def success(generation: Generation[Any]) -> None:
    """Waits until the answer is complete. Raises the GatewayError with which it failed."""
    await until(generation.log, lambda: generation.log.ended)
    if not generation.is_whole:
        raise Stopped() if generation.failure is None else generation.failure.copy()
