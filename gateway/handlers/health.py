"""The health routes: whether the process is alive, and whether it accepts new work. While it drains, it does not."""

from aiohttp import web

from gateway.handlers.metrics import may_look
from gateway.handlers.responses import json_response
from gateway.handlers.services import EXCHANGE


async def healthz(request: web.Request) -> web.Response:
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    streams = request[EXCHANGE].services.streams
    detail = {"running": len(streams), "viewers": streams.viewers} if may_look(request) else {}
    if streams.closing:
        return json_response({"status": "draining", **detail}, status=503)
    return json_response({"status": "ready", **detail})
