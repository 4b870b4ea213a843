"""The blocks of a message: well formed whatever a decoder makes of an answer, and the same streamed and whole."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import EndReason, Entry, Kind
from gateway.errors import AnswerTooLarge, GatewayError, ShuttingDown, TotalTimeout, UpstreamError, UpstreamRateLimited
from gateway.messages.events import MessageEvents
from gateway.messages.head import Head
from gateway.messages.message import WholeMessage
from gateway.upstream.dialects.openai import Decoder
from tests.messages.judge import Object, judge, read

STREAM = "s" * 22
HEAD = Head("m", 9, shows_thinking=True, request_id="r", most=1000)
MUTE = msgspec.structs.replace(HEAD, shows_thinking=False)


def text(words: str, kind: Kind = Kind.TEXT) -> Entry:
    return Entry(kind, words.encode())


def call(index: int | None, name: str | None = None, arguments: str | None = None, id: str | None = None) -> Entry:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {"index": index, "id": id, "function": function}
    return Entry(Kind.TOOL, json.dumps({key: value for key, value in fields.items() if value is not None}).encode())


def failed(error: GatewayError) -> list[Entry]:
    return [Entry(Kind.FAILURE, msgspec.json.encode(error.failure())), end("upstream_error", None)]


def end(reason: str = "complete", finish_reason: str | None = "stop", usage: Any = None) -> Entry:
    fields = {"reason": reason, "finish_reason": finish_reason, "usage": usage, "model": "x", "stream": STREAM}
    return Entry(Kind.END, json.dumps(fields).encode())


def events(*entries: Entry, head: Head = HEAD) -> list[Object]:
    """As a window shows them: an entry that is refused becomes a failure."""
    machine = MessageEvents(STREAM, head)
    shown = b""
    try:
        for number, entry in enumerate(entries, 1):
            shown += machine.frame(number, entry)
    except GatewayError as error:
        shown += b"".join([machine.frame(0, entry) for entry in failed(error)])
    return read(shown)


def recorded(*entries: Entry, head: Head = HEAD) -> list[Object]:
    """As a client is shown them that gets a recorded answer."""
    machine = MessageEvents(STREAM, head)
    return read(b"".join([machine.show(entry) for entry in entries]))


def whole_message(entries: Iterable[Entry], stream_id: str, head: Head) -> Object:
    made = WholeMessage(stream_id, head)
    for entry in entries:
        made.add(entry)
    return made.value()


def message(*entries: Entry, head: Head = HEAD) -> Object:
    """The same streamed, recorded and whole."""
    assert recorded(*entries, head=head) == events(*entries, head=head)
    streamed = judge(events(*entries, head=head))
    assert streamed is not None
    whole: Object = json.loads(msgspec.json.encode(whole_message(entries, STREAM, head)))
    for block in streamed["content"]:
        if block["type"] == "tool_use":
            block["input"] = _object(block["input"])
    assert streamed == whole
    return whole


def _object(arguments: str) -> Any:
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return {}


def types(entries: Iterable[Entry]) -> list[str]:
    return [event["type"] for event in events(*entries)]


# Blocks


def test_the_bytes_of_a_text() -> None:
    machine = MessageEvents(STREAM, HEAD)
    frames = [machine.frame(number, entry) for number, entry in enumerate([text("a"), text('"é\n'), end()], 1)]
    first, second, last = frames
    assert first == (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_' + STREAM.encode() + b'",'
        b'"type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,'
        b'"usage":{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"a"}}\n\n'
    )
    assert second == (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"\\"\xc3\xa9\\n"}}\n\n'
    )
    assert last == (
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
        b'"usage":{"input_tokens":9,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":2}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


def test_all_kinds_of_blocks() -> None:
    entries = [
        text("hm", Kind.REASONING),
        text("m", Kind.REASONING),
        text("A"),
        Entry(Kind.EXTRA, b'{"annotations":[{}]}'),
        text("B"),
        call(0, "f", '{"a"', id="c0"),
        call(0, arguments=":1}"),
        text("C"),
        end(finish_reason="tool_calls"),
    ]
    assert message(*entries)["content"] == [
        {"type": "thinking", "thinking": "hmm", "signature": ""},
        {"type": "text", "text": "AB"},
        {"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}},
        {"type": "text", "text": "C"},
    ]


def thoughts(*blocks: Object) -> Entry:
    return Entry(Kind.REASONING_EXTRA, json.dumps({"thinking_blocks": blocks}).encode())


def signed(signature: str, **more: str) -> Entry:
    return thoughts({"type": "thinking", "signature": signature, **more})


def test_thoughts_are_signed() -> None:
    """As Anthropic's own models sign them. Each signature is the end of a block."""
    entries = [
        text("hm", Kind.REASONING),
        signed("s1"),
        text("so", Kind.REASONING),
        signed("s2"),
        thoughts({"type": "redacted_thinking", "data": "d"}),
        signed("s3"),
        text("A"),
        signed("s4", thinking="of a text that was told before"),
        call(0, "f", "{", id="c0"),
        signed("s5"),
        call(0, arguments="}"),
        Entry(Kind.REASONING_EXTRA, b'{"reasoning_details":[{}],"thinking_blocks":[1,{"type":"thinking"}]}'),
        end(finish_reason="tool_calls"),
    ]
    assert message(*entries)["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "thinking", "thinking": "so", "signature": "s2"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "thinking", "thinking": "", "signature": "s3"},
        {"type": "text", "text": "A"},
        {"type": "tool_use", "id": "c0", "name": "f", "input": {}},
        {"type": "thinking", "thinking": "", "signature": "s5"},
    ]
    assert [block["type"] for block in message(*entries, head=MUTE)["content"]] == ["text", "tool_use"]


def test_reasoning_that_nobody_wants_is_not_shown() -> None:
    assert message(text("hm", Kind.REASONING), text("A"), end(), head=MUTE)["content"] == [
        {"type": "text", "text": "A"}
    ]


def test_an_answer_without_content() -> None:
    assert types([end()]) == ["message_start", "message_delta", "message_stop"]
    assert message(Entry(Kind.EXTRA, b'{"audio":{}}'), end())["content"] == []


def test_the_start_can_come_early() -> None:
    machine = MessageEvents(STREAM, HEAD)
    start = machine.start()
    assert machine.start() == b""
    assert judge(read(start + machine.frame(1, text("a")) + machine.frame(2, end()))) is not None


# Calls of tools


def test_calls_that_alternate_come_one_after_the_other() -> None:
    """What comes of the second one waits until the first one is complete."""
    entries = [
        call(0, "f", '{"a"', id="c0"),
        call(1, "g", '{"b"', id="c1"),
        call(0, arguments=":1"),
        call(1, arguments=":2}"),
        call(0, arguments="}"),
        call(2, "h", "{}", id="c2"),
        end(finish_reason="tool_calls"),
    ]
    assert [block["input"] for block in message(*entries)["content"]] == [{"a": 1}, {"b": 2}, {}]
    machine = MessageEvents(STREAM, HEAD)
    shown = [len(read(machine.frame(number, entry))) for number, entry in enumerate(entries, 1)]
    assert shown == [3, 0, 1, 0, 4, 3, 3]


def test_a_text_in_the_middle_of_a_call_waits_for_its_end() -> None:
    entries = [call(0, "f", '{"a"', id="c0"), text("b"), text("B"), call(0, arguments=":1}")]
    wanted = [{"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}}, {"type": "text", "text": "bB"}]
    assert message(*entries, end(finish_reason="tool_calls"))["content"] == wanted
    (half, said) = message(*entries[:3], end(finish_reason="length"))["content"]
    assert (half["input"], said["text"]) == ({}, "bB")


def test_what_waits_for_a_call_is_bounded() -> None:
    told = events(call(0, "f", "{", id="c0"), *[text("b" * 100)] * 10, end())
    assert told[-1]["error"]["code"] == "answer_too_large"


def test_a_call_is_shown_as_it_comes() -> None:
    machine = MessageEvents(STREAM, HEAD)
    machine.frame(1, call(0, "f", "", id="c0"))
    for piece in '{"a": [1, "}"]}':
        (event,) = read(machine.frame(2, call(0, arguments=piece)))
        assert event["delta"] == {"type": "input_json_delta", "partial_json": piece}


def test_a_call_without_arguments_is_followed_at_the_end() -> None:
    """Until then, arguments might come."""
    blocks = message(call(0, "f", id="c0"), call(1, "g", "{}", id="c1"), end(finish_reason="tool_calls"))["content"]
    assert [(block["name"], block["input"]) for block in blocks] == [("f", {}), ("g", {})]


def test_a_call_waits_for_its_name() -> None:
    named = {"type": "tool_use", "id": "c0", "name": "f", "input": {"a": 1}}
    first, rest = call(0, arguments='{"a"', id="c0"), call(0, "f", ":1}")
    assert message(first, rest, end(finish_reason="tool_calls"))["content"] == [named]
    told = message(first, text("b"), rest, end(finish_reason="tool_calls"))
    assert told["content"] == [{"type": "text", "text": "b"}, named]


def test_calls_without_ids_get_some() -> None:
    """Results are sent back by them."""
    blocks = message(call(None, "f", "{}"), call(None, "g", "{}"), end())["content"]
    assert [block["id"] for block in blocks] == [f"toolu_{STREAM}_0", f"toolu_{STREAM}_1"]


def test_space_behind_a_call_is_no_part_of_it() -> None:
    entries = [call(0, "f", "{}", id="c0"), text("b"), call(0, arguments="\n"), end(finish_reason="tool_calls")]
    assert [block["type"] for block in message(*entries)["content"]] == ["tool_use", "text"]


def test_long_calls_that_alternate() -> None:
    head = msgspec.structs.replace(HEAD, most=1_000_000)
    first = json.dumps({"a": ["}"] * 20_000})
    entries = [call(0, "f", first[:1], id="c0"), call(1, "g", "{}", id="c1")]
    entries += [call(0, arguments=first[start : start + 1000]) for start in range(1, len(first), 1000)]
    blocks = message(*entries, end(finish_reason="tool_calls"), head=head)["content"]
    assert [block["input"] for block in blocks] == [json.loads(first), {}]


# Ends


@pytest.mark.parametrize(
    ("entries", "finish_reason", "stop_reason"),
    [
        ([text("a")], "stop", "end_turn"),
        ([text("a")], "eos", "end_turn"),
        ([text("a")], None, "end_turn"),
        ([text("a")], "length", "max_tokens"),
        ([text("a")], "model_length", "model_context_window_exceeded"),
        ([text("a")], "content_filter", "refusal"),
        ([text("a", Kind.REFUSAL)], "stop", "refusal"),
        ([call(0, "f", "{}")], "tool_calls", "tool_use"),
        ([call(0, "f", "{}")], "function_call", "tool_use"),
        ([call(0, "f", "{}")], "stop", "tool_use"),
        ([call(0, "f", '{"a')], "length", "max_tokens"),
    ],
)
def test_stop_reasons(entries: Sequence[Entry], finish_reason: str | None, stop_reason: str) -> None:
    told = message(*entries, end(finish_reason=finish_reason))
    assert (told["stop_reason"], told["stop_sequence"]) == (stop_reason, None)


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        (None, {"input_tokens": 9, "cache_read_input_tokens": 0, "output_tokens": 2}),
        ({"prompt_tokens": 7, "completion_tokens": 3}, {"input_tokens": 7, "output_tokens": 3}),
        (
            {
                "prompt_tokens": 7,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            {
                "input_tokens": 2,
                "cache_creation_input_tokens": 1,
                "cache_read_input_tokens": 4,
                "output_tokens": 3,
                "output_tokens_details": {"thinking_tokens": 2},
            },
        ),
    ],
)
def test_usage_is_the_upstreams_or_estimated(usage: Any, wanted: Object) -> None:
    told = message(text("hello"), text("."), end(usage=usage))["usage"]
    assert told == {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, **wanted}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UpstreamError("It broke.", code="overloaded"), "api_error"),
        (UpstreamRateLimited(), "rate_limit_error"),
        (ShuttingDown(), "overloaded_error"),
        (TotalTimeout(), "timeout_error"),
        (AnswerTooLarge(), "api_error"),
    ],
)
def test_a_failure_is_an_error_and_nothing_follows(error: GatewayError, kind: str) -> None:
    told = events(text("a"), *failed(error))
    assert judge(told) is None
    assert told[-1] == {
        "type": "error",
        "error": {"type": kind, "message": error.message, "code": error.code},
        "request_id": "r",
    }


@pytest.mark.parametrize("reason", sorted(set(EndReason) - {EndReason.COMPLETE}))
def test_no_other_end_looks_whole(reason: EndReason) -> None:
    told = events(text("a"), end(reason, None))
    assert judge(told) is None
    assert told[-1]["error"]["code"] == "stopped"


def test_a_fragment_that_says_nothing_is_no_call() -> None:
    told = message(text("a"), call(0), end())
    assert (told["content"], told["stop_reason"]) == ([{"type": "text", "text": "a"}], "end_turn")


BROKEN_CALLS = {
    "without a name": [text("a"), call(0, arguments="{}", id="c0")],
    "half": [call(0, "f", '{"a"')],
    "no object": [call(0, "f", "[1]")],
    "more than one": [call(0, "f", "{}"), call(0, arguments="{}")],
    "a part behind its end": [call(0, "f", "{}", id="c0"), text("b"), call(0, arguments=":1}")],
    "a part behind the end of one that waited": [
        *(call(0, "f", "{", id="c0"), call(1, "g", "{}", id="c1"), text("b")),
        *(call(0, arguments="}"), call(1, arguments="{}")),
    ],
}


@pytest.mark.parametrize("case", BROKEN_CALLS)
def test_a_call_that_cannot_be_made_is_an_error(case: str) -> None:
    """Of a whole answer, that is. One that was cut at its largest size says so."""
    entries = [*BROKEN_CALLS[case], end(finish_reason="tool_calls")]
    assert judge(events(*entries)) is None
    assert recorded(*entries) == events(*entries)
    with pytest.raises(UpstreamError):
        whole_message(entries, STREAM, HEAD)


def test_what_is_held_of_calls_is_bounded() -> None:
    entries = [call(0, "f", "{" + " " * 600, id="c0"), call(0, arguments=" " * 600 + "}"), end()]
    told = events(*entries)
    assert told[-1]["error"]["code"] == "answer_too_large"
    assert recorded(*entries) == told
    with pytest.raises(AnswerTooLarge):
        whole_message(entries, STREAM, HEAD)


# Any answer

_TEXTS = st.text(max_size=3)
_CALLS = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | st.none(),
        "id": st.sampled_from(["", "c0", "c1"]),
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["", "f", "g"]),
                "arguments": st.sampled_from(["", "{", "}", "{}", '{"a":', "1}", "x"]) | st.none(),
            },
        ),
    },
)
_DELTAS = st.fixed_dictionaries(
    {},
    optional={
        "content": _TEXTS,
        "reasoning_content": _TEXTS,
        "refusal": _TEXTS,
        "tool_calls": st.lists(_CALLS, max_size=2),
        "annotations": st.lists(st.just({}), max_size=1),
        "thinking_blocks": st.lists(
            st.sampled_from([{"type": "thinking", "signature": "s"}, {"type": "redacted_thinking", "data": "d"}]),
            max_size=2,
        ),
    },
)
_REASONS = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "x"])


@given(st.lists(_DELTAS, max_size=8), _REASONS | st.none(), st.sampled_from(list(EndReason)), st.booleans())
def test_any_answer_is_well_formed_and_ends_once(
    deltas: list[Object], finish_reason: str | None, reason: EndReason, is_told: bool
) -> None:
    decoder, entries = Decoder(), list[Entry]()
    for delta in deltas:
        decoder.decode_data(json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode(), entries)
    entries += decoder.rest()
    is_complete = reason is EndReason.COMPLETE
    last = failed(UpstreamError()) if is_told and not is_complete else [end(reason, finish_reason)]
    streamed = judge(events(*entries, *last))
    assert recorded(*entries, *last) == events(*entries, *last)
    if not is_complete:
        assert streamed is None
    elif streamed is not None:
        message(*entries, *last)
    else:
        with pytest.raises(GatewayError):
            whole_message([*entries, *last], STREAM, HEAD)
