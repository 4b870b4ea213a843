"""`GET /metrics`, for Prometheus. It is open to direct requests from this machine, and to those with the token."""

import hmac

from aiohttp import HttpVersion11, web

from gateway.errors import MetricsNotAllowed
from gateway.handlers.origins import is_direct
from gateway.handlers.services import EXCHANGE
from gateway.observe.metrics import CONTENT_TYPE


async def metrics(request: web.Request) -> web.Response:
    if not may_look(request):
        raise MetricsNotAllowed()
    body = request[EXCHANGE].services.metrics.text()
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


def may_look(request: web.Request) -> bool:
    """Whether the client may see what the gateway does for others."""
    if is_direct(request.remote, request.headers, is_http_10=request.version < HttpVersion11):
        return True
    token = request[EXCHANGE].services.config.metrics.token
    offered = request.headers.get("Authorization", "").encode(errors="surrogateescape")
    return token is not None and hmac.compare_digest(offered, f"Bearer {token.reveal()}".encode())
