"""What follows a response by its id: `GET`, `POST .../cancel` and `DELETE` of `/v1/responses/{id}`.

`GET` gives what there is of the response, and with `stream=true&starting_after=N` the events behind number N, as they
come. The model is not asked again. Responses that an upstream has made are asked of that: see `upstream_responses`.
"""

from aiohttp import web

from gateway.admission.admit import check_key
from gateway.admission.auth import Caller
from gateway.endpoints import Endpoint
from gateway.errors import InvalidRequest, ResponseNotFound
from gateway.handlers import upstream_responses
from gateway.handlers.reading import authenticate, read_query
from gateway.handlers.replies import Answer, Attached, json_response
from gateway.handlers.response_replies import read_again, send_events, send_response
from gateway.handlers.services import EXCHANGE
from gateway.responses.events import ResponseEvents
from gateway.responses.head import Head, read_head, response_id, stream_id
from gateway.streams.watched import Watched

_QUERY = frozenset({"stream", "starting_after"})  # the SDKs send `include[]`, too, once for each value
_LONGEST_NUMBER = 12  # digits of the number of an event


async def retrieve(request: web.Request) -> web.StreamResponse | Answer:
    query = read_query(request, only=_QUERY)
    caller = authenticate(request)
    after = _starting_after(query) if query.get("stream", "false") in ("true", "1") else None
    if (target := await upstream_responses.found(request, caller)) is not None:
        return upstream_responses.retrieve(request, caller, target, after)
    stream, head = await found(request, caller, request.match_info["id"])
    return await send_response(request, stream, head) if after is None else _rest(request, stream, head, after)


async def cancel(request: web.Request) -> web.StreamResponse:
    """Stops the response, and answers with what there is of it. If it has ended already, nothing changes."""
    caller = authenticate(request)
    if (target := await upstream_responses.found(request, caller)) is not None:
        return await upstream_responses.cancel(request, caller, target)
    stream, head = await found(request, caller, request.match_info["id"])
    await stream.stop()
    return await send_response(request, stream, head)


async def delete(request: web.Request) -> web.StreamResponse:
    """Stops the response, and forgets it."""
    caller = authenticate(request)
    if (target := await upstream_responses.found(request, caller)) is not None:
        return await upstream_responses.delete(request, target)
    stream, _ = await found(request, caller, request.match_info["id"])
    await stream.delete()
    return json_response({"id": response_id(stream.id), "object": "response", "deleted": True})


async def _rest(request: web.Request, stream: Watched, head: Head, after: int) -> web.StreamResponse:
    """The events behind number `after`."""
    with Attached(request, stream):
        stream.count_resume()
        events = ResponseEvents(stream.id, head, after=after)
        start = events.begin()
        cursor, more = await read_again(stream, events, until=after)
        return await send_events(request, stream, events, start + more, cursor)


def _starting_after(query: dict[str, str]) -> int:
    text = query.get("starting_after", "")
    if not text:
        return -1
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER):
        raise InvalidRequest("`starting_after` must be the number of an event.", param="starting_after")
    return int(text)


async def found(request: web.Request, caller: Caller, name: str) -> tuple[Watched, Head]:
    """A response that the caller has stored. Raises ResponseNotFound."""
    services = request[EXCHANGE].services
    check_key(services.config, caller)
    known = stream_id(name)
    if known is None:
        raise ResponseNotFound()
    stream = await services.streams.seek(known)
    if stream is None or stream.asked_at is not Endpoint.RESPONSES or stream.owner != caller.name:
        raise ResponseNotFound()
    if not stream.head:  # it is that of an upstream, and was recorded for an idempotency key
        raise ResponseNotFound()
    head = read_head(stream.head)
    if not head.store:
        raise ResponseNotFound()
    request[EXCHANGE].viewed = stream.id
    return stream, head
