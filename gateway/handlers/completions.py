"""The OpenAI surface, for SDKs: `POST /v1/chat/completions`, and the other endpoints that upstreams have, too.

Chunks and whole answers pass as the upstream sent them. Embeddings, moderations and ranks are always whole.

The header of a streamed answer waits for the first content or the first heartbeat. If the upstream fails before that,
the failure is a status, which SDKs retry. A later failure is `data: {"error": {...}}` without `[DONE]`, and then the
body ends cleanly.

The three possible ends were tried with openai (Python and JavaScript), LangChain and the AI SDK: before any content,
after some, and inside a tool call (`tests/sdk/test_broken_answers.py`).

- After an error and a clean end, each of them raises once, with the gateway's words.
- After an error and a broken body, the AI SDK reports the error and then throws "Failed to process successful
  response". That exception has none of the gateway's words, and ends a Node process that does not catch it.
- After a broken body alone, each of them raises once, without the reason.

`[DONE]` behind the error changes nothing for these four. To other clients it means success, so it is never sent.

A client that ignores the error, a missing `[DONE]` and a missing finish reason would notice only a broken body. Such
clients have three other signs, and a broken body would harm users of the AI SDK. The body breaks off only where a clean
end could mislead: if no error could be written, because the answer was stopped, and behind a finish reason that was
passed on, because a client that ignores the error would take it for the end.

With an `Idempotency-Key`, the answer is recorded. A request with the same key and body gets it from its beginning, in
the same bytes, while it runs and after its end, and with the same end. So a client that tries again after a lost
connection never pays twice. Without a key, nothing is kept: the answer is passed on to its one client, and a client
that reads slowly slows the upstream down.
"""

from aiohttp import web

from gateway.admission.admit import Completion
from gateway.admission.admit_v1 import admit_completion
from gateway.admission.fields import completion_request
from gateway.endpoints import Endpoint
from gateway.handlers.questions import read_question
from gateway.handlers.replies import Answer, Attached, opened, success
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.handlers.sinks import EventStreamSink, deliver
from gateway.log.views import View, body_view, chunk_view
from gateway.log.window import Window
from gateway.sse import HEARTBEAT
from gateway.streams.frames import Frames, Source
from gateway.streams.held import HeldStream
from gateway.streams.idempotency import Key
from gateway.streams.surfaces import OpenAISurface, Surface
from gateway.streams.viewer import Viewer
from gateway.streams.watched import Watched

Asked = HeldStream[Window] | Watched
"""An answer that is passed on, or one that is recorded."""


async def create(request: web.Request, endpoint: Endpoint = Endpoint.CHAT) -> Answer:
    exchange = request[EXCHANGE]
    caller, key, fields = await read_question(request, takes_key=endpoint is Endpoint.CHAT)  # only chats are recorded
    asked = admit_completion(
        exchange.services.config,
        caller,
        completion_request(fields),
        endpoint,
        is_kept=key is not None,
        request_id=exchange.request_id,
        span=exchange.span,
    )
    return await passed_on(request, asked, key, OpenAISurface(asked), chunk_view)


async def passed_on(request: web.Request, asked: Completion, key: Key | None, surface: Surface, events: View) -> Answer:
    """The answer, as one body or as `events`. With an idempotency key, it is recorded."""
    streams = request[EXCHANGE].services.streams
    view, send = (events, _streamed) if asked.stream else (body_view, _whole)
    if key is not None:
        recorded = await streams.record(asked.request, key, lambda log: surface)
        return send(request, recorded, Frames(recorded.log, view))
    stream = await streams.relay(asked.request, view, surface)
    return send(request, stream, stream.log)


async def _streamed(request: web.Request, stream: Asked, source: Source) -> web.StreamResponse:
    heartbeat = request[EXCHANGE].services.config.stream.heartbeat_seconds
    with Attached(request, stream):
        sink = EventStreamSink(request, ends_cleanly=lambda: _ends_cleanly(stream))
        if not await opened(sink, stream, within=heartbeat):
            await sink.write(HEARTBEAT)
        await Viewer(source, sink, heartbeat=heartbeat, bounds=request.app[BOUNDS]).run()
        return sink.response


def _ends_cleanly(stream: Asked) -> bool:
    """Whether the body ends cleanly: the answer is whole, or its error was sent without a finish reason before."""
    is_told = stream.failure is not None and not stream.passed_finish
    return stream.is_whole or is_told


async def _whole(request: web.Request, stream: Asked, source: Source) -> web.StreamResponse:
    with Attached(request, stream):
        await success(stream)
        body, _ = source.after(0)  # all of it: such an answer is one entry, and pieces hold whole entries
        response = web.Response(body=body, content_type="application/json")
        return await deliver(request, response)
