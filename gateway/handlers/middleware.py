"""What every request goes through: an id, the checks of who may ask at all, one error shape, one log line.

An exception becomes a status here, and only here, as long as no byte of the response is out. After that it is too late
for a status: the connection is broken off, so that nothing cut looks whole.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from os import urandom
from typing import Any, cast

from aiohttp import HttpVersion11, web

from gateway import errors
from gateway.admission.addresses import client_address
from gateway.config import Config
from gateway.endpoints import Endpoint
from gateway.handlers.origins import (
    allowed_fields,
    check_anonymous,
    check_page,
    check_prefetch,
    check_single,
    check_target,
    own_origin,
)
from gateway.handlers.replies import Answer, error_response
from gateway.handlers.services import EXCHANGE, NEIGHBOUR_CLIENT, SERVICES, Exchange, Services, is_from_neighbour
from gateway.handlers.sinks import send_bare
from gateway.messages.errors import error_body
from gateway.observe.metrics import Metrics
from gateway.observe.records import AccessRecord, StreamEndRecord, StreamRecord, log_access, log_stream_end
from gateway.observe.spans import RequestSpan
from gateway.streams.generation import Generation

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse | Answer]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")  # what is taken over from a proxy's or client's `x-request-id`
# What was meant to be a query and became a path may hold a ticket, or a prompt. Some clients encode it twice, and some
# add their fields with `&` where there is no `?`.
_LOST_QUERY = re.compile("%(?:25)*(?:3[Ff]|26)|&")
_LONGEST_PATH = 200  # characters of a path that the log keeps
_CLIENT_GONE = 499  # nginx's number for it; there is no standard one
_TRACED = frozenset({"/chat", "/streams", "/streams/{id}", "/v1/responses/{id}", *[f"/v1/{name}" for name in Endpoint]})
_CONTEXT = ("traceparent", "tracestate")  # https://www.w3.org/TR/trace-context/; two of the first are not valid
_MESSAGES = "/v1/messages"
_HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
_PREFLIGHT_SECONDS = "600"  # Chromium's own upper limit is 7200; ten minutes keep a changed rule from lingering


def answering(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler as aiohttp's types have it: it may return an Answer, which `observed` awaits."""
    return cast("Callable[[web.Request], Awaitable[web.StreamResponse]]", handler)


@web.middleware
async def observed(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A handler that streams returns its answer as a coroutine, and its own frame and all it holds are gone by then.

    Of ours, only this frame and the answer's live as long as a stream: 2 KiB less than with a call in each other.
    """
    exchange = _identified(request, request.app[SERVICES])
    if exchange.services.tracer is not None:
        _trace(request, exchange)
    loop = asyncio.get_running_loop()
    started, arrived, status, length = loop.time(), time.monotonic(), _CLIENT_GONE, 0
    try:
        try:
            response = _check(request, exchange.services) or await handler(request)
            if not isinstance(response, web.StreamResponse):
                response = await response
        except Exception as error:
            response = _instead(request, error)
        response = await _prepared(request, response)
        status, length = response.status, response.content_length or 0
        return response
    except errors.ClientGone:
        return web.Response(status=_CLIENT_GONE)  # nobody reads it
    finally:
        _log(request, exchange, status, request.writer.output_size or length, loop.time() - started)
        _count(exchange, arrived)


def _identified(request: web.Request, services: Services) -> Exchange:
    offered = request.headers.get("X-Request-ID", "")
    request_id = offered if _REQUEST_ID.fullmatch(offered) else urandom(16).hex()
    exchange = request[EXCHANGE] = Exchange(services, request_id, _client(request, services.config))
    return exchange


def _client(request: web.Request, config: Config) -> str:
    if is_from_neighbour(request):
        return request.headers.get(NEIGHBOUR_CLIENT, "")
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
    return client_address(request.remote, forwarded, config.server.trusted_proxies)


def _trace(request: web.Request, exchange: Exchange) -> None:
    """Begins the span of a request that asks, watches or stops a stream."""
    tracer, resource = exchange.services.tracer, request.match_info.route.resource
    if tracer is not None and resource is not None and resource.canonical in _TRACED:
        fields = {name: ",".join(request.headers.getall(name)) for name in _CONTEXT if name in request.headers}
        exchange.span = tracer.request(request.method, resource.canonical, _path(request), fields)


def _path(request: web.Request) -> str:
    return _LOST_QUERY.split(request.rel_url.raw_path, maxsplit=1)[0][:_LONGEST_PATH]


def _log(request: web.Request, exchange: Exchange, status: int, sent: int, seconds: float) -> None:
    caller, started, span = exchange.caller, exchange.started, exchange.span
    record = None if started is None else started.record
    key = None if caller is None else caller.name
    log_access(
        AccessRecord(
            request_id=exchange.request_id,
            client=exchange.client,
            key=key,
            method=request.method[:32],
            path=_path(request),
            status=status,
            seconds=round(seconds, 4),
            bytes=sent,
            viewed=exchange.viewed,
            trace_id=None if span is None else span.trace_id,
            stream=record,
        )
    )
    if span is not None:
        _end_span(exchange, span, status, record)
    if started is not None and started.record.end is None:
        end = StreamEndRecord(request_id=exchange.request_id, key=key, stream=started.record)
        started.generation.task.add_done_callback(lambda _: log_stream_end(end))


def _end_span(exchange: Exchange, span: RequestSpan, status: int, started: StreamRecord | None) -> None:
    if (viewed := exchange.viewed) is not None:
        stream = exchange.services.streams.find(viewed)
        span.watched(viewed, None if stream is None else stream.generation.span)
    span.ended(status=status, request_id=exchange.request_id, stream=started)


def _count(exchange: Exchange, arrived: float) -> None:
    """Counts the time from `arrived` to the first request to an upstream, which the loop's clock is too coarse for."""
    stream, counted = exchange.started, exchange.services.metrics
    if stream is None:
        return
    if (asked := stream.generation.first_asked_at) is not None:
        counted.asked_after(asked - arrived)
    else:
        stream.generation.task.add_done_callback(lambda _: _count_late(stream.generation, counted, arrived))


def _count_late(generation: Generation[Any], counted: Metrics, arrived: float) -> None:
    """For a request that ended before its stream asked an upstream: that of `POST /streams`."""
    if generation.first_asked_at is not None:
        counted.asked_after(generation.first_asked_at - arrived)


def _instead(request: web.Request, error: Exception) -> web.StreamResponse:
    """The response to a request that failed. Raises ClientGone where it is too late for one."""
    match error:
        case errors.ClientGone():
            raise error
        case errors.GatewayError():
            failure = error
        case web.HTTPException():
            failure = _translated(error)
        case _:
            logger.error("request %s broke on a fault of ours", request[EXCHANGE].request_id, exc_info=error)
            failure = errors.GatewayError()
    if request[EXCHANGE].response is None:
        if not isinstance(failure, errors.UpstreamError):
            request[EXCHANGE].services.metrics.refused(type(failure).code)
        return _told(request, failure)
    if not request.writer.output_size:
        return _bare_fault(request)
    if request.transport is not None:
        request.transport.abort()
    raise errors.ClientGone


async def _prepared(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The response, prepared. A fault in that is one of ours, and the client gets a status."""
    try:
        if not response.prepared:  # as a stream is
            await response.prepare(request)
        return response
    except ConnectionError as error:
        raise errors.ClientGone from error
    except Exception:
        logger.exception("the response to request %s cannot be prepared", request[EXCHANGE].request_id)
        return _bare_fault(request)


def _bare_fault(request: web.Request) -> web.StreamResponse:
    """A 500 past aiohttp's writer, whose state is unknown where a response could not be prepared."""
    response = _told(request, errors.GatewayError())
    return send_bare(request, response, {"X-Request-ID": request[EXCHANGE].request_id})


def _told(request: web.Request, error: errors.GatewayError) -> web.Response:
    """The error in the form of the API that the request speaks."""
    body = error_body(error, request[EXCHANGE].request_id) if _speaks_messages(request) else None
    return error_response(error, body)


def _speaks_messages(request: web.Request) -> bool:
    """Whether it speaks Anthropic's API. Its path says so, also where there is nothing at that path."""
    path = request.rel_url.path
    return path == _MESSAGES or path.startswith(f"{_MESSAGES}/")


def _translated(error: web.HTTPException) -> errors.GatewayError:
    """aiohttp's own refusals in the shape of ours."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return errors.MethodNotAllowed(f"This address takes {allowed}.", headers={"Allow": allowed})
    if error.status == 404:
        return errors.NotFound()
    if error.status == 413:
        return errors.BodyTooLarge()
    return errors.InvalidRequest() if 400 <= error.status < 500 else errors.GatewayError()


def _check(request: web.Request, services: Services) -> web.Response | None:
    """Whose page, which host: before anything else happens. Answers a preflight. Raises a GatewayError."""
    if request.remote is None:  # uvloop asks for the address late, and a client that has sent a reset has none
        raise errors.ClientGone
    server = services.config.server
    host = request.headers.get("Host")
    if host is not None and request.host != host:  # only where the target has a host of its own
        check_target(request.url.authority, host)
    path = request.rel_url.path  # aiohttp remembers a `request.path`, as the eleventh of ten in a small dictionary
    if path not in _HEALTH_PATHS:
        services.descriptors.check()
        check_single(request.headers)
        if path != "/":
            own = own_origin(server, scheme=request.scheme, host=request.host) if "Origin" in request.headers else ""
            check_page(server, request.headers, own_origin=own)
            check_prefetch(request.headers)
        if not services.keys:
            check_anonymous(server, request.headers, is_http_10=request.version < HttpVersion11)
    is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    return _preflight(request) if is_preflight else None


def _preflight(request: web.Request) -> web.Response:
    asked = ",".join(request.headers.getall("Access-Control-Request-Headers", []))
    server = request[EXCHANGE].services.config.server
    headers = {
        "Access-Control-Allow-Methods": "GET, POST, DELETE",
        "Access-Control-Allow-Headers": allowed_fields(server, request.headers.get("Origin"), asked),
        "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
    }
    if server.cors_origins:
        headers["Vary"] = "Origin, Access-Control-Request-Headers"
    return web.Response(status=204, headers=headers)


_EXPOSED = "Location, X-Request-ID, X-Gateway-Attempts, Retry-After, X-Should-Retry, " + ", ".join(
    f"x-ratelimit-{what}-{kind}"
    for what in ("limit", "remaining", "reset")
    for kind in ("requests", "tokens", "budget")
)


async def add_common_headers(request: web.Request, response: web.StreamResponse) -> None:
    """On every response, streamed or not."""
    headers, exchange = response.headers, request[EXCHANGE]
    services = exchange.services
    if (stream := exchange.started) is not None:
        headers.update(stream.generation.reservation.headers)
        if stream.generation.is_decided:
            headers["X-Gateway-Attempts"] = str(stream.record.attempts)
    headers["X-Request-ID"] = exchange.request_id
    if _speaks_messages(request):
        headers["Request-ID"] = exchange.request_id  # the name that Anthropic's SDKs read
    headers["Cache-Control"] = "no-store"
    headers["X-Content-Type-Options"] = "nosniff"  # text/plain from a model must not be taken for a page
    headers["Server"] = "gateway"
    if services.descriptors.busy or services.streams.closing or is_from_neighbour(request):
        response.force_close()
        headers["Connection"] = "close"  # aiohttp has decided on the field by now
    origin = request.headers.get("Origin")
    if services.config.server.cors_origins:
        headers.setdefault("Vary", "Origin")  # the answer to a preflight varies with more
        if origin in services.config.server.cors_origins:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = _EXPOSED
