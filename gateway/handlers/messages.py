"""Anthropic's Messages API over chats: `POST /v1/messages`, and the count of a request's tokens.

The header of a streamed answer waits for the first content or the first heartbeat, as on `/v1/chat/completions`, and a
failure before that is a status. A later one is an `error` event, and the body ends cleanly: Anthropic's SDKs raise it,
and the stop reason is told behind all content, so no client can take the answer for a whole one.

With an `Idempotency-Key`, the answer is recorded, and a request with the same key and body gets it from its beginning,
as on `/v1/chat/completions`. Without one, a streamed answer is not kept, and a whole one is recorded until it is
complete.
"""

from contextlib import suppress

import msgspec
from aiohttp import web

from gateway.admission.admit import AdmittedRequest
from gateway.admission.admit_v1 import admit_translated, takes_thoughts
from gateway.admission.fields import name_in
from gateway.admission.tokens import prompt
from gateway.endpoints import Endpoint
from gateway.errors import GatewayError, RedisUnavailable
from gateway.handlers.questions import read_question
from gateway.handlers.replies import Answer, Attached, counted, json_response, opened, read_all, success
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.handlers.sinks import EventStreamSink, deliver
from gateway.log.window import Window
from gateway.messages.events import PING, MessageEvents
from gateway.messages.head import Head, Object
from gateway.messages.message import WholeMessage
from gateway.messages.request import MessageRequest, message_request
from gateway.sse import HEARTBEAT
from gateway.streams.frames import SequentialFrames, Source
from gateway.streams.held import HeldStream
from gateway.streams.idempotency import Key
from gateway.streams.viewer import Viewer
from gateway.streams.watched import Watched


async def create(request: web.Request) -> Answer:
    streams = request[EXCHANGE].services.streams
    asked, admitted, key = await _admitted(request)
    head = _head(request, asked, admitted)
    if key is None and asked.stream:
        stream_id = streams.new_id()
        events = MessageEvents(stream_id, head)
        passed = await streams.pass_on(stream_id, admitted, events.frame)
        return _streamed(request, passed, passed.log, events)
    stream = await streams.record(admitted, key)
    if not asked.stream:
        return _whole(request, stream, head)
    events = MessageEvents(stream.id, head)
    return _streamed(request, stream, SequentialFrames(stream.log, events.show), events)


async def count_tokens(request: web.Request) -> web.StreamResponse:
    """An estimate, since only the model's server knows the tokens of its model, and a chat has no way to ask."""
    _, admitted, _ = await _admitted(request, is_asked=False)
    return await deliver(request, json_response({"input_tokens": prompt(admitted.payload.fields)}))


async def _admitted(
    request: web.Request, *, is_asked: bool = True
) -> tuple[MessageRequest, AdmittedRequest, Key | None]:
    exchange = request[EXCHANGE]
    services = exchange.services
    caller, key, fields = await read_question(request, takes_key=is_asked, is_asked=is_asked)
    takes = takes_thoughts(services.config, caller, name_in(fields, "model"), Endpoint.MESSAGES)
    asked = message_request(fields, is_asked=is_asked, takes_thoughts=takes)
    admitted = admit_translated(
        services.config,
        caller,
        endpoint=Endpoint.MESSAGES,
        model=asked.model,
        fields=asked.fields,
        on_disconnect=asked.on_disconnect,
        is_kept=key is not None,
        request_id=exchange.request_id,
        span=exchange.span,
    )
    # A client has nothing of a whole answer that failed, and may ask again.
    is_kept = admitted.is_kept and asked.stream
    return asked, msgspec.structs.replace(admitted, is_kept=is_kept, form=asked.form), key


def _head(request: web.Request, asked: MessageRequest, admitted: AdmittedRequest) -> Head:
    exchange = request[EXCHANGE]
    return Head(
        model=admitted.model or "",
        prompt_tokens=prompt(admitted.payload.fields),
        shows_thinking=asked.shows_thinking,
        request_id=exchange.request_id,
        most=exchange.services.config.stream.max_bytes,
    )


async def _streamed(
    request: web.Request, stream: HeldStream[Window] | Watched, source: Source, events: MessageEvents
) -> web.StreamResponse:
    heartbeat = request[EXCHANGE].services.config.stream.heartbeat_seconds
    with Attached(request, stream):
        sink = EventStreamSink(request, heartbeat=PING)
        if not await opened(sink, stream, within=heartbeat):
            await sink.write(events.start())
            await sink.write(HEARTBEAT)
        await Viewer(source, sink, heartbeat=heartbeat, bounds=request.app[BOUNDS]).run()
        return sink.response


async def _whole(request: web.Request, stream: Watched, head: Head) -> web.StreamResponse:
    with Attached(request, stream):
        await success(stream)
        try:
            response = json_response(await _message(stream, head))
        except GatewayError:
            with suppress(RedisUnavailable):
                await stream.delete()  # its idempotency key is free, as that of any whole answer that failed
            raise
        with counted(stream, response.content_length or 0):
            return await deliver(request, response)


async def _message(stream: Watched, head: Head) -> Object:
    message = WholeMessage(stream.id, head)
    await read_all(stream, message.add)
    return message.value()
