"""Streams by their address: `POST /streams` starts one, `GET` watches it, `DELETE` stops it.

A page that has no key gets the address from its backend, with a ticket in it. What a ticket or a key does not open, and
what is not there, is the same 404.
"""

from aiohttp import web

from gateway.admission.admit import admit, check_caller, shown
from gateway.admission.fields import view_fields
from gateway.admission.limits import allowance
from gateway.config import Assistant
from gateway.entries import EndReason
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
from gateway.handlers.responses import attached, claim, json_response
from gateway.handlers.services import SERVICES, VIEWED
from gateway.handlers.sinks import deliver
from gateway.log.base import StreamLog
from gateway.log.views import read_event_id, start_block
from gateway.streams.held import HeldStream
from gateway.streams.viewer import STALL_SECONDS


async def create(request: web.Request) -> web.Response:
    services = request.app[SERVICES]
    query = read_query(request)
    caller = authenticate(request)
    check_caller(services.config, caller)
    key = idempotency_key(request, query, caller)
    if key is None:  # else the stream may be there already
        await services.streams.check(allowance(caller, None, Assistant()))
    fields = view_fields(query) | await read_fields(request, caller, services.config.server.max_body_bytes)
    asked = admit(services.config, caller, fields, is_kept=True)
    stream = await services.streams.record(asked.request, key)
    services.streams.expect(stream)
    claim(request, stream)
    return _created(request, stream)


def _created(request: web.Request, stream: HeldStream[StreamLog]) -> web.Response:
    """Addresses start with `public_url` where there is one, and with `/` else."""
    base = (request.app[SERVICES].config.server.public_url or "").rstrip("/")
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


async def watch(request: web.Request) -> web.StreamResponse:
    query = read_query(request)
    stream, may_stop = _opened(request, query)
    answer = wanted(request)
    if answer is Representation.JSON:
        parts = request.app[SERVICES].streams.snapshot(stream)
        return await deliver(
            request, web.Response(content_type="application/json"), stall_seconds=STALL_SECONDS, parts=parts
        )
    show, as_text = shown(view_fields(query)), answer is Representation.TEXT
    last = last_event_id(request, query)
    if last:
        return await rest(request, stream, _cursor(stream, last), show, as_text=as_text, as_guest=not may_stop)
    with attached(request, stream, as_guest=not may_stop):
        if as_text:
            return await text(request, stream)
        start = start_block(stream.id, retry_ms=request.app[SERVICES].config.stream.retry_ms)
        return await events(request, stream, show, start=start)


async def stop(request: web.Request) -> web.Response:
    """Stopping what has ended changes nothing, and is no error."""
    stream, may_stop = _opened(request, read_query(request))
    if not may_stop:
        raise StreamNotFound()
    stream.generation.interrupt(EndReason.STOPPED)
    return web.Response(status=204)


def _opened(request: web.Request, query: dict[str, str]) -> tuple[HeldStream[StreamLog], bool]:
    """The stream of the path, if the request holds what opens it, and whether that may stop it, too.

    A ticket opens it, as long as the key that made it is valid, and so does that key itself. Raises StreamNotFound,
    and TwoKeys whether or not there is such a stream.
    """
    services = request.app[SERVICES]
    try:
        caller = authenticate(request)
    except Unauthorized:
        caller = None  # a ticket may stand in the place of a key
    ticket = query.get("ticket") or secret(request)
    stream = services.streams.find(request.match_info["id"])
    if stream is None:
        raise StreamNotFound()
    is_owner = caller is not None and caller.key is not None and caller.name == stream.owner
    is_valid = services.keys.holds(stream.owner, today())
    if not is_owner and not (is_valid and stream.tickets.admit(ticket, to_stop=False)):
        raise StreamNotFound()
    request[VIEWED] = stream.id
    return stream, is_owner or stream.tickets.admit(ticket, to_stop=True)


def _cursor(stream: HeldStream[StreamLog], last: str) -> int:
    place = read_event_id(last)
    if place is None or place[0] != stream.id:
        raise StreamNotFound()
    return place[1]
