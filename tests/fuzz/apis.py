"""The translators of other APIs: any request becomes one of a chat or a 400, and any answer becomes events in order.

An input that begins with a brace is the body of a request, and any other is what an upstream streams.
"""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.admission.admit_v1 import admit_translated
from gateway.admission.auth import Caller
from gateway.admission.fields import body_fields
from gateway.admission.tokens import prompt
from gateway.config import load
from gateway.endpoints import Endpoint
from gateway.entries import EndReason, Entry, Kind
from gateway.errors import GatewayError, UpstreamError
from gateway.messages import head as messages_head
from gateway.messages.events import MessageEvents
from gateway.messages.message import WholeMessage
from gateway.messages.request import message_request
from gateway.responses.events import ResponseEvents
from gateway.responses.head import Head, read_head, write_head
from gateway.responses.request import references_in, response_request
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.tool_calls import is_object
from tests.fuzz.answers import check_error, decoded, strict
from tests.messages import judge as messages_judge
from tests.responses.judge import Judge, read

STREAM = "s" * 22
CONFIG = load('[[upstreams]]\nname = "up"\nbase_url = "http://127.0.0.1:9/v1"\n', {"OPENAI_MODEL": "m"})
CALLER = Caller("127.0.0.1")
KNOWN = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "earlier"}]}
MESSAGES_HEAD = messages_head.Head("m", 9, shows_thinking=True, request_id="r", most=1_000_000)
HEADS = (
    Head(7, {}, msgspec.Raw(b"[]")),
    Head(7, {}, msgspec.Raw(b"[]"), {"files__read": ("files", "read")}, background=True),
)
ENDS = (EndReason.COMPLETE, EndReason.COMPLETE, EndReason.STOPPED, EndReason.CLIENT_GONE)  # of answers without an error
ROLES = {"system", "user", "assistant", "tool"}

_encode = msgspec.json.encode


# Requests


def check_responses(data: bytes, number: int) -> None:
    if data[:1] == b"{":
        _check_request(Endpoint.RESPONSES, data)
    else:
        _check_response(_entries(data, number), number)


def check_messages(data: bytes, number: int) -> None:
    if data[:1] == b"{":
        _check_request(Endpoint.MESSAGES, data)
    else:
        _check_message(_entries(data, number))


def _check_request(endpoint: Endpoint, body: bytes) -> None:
    """What a handler does with a body, up to the payload that is posted."""
    try:
        model, fields = (_response if endpoint is Endpoint.RESPONSES else _message)(body)
        admitted = admit_translated(
            CONFIG, CALLER, endpoint=endpoint, model=model, fields=fields, on_disconnect=None, request_id="r", span=None
        )
    except GatewayError as error:
        check_error(error, least=400, most=413)
        return
    posted = strict(admitted.payload.fields.decode())
    assert prompt(admitted.payload.fields) >= 0
    for message in posted.get("messages", ()):
        assert message["role"] in ROLES
        assert isinstance(message["content"], str | list) or message.get("tool_calls")


def _response(body: bytes) -> tuple[str | None, Mapping[str, Any]]:
    fields = body_fields(body)
    asked = response_request(fields, dict.fromkeys(references_in(fields), KNOWN))
    head = Head(7, asked.shown, msgspec.Raw(_encode(asked.conversation.messages)), asked.qualified)
    assert read_head(write_head(head)) == head
    system = [] if asked.instructions is None else [{"role": "system", "content": asked.instructions}]
    return asked.model, {"messages": [*system, *asked.conversation.messages], **asked.fields}


def _message(body: bytes) -> tuple[str | None, Mapping[str, Any]]:
    asked = message_request(body_fields(body))
    return asked.model, asked.fields


# Answers


def _entries(data: bytes, number: int) -> list[Entry]:
    """A whole stream: what a decoder makes of the data, and the end that a generation adds."""
    decoder = Decoder()
    entries, error = decoded(data, decoder, decoder)
    reason = ENDS[number % len(ENDS)] if error is None else error.end_reason
    if error is not None:
        entries.append(Entry(Kind.FAILURE, _encode(error.failure())))
    end = {"reason": reason, "finish_reason": decoder.finish_reason, "usage": decoder.usage, "stream": STREAM}
    return [*entries, Entry(Kind.END, _encode(end))]


def _check_response(entries: list[Entry], number: int) -> None:
    """Well formed, and the same behind any number as without an interruption."""
    head = HEADS[number % len(HEADS)]
    events = read(_shown(entries, head))
    response = Judge().judge(events)
    assert response["status"] != "completed" or json.loads(entries[-1].payload)["reason"] == EndReason.COMPLETE
    after = number % (len(events) + 1) - 1
    assert read(_shown(entries, head, after=after)) == events[after + 1 :]


def _shown(entries: list[Entry], head: Head, *, after: int = -1) -> bytes:
    machine = ResponseEvents(STREAM, head, after=after)
    return b"".join([machine.begin(), *map(machine.add, entries)])


def _check_message(entries: list[Entry]) -> None:
    """Well formed, and streamed as it is whole. A failure is never a whole message."""
    streamed = messages_judge.judge(messages_judge.read(_streamed(entries)))
    try:
        message = WholeMessage(STREAM, MESSAGES_HEAD)
        for entry in entries:
            message.add(entry)
        whole = json.loads(_encode(message.value()))
    except GatewayError as error:
        check_error(error)
        assert streamed is None
        return
    if streamed is None:
        assert json.loads(entries[-1].payload)["reason"] != EndReason.COMPLETE
        return
    for block in streamed["content"]:
        if block["type"] == "tool_use":
            block["input"] = _object(block["input"])
    assert streamed == whole


def _streamed(entries: list[Entry]) -> bytes:
    """As a window shows them: an entry that is refused becomes a failure."""
    machine = MessageEvents(STREAM, MESSAGES_HEAD)
    shown = b""
    try:
        for number, entry in enumerate(entries, 1):
            shown += machine.frame(number, entry)
    except UpstreamError as error:
        check_error(error)
        failure = Entry(Kind.FAILURE, _encode(error.failure()))
        shown += machine.frame(0, failure) + machine.frame(0, entries[-1])
    return shown


def _object(arguments: str) -> Any:
    """The input of a call. That of an answer which was cut may be half."""
    return json.loads(arguments) if is_object(arguments) else {}
