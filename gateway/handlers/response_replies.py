"""What a client gets of a response: its events, or the response as it is now."""

import asyncio
from typing import Any

from aiohttp import web

from gateway.handlers.replies import ENTRIES_AT_ONCE, counted, json_response
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.handlers.sinks import EventStreamSink, deliver
from gateway.responses.events import ResponseEvents
from gateway.responses.head import Head
from gateway.streams.frames import SequentialFrames
from gateway.streams.viewer import Viewer
from gateway.streams.watched import Watched

_NONE = 2**63  # above the number of every event


async def send_events(
    request: web.Request, stream: Watched, events: ResponseEvents, start: bytes, cursor: int = 0
) -> web.StreamResponse:
    """Sends `start`, and the events of the entries behind `cursor`."""
    heartbeat = request[EXCHANGE].services.config.stream.heartbeat_seconds
    sink = EventStreamSink(request, header_alone=not start)
    await sink.open()
    if start:
        with counted(stream, len(start)):
            await sink.write(start)
        start = b""  # it need not be held for all of the stream
    frames = SequentialFrames(stream.log, events.add, cursor=cursor)
    await Viewer(frames, sink, cursor=cursor, heartbeat=heartbeat, bounds=request.app[BOUNDS]).run()
    return sink.response


async def read_again(stream: Watched, events: ResponseEvents, *, until: int) -> tuple[int, bytes]:
    """Shows `events` the entries up to event number `until`. Returns the last of them, and the events behind that."""
    entries, cursor, data = stream.log.entries, 0, b""
    while cursor < len(entries) and events.number <= until:
        data = events.add(entries[cursor])
        cursor += 1
        if cursor % ENTRIES_AT_ONCE == 0:
            await asyncio.sleep(0)
    return cursor, data


async def send_response(request: web.Request, stream: Watched, head: Head) -> web.StreamResponse:
    """The response as it is now."""
    response = json_response(await response_of(stream, head))
    with counted(stream, response.content_length or 0):
        return await deliver(request, response)


async def response_of(stream: Watched, head: Head) -> dict[str, Any]:
    events = ResponseEvents(stream.id, head, after=_NONE)
    events.begin()
    await read_again(stream, events, until=_NONE)
    return events.response()
