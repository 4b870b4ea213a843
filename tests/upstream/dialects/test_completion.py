"""A finished stream as one `chat.completion`: messages put together, tool calls put together by index."""

import json
import time
from typing import Any

import pytest

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError
from gateway.upstream.dialects.completion import Outcome, completion

OUTCOME = Outcome(id="chatcmpl-1", created=7, model="m", finish_reason="stop", usage={"total_tokens": 5})


def message_of(*entries: Entry, reasoning: bool = False) -> dict[str, Any]:
    message: dict[str, Any] = completion(entries, OUTCOME, reasoning=reasoning)["choices"][0]["message"]
    return message


def tool_calls(*fragments: object) -> list[dict[str, Any]]:
    entries = [Entry(Kind.TOOL, f if isinstance(f, bytes) else json.dumps(f).encode()) for f in fragments]
    calls: list[dict[str, Any]] = message_of(*entries).get("tool_calls", [])
    return calls


def test_the_whole_object() -> None:
    entries = [Entry(Kind.TEXT, b"Hel"), Entry(Kind.TEXT, b"lo"), Entry(Kind.END, b"{}")]
    assert completion(entries, OUTCOME, reasoning=False) == {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"total_tokens": 5},
    }


@pytest.mark.parametrize(
    ("entries", "content", "refusal"),
    [
        ([], None, None),
        ([Entry(Kind.TEXT, b"")], "", None),
        ([Entry(Kind.TEXT, "é\r\n".encode()), Entry(Kind.TEXT, "👍".encode())], "é\r\n👍", None),
        ([Entry(Kind.REFUSAL, b"I "), Entry(Kind.REFUSAL, b"won't")], None, "I won't"),
        ([Entry(Kind.REASONING, b"hm"), Entry(Kind.FAILURE, b"{}"), Entry(Kind.END, b"{}")], None, None),
    ],
)
def test_what_did_not_come_is_null(entries: list[Entry], content: str | None, refusal: str | None) -> None:
    assert message_of(*entries) == {"role": "assistant", "content": content, "refusal": refusal}


def test_reasoning_is_there_where_it_was_asked_for() -> None:
    entries = [Entry(Kind.REASONING, b"h"), Entry(Kind.REASONING, b"m"), Entry(Kind.TEXT, b"a")]
    assert message_of(*entries, reasoning=True)["reasoning_content"] == "hm"
    assert message_of(Entry(Kind.TEXT, b"a"), reasoning=True)["reasoning_content"] is None
    assert "reasoning_content" not in message_of(*entries)


def fragment(index: int | None = None, id: str | None = None, name: str | None = None, arguments: str | None = None):
    """A fragment with everything in it that a server might send, null or not."""
    return {"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def call(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


TOOL_CALLS = {
    "none": ([], []),
    "one in fragments": (
        [
            fragment(0, "c", "f", ""),
            {"index": 0, "function": {"arguments": '{"a"'}},
            {"index": 0, "function": {"arguments": ":1}"}},
        ],
        [call("c", "f", '{"a":1}')],
    ),
    "two, interleaved": (
        [
            fragment(0, "c", "f", "1"),
            fragment(1, "d", "g", "2"),
            fragment(0, None, None, "3"),
            fragment(1, None, None, "4"),
        ],
        [call("c", "f", "13"), call("d", "g", "24")],
    ),
    "in the order of their indexes": (
        [fragment(2, "c", "f", ""), fragment(0, "d", "g", "")],
        [call("d", "g", ""), call("c", "f", "")],
    ),
    "a tail with empty fields (Qwen)": (
        [fragment(0, "c", "f", "{}"), fragment(0, "", "", None), {"index": 0, "id": "", "type": "", "function": None}],
        [call("c", "f", "{}")],
    ),
    "whole ones without an index (Gemini)": (
        [fragment(None, "c", "f", "{}"), fragment(None, "d", "g", "[]")],
        [call("c", "f", "{}"), call("d", "g", "[]")],
    ),
    "fragments without an index": (
        [fragment(None, "c", "f", "{"), fragment(None, None, None, "}"), fragment(None, "c", None, " ")],
        [call("c", "f", "{} ")],
    ),
    "without an index behind one that has one": (
        [fragment(4, "c", "f", "1"), fragment(None, "d", "g", "2"), fragment(None, None, None, "3")],
        [call("c", "f", "1"), call("d", "g", "23")],
    ),
    "a new one takes no place that is taken": (
        [fragment(0, "c", "f", "1"), fragment(1, "d", "g", "2"), fragment(0), fragment(None, "e", "h", "3")],
        [call("c", "f", "1"), call("d", "g", "2"), call("e", "h", "3")],
    ),
    "without index, id or name": ([{"function": {"arguments": "1"}}, {}], [call("", "", "1")]),
    "an index that is no place": (
        [fragment(-1, "c", "f", "1"), fragment(10**9, "d", "g", "2"), fragment(10**30, None, None, "3")],
        [call("c", "f", "1"), call("d", "g", "23")],
    ),
    "arguments as an object": (
        [{"index": 0, "id": "c", "function": {"name": "f", "arguments": {"a": [1, None]}}}],
        [call("c", "f", '{"a":[1,null]}')],
    ),
    "a number as the id": ([{"id": 7, "type": None}, {"id": 7}, {"id": 8}], [call("7", "", ""), call("8", "", "")]),
    "another type": ([{"index": 0, "id": "c", "type": "custom"}], [{**call("c", "", ""), "type": "custom"}]),
}


@pytest.mark.parametrize("case", TOOL_CALLS)
def test_fault_42_tool_calls_are_put_together(case: str) -> None:
    """An empty field never overwrites, arguments are appended, an index is only a place in the order."""
    fragments, calls = TOOL_CALLS[case]
    assert tool_calls(*fragments) == calls


def test_no_call_is_no_field() -> None:
    assert "tool_calls" not in message_of(Entry(Kind.TEXT, b"a"))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b"{",
        b"[" * 100_000,
    ],
)
def test_a_call_that_cannot_be_read_is_the_upstreams_fault(payload: bytes) -> None:
    with pytest.raises(UpstreamError, match="a tool call that cannot be read"):
        tool_calls(payload)


def test_many_fragments_take_linear_work() -> None:
    """Eight seconds of CPU if arguments were appended string by string, a tenth of one if they are joined."""
    fragments = [json.dumps({"index": 0, "function": {"arguments": "x" * 40}}).encode()] * 25_000
    started = time.process_time()
    (whole,) = tool_calls(*fragments)
    assert time.process_time() - started < 3
    assert whole["function"]["arguments"] == "x" * 1_000_000
