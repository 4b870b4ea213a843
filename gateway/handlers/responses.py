"""The Responses API over the chat API: `POST /v1/responses`, and what follows a response by its id.

A response is a recorded stream, so a client of OpenAI's SDKs can come back: `GET /v1/responses/{id}` gives what there
is, and with `stream=true&starting_after=N` the events behind number N, as they come. The model is not asked again.

The header of a streamed answer waits for the first content or the first heartbeat, as on `/v1/chat/completions`. That
of a response in the background does not wait, because its client comes back in any case.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import web

from gateway.admission.admit import AdmittedRequest, admit_translated, check_key
from gateway.admission.auth import Caller
from gateway.admission.fields import POLICY
from gateway.admission.limits import allowance
from gateway.config import Assistant, OnDisconnect
from gateway.endpoints import Endpoint
from gateway.errors import (
    BodyTooLarge,
    IdempotencyConflict,
    InvalidRequest,
    PreviousResponseNotFound,
    PreviousResponseRunning,
    ResponseNotFound,
)
from gateway.handlers import upstream_responses
from gateway.handlers.reading import (
    IDEMPOTENCY,
    LARGEST_V1_BODY,
    authenticate,
    idempotency_key,
    read_fields,
    read_query,
)
from gateway.handlers.replies import Answer, Attached, claim, counted, json_response, success
from gateway.handlers.services import BOUNDS, EXCHANGE
from gateway.handlers.sinks import EventStreamSink, deliver
from gateway.log.views import event_id, read_event_id
from gateway.responses.events import ResponseEvents
from gateway.responses.head import Head, read_head, response_id, stream_id, stream_of_item, write_head
from gateway.responses.items import Conversation
from gateway.responses.request import ResponseRequest, references_in, response_request
from gateway.sse import HEARTBEAT
from gateway.streams.frames import SequentialFrames
from gateway.streams.viewer import Viewer, until
from gateway.streams.watched import Watched

_QUERY = frozenset({"stream", "starting_after"})  # the SDKs send `include[]`, too, once for each value
_SHARED = 1_048_576  # bytes of a head that is shared: Redis takes it within the time limit of an operation
_AT_ONCE = 1_000  # entries that are read again in one turn of the event loop; they take about 1 ms
_NONE = 2**63  # above the number of every event
_END_SECONDS = 1.0  # for the end of a previous response, which may be on its way from another process for 0.1 s
_FAILED = 2  # entries of an answer that failed before its first content: the failure, and the end
_LONGEST_NUMBER = 12  # digits of the number of an event

_encode_json = msgspec.json.Encoder().encode


# Creating


async def create(request: web.Request) -> web.StreamResponse | Answer:
    exchange = request[EXCHANGE]
    services = exchange.services
    caller = authenticate(request)
    check_key(services.config, caller)
    query = read_query(request, only=POLICY | IDEMPOTENCY)
    key = idempotency_key(request, query, caller)
    limits = allowance(caller, None, Assistant())
    if key is None:  # with one, the response may exist already
        await services.streams.check(limits)
    fields = await read_fields(request, caller, query, LARGEST_V1_BODY, at_a_time=limits.max_streams)
    if upstream_responses.makes(request, caller, fields):
        return await upstream_responses.create(request, caller, fields, key)
    asked = response_request(fields, await _known(request, caller, references_in(fields)))
    admitted = _admitted(request, caller, asked, await _earlier(request, caller, asked))
    stream = await services.streams.record(admitted, key)
    head = read_head(stream.head)
    if head.background != asked.background:
        raise IdempotencyConflict()
    if asked.stream:
        return _live(request, stream, head)
    return await _begun(request, stream, head) if asked.background else _whole(request, stream, head)


def _admitted(request: web.Request, caller: Caller, asked: ResponseRequest, earlier: list[Any]) -> AdmittedRequest:
    exchange = request[EXCHANGE]
    messages = [*earlier, *asked.conversation.messages]
    system = [] if asked.instructions is None else [{"role": "system", "content": asked.instructions}]
    admitted = admit_translated(
        exchange.services.config,
        caller,
        endpoint=Endpoint.RESPONSES,
        model=asked.model,
        fields={"messages": [*system, *messages], **asked.fields},
        on_disconnect=_on_disconnect(asked),
        is_kept=asked.store,
        request_id=exchange.request_id,
        span=exchange.span,
    )
    if len(admitted.payload.fields) > LARGEST_V1_BODY:
        raise BodyTooLarge(f"The conversation is over {LARGEST_V1_BODY} bytes.")
    shown = {**asked.shown, "model": msgspec.Raw(_encode_json(admitted.model or ""))}
    if left_out := asked.conversation.left_out:
        note = f"{left_out} items of reasoning were left out of `input`, because a chat takes none."
        shown["notes"] = msgspec.Raw(_encode_json([note]))
    head = write_head(
        Head(
            int(time.time()),
            shown,
            msgspec.Raw(_encode_json(messages if asked.store else [])),
            asked.qualified,
            background=asked.background,
            store=asked.store,
        )
    )
    is_stored = asked.store and len(head) <= _SHARED
    return msgspec.structs.replace(admitted, head=head, is_stored=is_stored, in_background=asked.background)


def _on_disconnect(asked: ResponseRequest) -> OnDisconnect | None:
    """A client that waits for the whole answer has no id to come back with. One in the background needs no client."""
    if asked.background:
        return OnDisconnect.DRAIN
    return asked.on_disconnect if asked.stream else asked.on_disconnect or OnDisconnect.CANCEL


async def _earlier(request: web.Request, caller: Caller, asked: ResponseRequest) -> list[Any]:
    """The messages of the previous response, and its answer. Raises PreviousResponseNotFound or -Running."""
    if asked.previous is None:
        return []
    try:
        stream, head = await _found(request, caller, asked.previous)
    except ResponseNotFound:
        raise PreviousResponseNotFound(param="previous_response_id") from None
    log = stream.log
    if not log.ended and not await until(log, lambda: log.ended, within=_END_SECONDS):
        raise PreviousResponseRunning(param="previous_response_id")
    conversation = Conversation()
    for item in (await _response(stream, head))["output"]:
        conversation.add_item(item, "previous_response_id")
    return [*msgspec.json.decode(head.messages), *conversation.messages]


async def _known(request: web.Request, caller: Caller, names: list[str]) -> dict[str, Any]:
    """The items of these ids, as far as they are of responses that the caller has stored.

    Each id of an item has that of its response in it. An item that is not found is refused where it is named.
    """
    known: dict[str, Any] = {}
    for name in names:
        if name not in known and (stream_name := stream_of_item(name)) is not None:
            with suppress(ResponseNotFound):
                stream, head = await _found(request, caller, response_id(stream_name))
                known |= {item["id"]: item for item in (await _response(stream, head))["output"]}
    return known


async def _begun(request: web.Request, stream: Watched, head: Head) -> web.StreamResponse:
    """The response in the background, at once. It goes on without a viewer."""
    claim(request, stream)
    await stream.publish()
    return await _deliver(request, stream, head)


async def _whole(request: web.Request, stream: Watched, head: Head) -> web.StreamResponse:
    with Attached(request, stream):
        await success(stream)
        await stream.publish()  # its client may ask any process for it at once
        return await _deliver(request, stream, head)


# Events


async def _live(request: web.Request, stream: Watched, head: Head) -> web.StreamResponse:
    heartbeat, log = request[EXCHANGE].services.config.stream.heartbeat_seconds, stream.log
    with Attached(request, stream):
        start = b""
        if not head.background:
            if not await until(log, lambda: log.last > 0, within=heartbeat):
                start = HEARTBEAT
            if (failure := stream.failure) is not None and log.last == _FAILED:
                raise failure.copy()
        events = ResponseEvents(stream.id, head)
        return await _send(request, stream, events, start + events.begin())


async def _rest(request: web.Request, stream: Watched, head: Head, after: int) -> web.StreamResponse:
    """The events behind number `after`."""
    with Attached(request, stream):
        stream.count_resume()
        events = ResponseEvents(stream.id, head, after=after)
        start = events.begin()
        cursor, more = await _read_again(stream, events, until=after)
        return await _send(request, stream, events, start + more, cursor)


async def _send(
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


async def _read_again(stream: Watched, events: ResponseEvents, *, until: int) -> tuple[int, bytes]:
    """Shows `events` the entries up to event number `until`. Returns the last of them, and the events behind that."""
    entries, cursor, data = stream.log.entries, 0, b""
    while cursor < len(entries) and events.number <= until:
        data = events.add(entries[cursor])
        cursor += 1
        if cursor % _AT_ONCE == 0:
            await asyncio.sleep(0)
    return cursor, data


# By id


async def retrieve(request: web.Request) -> web.StreamResponse | Answer:
    query = read_query(request, only=_QUERY)
    caller = authenticate(request)
    after = _starting_after(query) if query.get("stream", "false") in ("true", "1") else None
    if (target := upstream_responses.found(request, caller)) is not None:
        return upstream_responses.retrieve(request, caller, target, after)
    stream, head = await _found(request, caller, request.match_info["id"])
    return await _deliver(request, stream, head) if after is None else _rest(request, stream, head, after)


async def cancel(request: web.Request) -> web.StreamResponse:
    """Stops the response, and answers with what there is of it. If it has ended already, nothing changes."""
    caller = authenticate(request)
    if (target := upstream_responses.found(request, caller)) is not None:
        return await upstream_responses.cancel(request, target)
    stream, head = await _found(request, caller, request.match_info["id"])
    await stream.stop()
    return await _deliver(request, stream, head)


async def delete(request: web.Request) -> web.StreamResponse:
    """Stops the response, and forgets it."""
    caller = authenticate(request)
    if (target := upstream_responses.found(request, caller)) is not None:
        return await upstream_responses.delete(request, target)
    stream, _ = await _found(request, caller, request.match_info["id"])
    await stream.delete()
    return json_response({"id": response_id(stream.id), "object": "response", "deleted": True})


async def _found(request: web.Request, caller: Caller, name: str) -> tuple[Watched, Head]:
    """A response that the caller has stored. Raises ResponseNotFound."""
    services = request[EXCHANGE].services
    check_key(services.config, caller)
    known = stream_id(name)
    if known is None or read_event_id(event_id(known, 0)) is None:
        raise ResponseNotFound()
    stream = await services.streams.seek(known)
    if stream is None or stream.asked_at is not Endpoint.RESPONSES or stream.owner != caller.name:
        raise ResponseNotFound()
    if not stream.head:  # it is that of an upstream, and was recorded for an idempotency key
        raise ResponseNotFound()
    head = read_head(stream.head)
    if not head.store:
        raise ResponseNotFound()
    request[EXCHANGE].viewed = stream.id
    return stream, head


def _starting_after(query: dict[str, str]) -> int:
    text = query.get("starting_after", "")
    if not text:
        return -1
    if not (text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER):
        raise InvalidRequest("`starting_after` must be the number of an event.", param="starting_after")
    return int(text)


async def _deliver(request: web.Request, stream: Watched, head: Head) -> web.StreamResponse:
    """The response as it is now."""
    response = json_response(await _response(stream, head))
    with counted(stream, response.content_length or 0):
        return await deliver(request, response)


async def _response(stream: Watched, head: Head) -> dict[str, Any]:
    events = ResponseEvents(stream.id, head, after=_NONE)
    events.begin()
    await _read_again(stream, events, until=_NONE)
    return events.response()
