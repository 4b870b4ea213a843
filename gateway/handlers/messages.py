"""Anthropic's Messages API over chats: `POST /v1/messages`, and the count of a request's tokens.

The header of a streamed answer waits for the first content or the first heartbeat, as on `/v1/chat/completions`, and a
failure before that is a status. A later one is an `error` event, and the body ends cleanly: Anthropic's SDKs raise it,
and the stop reason is told behind all content, so no client can take the answer for a whole one.

A streamed answer is not kept. A whole one is recorded until it is complete.
"""

from aiohttp import web

from gateway.admission.admit import AdmittedRequest, admit_translated, check_key
from gateway.admission.fields import POLICY
from gateway.admission.limits import allowance
from gateway.admission.tokens import prompt
from gateway.config import Assistant
from gateway.endpoints import Endpoint
from gateway.handlers.reading import LARGEST_V1_BODY, authenticate, read_fields, read_query
from gateway.handlers.replies import Answer, Attached, counted, json_response, success
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.handlers.sinks import EventStreamSink, deliver
from gateway.log.window import Window
from gateway.messages.events import PING, MessageEvents
from gateway.messages.head import Head
from gateway.messages.message import whole_message
from gateway.messages.request import MessageRequest, message_request
from gateway.sse import HEARTBEAT
from gateway.streams.held import HeldStream
from gateway.streams.viewer import Viewer, until
from gateway.streams.watched import Watched


async def create(request: web.Request) -> Answer:
    streams = request[EXCHANGE].services.streams
    asked, admitted = await _admitted(request)
    if not asked.stream:
        return _whole(request, await streams.record(admitted), _head(request, asked, admitted))
    stream_id = streams.new_id()
    events = MessageEvents(stream_id, _head(request, asked, admitted))
    return _streamed(request, await streams.pass_on(stream_id, admitted, events.frame), events)


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """An estimate, since only the model's server knows the tokens of its model, and a chat has no way to ask."""
    _, admitted = await _admitted(request, is_asked=False)
    return await deliver(request, json_response({"input_tokens": prompt(admitted.payload.fields)}))


async def _admitted(request: web.Request, *, is_asked: bool = True) -> tuple[MessageRequest, AdmittedRequest]:
    exchange = request[EXCHANGE]
    services = exchange.services
    caller = authenticate(request)
    check_key(services.config, caller)
    query = read_query(request, only=POLICY)  # SDKs add `beta=true`
    limits = allowance(caller, None, Assistant())
    if is_asked:
        await services.streams.check(limits)
    fields = await read_fields(request, caller, query, LARGEST_V1_BODY, at_a_time=limits.max_streams)
    asked = message_request(fields, is_asked=is_asked)
    admitted = admit_translated(
        services.config,
        caller,
        endpoint=Endpoint.MESSAGES,
        model=asked.model,
        fields=asked.fields,
        on_disconnect=asked.on_disconnect,
        request_id=exchange.request_id,
        span=exchange.span,
    )
    return asked, admitted


def _head(request: web.Request, asked: MessageRequest, admitted: AdmittedRequest) -> Head:
    exchange = request[EXCHANGE]
    return Head(
        model=admitted.model or "",
        prompt_tokens=prompt(admitted.payload.fields),
        shows_thinking=asked.shows_thinking,
        request_id=exchange.request_id,
        most=exchange.services.config.stream.max_bytes,
    )


async def _streamed(request: web.Request, stream: HeldStream[Window], events: MessageEvents) -> web.StreamResponse:
    generation, window = stream.generation, stream.log
    heartbeat = request[EXCHANGE].services.config.stream.heartbeat_seconds
    with Attached(request, stream):
        sink = EventStreamSink(request, heartbeat=PING)
        spoke = await until(window, lambda: generation.has_content or window.ended, within=heartbeat)
        if generation.failure is not None and not generation.has_content:
            raise generation.failure.copy()
        await sink.open()
        if not spoke:
            await sink.write(events.start())
            await sink.write(HEARTBEAT)
        await Viewer(window, sink, heartbeat=heartbeat, bounds=request.app[BOUNDS]).run()
        return sink.response


async def _whole(request: web.Request, stream: Watched, head: Head) -> web.StreamResponse:
    with Attached(request, stream):
        await success(stream)
        response = json_response(whole_message(stream.log.entries, stream.id, head))
        with counted(stream, response.content_length or 0):
            return await deliver(request, response)
