"""The OpenAI surface: `POST /v1/chat/completions`, for SDKs. What the upstream says goes on as it was said.

Streamed, the header waits for the first content or the first heartbeat, whichever comes first: an upstream that fails
before is a status, which SDKs know how to retry. A failure after that is `data: {"error": {...}}` without `[DONE]`,
and then the body ends cleanly.

How clients take the three possible ends was tried with openai (Python and JavaScript), LangChain and the AI SDK, before
any content, after some, and inside a tool call (`tests/sdk/test_broken_answers.py`):

- After an error and a clean end, each of them raises once, with the gateway's words.
- After an error and a broken body, the AI SDK reports the error and then throws "Failed to process successful
  response". That has none of the gateway's words, and ends a Node process that does not catch it.
- After a broken body alone, each of them raises once, without a word of why.

`[DONE]` behind the error changes nothing for these four, but it means success to other clients, so it is never sent.

A client that looks neither at the error nor for `[DONE]` or a finish reason would notice only a broken body. It has
three signs of its own without that, and the users of the AI SDK would pay for a fourth. The body is still broken off
where a clean end could mislead: where no error could be written, as when an answer is stopped, and behind a finish
reason that has been passed on, since a client that ignores the error has seen an end there.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.admission.admit import admit_completion, check_key
from gateway.admission.fields import POLICY, view_fields
from gateway.admission.limits import allowance
from gateway.config import Assistant
from gateway.handlers.reading import authenticate, read_fields, read_query
from gateway.handlers.responses import attached, success
from gateway.handlers.services import SERVICES
from gateway.handlers.sinks import EventStreamSink, deliver
from gateway.log.views import body_view, chunk_view
from gateway.log.window import Window
from gateway.sse import HEARTBEAT
from gateway.streams.generation import Generation
from gateway.streams.held import HeldStream
from gateway.streams.viewer import STALL_SECONDS, Viewer, until

Answer = Callable[[web.Request, HeldStream[Window]], Awaitable[web.StreamResponse]]

_LARGEST_BODY = 33_554_432  # bytes: pictures travel inside of requests, and OpenAI takes about as much


async def create(request: web.Request) -> web.StreamResponse:
    stream, answer = await _started(request)
    with attached(request, stream):
        return await answer(request, stream)


async def _started(request: web.Request) -> tuple[HeldStream[Window], Answer]:
    """A function of its own: a request is not held while it is answered."""
    services = request.app[SERVICES]
    caller = authenticate(request)
    check_key(services.config, caller)
    query = read_query(request, only=POLICY)  # OpenAI's servers ignore a query, and SDKs let their users add one
    limits = allowance(caller, None, Assistant())
    await services.streams.check(limits)
    fields = view_fields(query) | await read_fields(request, caller, _LARGEST_BODY, at_a_time=limits.max_streams)
    asked = admit_completion(services.config, caller, fields)
    stream = await services.streams.relay(asked, chunk_view if asked.stream else body_view)
    return stream, _streamed if asked.stream else _whole


async def _streamed(request: web.Request, stream: HeldStream[Window]) -> web.StreamResponse:
    generation = stream.generation
    heartbeat = request.app[SERVICES].config.stream.heartbeat_seconds
    window = generation.log
    spoke = await until(window, lambda: generation.has_content or window.ended, within=heartbeat)
    if generation.failure is not None and not generation.has_content:
        raise generation.failure.copy()
    sink = EventStreamSink(request, ends_cleanly=lambda: _ends_cleanly(generation))
    await sink.open()
    if not spoke:
        await sink.write(HEARTBEAT)
    await Viewer(window, sink, heartbeat=heartbeat).run()
    return sink.response


def _ends_cleanly(generation: Generation[Window]) -> bool:
    """May the body end cleanly? A broken answer needs its error, and nothing before it that looks like an end."""
    is_told = generation.failure is not None and not generation.passed_finish
    return generation.is_whole or is_told


async def _whole(request: web.Request, stream: HeldStream[Window]) -> web.StreamResponse:
    await success(stream.generation)
    body, _ = stream.log.after(0)
    response = web.Response(body=body, content_type="application/json")
    return await deliver(request, response, stall_seconds=STALL_SECONDS)
