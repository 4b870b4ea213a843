"""Streams with an address: `POST /streams` starts one, `GET` watches it, and `DELETE` stops it.

A page without a key gets the address, which contains a ticket, from its backend. A stream that does not exist and one
that the ticket or key does not open get the same 404.
"""

from aiohttp import web

from gateway.admission.admit import admit, check_caller
from gateway.admission.fields import chat_request, show_in, view_fields
from gateway.admission.limits import allowance
from gateway.config import Assistant
from gateway.errors import StreamNotFound, Unauthorized
from gateway.handlers.answers import events, rest, text
from gateway.handlers.negotiation import Representation
from gateway.handlers.reading import (
    authenticate,
    idempotency_key,
    last_event_id,
    read_fields,
    read_query,
    secret,
    today,
    wanted,
)
from gateway.handlers.replies import Answer, claim, json_response
from gateway.handlers.services import EXCHANGE
from gateway.handlers.sinks import deliver
from gateway.log.views import EventId, read_event_id, start_block
from gateway.streams.watched import Watched


async def create(request: web.Request) -> web.Response:
    exchange = request[EXCHANGE]
    services = exchange.services
    query = read_query(request)
    caller = authenticate(request)
    check_caller(services.config, caller)
    key = idempotency_key(request, query, caller)
    if key is None:  # with one, the stream may exist already
        await services.streams.check(allowance(caller, None, Assistant()))
    fields = await read_fields(request, caller, query, services.config.server.max_body_bytes)
    admitted = admit(
        services.config,
        caller,
        chat_request(fields),
        is_kept=True,
        opens_to_id=False,  # it stands in the address of those who may only watch, or whose ticket has expired
        request_id=exchange.request_id,
        span=exchange.span,
    )
    stream = await services.streams.record(admitted, key)
    stream.expect()
    claim(request, stream)
    response = _created(request, stream)
    await stream.publish()  # behind the tickets, which may be sent to any process
    return response


def _created(request: web.Request, stream: Watched) -> web.Response:
    """The body of the response. Addresses start with `public_url`, or with `/` if that is not set."""
    base = (request[EXCHANGE].services.config.server.public_url or "").rstrip("/")
    address = f"{base}/streams/{stream.id}"
    ticket, viewing = stream.tickets.issue(may_stop=True), stream.tickets.issue(may_stop=False)
    body = {
        "id": stream.id,
        "url": f"{address}?ticket={ticket}",
        "ticket": ticket,
        "viewer_url": f"{address}?ticket={viewing}",
        "expires_in": stream.tickets.expires_in,
    }
    response = json_response(body, status=201)
    response.headers["Location"] = address
    return response


async def watch(request: web.Request) -> web.StreamResponse | Answer:
    query = read_query(request)
    last = last_event_id(request, query)
    stream, may_stop = await _opened(request, query, last)
    answer = wanted(request)
    if answer is Representation.JSON:
        parts = request[EXCHANGE].services.streams.snapshot(stream)
        return await deliver(request, web.Response(content_type="application/json"), parts=parts)
    show, as_text = show_in(view_fields(query)), answer is Representation.TEXT
    if last:
        return rest(request, stream, _place(stream, last), show, as_text=as_text, as_guest=not may_stop)
    if as_text:
        return text(request, stream, as_guest=not may_stop)
    start = start_block(stream.id, retry_ms=request[EXCHANGE].services.config.stream.retry_ms)
    return events(request, stream, show, start=start, as_guest=not may_stop)


async def stop(request: web.Request) -> web.Response:
    """Stops the stream. If it has ended already, nothing changes."""
    stream, may_stop = await _opened(request, read_query(request))
    if not may_stop:
        raise StreamNotFound()
    await stream.stop()
    return web.Response(status=204)


async def _opened(request: web.Request, query: dict[str, str], last: str = "") -> tuple[Watched, bool]:
    """The stream of the path, and whether the request may stop it.

    `last` is the id of the last event that the client has. The stream is opened by its key, or by a ticket as long as
    that key is valid. Raises StreamNotFound. Raises TwoKeys whether or not the stream exists.
    """
    services = request[EXCHANGE].services
    try:
        caller = authenticate(request)
    except Unauthorized:
        caller = None  # a ticket may be sent in place of a key
    ticket = query.get("ticket") or secret(request)
    place = read_event_id(last)
    stream = await services.streams.seek(request.match_info["id"], number=0 if place is None else place.number)
    if stream is None or stream.asked_at is not None:
        raise StreamNotFound()
    is_owner = caller is not None and caller.key is not None and caller.name == stream.owner
    is_valid = services.keys.holds(stream.owner, today())
    if not is_owner and is_valid and not stream.tickets.admit(ticket, to_stop=False):
        await services.streams.learn_tickets(stream)
    if not is_owner and not (is_valid and stream.tickets.admit(ticket, to_stop=False)):
        raise StreamNotFound()
    request[EXCHANGE].viewed = stream.id
    return stream, is_owner or stream.tickets.admit(ticket, to_stop=True)


def _place(stream: Watched, last: str) -> EventId:
    place = read_event_id(last)
    if place is None or place.stream != stream.id:
        raise StreamNotFound()
    return place
