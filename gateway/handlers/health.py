"""The health routes: whether the process is alive, and whether it accepts new work. While it drains, it does not."""

from aiohttp import web

from gateway.handlers.metrics import may_look
from gateway.handlers.replies import json_response
from gateway.handlers.services import EXCHANGE
from gateway.streams.registry import Streams


async def healthz(request: web.Request) -> web.Response:
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    streams = request[EXCHANGE].services.streams
    detail = _detail(streams) if may_look(request) else {}
    if streams.closing:
        return json_response({"status": "draining", **detail}, status=503)
    return json_response({"status": "ready", **detail})


def _detail(streams: Streams) -> dict[str, int | str]:
    """Redis does not decide whether the process accepts work: without it, answers run as before."""
    detail: dict[str, int | str] = {"running": len(streams), "viewers": streams.viewers}
    if streams.sharing is not None:
        detail["redis"] = "up" if streams.sharing.connection.is_up else "away"
    return detail
