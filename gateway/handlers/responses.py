"""The Responses API over the chat API: `POST /v1/responses`.

A response is a recorded stream, so a client of OpenAI's SDKs can come back: see `stored_responses`.

The header of a streamed answer waits for the first content or the first heartbeat, as on `/v1/chat/completions`. That
of a response in the background does not wait, because its client comes back in any case.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Container
from typing import Any

import msgspec
from aiohttp import web

from gateway.admission.admit import AdmittedRequest
from gateway.admission.admit_v1 import admit_translated
from gateway.admission.auth import Caller
from gateway.config import OnDisconnect
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
from gateway.handlers.questions import read_question
from gateway.handlers.reading import LARGEST_V1_BODY
from gateway.handlers.replies import Answer, Attached, claim, success
from gateway.handlers.response_replies import response_of, send_events, send_response
from gateway.handlers.services import EXCHANGE
from gateway.handlers.stored_responses import found
from gateway.responses.events import ResponseEvents
from gateway.responses.head import Head, read_head, response_id, stream_of_item, write_head
from gateway.responses.items import Conversation
from gateway.responses.request import ResponseRequest, references_in, response_request
from gateway.sse import HEARTBEAT
from gateway.streams.viewer import until
from gateway.streams.watched import Watched

_SHARED = 1_048_576  # bytes of a head that is shared: Redis takes it within the time limit of an operation
_END_SECONDS = 1.0  # for the end of a previous response, which may be on its way from another process for 0.1 s
# Responses whose items one input may name. Each step of an agent makes one, and its runs have some dozens. To look one
# up takes a millisecond or two where it is in Redis, and longer if it is large.
_MOST_NAMED = 1_000
_FAILED = 2  # entries of an answer that failed before its first content: the failure, and the end

_encode_json = msgspec.json.Encoder().encode


async def create(request: web.Request) -> web.StreamResponse | Answer:
    caller, key, fields = await read_question(request)
    if upstream_responses.makes(request, caller, fields):
        return await upstream_responses.create(request, caller, fields, key)
    asked = response_request(fields, await _known(request, caller, references_in(fields)))
    earlier = await _earlier(request, caller, asked)
    admitted = _admitted(request, caller, asked, earlier, has_key=key is not None)
    stream = await request[EXCHANGE].services.streams.record(admitted, key)
    head = read_head(stream.head)
    if head.background != asked.background:
        raise IdempotencyConflict()
    if asked.stream:
        return _live(request, stream, head)
    return await _begun(request, stream, head) if asked.background else _whole(request, stream, head)


def _admitted(
    request: web.Request, caller: Caller, asked: ResponseRequest, earlier: list[Any], *, has_key: bool
) -> AdmittedRequest:
    exchange = request[EXCHANGE]
    messages = [*earlier, *asked.conversation.messages]
    system = [] if asked.instructions is None else [{"role": "system", "content": asked.instructions}]
    admitted = admit_translated(
        exchange.services.config,
        caller,
        endpoint=Endpoint.RESPONSES,
        model=asked.model,
        fields={"messages": [*system, *messages], **asked.fields},
        on_disconnect=_on_disconnect(asked, has_key=has_key),
        is_kept=asked.store or has_key,
        request_id=exchange.request_id,
        span=exchange.span,
    )
    if len(admitted.payload.fields) > LARGEST_V1_BODY:
        raise _too_large()
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
    # With an idempotency key: a client has nothing of a whole response that failed, and may ask again.
    is_kept = asked.stream or asked.background if has_key else asked.store
    return msgspec.structs.replace(
        admitted, head=head, is_kept=is_kept, is_stored=is_stored, in_background=asked.background
    )


def _on_disconnect(asked: ResponseRequest, *, has_key: bool) -> OnDisconnect | None:
    """A client that waits for the whole answer has no id to come back with. But it may have an idempotency key.

    A response in the background needs no client.
    """
    if asked.background:
        return OnDisconnect.DRAIN
    if asked.stream or has_key:
        return asked.on_disconnect
    return asked.on_disconnect or OnDisconnect.CANCEL


async def _earlier(request: web.Request, caller: Caller, asked: ResponseRequest) -> list[Any]:
    """The messages of the previous response, and its answer. Raises PreviousResponseNotFound or -Running."""
    if asked.previous is None:
        return []
    try:
        stream, head = await found(request, caller, asked.previous)
    except ResponseNotFound:
        raise PreviousResponseNotFound(param="previous_response_id") from None
    log = stream.log
    if not log.ended and not await until(log, lambda: log.ended, within=_END_SECONDS):
        raise PreviousResponseRunning(param="previous_response_id")
    conversation = Conversation()
    for item in (await response_of(stream, head))["output"]:
        conversation.add_item(item, "previous_response_id")
    return [*msgspec.json.decode(head.messages), *conversation.messages]


async def _known(request: web.Request, caller: Caller, names: list[str]) -> dict[str, Any]:
    """The items of these ids, up to the first one that is of no response that the caller has stored.

    Each id of an item has that of its response in it, which is looked up once. An item that is not found is refused
    where it is named. Raises InvalidRequest for items of too many responses, and BodyTooLarge for too many bytes: an
    item may be named many times, and stands in the conversation each time.
    """
    times = Counter(names)
    streams = {name: stream_of_item(name) for name in times}
    if len(set(streams.values())) > _MOST_NAMED:
        words = f"`input` names items of over {_MOST_NAMED} responses. Send the items themselves."
        raise InvalidRequest(words, param="input")
    known: dict[str, Any] = {}
    looked_up, size = set(), 0
    for name, stream_name in streams.items():
        if stream_name not in looked_up:
            looked_up.add(stream_name)
            known |= await _items_of(request, caller, stream_name, wanted=streams)
        if name not in known:
            break
        size += times[name] * len(_encode_json(known[name]))
        if size > LARGEST_V1_BODY:
            raise _too_large()
    return known


async def _items_of(
    request: web.Request, caller: Caller, stream_name: str | None, *, wanted: Container[str]
) -> dict[str, Any]:
    """The wanted items of a response by their ids. Empty if the caller has stored no such response."""
    if stream_name is None:
        return {}
    await asyncio.sleep(0)  # many responses of this process would be looked up in one turn of the event loop
    try:
        stream, head = await found(request, caller, response_id(stream_name))
    except ResponseNotFound:
        return {}
    items = (await response_of(stream, head))["output"]
    return {item["id"]: item for item in items if item["id"] in wanted}


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(f"The conversation is over {LARGEST_V1_BODY} bytes.")


async def _begun(request: web.Request, stream: Watched, head: Head) -> web.StreamResponse:
    """The response in the background, at once. It goes on without a viewer."""
    claim(request, stream)
    await stream.publish()
    return await send_response(request, stream, head)


async def _whole(request: web.Request, stream: Watched, head: Head) -> web.StreamResponse:
    with Attached(request, stream):
        await success(stream)
        await stream.publish()  # its client may ask any process for it at once
        return await send_response(request, stream, head)


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
        return await send_events(request, stream, events, start + events.begin())
