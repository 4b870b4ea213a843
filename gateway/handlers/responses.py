"""What handlers answer with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import GatewayError, ShuttingDown
from gateway.generation import Generation
from gateway.handlers.services import LIMITS, STREAM_RECORD
from gateway.viewers import until

_encode_json = msgspec.json.Encoder().encode


def json_response(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=_encode_json(value), status=status, content_type="application/json")


def error_response(error: GatewayError) -> web.Response:
    response = json_response(error.body(), status=error.status)
    response.headers.update(error.headers)
    return response


@contextmanager
def attached(request: web.Request, generation: Generation[Any]) -> Iterator[None]:
    """The request watches what it asked for, and is charged with it."""
    request[STREAM_RECORD] = generation.record
    request[LIMITS] = generation.charge.headers
    generation.attach()
    try:
        yield
    finally:
        generation.detach()


async def success(generation: Generation[Any]) -> None:
    """Returns when the answer is there and whole. Raises the GatewayError that it failed with."""
    await until(generation.log, lambda: generation.log.ended)
    if not generation.is_whole:
        raise generation.failure or ShuttingDown()
