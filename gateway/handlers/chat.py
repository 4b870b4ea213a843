"""The native surface: `GET /chat` and `POST /chat`, as events, as bare text, or as one JSON object.

A request is read and admitted; the stream starts; the response is a viewer of it. What fails before the first byte
is a status, what fails after it is in the stream. A client that lost its connection comes back with the id of the last
event that it has, and gets the rest of that stream: the model is not asked again.
"""

from aiohttp import web

from gateway.admission import Show, admit, check_caller, shown
from gateway.auth import Caller
from gateway.errors import StreamNotFound
from gateway.fields import body_fields, query_fields, view_fields
from gateway.handlers.answers import events, rest, text, whole
from gateway.handlers.reading import idempotency_key, identified, last_event_id, read_body, read_query, wanted
from gateway.handlers.responses import attached, ticketed_start
from gateway.handlers.services import SERVICES, VIEWED
from gateway.negotiation import Representation
from gateway.views import read_event_id


async def ask(request: web.Request) -> web.StreamResponse:
    services = request.app[SERVICES]
    query = read_query(request)
    caller = identified(request)
    last = last_event_id(request, query)
    if not last:
        check_caller(services.config, caller)
    fields = view_fields(query)
    if request.method == "POST":
        fields |= body_fields(await read_body(request, services.config.server.max_body_bytes))
    answer = wanted(request)
    if last:
        return await _resumed(request, caller, last, shown(fields), as_text=answer is Representation.TEXT)
    if request.method == "GET":
        fields = query_fields(query)
    asked = admit(services.config, caller, fields, is_kept=answer is Representation.EVENTS)
    stream = await services.streams.record(asked.order, idempotency_key(request, query, caller))
    with attached(request, stream):
        match answer:
            case Representation.EVENTS:
                return await events(request, stream, asked.show, start=ticketed_start(request, stream))
            case Representation.TEXT:
                return await text(request, stream)
            case Representation.JSON:
                return await whole(request, stream, asked.show)


async def _resumed(request: web.Request, caller: Caller, last: str, show: Show, *, as_text: bool) -> web.StreamResponse:
    place = read_event_id(last)
    stream = None if place is None else request.app[SERVICES].streams.find(place[0])
    if place is None or stream is None or stream.owner != caller.name:
        raise StreamNotFound()
    request[VIEWED] = stream.id
    return await rest(request, stream, place[1], show, as_text=as_text)
