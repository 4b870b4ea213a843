"""The native surface: `GET /chat` and `POST /chat`, as events, as bare text, or as one JSON object.

A request is read and admitted; the generation starts; the response is a viewer of it. What fails before the first byte
is a status, what fails after it is in the stream.
"""

from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web

from gateway.admission import Asked, admit
from gateway.completion import completion
from gateway.downstream import EventStreamSink, TextSink, deliver
from gateway.errors import StreamNotFound
from gateway.fields import body_fields, query_fields, view_fields
from gateway.generation import Generation
from gateway.handlers.reading import identified, read_body, read_query
from gateway.handlers.responses import attached, json_response, success
from gateway.handlers.services import SERVICES
from gateway.negotiation import Representation, negotiate
from gateway.streamlog.base import StreamLog
from gateway.viewers import STALL_SECONDS, Frames, Viewer
from gateway.views import sse_view, start_block, text_view


async def ask(request: web.Request) -> web.StreamResponse:
    services = request.app[SERVICES]
    query = read_query(request)
    _refuse_unknown_stream(request, query)
    caller = identified(request)
    if request.method == "GET":
        fields = query_fields(query)
    else:
        fields = view_fields(query) | body_fields(await read_body(request, services.config.server.max_body_bytes))
    asked = admit(services.config, caller, fields)
    generation = await services.generations.record(asked.order)
    answer = _ANSWERS[negotiate(", ".join(request.headers.getall("Accept", [])))]
    with attached(request, generation):
        return await answer(request, asked, generation)


def _refuse_unknown_stream(request: web.Request, query: dict[str, str]) -> None:
    """A client that comes back must never ask the model again. No stream outlives its connection, so none is known."""
    if request.headers.get("Last-Event-ID") or query.get("last_event_id"):
        raise StreamNotFound()


async def _events(request: web.Request, asked: Asked, generation: Generation[StreamLog]) -> web.StreamResponse:
    limits = request.app[SERVICES].config.stream
    frames = Frames(generation.log, sse_view(generation.id, format=asked.format, reasoning=asked.reasoning))
    async with EventStreamSink(request) as sink:
        await sink.write(start_block(generation.id, retry_ms=limits.retry_ms))
        await Viewer(frames, sink, heartbeat=limits.heartbeat_seconds).run()
    return sink.response


async def _text(request: web.Request, asked: Asked, generation: Generation[StreamLog]) -> web.StreamResponse:
    if request.version < HttpVersion11:
        return await _whole_text(request, generation)
    sink = TextSink(request)
    await Viewer(Frames(generation.log, text_view), sink, heartbeat=None).run()
    if sink.opened and not generation.is_whole:
        sink.break_off()
    else:
        await success(generation)
        await sink.open()  # where there was no text at all
    return sink.response


async def _whole_text(request: web.Request, generation: Generation[StreamLog]) -> web.StreamResponse:
    """For a peer that knows no chunks: to it, a body that breaks off would look like one that ends."""
    await success(generation)
    parts = [text_view(number, entry) for number, entry in enumerate(generation.log.entries, 1)]
    response = web.Response(body=b"".join(parts), content_type="text/plain", charset="utf-8")
    return await deliver(request, response, stall_seconds=STALL_SECONDS)


async def _json(request: web.Request, asked: Asked, generation: Generation[StreamLog]) -> web.StreamResponse:
    await success(generation)
    response = json_response(completion(generation.log.entries, generation.outcome(), reasoning=asked.reasoning))
    return await deliver(request, response, stall_seconds=STALL_SECONDS)


_Answer = Callable[[web.Request, Asked, Generation[StreamLog]], Awaitable[web.StreamResponse]]

_ANSWERS: dict[Representation, _Answer] = {
    Representation.EVENTS: _events,
    Representation.TEXT: _text,
    Representation.JSON: _json,
}
