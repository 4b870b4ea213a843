"""Responses that an upstream makes itself: `POST /v1/responses` and what follows by id, for `api = "responses"`.

Bodies and events pass unchanged in both directions, so whatever the upstream can do is there: its own tools, files,
reasoning that is encrypted, the background. Its ids pass, too. `Places` says which upstream has a response, and whose
it is: see there.

The end of a streamed response is as in `completions`: an error in the middle is an `error` event, and then the body
ends cleanly. There is no event that could look like a success behind it.
"""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web

from gateway.admission.admit import check_key
from gateway.admission.admit_v1 import admit_completion, is_passed
from gateway.admission.auth import Caller
from gateway.admission.fields import Fields, completion_request, name_in, response_fields
from gateway.admission.limits import identity
from gateway.config import Api
from gateway.endpoints import Endpoint
from gateway.errors import AnswerTooLarge, Busy, GatewayError, PreviousResponseNotFound, TotalTimeout
from gateway.handlers.completions import passed_on
from gateway.handlers.replies import Answer
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.handlers.sinks import EventStreamSink, deliver
from gateway.log.views import response_view
from gateway.responses.head import stream_id
from gateway.sse import HEARTBEAT
from gateway.streams.idempotency import Key
from gateway.streams.surfaces import ResponsesSurface, cleaner, response_relay
from gateway.streams.viewer import Viewer, until
from gateway.upstream.client import UpstreamResponse
from gateway.upstream.dialects.responses import stored
from gateway.upstream.redaction import redact
from gateway.upstream.routing import Target, whole_upstream

logger = logging.getLogger(__name__)

_LARGEST = 33_554_432  # bytes of a response: as of other answers in one body


# Creating


def makes(request: web.Request, caller: Caller, fields: Fields) -> bool:
    """Whether the upstreams of the model make responses themselves. Raises the errors of `admit_completion`."""
    return is_passed(request[EXCHANGE].services.config, caller, name_in(fields, "model"), Endpoint.RESPONSES)


async def create(request: web.Request, caller: Caller, fields: Fields, key: Key | None) -> Answer:
    """Passes the request on, to the upstream of the previous response if there is one."""
    exchange = request[EXCHANGE]
    services = exchange.services
    told = response_fields(fields)
    upstream = None
    if told.previous is not None:
        upstream = await services.places.find(told.previous, caller.name, may_come=True)
        if upstream is None:
            raise PreviousResponseNotFound(param="previous_response_id")
    asked = admit_completion(
        services.config,
        caller,
        completion_request(fields),
        Endpoint.RESPONSES,
        is_kept=key is not None,
        in_background=told.background,
        upstream=upstream,
        request_id=exchange.request_id,
        span=exchange.span,
    )
    if not asked.request.route.targets:
        raise PreviousResponseNotFound(param="previous_response_id")
    return await passed_on(request, asked, key, ResponsesSurface(asked, services.places), response_view)


# By id


async def found(request: web.Request, caller: Caller) -> Target | None:
    """The upstream that has the response of the path. None if the caller has no such one.

    Raises Unauthorized or RedisUnavailable.
    """
    services, name = request[EXCHANGE].services, request.match_info["id"]
    check_key(services.config, caller)
    if not any(upstream.api is Api.RESPONSES for upstream in services.config.upstreams):
        return None
    stream = stream_id(name)
    if stream is not None and services.streams.find(stream) is not None:
        return None  # this process made the response itself, and needs nobody to say so
    upstream = await services.places.find(name, caller.name, may_come=stream is None)
    return None if upstream is None else whole_upstream(services.config, upstream, Endpoint.RESPONSES)


async def retrieve(request: web.Request, caller: Caller, target: Target, after: int | None) -> web.StreamResponse:
    """The response as it is, or the events behind number `after` if there is a number."""
    query = request.rel_url.raw_query_string
    path = f"/{request.match_info['id']}" + (f"?{query}" if query else "")
    if after is None:
        return await _whole(request, caller, "GET", target, path)
    services = request[EXCHANGE].services
    decoder = response_relay(target, whole=False, owner=caller.name, places=services.places, is_resumed=True)
    resumed = services.streams.resume(
        target, path, decoder, lambda number, entry: response_view(number + after + 1, entry)
    )
    heartbeat, log = services.config.stream.heartbeat_seconds, resumed.log
    try:
        spoke = await until(log, lambda: log.last > 0, within=heartbeat)
        if resumed.failure is not None and not resumed.has_begun:
            raise resumed.failure.copy()
        sink = EventStreamSink(request)
        await sink.open()
        if not spoke:
            await sink.write(HEARTBEAT)
        await Viewer(log, sink, heartbeat=heartbeat, bounds=request.app[BOUNDS]).run()
        return sink.response
    finally:
        await resumed.close()


async def cancel(request: web.Request, caller: Caller, target: Target) -> web.StreamResponse:
    return await _whole(request, caller, "POST", target, f"/{request.match_info['id']}/cancel")


async def delete(request: web.Request, target: Target) -> web.StreamResponse:
    """The reply is small and not counted: a lack of room would be told when the upstream has deleted the response."""
    name, places = request.match_info["id"], request[EXCHANGE].services.places
    body = await _asked(request, "DELETE", target, f"/{name}", lambda size: None)
    await places.remove(name)
    return await deliver(request, web.Response(body=body, content_type="application/json"))


async def _whole(request: web.Request, caller: Caller, method: str, target: Target, path: str) -> web.StreamResponse:
    with request[EXCHANGE].services.bodies.holding(identity(caller)) as count:
        body = await _asked(request, method, target, path, count)
        return await deliver(request, web.Response(body=body, content_type="application/json"))


async def _asked(request: web.Request, method: str, target: Target, path: str, count: Callable[[int], None]) -> bytes:
    """What the upstream says. `count` is told of every part. Raises a GatewayError."""
    services = request[EXCHANGE].services
    most = min(_LARGEST, services.bodies.largest)
    with services.descriptors.upstream():
        try:
            async with asyncio.timeout(target.timeouts.total):
                response = await services.client.ask_about(target, method, path, accept="application/json")
                return stored(await _read(response, most, count), cleaner(target))
        except TimeoutError:
            raise TotalTimeout() from None
        except Busy:  # which is not the upstream's
            raise
        except GatewayError as error:
            logger.warning("a response of upstream %s: %s", target.upstream.name, redact(error, target.upstream))
            raise


async def _read(response: UpstreamResponse, most: int, count: Callable[[int], None]) -> bytes:
    """All of the body, of at most `most` bytes. Raises UpstreamError, AnswerTooLarge or Busy."""
    try:
        _, part = await response.begin()
        body = bytearray()
        while part:
            body += part
            if len(body) > most:
                raise AnswerTooLarge()
            count(len(part))
            part = await response.read()
        await response.finish()
        return bytes(body)
    except BaseException:
        response.abort()
        raise
