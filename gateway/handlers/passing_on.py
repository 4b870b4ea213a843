"""Passes requests on to the process that holds their stream, if it is not this one.

A request names its stream by an id or by an idempotency key. The other process does all that it would do for a direct
request: it checks the credentials, and writes the response. This one only relays bytes. A process whose port was taken
over also passes new work on, which comes on connections that were open before.
"""

from typing import Any

from aiohttp import web

from gateway.endpoints import Endpoint
from gateway.errors import ShuttingDown, StreamNotFound
from gateway.handlers.middleware import Handler
from gateway.handlers.reading import IDEMPOTENCY, authenticate, idempotency_key, last_event_id, read_query
from gateway.handlers.relay import relay
from gateway.handlers.replies import Answer
from gateway.handlers.services import EXCHANGE, is_from_neighbour
from gateway.handover.neighbours import Neighbours
from gateway.log.views import read_event_id
from gateway.observe.metrics import PassedOn
from gateway.responses.head import stream_id
from gateway.streams.epoch import epoch_of

# They take an idempotency key.
_KEYED = frozenset({"/chat", "/streams", "/v1/chat/completions", "/v1/messages", "/v1/responses"})
_NEW_WORK = frozenset({*_KEYED, *[f"/v1/{name}" for name in Endpoint], "/readyz"})
_RETRY = {"Retry-After": "1"}


@web.middleware
async def passing_on(request: web.Request, handler: Handler) -> Any:
    neighbours = request[EXCHANGE].services.neighbours
    assert neighbours is not None
    passed = await _passed(request, neighbours)
    return await handler(request) if passed is None else passed


async def _passed(request: web.Request, neighbours: Neighbours) -> Answer | None:
    path = request.rel_url.path
    if path.startswith("/streams/"):
        return await _to_holder(request, neighbours, request.match_info.get("id", ""))
    if path.startswith("/v1/responses/"):
        held = stream_id(request.match_info.get("id", ""))
        return None if held is None else await _to_holder(request, neighbours, held)
    if path not in _NEW_WORK:
        return None
    if path in _KEYED:
        query = read_query(request, only=IDEMPOTENCY if path.startswith("/v1/") else None)
        if path == "/chat" and (last := last_event_id(request, query)):
            place = read_event_id(last)
            return None if place is None else await _to_holder(request, neighbours, place.stream)
        if "Idempotency-Key" in request.headers or "idempotency_key" in query:
            key = idempotency_key(request, query, authenticate(request))
            if key is not None and request[EXCHANGE].services.streams.knows(key):
                return None
            if key is not None and not is_from_neighbour(request) and (holder := await neighbours.holder(*key)):
                gone = ShuttingDown(headers=_RETRY)
                return relay(request, neighbours, holder, PassedOn.IDEMPOTENCY_KEY, gone=gone)
    return await _to_successor(request, neighbours)


async def _to_holder(request: web.Request, neighbours: Neighbours, stream_id: str) -> Answer | None:
    epoch = epoch_of(stream_id)
    if epoch is None or is_from_neighbour(request) or not await neighbours.alive(epoch):
        return None
    request[EXCHANGE].viewed = stream_id
    return relay(request, neighbours, epoch, PassedOn.STREAM, gone=StreamNotFound())


async def _to_successor(request: web.Request, neighbours: Neighbours) -> Answer | None:
    """A successor may have one in turn. None leads back, so a request that was passed on comes to an end."""
    successor = neighbours.successor
    if successor is None or not await neighbours.alive(successor):
        return None
    return relay(request, neighbours, successor, PassedOn.NEW, gone=ShuttingDown(headers=_RETRY))
