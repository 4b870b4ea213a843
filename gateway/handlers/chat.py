"""The native surface: `GET /chat` and `POST /chat`, as events, as bare text, or as one JSON object.

A request is read and admitted; the generation starts; the response is a viewer of it. What fails before the first byte
is a status, what fails after it is in the stream.
"""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from aiohttp import HttpVersion11, web

from gateway.admission import Asked, admit, read_body, read_query, view_fields
from gateway.completion import completion
from gateway.downstream import EventStreamSink, TextSink, deliver
from gateway.entries import EndReason
from gateway.errors import (
    BodyTimeout,
    BodyTooLarge,
    InvalidRequest,
    MediaTypeNotSupported,
    QueryTooLong,
    ShuttingDown,
    StreamNotFound,
)
from gateway.generation import Generation
from gateway.handlers.responses import json_response
from gateway.handlers.services import SERVICES, STREAM_RECORD
from gateway.negotiation import Representation, negotiate
from gateway.viewers import STALL_SECONDS, Frames, Viewer, ended
from gateway.views import sse_view, start_block, text_view

_LONGEST_QUERY = 8192  # bytes: what proxies and servers commonly take in a request line
_MOST_FIELDS = 100  # in a query: ours has five
_BODY_SECONDS = 30.0  # for a megabyte that is 280 kbit/s; slower is an attack or a phone in a tunnel


async def ask(request: web.Request) -> web.StreamResponse:
    services = request.app[SERVICES]
    query = _query(request)
    _refuse_unknown_stream(request, query)
    fields = read_query(query) if request.method == "GET" else view_fields(query) | read_body(await _body(request))
    asked = admit(services.config, fields)
    generation = services.generations.start(asked.target, asked.body, model_asked=asked.model)
    request[STREAM_RECORD] = generation.record
    generation.attach()
    try:
        return await _ANSWERS[negotiate(", ".join(request.headers.getall("Accept", [])))](request, asked, generation)
    finally:
        generation.detach()


# Reading the request


def _query(request: web.Request) -> dict[str, str]:
    raw = request.rel_url.raw_query_string
    if len(raw) > _LONGEST_QUERY:
        raise QueryTooLong()
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except UnicodeDecodeError:
        raise InvalidRequest("The query is not UTF-8.", code="invalid_query") from None
    except ValueError:
        raise InvalidRequest(f"The query has over {_MOST_FIELDS} fields.", code="invalid_query") from None
    query = dict(pairs)
    if len(query) < len(pairs):
        twice = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
        raise InvalidRequest("A field of the query is given twice.", code="invalid_query", param=twice[:64])
    return query


def _refuse_unknown_stream(request: web.Request, query: dict[str, str]) -> None:
    """A client that comes back must never ask the model again. No stream outlives its connection, so none is known."""
    if request.headers.get("Last-Event-ID") or query.get("last_event_id"):
        raise StreamNotFound()


async def _body(request: web.Request) -> bytes:
    if request.content_type != "application/json":
        raise MediaTypeNotSupported()
    if (request.content_length or 0) > request.client_max_size:
        raise BodyTooLarge(f"The body is over {request.client_max_size} bytes.")
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise BodyTimeout() from None
    except web.RequestPayloadError:
        raise InvalidRequest("The body is not what its `Content-Encoding` says.", code="invalid_body") from None


async def expect(request: web.Request) -> None:
    """`Expect` is answered when the body is wanted, and not before its sender was let in (RFC 9110, section 10.1.1)."""


# Answering it


async def _events(request: web.Request, asked: Asked, generation: Generation) -> web.StreamResponse:
    limits = request.app[SERVICES].config.stream
    frames = Frames(generation.log, sse_view(generation.id, format=asked.format, reasoning=asked.reasoning))
    async with EventStreamSink(request) as sink:
        await sink.write(start_block(generation.id, retry_ms=limits.retry_ms))
        await Viewer(generation.log, frames, sink, heartbeat=limits.heartbeat_seconds).run()
    return sink.response


async def _text(request: web.Request, asked: Asked, generation: Generation) -> web.StreamResponse:
    if request.version < HttpVersion11:
        return await _whole_text(request, generation)
    sink = TextSink(request)
    await Viewer(generation.log, Frames(generation.log, text_view), sink, heartbeat=None).run()
    if generation.record.end is EndReason.COMPLETE:
        await sink.open()  # where there was no text at all
    elif sink.opened:
        sink.break_off()
    else:
        raise generation.failure or ShuttingDown()
    return sink.response


async def _whole_text(request: web.Request, generation: Generation) -> web.StreamResponse:
    """For a peer that knows no chunks: to it, a body that breaks off would look like one that ends."""
    await _success(generation)
    parts = [text_view(number, entry) for number, entry in enumerate(generation.log.entries, 1)]
    response = web.Response(body=b"".join(parts), content_type="text/plain", charset="utf-8")
    return await deliver(request, response, stall_seconds=STALL_SECONDS)


async def _json(request: web.Request, asked: Asked, generation: Generation) -> web.StreamResponse:
    await _success(generation)
    response = json_response(completion(generation.log.entries, generation.outcome(), reasoning=asked.reasoning))
    return await deliver(request, response, stall_seconds=STALL_SECONDS)


async def _success(generation: Generation) -> None:
    await ended(generation.log)
    if generation.record.end is not EndReason.COMPLETE:
        raise generation.failure or ShuttingDown()


_Answer = Callable[[web.Request, Asked, Generation], Awaitable[web.StreamResponse]]

_ANSWERS: dict[Representation, _Answer] = {
    Representation.EVENTS: _events,
    Representation.TEXT: _text,
    Representation.JSON: _json,
}
