"""The health routes: whether the process is alive, and whether it accepts requests."""

from aiohttp import web

from gateway.handlers.responses import json_response
from gateway.handlers.services import SERVICES


async def healthz(request: web.Request) -> web.Response:
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    if request.app[SERVICES].streams.closing:
        return json_response({"status": "shutting down"}, status=503)
    return json_response({"status": "ready"})
