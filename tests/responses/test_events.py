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
from gateway.upstream.dialects.tool_calls import Call, Calls
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


@pytest.mark.parametrize("ahead", range(4))
def test_the_end_of_a_lost_producer_comes_behind_what_a_client_has(ahead: int) -> None:
    """The client has more events than were recorded. Else its stream would end without an end, each time it comes."""
    recorded = [text("a"), text("b"), failure("producer_lost"), end("incomplete", None)]
    after = len(events(*recorded)) - 1 + ahead
    (last,) = events(*recorded, after=after)
    assert (last["type"], last["sequence_number"]) == ("response.failed", after + 1)
    assert last["response"]["error"]["cause"] == "producer_lost"


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


def test_usage_tells_what_a_cache_gave_and_took() -> None:
    details = {"cached_tokens": 2, "cache_write_tokens": 3}
    usage = {"prompt_tokens": 6, "completion_tokens": 1, "prompt_tokens_details": details}
    response = Judge().judge(events(text("a"), end(usage=usage)))
    assert response["usage"]["input_tokens_details"] == details


@pytest.mark.parametrize(
    ("last", "expected", "status"),
    [
        ([end()], "completed", "completed"),
        ([end(finish_reason=None)], "completed", "completed"),
        ([end(finish_reason="length")], "incomplete", "incomplete"),
        ([end(finish_reason="max_tokens")], "incomplete", "incomplete"),
        ([end(finish_reason="model_length")], "incomplete", "incomplete"),
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
    """A truncated answer is never `completed`, and neither is its last item."""
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
    (anonymous,) = Judge().judge(events(call(0, "f", arguments="{}"), end()))["output"]
    assert anonymous["call_id"].startswith("call_")


CUTS = {
    "length": [end(finish_reason="length")],
    "content_filter": [end(finish_reason="content_filter")],
    "stopped": [end("stopped", None)],
    "failed": [failure(), end("upstream_error", None)],
}


@pytest.mark.parametrize("cut", CUTS)
def test_half_a_call_is_never_completed(cut: str) -> None:
    """Clients make a call whose arguments are done, though others waited behind it when the answer broke off."""
    half = [call(0, "f", '{"a"', id="c0"), call(1, "g", id="c1"), call(2, "h", '{"b":2}', id="c2"), text("x")]
    told = events(*half, *CUTS[cut])
    output = Judge().judge(told)["output"]
    assert [item["status"] for item in output] == ["incomplete", "incomplete", "completed", "incomplete"]
    done = [event["arguments"] for event in told if event["type"] == "response.function_call_arguments.done"]
    assert done == ['{"b":2}']


def test_a_call_without_arguments_is_whole_in_a_whole_answer() -> None:
    response = Judge().judge(events(call(0, "f"), call(1, "g", "{}"), call(2, "h"), end()))
    assert [(item["status"], item["arguments"]) for item in response["output"]] == [
        ("completed", ""),
        ("completed", "{}"),
        ("completed", ""),
    ]
    assert response["status"] == "completed"


BROKEN_CALLS = {
    "without a name": [text("a"), call(0, arguments="{}", id="c0")],
    "half": [call(0, "f", '{"a"'), call(1, "g", "{}")],
    "no object": [call(0, "f", "[1]")],
    "more than one": [call(0, "f", "{}"), call(0, arguments="{}")],
    "a part behind its end": [call(0, "f", "{}", id="c0"), text("b"), call(0, arguments=":1}")],
    "a part behind the end of one that waited": [
        *(call(0, "f", "{", id="c0"), call(1, "g", "{}", id="c1"), text("b")),
        *(call(0, arguments="}"), call(1, arguments="{}"), text("c")),
    ],
    "too many": [call(None, "f", id=f"c{number}") for number in range(1025)],
}


@pytest.mark.parametrize("case", BROKEN_CALLS)
def test_an_answer_with_a_call_that_cannot_be_made_fails(case: str) -> None:
    """The client that reads on, the one that comes back, and the one that asks for the response see the same."""
    entries = [*BROKEN_CALLS[case], end(finish_reason="tool_calls")]
    told = events(*entries)
    response = Judge().judge(told)
    assert (told[-1]["type"], response["status"]) == ("response.failed", "failed")
    assert response["error"]["cause"] == "upstream_error"
    assert events(*entries, after=len(told) - 3) == told[-2:]
    machine = ResponseEvents(STREAM, HEAD, after=2**63)
    assert machine.begin() + b"".join(map(machine.add, entries)) == b""
    assert machine.response() == json.loads(json.dumps(response)) | {"model": msgspec.Raw(b'"m"')}


def test_another_fault_comes_before_that_of_a_call() -> None:
    broken = BROKEN_CALLS["a part behind its end"]
    told = events(*broken, failure(), end("incomplete", None))
    assert told[-1]["response"]["error"]["cause"] == "upstream_incomplete"
    assert Judge().judge(events(*broken, end("stopped", None)))["status"] == "cancelled"


def test_space_behind_a_call_is_no_part_of_it() -> None:
    entries = [call(0, "f", "{}", id="c0"), text("b"), call(0, arguments="\n"), end()]
    response = Judge().judge(events(*entries))
    assert (response["status"], response["output"][0]["arguments"]) == ("completed", "{}")


def test_an_annotation_waits_with_its_text() -> None:
    citation = Entry(Kind.EXTRA, b'{"annotations":[{"type":"url_citation","url_citation":{}}]}')
    entries = [call(0, "f", "{"), text("b"), citation, call(0, arguments="}"), end()]
    (_, said) = Judge().judge(events(*entries))["output"]
    assert len(said["content"][0]["annotations"]) == 1


def test_many_calls_that_wait_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them was looked at again for each of the others."""
    many, steps = 300, 0
    is_whole = Call.is_whole

    def counted(call: Call) -> bool:
        nonlocal steps
        steps += 1
        return is_whole(call)

    monkeypatch.setattr(Call, "is_whole", counted)
    entries = [call(number, "f", "{", id=f"c{number}") for number in range(many)]
    response = Judge().judge(events(*entries, end(finish_reason="length")))
    assert len(response["output"]) == many
    assert steps < 5 * many


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
ARGUMENTS = st.none() | st.sampled_from(["{", "}", "{}", '{"a":', "1}", " ", "x"])
PIECES = st.one_of(
    st.builds(text, WORDS),
    st.builds(call, st.integers(0, 2), st.none() | st.just("f"), ARGUMENTS),
)
REASONS = st.sampled_from([*EndReason])
FINISHES = st.sampled_from([None, "stop", "length", "tool_calls", "content_filter", "function_call"])


def said(response: dict[str, Any]) -> list[str]:
    """The arguments of the calls, in any order."""
    return sorted(item["arguments"].strip() for item in response["output"] if item["type"] == "function_call")


def sent(entries: list[Entry]) -> list[str]:
    calls = Calls()
    for entry in entries:
        if entry.kind is Kind.TOOL:
            calls.add(entry.payload)
    return sorted(call.arguments.strip() for call in calls.all if call.name)


@given(st.lists(ENTRIES | PIECES, max_size=12), REASONS, FINISHES, st.booleans())
def test_whatever_comes(entries: list[Entry], reason: EndReason, finish: str | None, background: bool) -> None:
    """Well formed, with one end, and the same behind each number as without an interruption."""
    head = Head(7, {}, NONE, background=background)
    is_cut = reason not in (EndReason.COMPLETE, EndReason.STOPPED, EndReason.CLIENT_GONE)
    whole = [*entries, *([failure()] if is_cut else []), end(reason, finish)]
    told = events(*whole, head=head)
    response = Judge().judge(told)
    assert response["status"] == "failed" or not is_cut
    if response["status"] == "completed":
        assert said(response) == sent(entries)
    for after in range(-1, len(told)):
        assert events(*whole, head=head, after=after) == told[after + 1 :]
