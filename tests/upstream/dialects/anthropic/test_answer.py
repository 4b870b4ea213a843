"""What Anthropic's events become: entries for the gateway's own surfaces, chunks for SDKs of OpenAI's."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import Entry, Kind
from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    UpstreamError,
    UpstreamIncomplete,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
)
from gateway.sse import END, Parser
from gateway.upstream.dialects.anthropic.answer import Answer
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.relay import Relay
from tests.rig import anthropic as sends

TOLD = {
    "prompt_tokens": 12,
    "completion_tokens": 7,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 5},
}


def decoded(reads: Sequence[bytes], decoder: Decoder | None = None) -> tuple[list[Entry], Decoder, GatewayError | None]:
    """The entries, the decoder, and the failure with which it ended."""
    decoder = decoder or Decoder()
    answer, parser, entries = Answer(decoder, created=9), Parser(max_bytes=100_000), list[Entry]()
    try:
        for read in [*reads, END]:
            for event in parser.feed(read):
                if not answer.done:  # as the reading of a body
                    answer.decode(event, entries)
        decoder.finish()
    except GatewayError as error:
        return entries, decoder, error
    return entries, decoder, None


def told(entries: Sequence[Entry]) -> list[tuple[Kind, Any]]:
    texts = (Kind.TEXT, Kind.REASONING)
    return [(e.kind, e.payload.decode() if e.kind in texts else json.loads(e.payload)) for e in entries]


def fragment(index: int, arguments: str, **more: object) -> tuple[Kind, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return Kind.TOOL, {"index": index, **more, "function": {**name, "arguments": arguments}}


def opening(index: int, block: int, name: str) -> tuple[Kind, Any]:
    return fragment(index, "", id=f"toolu_{block}", type="function", name=name)


def foreign(block: int, kind: str, name: str) -> tuple[Kind, Any]:
    begun = {"type": kind, "id": f"toolu_{block}", "name": name, "input": {}}
    return Kind.EXTRA, {"provider_specific_fields": {"content_block": begun}}


SIGNED = (Kind.REASONING_EXTRA, {"thinking_blocks": [{"type": "thinking", "signature": "c2ln"}]})
ANSWERS: dict[str, tuple[list[bytes], str, list[tuple[Kind, Any]]]] = {
    "text": (sends.HELLO, "stop", [(Kind.TEXT, "Hel"), (Kind.TEXT, "lo")]),
    "thinking": (
        sends.message(sends.thinking(0, "so", "…"), sends.text(1, "é")),
        "stop",
        [(Kind.REASONING, "so"), (Kind.REASONING, "…"), SIGNED, (Kind.TEXT, "é")],
    ),
    "two tools": (
        sends.message(sends.text(0, "a"), sends.tool(1, "f", "", '{"a"', ":1}"), sends.tool(2, "g"), reason="tool_use"),
        "tool_calls",
        [
            (Kind.TEXT, "a"),
            opening(0, 1, "f"),
            fragment(0, '{"a"'),
            fragment(0, ":1}"),
            opening(1, 2, "g"),
            fragment(1, "{}"),
        ],
    ),
    "a tool that came whole": (
        sends.message([sends.begin(0, "tool_use", id="toolu_0", name="f", input={"a": 1}), sends.close(0)]),
        "stop",
        [opening(0, 0, "f"), fragment(0, '{"a":1}')],
    ),
    "a hidden thought": (
        sends.message([sends.begin(0, "redacted_thinking", data="d"), sends.close(0)], sends.text(1, "a")),
        "stop",
        [
            (Kind.REASONING_EXTRA, {"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]}),
            (Kind.TEXT, "a"),
        ],
    ),
    "a citation": (
        sends.message([sends.begin(0, "text", text="a"), sends.delta(0, "citations_delta", citation={"x": 1})]),
        "stop",
        [(Kind.TEXT, "a"), (Kind.EXTRA, {"citations": [{"x": 1}]})],
    ),
    "a block of another type": (
        sends.message([sends.begin(0, "server_tool_use", id="x")], sends.text(1, "a")),
        "stop",
        [
            (Kind.EXTRA, {"provider_specific_fields": {"content_block": {"type": "server_tool_use", "id": "x"}}}),
            (Kind.TEXT, "a"),
        ],
    ),
    "the input of a server's tool behind a call": (
        sends.message(
            sends.tool(0, "f", '{"amount"', ":5}"),
            sends.tool(1, "web_search", '{"query"', ':"x"}', kind="server_tool_use"),
            sends.tool(2, "g", "{}"),
            reason="tool_use",
        ),
        "tool_calls",
        [
            opening(0, 0, "f"),
            fragment(0, '{"amount"'),
            fragment(0, ":5}"),
            foreign(1, "server_tool_use", "web_search"),
            opening(1, 2, "g"),
            fragment(1, "{}"),
        ],
    ),
    "a server's tools around a call without parts": (
        sends.message(
            sends.tool(0, "look", '{"a":1}', kind="mcp_tool_use"),
            sends.tool(1, "f"),
            sends.tool(2, "look", '{"a":2}', kind="mcp_tool_use"),
            reason="tool_use",
        ),
        "tool_calls",
        [
            foreign(0, "mcp_tool_use", "look"),
            opening(0, 1, "f"),
            fragment(0, "{}"),
            foreign(2, "mcp_tool_use", "look"),
        ],
    ),
    "parts behind the end of a call": (
        sends.message(sends.tool(0, "f"), [sends.delta(0, "input_json_delta", partial_json="{}")], reason="tool_use"),
        "tool_calls",
        [opening(0, 0, "f"), fragment(0, "{}")],
    ),
    "an unknown event": ([*sends.HELLO[:-2], sends.event("news", x=1), *sends.HELLO[-2:]], "stop", []),
    "length": (sends.message(sends.text(0, "a"), reason="max_tokens"), "length", [(Kind.TEXT, "a")]),
    "a full context": (sends.message(sends.text(0, "a"), reason="model_context_window_exceeded"), "length", []),
    "a stop": (sends.message(sends.text(0, "a"), reason="stop_sequence"), "stop", []),
    "a pause": (sends.message(sends.text(0, "a"), reason="pause_turn"), "length", []),
    "a refusal": (sends.message(sends.text(0, "a"), reason="refusal"), "content_filter", []),
    "a newer reason": (sends.message(sends.text(0, "a"), reason="tired"), "tired", []),
    "a refusal without text": (sends.message(reason="refusal"), "content_filter", []),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers(case: str) -> None:
    events, reason, expected = ANSWERS[case]
    entries, decoder, failure = decoded(events)
    assert failure is None
    assert decoder.done
    assert (decoder.id, decoder.model, decoder.created) == ("msg_1", "claude-1", 9)
    assert (decoder.finish_reason, decoder.usage, decoder.skipped) == (reason, TOLD, 0)
    if expected:
        assert told(entries) == expected


def test_chunks_are_those_of_openais_api() -> None:
    entries, _, failure = decoded(sends.HELLO, Relay(whole=False, hide_usage=False))
    head = {"id": "msg_1", "object": "chat.completion.chunk", "created": 9, "model": "claude-1"}
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"role": "assistant", "content": ""}, None),
        ({"content": "Hel"}, None),
        ({"content": "lo"}, None),
        ({}, "stop"),
    ]
    chunks = [{**head, "choices": [{"index": 0, "delta": d, "finish_reason": r}]} for d, r in deltas]
    assert told(entries) == [(Kind.CHUNK, chunk) for chunk in [*chunks, {**head, "choices": [], "usage": TOLD}]]
    assert failure is None


def test_usage_that_was_not_asked_for_is_hidden() -> None:
    entries, decoder, _ = decoded(sends.HELLO, Relay(whole=False, hide_usage=True))
    assert not any(b"usage" in entry.payload for entry in entries)
    assert decoder.usage == TOLD


# Ends


@pytest.mark.parametrize("events", range(len(sends.HELLO)))
def test_an_answer_is_complete_with_its_stop_or_its_reason(events: int) -> None:
    """As in OpenAI's dialect, a clean end behind the reason is an end of the answer."""
    _, decoder, failure = decoded(sends.HELLO[:events])
    assert decoder.complete == (events == len(sends.HELLO) - 1)
    assert isinstance(failure, UpstreamIncomplete) != decoder.complete


def test_content_behind_a_reason_takes_it_back() -> None:
    _, decoder, failure = decoded([*sends.HELLO[:-1], *sends.text(1, "more")])
    assert isinstance(failure, UpstreamIncomplete)
    assert not decoder.complete


def test_nothing_counts_behind_the_stop() -> None:
    entries, _, failure = decoded([*sends.HELLO, *sends.text(1, "more"), sends.error("api_error")])
    assert failure is None
    assert len(entries) == 2


def test_an_event_that_is_not_json_is_skipped_and_counted() -> None:
    _, decoder, failure = decoded([*sends.HELLO[:3], b"event: ping\ndata: {oops\n\n", *sends.HELLO[3:]])
    assert (failure, decoder.skipped) == (None, 1)


@pytest.mark.parametrize(
    "data",
    [b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"\\ud83d"}}', b'{"type":7}', b"{}", b"[]"],
)
def test_odd_events_end_nothing(data: bytes) -> None:
    entries, _, failure = decoded([*sends.HELLO[:3], b"data: " + data + b"\n\n", *sends.HELLO[3:]])
    assert failure is None
    assert b"".join(entry.payload for entry in entries).replace("\ufffd".encode(), b"") == b"Hello"


# Errors

ERRORS: dict[str, tuple[bytes, type[GatewayError], str, bool]] = {
    "overloaded": (sends.error("overloaded_error"), UpstreamError, "upstream_error", True),
    "its own fault": (sends.error("api_error", "Oh."), UpstreamError, "upstream_error", True),
    "a limit": (sends.error("rate_limit_error", "Slow."), UpstreamRateLimited, "upstream_rate_limited", True),
    "a bad request": (sends.error("invalid_request_error", "No."), UpstreamRejected, "upstream_rejected", False),
    "a long prompt": (
        sends.error("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"),
        ContextLengthExceeded,
        "context_length_exceeded",
        False,
    ),
    "a bad key": (sends.error("authentication_error", "key"), UpstreamMisconfigured, "upstream_misconfigured", False),
    "no type": (b'data: {"type": "error", "error": "Oh."}\n\n', UpstreamError, "upstream_error", True),
    "no JSON": (b"event: error\ndata: oops\n\n", UpstreamError, "upstream_error", True),
    "no reason": (b'data: {"type": "error"}\n\n', UpstreamError, "upstream_error", True),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("before", [0, 1, 4])
def test_errors(case: str, before: int) -> None:
    event, kind, code, is_retryable = ERRORS[case]
    _, _, failure = decoded([*sends.HELLO[:before], event, sends.STOP])
    assert failure is not None
    assert (type(failure), failure.code, failure.retryable) == (kind, code, is_retryable)


def test_an_error_keeps_its_words_without_addresses() -> None:
    _, _, failure = decoded([sends.error("api_error", "See http://10.0.0.1/x")])
    assert failure is not None
    assert failure.message == "See [address]"


# Any stream, cut anywhere

_words = st.lists(st.text(min_size=1, max_size=5), max_size=3)
_blocks = st.one_of(
    _words.map(lambda words: lambda n: sends.text(n, *words)),
    _words.map(lambda words: lambda n: sends.thinking(n, *words)),
    st.just(lambda n: sends.tool(n, "f", '{"a"', ":1}")),
    st.just(lambda n: sends.tool(n, "f")),
    st.just(lambda n: sends.tool(n, "web_search", '{"a"', ":1}", kind="server_tool_use")),
    st.just(lambda n: [sends.PING]),
)
_streams = st.lists(_blocks, max_size=4).map(
    lambda blocks: sends.message(*[block(n) for n, block in enumerate(blocks)])
)


@given(_streams, st.data())
def test_any_cut_of_any_stream_gives_the_same_entries(events: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(events)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    entries, decoder, failure = decoded(pieces)
    expected, _, _ = decoded(events)
    assert entries == expected
    assert failure is None
    assert decoder.done


@given(_streams, st.data())
def test_a_stream_that_breaks_off_is_never_complete(events: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(events) - 2))
    _, decoder, failure = decoded(events[:at])
    assert isinstance(failure, UpstreamIncomplete)
    assert not decoder.complete


# A whole message

WHOLE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-1",
    "content": [
        {"type": "thinking", "thinking": "so", "signature": "s"},
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ],
    "stop_reason": "tool_use",
    "usage": {**sends.USAGE, "output_tokens": 7},
}


def test_a_whole_message_is_a_whole_completion() -> None:
    decoder, entries = Relay(whole=True, hide_usage=False), list[Entry]()
    Answer(decoder, created=9).decode_completion(json.dumps(WHOLE).encode(), entries)
    (entry,) = entries
    call = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    message = {
        "role": "assistant",
        "content": "Hello",
        "reasoning_content": "so",
        "tool_calls": [call],
        "thinking_blocks": [WHOLE["content"][0]],  # type: ignore[index]  # a list
    }
    assert json.loads(entry.payload) == {
        "id": "msg_1",
        "object": "chat.completion",
        "created": 9,
        "model": "claude-1",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}],
        "usage": TOLD,
    }


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps(sends.error_body("overloaded_error", "Overloaded")).encode(), UpstreamError),
        (json.dumps(sends.error_body("rate_limit_error", "Slow.")).encode(), UpstreamRateLimited),
        (b"", UpstreamIncomplete),
        (b'{"type":"message"', UpstreamIncomplete),
    ],
)
def test_a_body_that_is_no_message(body: bytes, kind: type[GatewayError]) -> None:
    with pytest.raises(kind):
        Answer(Decoder(), created=9).decode_completion(body, [])
