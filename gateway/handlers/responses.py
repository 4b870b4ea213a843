"""Values as JSON responses."""

from typing import Any

import msgspec
from aiohttp import web

from gateway.errors import GatewayError

_encode_json = msgspec.json.Encoder().encode


def json_response(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=_encode_json(value), status=status, content_type="application/json")


def error_response(error: GatewayError) -> web.Response:
    response = json_response(error.body(), status=error.status)
    response.headers.update(error.headers)
    return response
