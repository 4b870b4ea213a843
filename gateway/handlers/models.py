"""`GET /v1/models` and `GET /v1/models/{id}`: the models that a caller may ask.

They are those of the caller's key, or else those of `[[models]]`, with the fields that their upstreams list. If neither
exists, every name goes to the first upstream, and the list is that of this upstream.
"""

from collections.abc import Sequence

from aiohttp import web

from gateway.admission.admit import check_key
from gateway.admission.auth import Caller
from gateway.admission.limits import identity
from gateway.config import Config
from gateway.handlers.reading import authenticate
from gateway.handlers.replies import json_response
from gateway.handlers.services import EXCHANGE
from gateway.handlers.sinks import deliver
from gateway.upstream.dialects.listing import ModelFields, text_in
from gateway.upstream.routing import unknown_model


async def list_all(request: web.Request) -> web.StreamResponse:
    services, caller = request[EXCHANGE].services, authenticate(request)
    names, catalogue = _names(services.config, caller), services.catalogue
    models = await catalogue.everything() if names is None else await catalogue.models(names)
    response = json_response({"object": "list", "data": models})
    with services.bodies.holding(identity(caller)) as count:  # a list may have megabytes
        count(response.content_length or 0)
        return await deliver(request, response)


async def retrieve(request: web.Request) -> web.Response:
    services, asked = request[EXCHANGE].services, request.match_info["id"]
    names, catalogue = _names(services.config, authenticate(request)), services.catalogue
    if names is None:
        return json_response(_find(asked, await catalogue.everything()))
    if asked not in names:
        raise unknown_model(names)
    (model,) = await catalogue.models([asked])
    return json_response(model)


def _find(name: str, models: Sequence[ModelFields]) -> ModelFields:
    for model in models:
        if text_in(model, "id") == name:
            return model
    raise unknown_model([known for model in models if (known := text_in(model, "id")) is not None])


def _names(config: Config, caller: Caller) -> list[str] | None:
    """The models that the caller may ask; None for all of the first upstream. Raises Unauthorized."""
    check_key(config, caller)
    if caller.key is not None and caller.key.models:
        return caller.key.models
    return [model.name for model in config.models] or None
