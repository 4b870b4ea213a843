"""The native surface: `GET /chat` and `POST /chat`, answered as events, as bare text, or as one JSON object.

A request is read and admitted, its stream starts, and the response is a viewer of the stream. An error before the first
byte is a status, and a later one is in the stream. A client that lost its connection sends the id of the last event
that it has, and gets the rest of the stream. The model is not asked again.
"""

from aiohttp import web

from gateway.admission.admit import admit, check_caller
from gateway.admission.auth import Caller
from gateway.admission.fields import Show, chat_request, query_fields, show_in, view_fields
from gateway.admission.limits import allowance
from gateway.config import Assistant
from gateway.errors import StreamNotFound
from gateway.handlers.answers import events, rest, text, whole
from gateway.handlers.negotiation import Representation
from gateway.handlers.reading import authenticate, idempotency_key, last_event_id, read_fields, read_query, wanted
from gateway.handlers.replies import Answer
from gateway.handlers.services import EXCHANGE
from gateway.log.views import read_event_id
from gateway.streams.watched import Watched


async def ask(request: web.Request) -> web.StreamResponse | Answer:
    query = read_query(request)
    caller = authenticate(request)
    answer = wanted(request)
    if last := last_event_id(request, query):
        return await _resumed(request, caller, query, last, as_text=answer is Representation.TEXT)
    stream, show = await _started(request, caller, query, is_kept=answer is Representation.EVENTS)
    match answer:
        case Representation.EVENTS:
            ticket = stream.tickets.issue(may_stop=True)  # at once, so that it is published with the stream
            return events(request, stream, show, ticket=ticket)
        case Representation.TEXT:
            return text(request, stream)
        case Representation.JSON:
            return whole(request, stream, show)


async def _started(
    request: web.Request, caller: Caller, query: dict[str, str], *, is_kept: bool
) -> tuple[Watched, Show]:
    exchange = request[EXCHANGE]
    services = exchange.services
    check_caller(services.config, caller)
    key = idempotency_key(request, query, caller)
    if request.method == "GET":
        asked = chat_request(query_fields(query))
    else:
        if key is None:  # with one, the stream may exist already
            await services.streams.check(allowance(caller, None, Assistant()))
        asked = chat_request(await read_fields(request, caller, query, services.config.server.max_body_bytes))
    admitted = admit(
        services.config,
        caller,
        asked,
        is_kept=is_kept,
        request_id=exchange.request_id,
        span=exchange.span,
    )
    return await services.streams.record(admitted, key), asked.show


async def _resumed(
    request: web.Request, caller: Caller, query: dict[str, str], last: str, *, as_text: bool
) -> web.StreamResponse | Answer:
    services = request[EXCHANGE].services
    if request.method == "GET":
        show = show_in(view_fields(query))
    else:
        show = show_in(await read_fields(request, caller, query, services.config.server.max_body_bytes))
    place = read_event_id(last)
    stream = None if place is None else await services.streams.seek(place.stream, number=place.number)
    if place is None or stream is None or stream.asked_at is not None or stream.owner != caller.name:
        raise StreamNotFound()
    if caller.key is None and not stream.opens_to_id:
        raise StreamNotFound()
    request[EXCHANGE].viewed = stream.id
    return rest(request, stream, place, show, as_text=as_text)
