"""The decoders: whatever an upstream sends, entries of the documented forms come of it, or a documented error."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from gateway.entries import Entry, Kind
from gateway.errors import GatewayError
from gateway.sse import END, Event, EventTooLarge, Parser
from gateway.upstream.dialects.anthropic.answer import Answer
from gateway.upstream.dialects.openai import DATA_FIELDS, Decoder
from gateway.upstream.dialects.relay import Relay, RememberingRelay

_ROOM = 1_048_576
_OBJECTS = frozenset({Kind.TOOL, Kind.EXTRA, Kind.REASONING_EXTRA})

DECODERS: Sequence[Callable[[], Decoder]] = (
    lambda: Decoder(),
    lambda: Relay(whole=False, hide_usage=True),
    lambda: Relay(whole=False, hide_usage=False, choices=2),
    lambda: RememberingRelay(hide_usage=True),
)
WHOLE: Sequence[Callable[[], Decoder]] = (
    *DECODERS[:3],
    lambda: Relay(whole=True, hide_usage=False),
)
WAYS = 2 * len(DECODERS)  # each also behind Anthropic's dialect


def check_decoder(data: bytes, number: int) -> None:
    """What begins as JSON is a whole body, as it is for the gateway."""
    number, of_anthropic = divmod(number % WAYS, 2)
    if data[:1] in (b"{", b"["):
        decoder = WHOLE[number]()
        body_of(data, Answer(decoder, created=7) if of_anthropic else decoder, decoder)
        return
    quick, thorough = DECODERS[number](), DECODERS[number]()
    if of_anthropic:
        decoded(data, Answer(quick, created=7), quick)
        return
    entries, error = decoded(data, quick, quick)
    expected = decoded(data, thorough, thorough, quickly=False)
    assert (entries, told(error)) == (expected[0], told(expected[1]))
    assert known_of(quick) == known_of(thorough)


def decoded(
    data: bytes, dialect: Decoder | Answer, decoder: Decoder, *, quickly: bool = True
) -> tuple[list[Entry], GatewayError | None]:
    """The entries of a stream, and the error with which it ended. `decoder` is the dialect, or behind it."""
    entries: list[Entry] = []
    error: GatewayError | None = None
    try:
        for event in events_of(data):
            if quickly and event.type == "message":
                dialect.decode_data(event.data, entries)
            else:
                dialect.decode(event, entries)
            if decoder.done:
                break
        decoder.finish()
    except GatewayError as raised:
        error = raised
        check_error(error)
    entries += decoder.rest()
    check_entries(entries)
    known_of(decoder)
    return entries, error


def body_of(data: bytes, dialect: Decoder | Answer, decoder: Decoder) -> None:
    entries: list[Entry] = []
    try:
        dialect.decode_completion(data, entries)
        decoder.finish()
    except GatewayError as error:
        check_error(error)
    check_entries(entries + decoder.rest())
    known_of(decoder)


def events_of(data: bytes) -> list[Event]:
    """Those before an event that is too large."""
    parser = Parser(max_bytes=_ROOM, data_fields=DATA_FIELDS)
    try:
        return [event for read in (data, END) for event in parser.feed(read)]
    except EventTooLarge:
        return []


def known_of(decoder: Decoder) -> tuple[Any, ...]:
    """What is known of an answer beside its entries, in the types that it is declared with."""
    usage, reason = decoder.usage, decoder.finish_reason
    assert usage is None or isinstance(usage, dict)
    json.dumps(usage, allow_nan=False).encode()
    for text in (decoder.id, decoder.model, reason):
        assert text is None or isinstance(text, str)
        (text or "").encode()
    assert decoder.said >= 0
    facts = (decoder.id, decoder.created, decoder.model, decoder.done, decoder.skipped, decoder.said)
    return (*facts, usage, reason, decoder.complete, decoder.may_be_whole, decoder.has_content, decoder.passed_text)


def check_entries(entries: Sequence[Entry]) -> None:
    """No byte that is not UTF-8, no JSON that strict clients refuse, nothing empty, and no end."""
    for entry in entries:
        assert entry.kind not in (Kind.FAILURE, Kind.END)
        text = entry.payload.decode()
        assert text
        if entry.kind in _OBJECTS:
            assert isinstance(strict(text), dict)
        elif entry.kind is Kind.CHUNK:
            strict(text)


def strict(text: str) -> Any:
    """JSON that any client can read."""
    try:
        value = json.loads(text, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate cannot be encoded
    except RecursionError:
        return {}  # it is nested as deeply as the upstream sent it
    return value


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def check_error(error: GatewayError, *, least: int = 400, most: int = 599) -> None:
    """It can be told to a client, says something, and has a status that is expected."""
    json.dumps(error.failure(), allow_nan=False, ensure_ascii=False).encode()
    assert error.message
    assert least <= error.status <= most


def told(error: GatewayError | None) -> tuple[str, str] | None:
    return None if error is None else (error.code, error.message)
