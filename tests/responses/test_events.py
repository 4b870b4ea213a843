"""The events of a response: well formed, whatever a decoder makes of an answer, and the same behind any number."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import EndReason, Entry, Kind
from gateway.responses.events import ResponseEvents
from gateway.responses.head import Head
from tests.responses.judge import Judge, read

STREAM = "s" * 22
NONE = msgspec.Raw(b"[]")
HEAD = Head(7, {"model": msgspec.Raw(b'"m"')}, NONE)


def text(words: str, kind: Kind = Kind.TEXT) -> Entry:
    return Entry(kind, words.encode())


def call(index: int | None, name: str | None = None, arguments: str | None = None, id: str | None = None) -> Entry:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {"index": index, "id": id, "function": function}
    return Entry(Kind.TOOL, json.dumps({key: value for key, value in fields.items() if value is not None}).encode())


def failure(code: str = "upstream_incomplete", type: str = "server_error") -> Entry:
    error = {"message": "It broke off.", "type": type, "code": code, "param": None}
    return Entry(Kind.FAILURE, json.dumps({"error": error, "retryable": True}).encode())


def end(reason: str = "complete", finish_reason: str | None = "stop", usage: Any = None) -> Entry:
    fields = {"reason": reason, "finish_reason": finish_reason, "usage": usage, "model": "m", "stream": STREAM}
    return Entry(Kind.END, json.dumps(fields).encode())


def events(*entries: Entry, head: Head = HEAD, after: int = -1) -> list[dict[str, Any]]:
    machine = ResponseEvents(STREAM, head, after=after)
    return read(b"".join([machine.begin(), *map(machine.add, entries)]))


def types(*entries: Entry) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events(*entries)]


def test_a_text() -> None:
    assert types(text("a"), text("b"), end()) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    response = Judge().judge(events(text("a"), text("b"), end()))
    (message,) = response["output"]
    assert message["content"] == [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": []}]
    assert (response["id"], response["model"], response["created_at"]) == (f"resp_{STREAM}", "m", 7)


def test_all_kinds() -> None:
    entries = [
        text("hm", Kind.REASONING),
        text("A"),
        Entry(
            Kind.EXTRA, b'{"annotations":[{"type":"url_citation","url_citation":{"url":"u","title":"t"}},{"type":"x"}]}'
        ),
        text("B"),
        text("no", Kind.REFUSAL),
        call(0, "f", '{"a"', id="c0"),
        call(1, "g", "{}", id="c1"),
        call(0, arguments=":1}"),
        text("C"),
        end("complete", "tool_calls", {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}),
    ]
    response = Judge().judge(events(*entries))
    reasoning, message, first, second, last = response["output"]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "hm"}]
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    assert message["content"][0]["text"] == "AB"
    citation = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 0}
    assert message["content"][0]["annotations"] == [citation]
    assert (first["call_id"], first["name"], first["arguments"]) == ("c0", "f", '{"a":1}')
    assert (second["call_id"], second["name"], second["arguments"]) == ("c1", "g", "{}")
    assert last["content"][0]["text"] == "C"
    assert response["usage"]["total_tokens"] == 7


@pytest.mark.parametrize(
    ("last", "expected", "status"),
    [
        ([end()], "completed", "completed"),
        ([end(finish_reason=None)], "completed", "completed"),
        ([end(finish_reason="length")], "incomplete", "incomplete"),
        ([end(finish_reason="content_filter")], "incomplete", "incomplete"),
        ([end("stopped", None)], "incomplete", "cancelled"),
        ([end("client_gone", None)], "incomplete", "cancelled"),
        ([failure(), end("incomplete", None)], "failed", "failed"),
        ([failure(), end("timeout", None)], "failed", "failed"),
        ([failure(), end("upstream_error", None)], "failed", "failed"),
        ([failure(), end("shutting_down", None)], "failed", "failed"),
    ],
)
def test_ends(last: list[Entry], expected: str, status: str) -> None:
    """A truncated answer is never `completed`, and neither are its items."""
    told = events(text("a"), call(0, "f", "{}"), *last)
    response = Judge().judge(told)
    assert (told[-1]["type"], response["status"]) == (f"response.{expected}", status)
    assert response["output"][1]["status"] == ("completed" if status == "completed" else "incomplete")


def test_what_failed_is_told() -> None:
    told = events(text("a"), failure("upstream_rate_limited", "rate_limit_error"), end("upstream_error", None))
    error = {"code": "rate_limit_exceeded", "message": "It broke off.", "cause": "upstream_rate_limited"}
    assert told[-1]["response"]["error"] == error
    (cut,) = [event for event in events(text("a"), end(finish_reason="length")) if "incomplete" in event["type"]]
    assert cut["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_call_begins_when_its_name_is_known() -> None:
    entries = [call(0, id="c", arguments="{"), call(0, "f"), call(0, arguments="}"), end()]
    response = Judge().judge(events(*entries))
    assert [(item["name"], item["arguments"]) for item in response["output"]] == [("f", "{}")]
    (nameless,) = Judge().judge(events(call(0, arguments="{}"), end()))["output"]
    assert (nameless["name"], nameless["arguments"]) == ("", "{}")
    assert nameless["call_id"].startswith("call_")


def test_a_call_of_a_namespace_is_shown_as_one() -> None:
    head = Head(7, {}, NONE, {"files__read": ("files", "read")})
    (item,) = Judge().judge(events(call(0, "files__read", "{}"), end(), head=head))["output"]
    assert (item["namespace"], item["name"]) == ("files", "read")


def test_in_the_background_it_is_queued_first() -> None:
    head = Head(7, {}, NONE, background=True)
    told = events(text("a"), end(), head=head)
    assert [event["response"]["status"] for event in told[:3]] == ["queued", "queued", "in_progress"]
    Judge().judge(told)
    machine = ResponseEvents(STREAM, head)
    machine.begin()
    assert machine.response()["status"] == "queued"
    machine.add(text("a"))
    assert machine.response()["status"] == "in_progress"
    assert machine.response()["output"][0]["content"][0]["text"] == "a"


WORDS = st.text(min_size=1, max_size=4)
NAMES = st.none() | st.sampled_from(["f", "g"])
ENTRIES = st.one_of(
    st.builds(text, WORDS, st.sampled_from([Kind.TEXT, Kind.REASONING, Kind.REFUSAL])),
    st.builds(call, st.none() | st.integers(0, 2), NAMES, st.none() | WORDS, st.none() | st.sampled_from(["c", "d"])),
    st.sampled_from([Entry(Kind.EXTRA, b'{"annotations":[{"type":"url_citation","url_citation":{}}]}')]),
    st.sampled_from([Entry(Kind.EXTRA, b'{"audio":{}}'), Entry(Kind.REASONING_EXTRA, b"{}")]),
)
REASONS = st.sampled_from([*EndReason])
FINISHES = st.sampled_from([None, "stop", "length", "tool_calls", "content_filter", "function_call"])


@given(st.lists(ENTRIES, max_size=12), REASONS, FINISHES, st.booleans())
def test_whatever_comes(entries: list[Entry], reason: EndReason, finish: str | None, background: bool) -> None:
    """Well formed, with one end, and the same behind each number as without an interruption."""
    head = Head(7, {}, NONE, background=background)
    is_cut = reason not in (EndReason.COMPLETE, EndReason.STOPPED, EndReason.CLIENT_GONE)
    whole = [*entries, *([failure()] if is_cut else []), end(reason, finish)]
    told = events(*whole, head=head)
    response = Judge().judge(told)
    assert (response["status"] == "failed") == is_cut
    for after in range(-1, len(told)):
        assert events(*whole, head=head, after=after) == told[after + 1 :]
