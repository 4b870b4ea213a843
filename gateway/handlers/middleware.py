"""What every request goes through: `observed` (an id, one error shape, one log line), then `guarded` (who may).

An exception becomes a status here, and only here, as long as no byte of the response is out. After that it is too late
for a status: the connection is broken off, so that nothing cut looks whole.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway import errors
from gateway.admission.addresses import client_address
from gateway.handlers.origins import (
    allowed_fields,
    check_anonymous,
    check_page,
    check_prefetch,
    check_single,
    check_target,
    own_origin,
)
from gateway.handlers.responses import error_response
from gateway.handlers.services import CALLER, CLIENT, LIMITS, REQUEST_ID, RESPONSE, SERVICES, STARTED, VIEWED
from gateway.handlers.sinks import send_bare
from gateway.observe.records import AccessRecord, StreamEndRecord, log_access, log_stream_end

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")  # what is taken over from a proxy's or client's `x-request-id`
_ENCODED_QUERY = re.compile("%3[Ff]")  # what was meant to be a query and became a path may hold a ticket, or a prompt
_LONGEST_PATH = 200  # characters of a path that the log keeps
_CLIENT_GONE = 499  # nginx's number for it; there is no standard one
_HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
_PREFLIGHT_SECONDS = "600"  # Chromium's own upper limit is 7200; ten minutes keep a changed rule from lingering


@web.middleware
async def observed(request: web.Request, handler: Handler) -> web.StreamResponse:
    offered = request.headers.get("X-Request-ID", "")
    request[REQUEST_ID] = offered if _REQUEST_ID.fullmatch(offered) else secrets.token_hex(16)
    proxies = request.app[SERVICES].config.server.trusted_proxies
    request[CLIENT] = client_address(request.remote, ",".join(request.headers.getall("X-Forwarded-For", [])), proxies)
    loop = asyncio.get_running_loop()
    started, status, length = loop.time(), _CLIENT_GONE, 0
    try:
        if request.remote is None:  # uvloop asks for the address late, and a client that has sent a reset has none
            raise errors.ClientGone
        response = await _answered(request, handler)
        status, length = response.status, response.content_length or 0
        return response
    except errors.ClientGone:
        return web.Response(status=_CLIENT_GONE)  # nobody reads it
    finally:
        _log(request, status, request.writer.output_size or length, loop.time() - started)


def _log(request: web.Request, status: int, sent: int, seconds: float) -> None:
    caller, started = request.get(CALLER), request.get(STARTED)
    key = None if caller is None else caller.name
    log_access(
        AccessRecord(
            request_id=request[REQUEST_ID],
            client=request[CLIENT],
            key=key,
            method=request.method[:32],
            path=_ENCODED_QUERY.split(request.rel_url.raw_path, maxsplit=1)[0][:_LONGEST_PATH],
            status=status,
            seconds=round(seconds, 4),
            bytes=sent,
            viewed=request.get(VIEWED),
            stream=None if started is None else started.record,
        )
    )
    if started is not None and started.record.end is None:
        end = StreamEndRecord(request_id=request[REQUEST_ID], key=key, stream=started.record)
        started.generation.task.add_done_callback(lambda _: log_stream_end(end))


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Prepares the response, too: a fault in that is one of ours, and the client gets a status."""
    try:
        response = await _response(request, handler)
        await response.prepare(request)
        return response
    except errors.ClientGone:
        raise
    except ConnectionError as error:
        raise errors.ClientGone() from error
    except Exception:
        logger.exception("the response to request %s cannot be prepared", request[REQUEST_ID])
        return _bare_fault(request)


async def _response(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except errors.GatewayError as error:
        failure = error
    except web.HTTPException as error:
        failure = _translated(error)
    except errors.ClientGone:
        raise
    except Exception:
        logger.exception("request %s broke on a fault of ours", request[REQUEST_ID])
        failure = errors.GatewayError()
    if RESPONSE not in request:
        return error_response(failure)
    if not request.writer.output_size:
        return _bare_fault(request)
    if request.transport is not None:
        request.transport.abort()
    raise errors.ClientGone()


def _bare_fault(request: web.Request) -> web.StreamResponse:
    """A 500 past aiohttp's writer, whose state is unknown where a response could not be prepared."""
    return send_bare(request, error_response(errors.GatewayError()), {"X-Request-ID": request[REQUEST_ID]})


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


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whose page, which host: before anything else happens, the address being there included."""
    server = request.app[SERVICES].config.server
    host = request.headers.get("Host")
    if host is not None and request.host != host:  # only where the target has a host of its own
        check_target(request.url.authority, host)
    if request.path not in _HEALTH_PATHS:
        request.app[SERVICES].descriptors.check()
        check_single(request.headers)
        if request.path != "/":
            check_page(server, request.headers, own_origin=own_origin(server, scheme=request.scheme, host=request.host))
            check_prefetch(request.headers)
        if not request.app[SERVICES].keys:
            check_anonymous(server, request.headers)
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        return _preflight(request)
    return await handler(request)


def _preflight(request: web.Request) -> web.Response:
    asked = ",".join(request.headers.getall("Access-Control-Request-Headers", []))
    server = request.app[SERVICES].config.server
    headers = {
        "Access-Control-Allow-Methods": "GET, POST, DELETE",
        "Access-Control-Allow-Headers": allowed_fields(server, request.headers.get("Origin"), asked),
        "Access-Control-Max-Age": _PREFLIGHT_SECONDS,
    }
    if server.cors_origins:
        headers["Vary"] = "Origin, Access-Control-Request-Headers"
    return web.Response(status=204, headers=headers)


_EXPOSED = "Location, X-Request-ID, Retry-After, X-Should-Retry, " + ", ".join(
    f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")
)


async def add_common_headers(request: web.Request, response: web.StreamResponse) -> None:
    """On every response, streamed or not."""
    headers = response.headers
    headers.update(request.get(LIMITS, {}))
    headers["X-Request-ID"] = request.get(REQUEST_ID) or secrets.token_hex(16)
    headers["Cache-Control"] = "no-store"
    headers["X-Content-Type-Options"] = "nosniff"  # text/plain from a model must not be taken for a page
    headers["Server"] = "gateway"
    if request.app[SERVICES].descriptors.busy:
        response.force_close()
        headers["Connection"] = "close"  # aiohttp has decided on the field by now
    origin = request.headers.get("Origin")
    if request.app[SERVICES].config.server.cors_origins:
        headers.setdefault("Vary", "Origin")  # the answer to a preflight varies with more
        if origin in request.app[SERVICES].config.server.cors_origins:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = _EXPOSED
