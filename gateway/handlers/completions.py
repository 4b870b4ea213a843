"""The OpenAI surface: `POST /v1/chat/completions`, for SDKs. What the upstream says goes on as it was said.

Streamed, the header waits for the first content or the first heartbeat, whichever comes first: an upstream that fails
before is a status, which SDKs know how to retry. A failure after that is `data: {"error": {...}}`, and the body is
broken off, since every SDK takes a clean end for success.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.admission import admit_completion, check_key
from gateway.config import Assistant
from gateway.downstream import EventStreamSink, deliver
from gateway.fields import POLICY, view_fields
from gateway.generation import Generation
from gateway.handlers.reading import identified, read_fields, read_query
from gateway.handlers.responses import attached, success
from gateway.handlers.services import SERVICES
from gateway.limits import allowance
from gateway.sse import HEARTBEAT
from gateway.stream import HeldStream
from gateway.streamlog.window import Window
from gateway.viewers import STALL_SECONDS, Viewer, until
from gateway.views import body_view, chunk_view

Answer = Callable[[web.Request, Generation[Window]], Awaitable[web.StreamResponse]]

_LARGEST_BODY = 33_554_432  # bytes: pictures travel inside of requests, and OpenAI takes about as much


async def create(request: web.Request) -> web.StreamResponse:
    stream, answer = await _started(request)
    with attached(request, stream):
        return await answer(request, stream.generation)


async def _started(request: web.Request) -> tuple[HeldStream[Window], Answer]:
    """A function of its own: a request is not held while it is answered."""
    services = request.app[SERVICES]
    caller = identified(request)
    check_key(services.config, caller)
    query = read_query(request, only=POLICY)  # OpenAI's servers ignore a query, and SDKs let their users add one
    limits = allowance(caller, None, Assistant())
    await services.streams.check(limits)
    fields = view_fields(query) | await read_fields(request, caller, _LARGEST_BODY, at_a_time=limits.max_streams)
    asked = admit_completion(services.config, caller, fields)
    stream = await services.streams.relay(asked, chunk_view if asked.stream else body_view)
    return stream, _streamed if asked.stream else _whole


async def _streamed(request: web.Request, generation: Generation[Window]) -> web.StreamResponse:
    heartbeat = request.app[SERVICES].config.stream.heartbeat_seconds
    window = generation.log
    spoke = await until(window, lambda: generation.begun or window.ended, within=heartbeat)
    if generation.failure is not None and not generation.begun:
        raise generation.failure.copy()
    async with EventStreamSink(request, is_whole=lambda: generation.is_whole) as sink:
        if not spoke:
            await sink.write(HEARTBEAT)
        await Viewer(window, sink, heartbeat=heartbeat).run()
    return sink.response


async def _whole(request: web.Request, generation: Generation[Window]) -> web.StreamResponse:
    await success(generation)
    body, _ = generation.log.after(0)
    response = web.Response(body=body, content_type="application/json")
    return await deliver(request, response, stall_seconds=STALL_SECONDS)
