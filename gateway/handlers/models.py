"""`GET /v1/models` and `GET /v1/models/{id}`: what a caller may name as `model`.

Those of its key, else those of `[[models]]`. Where neither says which there are, every name goes to the first upstream,
and so does the question.
"""

from typing import Any

from aiohttp import web

from gateway.admission import check_key
from gateway.auth import Caller
from gateway.config import Config
from gateway.downstream import deliver
from gateway.handlers.reading import identified
from gateway.handlers.responses import json_response
from gateway.handlers.services import SERVICES
from gateway.routing import unknown_model
from gateway.viewers import STALL_SECONDS


async def list_all(request: web.Request) -> web.StreamResponse:
    response = json_response({"object": "list", "data": await _models(request)})
    return await deliver(request, response, stall_seconds=STALL_SECONDS)


async def retrieve(request: web.Request) -> web.Response:
    models = await _models(request)
    for model in models:
        if model.get("id") == request.match_info["id"]:
            return json_response(model)
    raise unknown_model([str(model.get("id")) for model in models])


async def _models(request: web.Request) -> list[dict[str, Any]]:
    services = request.app[SERVICES]
    caller = identified(request)
    check_key(services.config, caller)
    names = _names(services.config, caller)
    if names is None:
        return await services.client.models(services.config.upstreams[0])
    return [{"id": name, "object": "model", "created": 0, "owned_by": "gateway"} for name in names]


def _names(config: Config, caller: Caller) -> list[str] | None:
    if caller.key is not None and caller.key.models:
        return caller.key.models
    return [model.name for model in config.models] or None
