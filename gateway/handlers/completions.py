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
the same bytes, while it runs and after its end. So a client that tries again after a lost connection never pays twice.
"""

from collections.abc import Callable
from functools import partial

from aiohttp import web

from gateway.admission.admit import Completion, admit_completion, check_key
from gateway.admission.fields import POLICY, completion_request
from gateway.admission.limits import allowance
from gateway.config import Assistant
from gateway.endpoints import Endpoint
from gateway.handlers.reading import IDEMPOTENCY, authenticate, idempotency_key, read_fields, read_query
from gateway.handlers.replies import Answer, Attached, counted, success
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.handlers.sinks import EventStreamSink, deliver
from gateway.log.views import body_view, chunk_view
from gateway.log.window import Window
from gateway.sse import HEARTBEAT
from gateway.streams.frames import Frames, Source
from gateway.streams.generation import Generation
from gateway.streams.held import HeldStream
from gateway.streams.idempotency import Key
from gateway.streams.surfaces import OpenAISurface
from gateway.streams.viewer import Viewer, until
from gateway.streams.watched import Watched
from gateway.upstream.dialects.relay import passed_finish

_LARGEST_BODY = 33_554_432  # bytes: requests contain images, and OpenAI takes about as much
_FAILED = 2  # entries of an answer that failed before its first content: the failure, and the end


async def create(request: web.Request, endpoint: Endpoint = Endpoint.CHAT) -> Answer:
    exchange = request[EXCHANGE]
    services = exchange.services
    caller = authenticate(request)
    check_key(services.config, caller)
    query = read_query(request, only=POLICY | IDEMPOTENCY)  # OpenAI's ignore other fields, and SDKs let users add some
    key = idempotency_key(request, query, caller) if endpoint is Endpoint.CHAT else None  # only chats are recorded
    limits = allowance(caller, None, Assistant())
    if key is None:  # with one, the answer may exist already
        await services.streams.check(limits)
    fields = await read_fields(request, caller, query, _LARGEST_BODY, at_a_time=limits.max_streams)
    asked = admit_completion(
        services.config,
        caller,
        completion_request(fields),
        endpoint,
        is_kept=key is not None,
        request_id=exchange.request_id,
        span=exchange.span,
    )
    if key is not None:
        return await _recorded(request, asked, key)
    stream = await services.streams.relay(asked, chunk_view if asked.stream else body_view)
    return _streamed(request, stream) if asked.stream else _whole(request, stream)


# Passed on


async def _streamed(request: web.Request, stream: HeldStream[Window]) -> web.StreamResponse:
    generation = stream.generation
    window = generation.log
    with Attached(request, stream):
        spoke = await until(window, lambda: generation.has_content or window.ended, within=_heartbeat(request))
        if generation.failure is not None and not generation.has_content:
            raise generation.failure.copy()
        return await _send(request, window, spoke, lambda: _ends_cleanly(generation))


def _ends_cleanly(generation: Generation[Window]) -> bool:
    """Whether the body ends cleanly: the answer is whole, or its error was sent without a finish reason before."""
    is_told = generation.failure is not None and not generation.passed_finish
    return generation.is_whole or is_told


async def _whole(request: web.Request, stream: HeldStream[Window]) -> web.StreamResponse:
    with Attached(request, stream):
        await success(stream)
        body, _ = stream.log.after(0)
        response = web.Response(body=body, content_type="application/json")
        return await deliver(request, response)


# Recorded


async def _recorded(request: web.Request, asked: Completion, key: Key) -> Answer:
    streams = request[EXCHANGE].services.streams
    stream = await streams.record(asked.request, key, lambda log: OpenAISurface(asked))
    return _replayed(request, stream) if asked.stream else _whole_again(request, stream)


async def _replayed(request: web.Request, stream: Watched) -> web.StreamResponse:
    log = stream.log
    with Attached(request, stream):
        spoke = await until(log, lambda: log.last > 0, within=_heartbeat(request))
        if (failure := stream.failure) is not None and log.last == _FAILED:
            raise failure.copy()
        return await _send(request, Frames(log, chunk_view), spoke, partial(_ended_cleanly, stream))


def _ended_cleanly(stream: Watched) -> bool:
    """See `_ends_cleanly`."""
    return stream.is_whole or (stream.failure is not None and not passed_finish(stream.log.entries))


async def _whole_again(request: web.Request, stream: Watched) -> web.StreamResponse:
    with Attached(request, stream):
        await success(stream)
        body = b"".join([body_view(number, entry) for number, entry in enumerate(stream.log.entries, 1)])
        response = web.Response(body=body, content_type="application/json")
        with counted(stream, len(body)):
            return await deliver(request, response)


# Both


async def _send(
    request: web.Request, source: Source, spoke: bool, ends_cleanly: Callable[[], bool]
) -> web.StreamResponse:
    sink = EventStreamSink(request, ends_cleanly=ends_cleanly)
    await sink.open()
    if not spoke:
        await sink.write(HEARTBEAT)
    await Viewer(source, sink, heartbeat=_heartbeat(request), bounds=request.app[BOUNDS]).run()
    return sink.response


def _heartbeat(request: web.Request) -> float:
    return request[EXCHANGE].services.config.stream.heartbeat_seconds
