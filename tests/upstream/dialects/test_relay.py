"""What is passed on of an upstream's events: every byte of what is in order, and nothing that breaks a client."""

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamEmpty, UpstreamError, UpstreamIncomplete, UpstreamRateLimited
from gateway.sse import END, Event, Parser
from gateway.upstream.dialects.openai import DATA_FIELDS
from gateway.upstream.dialects.relay import Relay, passed_finish
from tests.sse.cases import WAYS
from tests.upstream.dialects.cases import COUNTED, DONE, PROVIDERS, call, choice, chunk, stream, text


@dataclass
class Passed:
    """What came out of a stream, and how it ended."""

    relay: Relay
    chunks: list[bytes] = field(default_factory=list)
    error: UpstreamError | None = None

    @property
    def values(self) -> list[Any]:
        return [json.loads(data) for data in self.chunks]


def relayed(reads: Iterable[bytes], *, hide_usage: bool = False, choices: int = 1) -> Passed:
    """A stream as a generation reads it: to `[DONE]`, to an error, or to its end.

    Whether a finish reason was passed on is also known where there is no relay, but only what it passed on.
    """
    passed = Passed(Relay(whole=False, hide_usage=hide_usage, choices=choices))
    entries: list[Entry] = []
    try:
        for event in events(reads):
            passed.relay.decode(event, entries)
            if passed.relay.done:
                break
        passed.relay.finish()
    except UpstreamError as error:
        passed.error = error
    entries += passed.relay.rest()
    assert all(entry.kind is Kind.CHUNK for entry in entries)
    assert passed_finish(entries) == passed.relay.passed_finish
    passed.chunks = [entry.payload for entry in entries]
    return passed


def events(reads: Iterable[bytes]) -> Iterator[Event]:
    parser = Parser(max_bytes=100_000_000, data_fields=DATA_FIELDS)
    for read in reads:
        yield from parser.feed(read)
    yield from parser.feed(END)


def one(data: bytes | str) -> Passed:
    """What is passed on of a single event; it need not be the end."""
    passed = Passed(Relay(whole=False, hide_usage=False))
    entries: list[Entry] = []
    passed.relay.decode(Event(data.encode() if isinstance(data, str) else data), entries)
    passed.chunks = [entry.payload for entry in entries]
    return passed


def strictly(data: bytes) -> Any:
    """As a client reads it: JSON by its grammar, of valid UTF-8."""

    def no_constant(name: str) -> None:
        raise ValueError(name)

    return json.loads(data.decode(), parse_constant=no_constant)


# What passes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", PROVIDERS)
def test_what_providers_stream_passes_to_the_byte(case: str, way: str) -> None:
    """Up to the error, where there is one; that is told, and not passed on."""
    recorded, expected = PROVIDERS[case]
    sent = [event.data for event in events([recorded]) if event.data.strip() != DONE.encode()]
    passed = relayed(WAYS[way](recorded))
    if expected.error in (None, "upstream_incomplete"):
        assert passed.chunks == sent
    else:
        marks = (b"rror", b"Slow down", b"insufficient")
        assert passed.chunks == [data for data in sent if not any(mark in data for mark in marks)]
    assert (passed.error.code if passed.error else None) == expected.error
    if expected.said is not None:
        assert passed.error is not None
        assert passed.error.message == expected.said
    assert passed.relay.finish_reason == expected.finish_reason
    assert passed.relay.usage == expected.usage
    assert (passed.relay.id, passed.relay.model) == (expected.id, expected.model)


PASSES = {
    "spaces and another order": b' { "choices" : [ {"finish_reason":null,"delta":{},"index":0} ] , "id":"x" } ',
    "fields that nobody knows": json.dumps(text("a", x={"y": [None, 1e300, {}]}, service_tier=None)).encode(),
    "logprobs": json.dumps(chunk({**choice(content="a"), "logprobs": {"content": [{"bytes": [97]}]}})).encode(),
    "escapes as they were": rb'{"choices":[{"index":0,"delta":{"content":"\u0061\/\ud83d\ude00"}}]}',
    "characters as they were": '{"choices":[{"index":0,"delta":{"content":"é好👍\u2028\u0085"}}]}'.encode(),
    "numbers as they were": b'{"choices":[{"index":0,"delta":{}}],"a":1.0,"b":-0,"c":1e5,"d":1E+5}',
    "duplicate names": b'{"x":1,"choices":[],"x":2}',
    "fault_38 an integer of 5000 digits": b'{"choices":[],"x":' + b"7" * 5000 + b"}",
    "fault_38 a number beyond any float": b'{"choices":[],"x":1e999}',
    "fault_38 nested, not too deeply": b'{"choices":[],"x":' + b"[" * 200 + b"]" * 200 + b"}",
    "fault_39 no choices": b'{"choices":[]}',
    "fault_39 choices null": b'{"choices":null}',
    "fault_39 no choices at all": b'{"id":"x"}',
    "fault_39 choices that are no list": b'{"choices":{"a":1}}',
    "fault_39 a choice that is none": b'{"choices":[null,7]}',
    "fault_39 delta null": b'{"choices":[{"index":0,"delta":null}]}',
    "fault_39 no delta": b'{"choices":[{"index":0}]}',
    "fault_39 a delta that is none": b'{"choices":[{"index":0,"delta":"a"}]}',
    "fault_40 content null": b'{"choices":[{"index":0,"delta":{"content":null}}]}',
    "fault_40 content in parts": b'{"choices":[{"index":0,"delta":{"content":[{"type":"text","text":"a"}]}}]}',
    "fault_40 content that is a number": b'{"choices":[{"index":0,"delta":{"content":7}}]}',
    "fault_40 reasoning": json.dumps(chunk(choice(reasoning_content="hm", reasoning="hm"))).encode(),
    "fault_41 usage in an odd place": json.dumps(chunk({**choice(), "usage": COUNTED}, x_groq={"id": "r"})).encode(),
    "fault_41 usage of another kind": b'{"choices":[],"usage":[1]}',
    "fault_42 tool calls of any kind": json.dumps(chunk(choice(tool_calls=[None, 1, {}, {"index": None}]))).encode(),
    "fault_42 a fragment": json.dumps(call(index=0, id="", function={"arguments": None})).encode(),
    "fault_44 a reason that nobody knows": json.dumps(chunk(choice("sunset"))).encode(),
    "fault_45 an empty id": json.dumps(text("a", id="", model="")).encode(),
    "error null": b'{"choices":[{"index":0,"delta":{"content":"a"}}],"error":null}',
    "an index that is none": b'{"choices":[{"index":"0","delta":{"content":"a"}}]}',
}


@pytest.mark.parametrize("case", PASSES)
def test_valid_json_passes_to_the_byte(case: str) -> None:
    assert one(PASSES[case]).chunks == [PASSES[case]]


# What is written again, or left out


REWRITTEN = {
    "fault_38 NaN": (b'{"choices":[],"x":NaN}', {"choices": [], "x": None}),
    "fault_38 infinities": (b'{"choices":[],"x":[Infinity,-Infinity]}', {"choices": [], "x": [None, None]}),
    "fault_38 NaN beside text": (
        b'{"choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"x":-Infinity}}]}',
        {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"x": None}}]},
    ),
    "fault_38 a lone surrogate": (
        rb'{"choices":[{"index":0,"delta":{"content":"a\udc4d"}}]}',
        {"choices": [{"index": 0, "delta": {"content": "a\ufffd"}}]},
    ),
    "fault_38 a lone surrogate where nobody looks": (rb'{"choices":[],"x":"\udc00"}', {"choices": [], "x": "\ufffd"}),
    "fault_38 a lone surrogate in a name": (rb'{"choices":[],"\ud800":1}', {"choices": [], "\ufffd": 1}),
    "fault_35 a byte that is not UTF-8": (
        b'{"choices":[{"index":0,"delta":{"content":"a\xff"}}]}',
        {"choices": [{"index": 0, "delta": {"content": "a\ufffd"}}]},
    ),
    "fault_35 half a character": (b'{"choices":[],"x":"\xe5\xa5"}', {"choices": [], "x": "\ufffd"}),
    "fault_35 a surrogate as bytes": (b'{"choices":[],"x":"\xed\xa0\x80"}', {"choices": [], "x": "\ufffd" * 3}),
    "fault_35 in a name": (b'{"choices":[],"\xff":1}', {"choices": [], "\ufffd": 1}),
    "fault_35 and NaN": (b'{"choices":[],"x":"\xff","y":NaN}', {"choices": [], "x": "\ufffd", "y": None}),
}


@pytest.mark.parametrize("case", REWRITTEN)
def test_near_json_is_written_again_so_that_any_client_can_read_it(case: str) -> None:
    data, value = REWRITTEN[case]
    passed = one(data)
    assert [strictly(payload) for payload in passed.chunks] == [value]
    assert passed.relay.skipped == 0


SKIPPED = {
    "prose": b"keep-alive",
    "half": b'{"choices":',
    "two": b"{}{}",
    "single quotes": b"{'choices':[]}",
    "a control character": b'{"choices":[],"x":"\x01"}',
    "a line end in a string": b'{"choices":[],"x":"a\nb"}',
    "an escape that is none": rb'{"choices":[],"x":"\q"}',
    "nested too deeply": b'{"choices":[],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("case", SKIPPED)
def test_fault_37_what_is_no_json_is_skipped_and_counted(case: str) -> None:
    passed = relayed([stream(text("a"))])
    entries: list[Entry] = []
    passed.relay.decode(Event(SKIPPED[case]), entries)
    passed.relay.decode(Event(json.dumps(text("b")).encode()), entries)
    assert [json.loads(entry.payload)["choices"][0]["delta"]["content"] for entry in entries] == ["b"]
    assert passed.relay.skipped == 1


@pytest.mark.parametrize("data", ["null", "[]", "7", '"a"', "true", '"[DONE]"', "[DONE, 1]", "[[DONE]]"])
def test_fault_39_what_is_no_object_is_no_chunk(data: str) -> None:
    passed = one(data)
    assert passed.chunks == []
    assert not passed.relay.done


@pytest.mark.parametrize("shape", ['{"choices":[],"x":%s}', '{"choices":[{"delta":{"content":["a"]}}],"x":%s}'])
def test_fault_38_nesting_passes_or_is_skipped_but_never_crashes(shape: str) -> None:
    """Also where one reader can just take it, and the next one, a few calls deeper, cannot."""
    for depth in [*range(300, 1_020), 2_000, 10_000]:
        for lists in ("[" * depth + "NaN" + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
            for data in one(shape % lists).chunks:
                data.decode()


@pytest.mark.parametrize("content", ['"a"', '["a"]', "NaN"])
def test_fault_38_an_integer_of_any_size_is_passed_on_as_json(content: str) -> None:
    for digits in (18, 19, 20, 400, 4300, 4301, 5000):
        (data,) = one(f'{{"choices":[{{"delta":{{"content":{content}}}}}],"x":-{"7" * digits}}}').chunks
        assert data.isascii()
        json.loads(data, parse_int=str, parse_constant=lambda name: 1 / 0)


# Errors are raised, and never passed on

ERRORS = {
    "fault_11 an object": stream({"error": {"message": "boom", "code": 500}}),
    "fault_11 in a list": stream({"error": [{"message": "boom"}]}),
    "fault_12 by its event's name": b"event: error\n" + stream({"message": "boom"}),
    "fault_12 by its event's name, with choices": b"event: error\n" + stream(text("a")),
    "fault_12 by its event's name, no JSON": b"event: error\n" + stream("boom"),
    "fault_14 beside choices": stream(chunk(choice("error"), error={"message": "boom"}, usage=COUNTED)),
    "fault_14 a finish reason": stream(chunk(choice("error"))),
    "fault_15 Groq": stream(text("", x_groq={"error": "boom"})),
    "fault_15 an old vLLM": stream({"object": "error", "message": "boom", "code": 400}),
    "fault_15 an old llama.cpp": stream({"code": 500, "message": "boom"}, field="error: "),
    "fault_15 flat": stream({"code": 500, "message": "boom"}),
    "fault_15 a string": stream({"error": "boom"}),
    "in near-JSON": stream('{"error":{"message":"boom","x":NaN}}'),
    "with bytes that are not UTF-8": stream("{}").replace(b"{}", b'{"error":{"message":"boom\xff"}}'),
    "true": stream({"error": True}),
    "a limit": stream({"error": {"message": "boom", "code": 429}}),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("before", [b"", stream(text("a"))], ids=["at first", "in the middle"])
def test_an_error_is_raised_and_never_passed_on(before: bytes, case: str) -> None:
    """fault_13: also where a clean `[DONE]` comes behind it."""
    passed = relayed([before + ERRORS[case] + stream(text("b"), DONE)])
    assert isinstance(passed.error, UpstreamError)
    assert not isinstance(passed.error, UpstreamIncomplete)
    assert passed.values == ([text("a")] if before else [])
    assert not passed.relay.done


def test_fault_14_usage_is_counted_all_the_same() -> None:
    assert relayed([ERRORS["fault_14 beside choices"]]).relay.usage == COUNTED


def test_a_limit_of_the_upstream_is_told_as_one() -> None:
    assert isinstance(relayed([ERRORS["a limit"]]).error, UpstreamRateLimited)


def test_fault_77_the_words_of_an_error_are_cleaned() -> None:
    error = relayed([stream({"error": {"message": "bad key sk-abcdefghijkl at http://10.0.0.1/v1"}})]).error
    assert error is not None
    assert error.message == "bad key [redacted] at [address]"


# How a stream ends


def numbered(index: int | None, finish_reason: str | None = None, **delta: object) -> dict[str, object]:
    return {"index": index, "delta": delta, "finish_reason": finish_reason}


ENDS: dict[str, tuple[bytes, type[UpstreamError] | None]] = {
    "by both": (stream(text("a"), chunk(choice("stop")), DONE), None),
    "fault_18 by its finish reason": (stream(text("a"), chunk(choice("stop"))), None),
    "fault_20 by [DONE]": (stream(text("a"), DONE), None),
    "fault_16 by nothing": (stream(text("a"), text("")), UpstreamIncomplete),
    "fault_04 before it began": (b"", UpstreamIncomplete),
    "fault_05 by [DONE] alone": (stream(DONE), UpstreamEmpty),
    "fault_05 by [DONE] behind usage": (stream(chunk(usage=COUNTED), DONE), UpstreamEmpty),
    "fault_22 by something like [DONE]": (stream(text("a"), "[DONE]xyz"), UpstreamIncomplete),
    "fault_23 by [DONE] without a line end": (stream(text("a")) + b"data:[DONE]", None),
    "fault_45 twice": (stream(text("a"), chunk(choice("length")), chunk(choice("stop"))), None),
    "fault_43 two of two": (
        stream(
            chunk(numbered(0, content="a")),
            chunk(numbered(1, content="b")),
            chunk(numbered(1, "stop")),
            chunk(numbered(0, "length")),
        ),
        None,
    ),
    "fault_43 one of two": (
        stream(chunk(numbered(0, content="a")), chunk(numbered(1, content="b")), chunk(numbered(0, "stop"))),
        UpstreamIncomplete,
    ),
    "fault_43 one of two in one chunk": (
        stream(chunk(numbered(0, "stop", content="a"), numbered(1, content="b"))),
        UpstreamIncomplete,
    ),
    "fault_43 another that begins after the end of the first": (
        stream(chunk(numbered(0, "stop", content="a")), chunk(numbered(1, content="b"))),
        UpstreamIncomplete,
    ),
    "fault_43 one of two, and [DONE]": (
        stream(chunk(numbered(0, "stop", content="a"), numbered(1, content="b")), DONE),
        None,
    ),
    "fault_43 three, finishing apart": (
        stream(*[chunk(numbered(n, content="a")) for n in range(3)], *[chunk(numbered(n, "stop")) for n in (2, 0, 1)]),
        None,
    ),
    "a choice without an index": (stream({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}), None),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_a_stream_ends(case: str) -> None:
    """Whole is what the upstream says is whole: all choices that have begun, or `[DONE]`."""
    recorded, expected = ENDS[case]
    error = relayed([recorded], choices=3 if "three" in case else 2 if "two" in case or "another" in case else 1).error
    assert type(error) is (expected or type(None))


def test_fault_43_choices_finishing_apart_pass_to_the_byte() -> None:
    recorded = stream(
        chunk(numbered(0, content="a"), numbered(1, content="b")),
        chunk(numbered(1, "stop")),
        chunk(numbered(0, "stop")),
    )
    passed = relayed([recorded])
    assert passed.chunks == [event.data for event in events([recorded])]


BEGINS = {
    "a role": (chunk(choice(role="assistant", content="")), False),
    "nothing": (chunk(choice()), False),
    "no choice": (chunk(), False),
    "usage": (chunk(usage=COUNTED), False),
    "a text": (text("a"), True),
    "a thought": (chunk(choice(reasoning_content="hm")), True),
    "a thought by its other name": (chunk(choice(reasoning="hm")), True),
    "a refusal": (chunk(choice(refusal="no")), True),
    "a tool call": (call(index=0, function={"name": "f"}), True),
    "an old function call": (chunk(choice(function_call={"name": "f"})), True),
    "audio": (chunk(choice(audio={"data": "AA=="})), True),
    "a picture": (chunk(choice(images=[{"type": "image_url"}])), True),
    "parts": (chunk(choice(content=[{"type": "text", "text": "a"}])), True),
    "an end": (chunk(choice("stop")), True),
    "a text of the second choice": (chunk(numbered(1, content="a")), True),
}


@pytest.mark.parametrize("case", BEGINS)
def test_when_an_answer_has_begun(case: str) -> None:
    """Until then an error is a status; a role is no beginning."""
    value, begun = BEGINS[case]
    assert one(json.dumps(value)).relay.has_content is begun


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (text("abc"), 3),
        (text("é好"), 5),
        (chunk(choice(content="a", reasoning_content="bc")), 3),
        (chunk(choice(reasoning_content="bc", reasoning="bc")), 2),
        (chunk(numbered(0, content="a"), numbered(1, content="bc")), 3),
        (chunk(choice(role="assistant", content="")), 0),
    ],
)
def test_how_much_was_said_is_counted_in_bytes(value: object, said: int) -> None:
    """Of all choices: it is what tokens are guessed from."""
    assert one(json.dumps(value, ensure_ascii=False)).relay.said == said


# Usage


@pytest.mark.parametrize("hide_usage", [True, False])
@pytest.mark.parametrize(
    ("value", "only_usage"),
    [
        (chunk(usage=COUNTED), True),
        ({"choices": None, "usage": COUNTED}, True),
        ({"usage": COUNTED}, True),
        ({"choices": [], "usage": COUNTED, "x": 1}, True),
        (chunk(usage=None), False),
        (chunk(), False),
        (chunk(choice("stop"), usage=COUNTED), False),
        (text("a", usage=COUNTED), False),
        (chunk({**choice("stop"), "usage": COUNTED}), False),
        (text("", x_groq={"usage": COUNTED}), False),
    ],
)
def test_a_chunk_of_only_usage_is_hidden_from_who_did_not_ask(
    value: dict[str, object], only_usage: bool, hide_usage: bool
) -> None:
    """It is counted all the same."""
    passed = relayed([stream(text("a"), value, DONE)], hide_usage=hide_usage)
    assert passed.values == ([text("a")] if only_usage and hide_usage else [text("a"), value])
    assert passed.relay.usage == (COUNTED if json.dumps(COUNTED) in json.dumps(value) else None)


# Whole bodies


def body_of(data: bytes, *, whole: bool, hide_usage: bool = False) -> tuple[Relay, bytes]:
    relay, entries = Relay(whole=whole, hide_usage=hide_usage), list[Entry]()
    relay.decode_completion(data, entries)
    relay.finish()
    (entry,) = entries
    assert entry.kind is Kind.CHUNK
    return relay, entry.payload


def completion(*choices: object, **fields: object) -> dict[str, object]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m-1",
        "choices": list(choices),
        "usage": COUNTED,
        **fields,
    }


def message(content: object, finish_reason: object = "stop", index: int = 0, **fields: object) -> dict[str, object]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, **fields},
        "logprobs": None,
        "finish_reason": finish_reason,
    }


WHOLE = {
    "plain": json.dumps(completion(message("Hello"))).encode(),
    "pretty": json.dumps(completion(message("é")), indent=2, ensure_ascii=False).encode() + b"\r\n",
    "two choices": json.dumps(completion(message("a"), message("b", index=1))).encode(),
    "a tool call": json.dumps(completion(message(None, "tool_calls", tool_calls=[{"id": "c"}]))).encode(),
    "parts": json.dumps(completion(message([{"type": "text", "text": "a"}]))).encode(),
    "no reason": json.dumps(completion(message("a", None))).encode(),
    "fields that nobody knows": json.dumps(completion(message("a"), x=[10**30])).encode(),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_body_passes_to_the_byte(case: str) -> None:
    relay, payload = body_of(WHOLE[case], whole=True)
    assert payload == WHOLE[case]
    assert relay.complete
    assert relay.usage == COUNTED
    assert (relay.id, relay.model) == ("chatcmpl-1", "m-1")


def test_fault_35_a_whole_body_is_valid_utf8() -> None:
    _, payload = body_of(b'{"choices":[{"message":{"content":"\xff"},"x":NaN}]}', whole=True)
    assert strictly(payload) == {"choices": [{"message": {"content": "\ufffd"}, "x": None}]}


NO_ANSWER = [b"", b"null", b"[]", b'"a"', b"7", b"Hello", b"<html>", b"[DONE]", b'{"choices":', b"\xff", b"{}{}"]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("body", [*NO_ANSWER, b"{}", b'{"choices":[]}', b'{"choices":null,"id":"x"}'])
def test_a_body_that_is_no_answer_is_an_error(body: bytes, whole: bool) -> None:
    with pytest.raises(UpstreamError):
        body_of(body, whole=whole)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "boom"}},
        {"error": "boom"},
        {"object": "error", "message": "boom"},
        {"code": 500, "message": "boom"},
        completion(message("a", "error"), error={"message": "boom"}),
    ],
)
def test_fault_01_an_error_with_status_200_is_raised(error: dict[str, object], whole: bool) -> None:
    relay, entries = Relay(whole=whole, hide_usage=False), list[Entry]()
    with pytest.raises(UpstreamError, match="boom"):
        relay.decode_completion(json.dumps(error).encode(), entries)
    assert entries == []


def test_fault_03_a_body_where_a_stream_was_asked_for_is_one_chunk() -> None:
    """With everything that the client would have got in many."""
    body = completion(message("Hello", "length", reasoning_content="hm", refusal=None), system_fingerprint="fp_1")
    relay, payload = body_of(json.dumps(body).encode(), whole=False)
    assert json.loads(payload) == {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "Hello", "reasoning_content": "hm", "refusal": None},
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": COUNTED,
        "system_fingerprint": "fp_1",
    }
    assert b"\n" not in payload
    assert relay.complete
    assert relay.said == len("Hello" + "hm")


def test_fault_03_tool_calls_are_numbered() -> None:
    """In a chunk they have an index; in a message they have none."""
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(2)]
    _, payload = body_of(json.dumps(completion(message(None, "tool_calls", tool_calls=calls))).encode(), whole=False)
    delta = json.loads(payload)["choices"][0]["delta"]
    assert delta["tool_calls"] == [{"index": n, **calls[n]} for n in range(2)]


def test_fault_03_a_message_that_does_not_say_why_it_ended_has_stopped() -> None:
    _, payload = body_of(json.dumps(completion(message("a", None))).encode(), whole=False)
    assert json.loads(payload)["choices"][0]["finish_reason"] == "stop"


def test_fault_03_usage_is_hidden_from_who_did_not_ask() -> None:
    relay, payload = body_of(WHOLE["plain"], whole=False, hide_usage=True)
    assert "usage" not in json.loads(payload)
    assert relay.usage == COUNTED


def test_fault_03_two_choices_stay_two() -> None:
    _, payload = body_of(WHOLE["two choices"], whole=False)
    assert [(c["index"], c["delta"]["content"]) for c in json.loads(payload)["choices"]] == [(0, "a"), (1, "b")]


# Anything at all

_names = st.sampled_from(
    ["choices", "delta", "message", "content", "index", "finish_reason", "usage", "tool_calls", "id", "model", "x_groq"]
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["stop", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=10,
)
_chunks = st.dictionaries(_names, _json, max_size=5) | st.builds(
    lambda inner: {"choices": [inner]}, st.dictionaries(_names, _json, max_size=4)
)
_errors = st.dictionaries(st.sampled_from(["error", "object", "message", "code"]), _json)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


@given(st.lists((_json | _chunks).map(_dumped) | st.binary(max_size=30), max_size=5))
@example([b'{"choices": [null, {"finish_reason": ""}]}'])
def test_fault_38_whatever_is_sent_what_is_passed_on_can_be_read(payloads: list[bytes]) -> None:
    relay, entries = Relay(whole=False, hide_usage=False), list[Entry]()
    with suppress(UpstreamError):
        for payload in payloads:
            relay.decode(Event(payload), entries)
        relay.finish()
    for entry in entries:
        assert entry.kind is Kind.CHUNK
        assert isinstance(strictly(entry.payload), dict)
    assert relay.usage is None or isinstance(relay.usage, dict)


def _has_error(value: dict[str, Any]) -> bool:
    """Infinities and NaN are no JSON, and are read as null."""
    error = value.get("error")
    return bool(error) and not (isinstance(error, float) and not math.isfinite(error))


@given(_errors.filter(_has_error), st.sampled_from(["message", "error"]))
def test_fault_11_no_error_is_ever_passed_on(value: dict[str, Any], kind: str) -> None:
    relay, entries = Relay(whole=False, hide_usage=False), list[Entry]()
    with pytest.raises(UpstreamError):
        relay.decode(Event(_dumped(value), kind), entries)
    assert entries == []


@given((_json | _chunks | _errors).map(_dumped) | st.binary(max_size=30), st.booleans(), st.booleans())
def test_fault_38_whatever_the_body_what_is_passed_on_can_be_read(body: bytes, whole: bool, hide_usage: bool) -> None:
    relay, entries = Relay(whole=whole, hide_usage=hide_usage), list[Entry]()
    with suppress(UpstreamError):
        relay.decode_completion(body, entries)
    for entry in entries:
        assert isinstance(strictly(entry.payload), dict)


def test_an_odd_chunk_that_is_hidden_leaves_the_next_one_as_it_is() -> None:
    """What was refused by the structs is looked at again; what comes after it is passed on as it was sent."""
    relay = Relay(whole=False, hide_usage=True)
    entries: list[Entry] = []
    relay.decode(Event(b'{"choices": [], "usage": {"total_tokens": 1}, "id": 7}'), entries)
    relay.decode(Event(b'{"choices": [{"index": 0, "delta": {"content": "a"}}]}'), entries)
    assert [entry.payload for entry in entries] == [b'{"choices": [{"index": 0, "delta": {"content": "a"}}]}']
    assert not relay._is_odd


def test_the_reason_of_fewer_choices_than_were_asked_for() -> None:
    """A clean end behind it is a whole answer, and its record has the reason."""
    relay, entries = Relay(whole=False, hide_usage=False, choices=2), list[Entry]()
    relay.decode_data(b'{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}', entries)
    relay.finish()
    assert (relay.complete, relay.finish_reason) == (False, "stop")
