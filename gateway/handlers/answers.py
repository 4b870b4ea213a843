"""Sends a recorded stream as events, as bare text, or as one JSON object.

Events include failures. Bare text has no place for a failure: the header waits for the first content, and a later
failure breaks the body off. As JSON, a failure is a status.
"""

import asyncio

from aiohttp import HttpVersion11, web

from gateway.admission.fields import Show
from gateway.entries import is_lost
from gateway.errors import StreamNotFound
from gateway.handlers.replies import Answer, Attached, counted, json_response, read_all, start_with, success
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.handlers.sinks import EventStreamSink, TextSink, deliver
from gateway.log.views import EventId, text_view
from gateway.streams.frames import Frames
from gateway.streams.viewer import Viewer
from gateway.streams.watched import Watched, shared_frames
from gateway.upstream.dialects.completion import Parts

# Of the event loop, after which a request is on its way to the upstream: a task of the stream begins, and then one of
# aiohttp's. So the upstream works while start and header are made here: its first event comes 0.15 ms sooner.
_TURNS = 2


async def events(
    request: web.Request,
    stream: Watched,
    show: Show,
    *,
    start: bytes = b"",
    ticket: str | None = None,
    cursor: int = 0,
    as_guest: bool = False,
) -> web.StreamResponse:
    """Sends `start` and the events behind `cursor`, as they arrive. `start` is empty if the client has it.

    With a `ticket`, which only the client that asked gets, the start is made here.
    """
    heartbeat = request[EXCHANGE].services.config.stream.heartbeat_seconds
    with Attached(request, stream, as_guest=as_guest):
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if ticket is not None:
            start, ticket = await start_with(ticket, request, stream), None
        frames = shared_frames(stream, show.format, show.reasoning)
        sink = EventStreamSink(request, header_alone=not start)
        await sink.open()
        if start:
            await sink.write(start)
            start = b""  # it need not be held for all of the stream
        await Viewer(frames, sink, cursor=cursor, heartbeat=heartbeat, bounds=request.app[BOUNDS]).run()
        return sink.response


def text(request: web.Request, stream: Watched, *, cursor: int = 0, as_guest: bool = False) -> Answer:
    """Sends the text behind `cursor`, as it arrives."""
    send = _live_text if request.version >= HttpVersion11 else _whole_text
    return send(request, stream, cursor, as_guest)


async def _live_text(request: web.Request, stream: Watched, cursor: int, as_guest: bool) -> web.StreamResponse:
    sink = TextSink(request, ends_cleanly=lambda: stream.is_whole)
    frames, bounds = Frames(stream.log, text_view), request.app[BOUNDS]
    with Attached(request, stream, as_guest=as_guest):
        await Viewer(frames, sink, cursor=cursor, heartbeat=None, bounds=bounds).run()
        if not sink.opened:
            await success(stream)
            await sink.open()
        return sink.response


async def _whole_text(request: web.Request, stream: Watched, cursor: int, as_guest: bool) -> web.StreamResponse:
    """For an HTTP/1.0 client, which has no chunks and cannot tell a body that breaks off from one that ends."""
    with Attached(request, stream, as_guest=as_guest):
        await success(stream)
        entries = list(stream.log.entries)[cursor:]
        body = b"".join([text_view(number, entry) for number, entry in enumerate(entries, cursor + 1)])
        response = web.Response(body=body, content_type="text/plain", charset="utf-8")
        with counted(stream, len(body)):
            return await deliver(request, response)


async def whole(request: web.Request, stream: Watched, show: Show) -> web.StreamResponse:
    """Sends a `chat.completion`, once the answer is complete."""
    with Attached(request, stream):
        await success(stream)
        parts = Parts()
        await read_all(stream, parts.add)
        response = json_response(parts.completion(stream.outcome(), reasoning=show.reasoning))
        with counted(stream, response.content_length or 0):
            return await deliver(request, response)


def rest(
    request: web.Request,
    stream: Watched,
    place: EventId,
    show: Show,
    *,
    as_text: bool = False,
    as_guest: bool = False,
) -> web.StreamResponse | Answer:
    """Resumes behind `place`. The status is 204 if the client has the end already.

    Raises StreamNotFound where the client has an event that is not in the log, since the stream was lost with it.
    """
    cursor, log = place.number, stream.log
    if cursor > log.last or (cursor > 0 and is_lost(log.entries[cursor - 1])) != place.is_lost:
        raise StreamNotFound()
    if log.ended and cursor == log.last:
        return web.Response(status=204)
    stream.count_resume()
    if as_text:
        return text(request, stream, cursor=cursor, as_guest=as_guest)
    return events(request, stream, show, cursor=cursor, as_guest=as_guest)
