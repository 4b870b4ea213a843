"""A recorded stream as a response: as events, as bare text, or as one JSON object.

As events, everything is in the stream, failures too. Bare text has no place for a failure: the header waits for the
first content, and what fails after that breaks the body off. As JSON a failure is a status.
"""

from aiohttp import HttpVersion11, web

from gateway.admission.admit import Show
from gateway.errors import StreamNotFound
from gateway.handlers.responses import attached, counted, json_response, success
from gateway.handlers.services import SERVICES
from gateway.handlers.sinks import EventStreamSink, TextSink, deliver
from gateway.log.base import StreamLog
from gateway.log.views import text_view
from gateway.streams.frames import Frames
from gateway.streams.held import HeldStream, shared_frames
from gateway.streams.viewer import STALL_SECONDS, Viewer
from gateway.upstream.dialects.completion import completion


async def events(
    request: web.Request, stream: HeldStream[StreamLog], show: Show, *, start: bytes = b"", cursor: int = 0
) -> web.StreamResponse:
    """The events behind `cursor`, as they come; before them `start`, where the client has not had it."""
    heartbeat = request.app[SERVICES].config.stream.heartbeat_seconds
    frames = shared_frames(stream, show.format, show.reasoning)
    sink = EventStreamSink(request, header_alone=not start)
    await sink.open()
    if start:
        await sink.write(start)
    await Viewer(frames, sink, cursor=cursor, heartbeat=heartbeat).run()
    return sink.response


async def text(request: web.Request, stream: HeldStream[StreamLog], *, cursor: int = 0) -> web.StreamResponse:
    """The text behind `cursor`, as it comes."""
    if request.version < HttpVersion11:
        return await _whole_text(request, stream, cursor)
    sink = TextSink(request, ends_cleanly=lambda: stream.generation.is_whole)
    await Viewer(Frames(stream.log, text_view), sink, cursor=cursor, heartbeat=None).run()
    if not sink.opened:
        await success(stream.generation)
        await sink.open()
    return sink.response


async def _whole_text(request: web.Request, stream: HeldStream[StreamLog], cursor: int) -> web.StreamResponse:
    """For a peer that knows no chunks: to it, a body that breaks off would look like one that ends."""
    await success(stream.generation)
    entries = list(stream.log.entries)[cursor:]
    body = b"".join([text_view(number, entry) for number, entry in enumerate(entries, cursor + 1)])
    response = web.Response(body=body, content_type="text/plain", charset="utf-8")
    with counted(stream, len(body)):
        return await deliver(request, response, stall_seconds=STALL_SECONDS)


async def whole(request: web.Request, stream: HeldStream[StreamLog], show: Show) -> web.StreamResponse:
    """A `chat.completion`, once it is there."""
    await success(stream.generation)
    value = completion(stream.log.entries, stream.generation.outcome(), reasoning=show.reasoning)
    response = json_response(value)
    with counted(stream, response.content_length or 0):
        return await deliver(request, response, stall_seconds=STALL_SECONDS)


async def rest(
    request: web.Request,
    stream: HeldStream[StreamLog],
    cursor: int,
    show: Show,
    *,
    as_text: bool = False,
    as_guest: bool = False,
) -> web.StreamResponse:
    """What comes behind `cursor`, for a client that comes back; 204 where that is nothing. Raises StreamNotFound."""
    if cursor > stream.log.last:
        raise StreamNotFound()
    if stream.log.ended and cursor == stream.log.last:
        return web.Response(status=204)
    stream.record.resumes += 1
    with attached(request, stream, as_guest=as_guest):
        if as_text:
            return await text(request, stream, cursor=cursor)
        return await events(request, stream, show, cursor=cursor)
