"""`GET /v1/models` and `GET /v1/models/{id}`: what a caller may name as `model`.

Those of its key, else those of `[[models]]`. Where neither says which there are, every name goes to the first upstream,
and so does the question.
"""

from typing import Any

from aiohttp import web

from gateway.auth import Caller
from gateway.errors import Unauthorized
from gateway.handlers.reading import identified
from gateway.handlers.responses import json_response
from gateway.handlers.services import SERVICES, Services
from gateway.routing import unknown_model


async def list_all(request: web.Request) -> web.Response:
    return json_response({"object": "list", "data": await _models(request)})


async def retrieve(request: web.Request) -> web.Response:
    models = await _models(request)
    for model in models:
        if model.get("id") == request.match_info["id"]:
            return json_response(model)
    raise unknown_model([str(model.get("id")) for model in models])


async def _models(request: web.Request) -> list[dict[str, Any]]:
    services = request.app[SERVICES]
    caller = identified(request)
    if caller.key is None and services.config.keys and not services.config.server.allow_anonymous:
        raise Unauthorized()
    names = _names(services, caller)
    if names is None:
        return await services.client.models(services.config.upstreams[0])
    return [{"id": name, "object": "model", "created": 0, "owned_by": "gateway"} for name in names]


def _names(services: Services, caller: Caller) -> list[str] | None:
    config = services.config
    if caller.key is not None and caller.key.models:
        return caller.key.models
    return [model.name for model in config.models] or None
