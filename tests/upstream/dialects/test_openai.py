"""What is understood of an upstream's events: every provider's shape, every shape of trouble, and any bytes at all."""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamEmpty, UpstreamError, UpstreamIncomplete, UpstreamRateLimited
from gateway.sse import END, Event, Parser
from gateway.upstream.dialects.completion import Outcome, completion
from gateway.upstream.dialects.openai import DATA_FIELDS, Decoder
from tests.sse.cases import WAYS
from tests.upstream.dialects.cases import COUNTED, DONE, PROVIDERS, Heard, choice, chunk, stream, text

# A stream as a generation reads it


def hear(reads: Iterable[bytes]) -> Heard:
    """All of a stream, as far as it is read: to `[DONE]`, to an error, or to its end."""
    decoder, entries = Decoder(), list[Entry]()
    error: UpstreamError | None = None
    try:
        for event in _events(reads):
            decoder.decode(event, entries)
            if decoder.done:
                break
        decoder.finish()
    except UpstreamError as caught:
        error = caught
    entries += decoder.rest()
    assert all(entry.kind not in (Kind.FAILURE, Kind.END) for entry in entries)
    return Heard(
        text=_joined(entries, Kind.TEXT),
        reasoning=_joined(entries, Kind.REASONING),
        refusal=_joined(entries, Kind.REFUSAL),
        tools=tuple([json.loads(entry.payload) for entry in entries if entry.kind is Kind.TOOL]),
        finish_reason=decoder.finish_reason,
        usage=decoder.usage,
        id=decoder.id,
        model=decoder.model,
        done=decoder.done,
        skipped=decoder.skipped,
        error=error.code if error else None,
        said=error.message if error and error.message != type(error).message else None,
    )


def _events(reads: Iterable[bytes]) -> Iterator[Event]:
    parser = Parser(max_bytes=100_000_000, data_fields=DATA_FIELDS)
    for read in reads:
        yield from parser.feed(read)
    yield from parser.feed(END)


def _joined(entries: Iterable[Entry], wanted: Kind) -> str:
    return b"".join([entry.payload for entry in entries if entry.kind is wanted]).decode()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", PROVIDERS)
def test_providers(case: str, way: str) -> None:
    recorded, expected = PROVIDERS[case]
    assert hear(WAYS[way](recorded)) == expected


@pytest.mark.parametrize("case", PROVIDERS)
def test_fault_23_providers_with_other_line_ends_and_a_lost_last_one(case: str) -> None:
    recorded, expected = PROVIDERS[case]
    assert hear([recorded.replace(b"\n", b"\r\n")]) == expected
    assert hear([recorded.replace(b"\n", b"\r").rstrip(b"\r")]) == expected


# How a stream ends

FINISH = chunk(choice("stop"))

ENDS = {
    "by both": (stream(text("a"), FINISH, DONE), Heard("a")),
    "fault_18 by its finish reason": (stream(text("a"), FINISH), Heard("a", done=False)),
    "fault_20 by [DONE]": (stream(text("a"), DONE), Heard("a", finish_reason=None)),
    "fault_19 by nothing": (stream(text("a")), Heard("a", finish_reason=None, done=False, error="upstream_incomplete")),
    "fault_04 before it began": (
        b"",
        Heard(finish_reason=None, id=None, model=None, done=False, error="upstream_incomplete"),
    ),
    "fault_04 with comments only": (
        b": a\n\n",
        Heard(finish_reason=None, id=None, model=None, done=False, error="upstream_incomplete"),
    ),
    "fault_05 with [DONE] only": (
        stream(DONE),
        Heard(finish_reason=None, id=None, model=None, error="upstream_empty"),
    ),
    "fault_05 with reasoning, and [DONE]": (
        stream(chunk(choice(reasoning_content="hm")), DONE),
        Heard(reasoning="hm", finish_reason=None, error="upstream_empty"),
    ),
    "fault_05 with no call in its calls, and [DONE]": (
        stream(chunk(choice(tool_calls=[None, 1])), DONE),
        Heard(finish_reason=None, error="upstream_empty"),
    ),
    "empty, and it says so": (stream(FINISH, DONE), Heard()),
    "fault_21 nothing behind [DONE] counts": (
        stream(text("a"), DONE, text("b"), {"error": "no"}, chunk(usage=COUNTED)),
        Heard("a", finish_reason=None),
    ),
    "fault_22 [DONE] with something behind it": (
        stream(text("a"), "[DONE]xyz"),
        Heard("a", finish_reason=None, done=False, skipped=1, error="upstream_incomplete"),
    ),
    "fault_22 [DONE] as the first of two lines": (
        stream(text("a")) + b"data: [DONE]\ndata: {}\n\n",
        Heard("a", finish_reason=None, done=False, skipped=1, error="upstream_incomplete"),
    ),
    "fault_22 [DONE] and an empty line": (
        stream(text("a")) + b"data: [DONE]\ndata:\n\n",
        Heard("a", finish_reason=None, done=False, skipped=1, error="upstream_incomplete"),
    ),
    "fault_22 [done] in a string": (
        stream(text("a"), '"[DONE]"', text("[DONE]")),
        Heard("a[DONE]", finish_reason=None, done=False, error="upstream_incomplete"),
    ),
    "fault_23 without a space": (stream(text("a"), DONE, field="data:"), Heard("a", finish_reason=None)),
    "fault_23 with two": (stream(text("a"), DONE, field="data:  "), Heard("a", finish_reason=None)),
    "fault_23 with CRLF": (stream(text("a"), DONE, end="\r\n\r\n"), Heard("a", finish_reason=None)),
    "fault_23 without a blank line": (stream(text("a")) + b"data: [DONE]\n", Heard("a", finish_reason=None)),
    "fault_23 without a line end": (stream(text("a")) + b"data: [DONE]", Heard("a", finish_reason=None)),
    "fault_44 for a reason nobody knows": (
        stream(text("a"), chunk(choice("sunset"))),
        Heard("a", "", finish_reason="sunset", done=False),
    ),
    "fault_45 twice, the last reason counts": (
        stream(text("a"), chunk(choice("length")), chunk(choice("stop"))),
        Heard("a", done=False),
    ),
    "fault_45 then null again": (stream(chunk(choice("stop", content="a")), chunk(choice())), Heard("a", done=False)),
    "an empty reason is none": (
        stream(chunk(choice("", content="a"))),
        Heard("a", finish_reason=None, done=False, error="upstream_incomplete"),
    ),
    "fault_45 the first id and the last model count": (
        stream(text("a", id=""), text("b", id="x", model=""), text("c", id="y", model="m-2"), FINISH | {"id": "z"}),
        Heard("abc", id="x", model="m-1", done=False),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ENDS)
def test_ends(case: str, way: str) -> None:
    """Complete is what says so, by `[DONE]` or by a finish reason; everything else broke off."""
    recorded, expected = ENDS[case]
    assert hear(WAYS[way](recorded)) == expected


def test_the_ends_have_errors_of_their_own() -> None:
    with pytest.raises(UpstreamIncomplete):
        Decoder().finish()
    done = Decoder()
    done.decode(Event(b"[DONE]"), [])
    with pytest.raises(UpstreamEmpty):
        done.finish()


# What one event says


def heard(payload: object) -> Heard:
    """One event, then the end that makes it complete."""
    return hear([stream(payload, "[DONE]")])


def raw_delta(delta: str) -> bytes:
    return b'data: {"choices":[{"delta":{%b}}]}\n\n' % delta.encode()


TEXTS = [
    # the delta's fields, text, reasoning, refusal
    ('"content":"a"', "a", "", ""),
    ('"content":""', "", "", ""),
    ('"content":null', "", "", ""),
    ('"content":"None"', "None", "", ""),
    ('"content":"é\\u00e9\\ud83d\\udc4d\\n\\u2028\\u0000"', "éé👍\n\u2028\0", "", ""),
    ('"content":["a","b"]', "ab", "", ""),
    ('"content":[]', "", "", ""),
    ('"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]', "ab", "", ""),
    ('"content":[{"text":"a"},null,7,{"type":"text"},{"type":"text","text":null}]', "a", "", ""),
    ('"content":[{"type":"image_url","image_url":{"url":"x"},"text":"b"}]', "", "", ""),
    ('"content":[{"type":"thinking","thinking":"hm"}]', "", "hm", ""),
    (
        '"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"}]',
        "a",
        "hm",
        "",
    ),
    ('"content":{"type":"text","text":"a"}', "a", "", ""),
    ('"content":7', "7", "", ""),
    ('"content":0', "0", "", ""),
    ('"content":-0.5', "-0.5", "", ""),
    ('"content":true', "true", "", ""),
    ('"reasoning_content":7', "", "7", ""),
    ('"reasoning":false', "", "", ""),
    ('"reasoning":true,"content":"a"', "a", "", ""),
    ('"reasoning_content":"hm"', "", "hm", ""),
    ('"reasoning":"hm"', "", "hm", ""),
    ('"reasoning":"hm","reasoning_content":"hm"', "", "hm", ""),
    ('"reasoning":"hm","reasoning_content":null,"content":"a"', "a", "hm", ""),
    ('"reasoning":null,"reasoning_content":"","content":null,"refusal":null', "", "", ""),
    ('"reasoning":{"text":"hm"},"content":"a"', "a", "", ""),
    ('"content":[],"reasoning_content":"hm"', "", "hm", ""),
    ('"content":[],"reasoning":"hm"', "", "hm", ""),
    ('"content":[],"refusal":"no"', "", "", "no"),
    ('"refusal":"no"', "", "", "no"),
    ('"refusal":["no"],"content":"a"', "a", "", ""),
    ('"role":"assistant","audio":{"data":"x"},"annotations":[],"content":"a"', "a", "", ""),
]


@pytest.mark.parametrize(("delta", "said", "thought", "refused"), TEXTS)
def test_fault_40_texts(delta: str, said: str, thought: str, refused: str) -> None:
    """Null is nothing, never the word `None`; a list of parts is its text."""
    found = hear([raw_delta(delta)])
    assert (found.text, found.reasoning, found.refusal) == (said, thought, refused)
    assert found.skipped == 0


def test_reasoning_comes_before_the_text_of_the_same_event() -> None:
    entries: list[Entry] = []
    Decoder().decode(Event(json.dumps(chunk(choice(content="a", reasoning="hm", refusal="no"))).encode()), entries)
    assert entries == [Entry(Kind.REASONING, b"hm"), Entry(Kind.TEXT, b"a"), Entry(Kind.REFUSAL, b"no")]


IGNORED = [
    {},
    [],
    [1, {"choices": []}],
    7,
    "text",
    True,
    {"choices": []},
    {"choices": None},
    {"choices": {}},
    {"choices": "a"},
    {"choices": [None, 7, "a", []]},
    {"choices": [{}]},
    {"choices": [{"delta": None}]},
    {"choices": [{"delta": []}]},
    {"choices": [{"delta": {}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": []}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": None}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": {}}}]},
    {"choices": [{"index": 0, "delta": {"tool_calls": [None, 7, "a", []]}}]},
    {"id": None, "model": None, "created": None, "usage": None, "error": None, "x_groq": None},
    {"id": 7, "model": [], "created": "now", "usage": [], "x_groq": []},
    {"x_groq": {"id": "req_1"}},
    {"usage": 7},
    {"error": ""},
    {"error": False},
    {"type": "ping"},
    {"object": "chat.completion.chunk", "timings": {}},
    {"message": "hello"},
]


@pytest.mark.parametrize("payload", IGNORED, ids=json.dumps)
def test_fault_39_what_says_nothing_is_ignored(payload: object) -> None:
    """Nothing is made of it, and nothing is lost by it."""
    event = json.dumps(payload)
    assert hear([stream(event, FINISH)]) == Heard(done=False)
    assert hear([stream(text("a"), event, text("b"), FINISH)]) == Heard("ab", done=False)


def test_fault_43_only_the_first_choice_is_the_answer() -> None:
    """However the choices of a chunk are ordered, and whichever finishes first."""
    another = {"index": 1, "delta": {"content": "x"}, "finish_reason": "length"}
    odd = {"index": 1, "delta": {"content": [{"text": "x"}]}, "finish_reason": "length"}
    assert hear(
        [
            stream(
                chunk(another, choice(content="a")), chunk(choice(content="b"), odd), chunk(another), FINISH, chunk(odd)
            )
        ]
    ) == Heard("ab", done=False)
    assert heard({"choices": [{"index": None, "delta": {"content": "a"}}, {"delta": {"content": "b"}}]}).text == "ab"


# Tool calls

TOOLS: dict[str, list[dict[str, object]]] = {
    "fragments": [
        {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}},
        {"index": 0, "function": {"arguments": "{}"}},
    ],
    "without an index": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
    "an empty id, arguments null": [{"index": 0, "id": "", "function": {"arguments": None}}],
    "fields nobody knows": [
        {"index": 0, "function": {"arguments": ""}, "extra_content": {"google": {"signature": "é"}}}
    ],
    "an empty one": [{}],
}


@pytest.mark.parametrize("odd", [{}, {"content": []}], ids=["textbook", "odd"])
@pytest.mark.parametrize("case", TOOLS)
def test_fault_42_tool_calls_pass_as_they_are(case: str, odd: dict[str, object]) -> None:
    """Together or one by one, in a chunk of the textbook's shape or in another one."""
    calls = TOOLS[case]
    assert heard(chunk(choice(tool_calls=calls, **odd))).tools == tuple(calls)
    assert hear([stream(*[chunk(choice(tool_calls=[one], **odd)) for one in calls], FINISH)]).tools == tuple(calls)


def test_a_tool_call_keeps_its_bytes() -> None:
    """The spaces and the escapes too: nothing is read that need not be."""
    payload = b'{"index": 0, "function": {"arguments": "\\u00e9 \\n"}, "n": 1e2}'
    entries: list[Entry] = []
    Decoder().decode(Event(b'{"choices":[{"delta":{"tool_calls":[ %b ]}}]}' % payload), entries)
    assert entries == [Entry(Kind.TOOL, payload)]


# Usage

DETAILED = {**COUNTED, "details": {"cached": 1, "é": [None, 1.5]}}
USAGES: dict[str, tuple[list[dict[str, object]], object]] = {
    "none": ([text("a")], None),
    "null": ([text("a", usage=None)], None),
    "empty": ([chunk(usage={})], {}),
    "with details": ([chunk(usage=DETAILED)], DETAILED),
    "at the top": ([chunk(usage=COUNTED)], COUNTED),
    "with the finish": ([chunk(choice("stop"), usage=COUNTED)], COUNTED),
    "in the choice": ([chunk({**choice("stop"), "usage": COUNTED})], COUNTED),
    "in x_groq": ([chunk(x_groq={"usage": COUNTED})], COUNTED),
    "null behind it does not undo it": ([chunk(usage=COUNTED), text("a", usage=None)], COUNTED),
    "what is no object does not either": ([chunk(usage=COUNTED), chunk(usage=7), chunk(usage=[])], COUNTED),
    "the last one counts": ([text("a", usage={"total_tokens": n}) for n in range(4)] + [chunk(usage=COUNTED)], COUNTED),
    "three times in three places": (
        [
            chunk({**choice("stop"), "usage": {"a": 1}}, x_groq={"usage": {"b": 1}}, usage={"c": 1}),
            chunk(usage=DETAILED),
        ],
        DETAILED,
    ),
    "a page of it is none": ([chunk(usage=COUNTED), chunk(usage={"a": "x" * 16_384})], COUNTED),
    "beside parts": ([chunk(choice(content=[]), usage=COUNTED)], COUNTED),
    "in the choice, beside parts": ([chunk({**choice(content=[]), "usage": COUNTED})], COUNTED),
    "in x_groq, beside parts": ([chunk(choice(content=[]), x_groq={"usage": COUNTED})], COUNTED),
}


@pytest.mark.parametrize("case", USAGES)
def test_fault_41_usage_wherever_it_is(case: str) -> None:
    chunks, usage = USAGES[case]
    assert hear([stream(*chunks, FINISH)]).usage == usage


# Errors

GAVE_UP = "The model's server gave up on the answer. Ask again in a moment."

ERRORS = {
    # the event, the code, what is said
    "fault_11 an object": (stream({"error": {"message": "no", "code": "overloaded"}}), "overloaded", "no"),
    "with a type only": (stream({"error": {"message": "no", "type": "server_error"}}), "upstream_error", "no"),
    "a string": (stream({"error": "no"}), "upstream_error", "no"),
    "a number as its code": (stream({"error": {"message": "no", "code": 500}}), "upstream_error", "no"),
    "null as its code": (stream({"error": {"message": "no", "code": None}}), "upstream_error", "no"),
    "no message": (stream({"error": {"code": "overloaded"}}), "overloaded", None),
    "a message that is none": (stream({"error": {"message": {"a": 1}, "code": []}}), "upstream_error", None),
    "a list": (stream({"error": ["no"]}), "upstream_error", "no"),
    "a list of one, as Google has it": (stream([{"error": {"message": "no", "code": 400}}]), "upstream_error", "no"),
    "a limit in a list of one": (stream([{"error": {"message": "no", "code": 429}}]), "upstream_rate_limited", "no"),
    "a name, and the sentence beside it": (stream({"error": "Bad", "message": "no"}), "upstream_error", "no"),
    "true, and the sentence beside it": (stream({"error": True, "message": "no"}), "upstream_error", "no"),
    "a detail": (stream({"detail": "no"}), "upstream_error", "no"),
    "a list of details": (stream({"detail": [{"loc": ["body", "n"], "msg": "no"}]}), "upstream_error", "n: no"),
    "errors": (stream({"errors": [{"message": "no"}, "never"]}), "upstream_error", "no; never"),
    "a list by name": (b'event: error\ndata: ["no"]\n\n', "upstream_error", "no"),
    "a JSON string by name": (b'event: error\ndata: "no"\n\n', "upstream_error", "no"),
    "true": (stream({"error": True}), "upstream_error", None),
    "an error in the error": (stream({"error": {"error": {"message": "no"}}}), "upstream_error", "no"),
    "beside choices": (stream(text("") | {"error": {"message": "no"}}), "upstream_error", "no"),
    "beside choices that are odd": (stream(chunk(choice(content=[]), error={"message": "no"})), "upstream_error", "no"),
    "beside a lone surrogate": (b'data: {"error":{"message":"no\\ud83d"}}\n\n', "upstream_error", "no?"),
    "that is not UTF-8": (b'data: {"error":{"message":"no\xff"}}\n\n', "upstream_error", "no\ufffd"),
    "fault_12 a flat object by name": (
        b'event: error\ndata: {"message":"no","code":"overloaded"}\n\n',
        "overloaded",
        "no",
    ),
    "fault_12 an object by name": (b'event: error\ndata: {"error":{"message":"no"}}\n\n', "upstream_error", "no"),
    "fault_12 a string by name": (b'event: error\ndata: {"error":"no"}\n\n', "upstream_error", "no"),
    "fault_12 prose by name": (b"event: error\ndata: no\n\n", "upstream_error", "no"),
    "fault_12 an empty object by name": (b"event: error\ndata: {}\n\n", "upstream_error", None),
    "fault_12 nothing by name": (b"event: error\ndata:\n\n", "upstream_error", None),
    "fault_12 null by name": (b'event: error\ndata: {"error":null}\n\n', "upstream_error", None),
    "fault_12 something else by name": (b"event: error\ndata: " + stream(text("a"))[6:], "upstream_error", None),
    "fault_15 object: error": (stream({"object": "error", "message": "no", "code": 400}), "upstream_error", "no"),
    "fault_15 object: error, and nothing else": (stream({"object": "error"}), "upstream_error", None),
    "fault_15 a message and a code": (stream({"message": "no", "code": 7}), "upstream_error", "no"),
    "fault_15 x_groq.error": (stream(chunk(x_groq={"error": "no"})), "upstream_error", "no"),
    "fault_15 x_groq.error, an object": (
        stream(chunk(choice(content=""), x_groq={"error": {"message": "no", "code": "over_capacity"}})),
        "over_capacity",
        "no",
    ),
    "fault_15 x_groq.error, odd": (stream(chunk(choice(content=[]), x_groq={"error": "no"})), "upstream_error", "no"),
    "fault_15 an error field": (b'error: {"message":"no"}\n\n', "upstream_error", "no"),
    "fault_15 an error field with an error in it": (b'error: {"error":{"message":"no"}}\n\n', "upstream_error", "no"),
    "fault_15 an error field with prose": (b"error: no\n\n", "upstream_error", "no"),
    "fault_14 a finish reason": (stream(chunk(choice("error"))), "upstream_error", GAVE_UP),
    "fault_14 a finish reason, odd": (stream(chunk(choice("error", content=[]))), "upstream_error", GAVE_UP),
    "a limit as a number": (stream({"error": {"message": "slow", "code": 429}}), "upstream_rate_limited", "slow"),
    "a limit as digits": (stream({"error": {"message": "slow", "code": "429"}}), "upstream_rate_limited", "slow"),
    "a limit by name": (stream({"error": {"code": "rate_limit_exceeded"}}), "upstream_rate_limited", None),
    "a code that is prose": (stream({"error": {"code": "x" * 65}}), "upstream_error", None),
    "a code that is not ASCII": (stream({"error": {"code": "é"}}), "upstream_error", None),
    "a code with a line end": (stream({"error": {"code": "a\nb"}}), "upstream_error", None),
    "an empty code": (stream({"error": {"code": ""}}), "upstream_error", None),
    "fault_77 a key and an address": (
        stream({"error": {"message": "key sk-abcdef123 at http://10.0.0.1:8000/v1", "code": "a"}}),
        "a",
        "key [redacted] at [address]",
    ),
    "fault_77 a key as the code": (stream({"error": {"code": "sk-abcdef123"}}), "[redacted]", None),
}


@pytest.mark.parametrize("behind", [b"", stream(DONE), stream(FINISH, DONE)], ids=["alone", "[DONE]", "finish"])
@pytest.mark.parametrize("case", ERRORS)
def test_an_error_in_every_shape(case: str, behind: bytes) -> None:
    """fault_11, fault_13: what came before it is kept, and nothing behind it makes it good again."""
    event, code, said = ERRORS[case]
    found = hear([stream(text("before")) + event + behind])
    assert found.text.startswith("before")
    assert (found.error, found.said) == (code, said)
    assert not found.done


def test_fault_14_the_usage_of_an_error_is_counted() -> None:
    """With the text of the same event, and wherever the usage is."""
    error = {"error": {"message": "no"}}
    for event in (
        chunk(choice("error", content="a"), usage=COUNTED, **error),
        chunk({**choice("error", content="a"), "usage": COUNTED}, **error),
        chunk(choice(content=[{"text": "a"}]), usage=COUNTED, **error),
    ):
        found = heard(event)
        assert (found.text, found.usage, found.error) == ("a", COUNTED, "upstream_error")


def test_a_limit_is_an_error_of_its_own() -> None:
    with pytest.raises(UpstreamRateLimited):
        Decoder().decode(Event(b'{"error":{"code":429}}'), [])


# What is not JSON, or JSON of the hostile kind

SKIPPED = [
    b"oops",
    b"{",
    b'{"a":}',
    b'{"choices":[{"delta":{"content":"a\nb"}}]}',
    b"{}{}",
    b"'a'",
    b"\xff",
    b"NaN",
]


@pytest.mark.parametrize("data", SKIPPED)
def test_fault_37_what_is_not_json_is_skipped_and_counted(data: bytes) -> None:
    decoder, entries = Decoder(), list[Entry]()
    for event in (text("a"), None, text("b"), None, FINISH):
        decoder.decode(Event(data if event is None else json.dumps(event).encode()), entries)
    decoder.finish()
    assert entries == [Entry(Kind.TEXT, b"a"), Entry(Kind.TEXT, b"b")]
    assert decoder.skipped == 2


def decoded(data: bytes) -> tuple[list[Entry], Decoder]:
    """What one event leaves. Any error but an UpstreamError is a failure of the test."""
    decoder, entries = Decoder(), list[Entry]()
    try:
        decoder.decode(Event(data), entries)
    except UpstreamError as error:
        assert_sendable(error.failure())
    return entries, decoder


def assert_sendable(value: object) -> None:
    """UTF-8 that is JSON to everyone."""
    json.loads(msgspec.json.encode(value).decode(), parse_constant=pytest.fail)


def assert_safe(entries: list[Entry], decoder: Decoder) -> None:
    """Whatever is passed on can be: to clients as UTF-8 and JSON, to the end entry, and to the answer as one object."""
    for entry in entries:
        assert entry.payload.decode()
        if entry.kind is Kind.TOOL:
            assert isinstance(json.loads(entry.payload, parse_constant=pytest.fail, parse_int=str), dict)
    assert_sendable([decoder.id, decoder.created, decoder.model, decoder.finish_reason, decoder.usage])
    outcome = Outcome(decoder.id or "", decoder.created or 0, "", decoder.finish_reason, decoder.usage)
    with suppress(UpstreamError):  # where a tool call has the wrong form
        assert_sendable(completion(entries, outcome, reasoning=True))


_NINES = "9" * 5_000
HOSTILE = {
    "a long integer as the index": f'{{"choices":[{{"index":{_NINES},"delta":{{"content":"a"}}}}]}}',
    "a long integer as the time": f'{{"created":{_NINES},"id":"a","choices":[{{"delta":{{"content":"a"}}}}]}}',
    "a large time": '{"created":1e300,"id":"a"}',
    "true as the time": '{"created":true,"id":"a","choices":[{"delta":{"content":[]}}]}',
    "a long integer in the usage": f'{{"usage":{{"total_tokens":{_NINES}}}}}',
    "an integer of more than 64 bits in the usage": '{"usage":{"total_tokens":123456789012345678901234567890}}',
    "a number without end in the usage": '{"usage":{"seconds":1e999,"b":-1e999}}',
    "NaN in the usage": '{"usage":{"a":NaN,"b":Infinity,"c":-Infinity}}',
    "a surrogate in the usage": '{"usage":{"\\ud83d":"\\udc00"}}',
    "a long integer in a tool": f'{{"choices":[{{"delta":{{"tool_calls":[{{"n":{_NINES}}}]}}}}]}}',
    "a long integer in an odd tool": f'{{"choices":[{{"delta":{{"content":[],"tool_calls":[{{"n":{_NINES}}}]}}}}]}}',
    "NaN in a tool": '{"choices":[{"delta":{"tool_calls":[{"n":NaN,"m":[Infinity,-Infinity,1e999]}]}}]}',
    "a surrogate in a tool": '{"choices":[{"delta":{"tool_calls":[{"a":"\\ud83d","\\udc00":1}]}}]}',
    "a surrogate in the id and model": '{"id":"\\ud83d","model":"\\ud83d","choices":[]}',
    "a surrogate in the finish reason": '{"choices":[{"finish_reason":"\\ud83d"}]}',
    "a surrogate in an error": '{"error":{"message":"\\ud83d","code":"\\ud83d"}}',
    "NaN beside an error": '{"error":{"message":"no"},"a":NaN}',
}


@pytest.mark.parametrize("case", HOSTILE)
def test_fault_38_hostile_values_end_as_safe_ones(case: str) -> None:
    assert_safe(*decoded(HOSTILE[case].encode()))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"a\\ud83db", "a\ufffdb"),
        (b"\\udc4d", "\ufffd"),
        (b"\\ud83d\\ud83db", "\ufffd\ufffdb"),
        (b"\\ud83d\\udc4d", "👍"),
        (b"\\ufeffa", "\ufeffa"),
        (b"a\xffb", "a\ufffdb"),
        (b"\xc3", "\ufffd"),
        (b"\xed\xa0\xbd", "\ufffd\ufffd\ufffd"),
        ("é\\udc4d".encode(), "é\ufffd"),
    ],
)
def test_fault_35_what_is_no_character_becomes_a_replacement(written: bytes, read: str) -> None:
    """In text, in tool calls and in usage, each on its own; the rest of it is kept."""
    entries, _ = decoded(b'{"choices":[{"delta":{"content":"%b"}}]}' % written)
    assert entries == [Entry(Kind.TEXT, read.encode())]
    (entry,) = decoded(b'{"choices":[{"delta":{"tool_calls":[{"a":"%b"}]}}]}' % written)[0]
    assert json.loads(entry.payload) == {"a": read}
    _, decoder = decoded(b'{"choices":[],"usage":{"a":"%b"}}' % written)
    assert decoder.usage == {"a": read}


@pytest.mark.parametrize("number", ["9" * 5_000, "-" + "9" * 5_000, "1e999", "-1e999", "NaN", "Infinity", "-Infinity"])
def test_fault_38_a_number_that_is_none_is_null_and_the_rest_is_kept(number: str) -> None:
    delta = b'{"content":[{"text":"a"}],"tool_calls":[{"n":%b,"m":1}]}'
    data = b'{"created":%b,"choices":[{"delta":' + delta + b'}],"usage":{"n":%b,"m":1}}'
    entries, decoder = decoded(data % ((number.encode(),) * 3))
    assert [entry.payload for entry in entries] == [b"a", b'{"n":null,"m":1}']
    assert decoder.usage == {"n": None, "m": 1}


def nested(depth: int) -> dict[str, str]:
    lists, parts = "[" * depth + "]" * depth, '[{"type":"text","text":' * depth + '""' + "}]" * depth
    return {
        "top": lists,
        "chunk": f'{{"choices":{lists}}}',
        "unknown field": f'{{"choices":[{{"delta":{{"content":"a","x":{lists}}}}}]}}',
        "content": f'{{"choices":[{{"delta":{{"content":{lists}}}}}]}}',
        "parts": f'{{"choices":[{{"delta":{{"content":{parts}}}}}]}}',
        "tool": f'{{"choices":[{{"delta":{{"tool_calls":[{{"a":{lists}}}]}}}}]}}',
        "odd tool": f'{{"choices":[{{"delta":{{"content":[],"tool_calls":[{{"a":{lists}}}]}}}}]}}',
        "usage": f'{{"choices":[],"usage":{{"a":{lists}}}}}',
        "odd usage": f'{{"choices":[{{"delta":{{"content":[]}}}}],"usage":{{"a":{lists}}}}}',
        "error": f'{{"error":{{"message":"no","a":{lists}}}}}',
        "open": "[" * depth,
    }


@pytest.mark.parametrize("where", nested(1))
def test_fault_38_deep_nesting_never_crashes(where: str) -> None:
    """Also where one reader can just take it, and the next one, a few calls deeper, cannot."""
    for depth in (10, 100_000, *range(300, 1_010)):
        entries, decoder = decoded(nested(depth)[where].encode())
        assert_sendable(decoder.usage)
        assert all(entry.payload.decode() for entry in entries)


# Any value, any bytes

_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["error", "stop", "", "text"]),
)
_NAMES = ["id", "created", "model", "choices", "usage", "error", "x_groq", "index", "delta", "message", "finish_reason"]
_names = st.sampled_from(
    [*_NAMES, "content", "reasoning", "reasoning_content", "refusal", "tool_calls", "code", "object", "type", "text"]
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)
_deltas = st.dictionaries(_names, _values, max_size=4)
_choices = st.fixed_dictionaries(
    {"delta": _deltas}, optional={"index": _scalars, "finish_reason": _values, "usage": _values}
)
_fields = ("id", "created", "model", "usage", "error", "x_groq", "object", "message", "code")
_chunks = st.fixed_dictionaries(
    {"choices": st.lists(_choices | _values, max_size=2)}, optional=dict.fromkeys(_fields, _values)
)


@given(st.one_of(_chunks, _values), st.booleans(), st.sampled_from(["message", "error"]))
def test_any_json_value_is_an_answer_an_error_or_nothing(value: object, ascii_only: bool, type: str) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    decoder, entries = Decoder(), list[Entry]()
    try:
        decoder.decode(Event(data, type), entries)
    except UpstreamError as error:
        assert_sendable(error.failure())
    else:
        assert type != "error"
    assert_safe(entries, decoder)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode(errors="surrogatepass"))))
def test_any_bytes_are_an_answer_an_error_or_nothing(data: bytes) -> None:
    assert_safe(*decoded(data))


@given(_chunks, st.data())
def test_a_broken_chunk_is_one_too(value: object, data: st.DataObject) -> None:
    """Bytes that nearly are a chunk: some are changed, some are lost."""
    broken = bytearray(json.dumps(value).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(broken) - 1))
        broken[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2)) or b"x"
    assert_safe(*decoded(bytes(broken)))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_any_text_comes_through_to_the_character(content: str, ascii_only: bool) -> None:
    data = json.dumps(chunk(choice(content=content)), ensure_ascii=ascii_only).encode()
    assert decoded(data)[0] == ([Entry(Kind.TEXT, content.encode())] if content else [])


# A whole body where a stream was asked for


def answer(finish_reason: str | None, /, **message: object) -> dict[str, object]:
    return chunk(
        {"index": 0, "message": message, "finish_reason": finish_reason}, object="chat.completion", usage=COUNTED
    )


BODIES: dict[str, tuple[Any, str, str | None]] = {
    # the body, its text, the code of the error
    "fault_03 an answer": (answer("stop", role="assistant", content="Hello"), "Hello", None),
    "fault_03 an answer without a reason": (answer(None, content="Hello"), "Hello", None),
    "fault_03 an answer in parts": (answer(None, content=[{"type": "text", "text": "Hello"}]), "Hello", None),
    "fault_03 a refusal": (answer(None, refusal="no"), "", None),
    "fault_03 a call": (answer("tool_calls", content=None, tool_calls=[{"id": "c"}]), "", None),
    "fault_03 an empty answer that says so": (answer("stop", content=""), "", None),
    "fault_05 an empty answer that does not": (answer(None, content=""), "", "upstream_empty"),
    "fault_01 an error": ({"error": {"message": "no", "code": "overloaded"}}, "", "overloaded"),
    "fault_01 an error as a string": ({"error": "no"}, "", "upstream_error"),
    "fault_01 a flat error": ({"object": "error", "message": "no", "code": 400}, "", "upstream_error"),
    "fault_04 nothing": (b"", "", "upstream_incomplete"),
    "fault_37 half an object": (b'{"choices":[', "", "upstream_incomplete"),
    "fault_05 something else": ({"status": "ok"}, "", "upstream_empty"),
    "a list": ([], "", "upstream_error"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_whole_body(case: str) -> None:
    """One delta and the end, or an error: never an empty success."""
    body, said, code = BODIES[case]
    decoder, entries = Decoder(), list[Entry]()
    error = None
    try:
        decoder.decode_completion(body if isinstance(body, bytes) else json.dumps(body).encode(), entries)
        decoder.finish()
    except UpstreamError as caught:
        error = caught.code
    assert (_joined(entries, Kind.TEXT), error) == (said, code)
    assert decoder.usage == (COUNTED if isinstance(body, dict) and "usage" in body else None)


def test_fault_31_reading_many_events_holds_nothing_of_them() -> None:
    """Some servers send usage with every chunk: the last one is kept, and is decoded when it is asked for."""
    decoder, entries = Decoder(), list[Entry]()
    for n in range(1_000):
        decoder.decode(Event(json.dumps(chunk(choice(content="a"), usage={"total_tokens": n})).encode()), entries)
    assert decoder.usage == {"total_tokens": 999}
    assert len(entries) == 1_000
