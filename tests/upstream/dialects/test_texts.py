"""Text completions that are passed on: their texts count as content, wherever the reads are cut."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.entries import Entry
from gateway.errors import UpstreamEmpty, UpstreamError, UpstreamIncomplete
from gateway.sse import END, Parser
from gateway.upstream.dialects.openai import DATA_FIELDS
from gateway.upstream.dialects.texts import TextRelay

DONE = b"data: [DONE]\n\n"


def event(*choices: object, **fields: object) -> bytes:
    return b"data: " + json.dumps({"choices": list(choices), **fields}, ensure_ascii=False).encode() + b"\n\n"


def choice(text: Any, index: int = 0, finish_reason: str | None = None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish_reason}


def relayed(raw: bytes, *cuts: int, choices: int = 1) -> tuple[list[bytes], TextRelay]:
    """As a generation reads it, cut at these places: each read by the fast way, if it has whole events only."""
    relay, entries = TextRelay(whole=False, hide_usage=True, choices=choices), list[Entry]()
    parser = Parser(max_bytes=1_000_000, data_fields=DATA_FIELDS)
    places = [0, *sorted(cuts), len(raw)]
    reads = [raw[start:end] for start, end in pairwise(places)]
    for read in [*[read for read in reads if read], END]:
        if (whole := parser.whole(read)) is not None:
            for data in whole:
                relay.decode_data(data, entries)
        else:
            for one in parser.feed(read):
                relay.decode(one, entries)
    relay.finish()
    return [entry.payload for entry in entries + relay.rest()], relay


HELLO = event(choice("Hel"), id="cmpl-1", model="m-1") + event(choice("lö")) + event(choice("", finish_reason="stop"))
USED = event(usage={"prompt_tokens": 1, "completion_tokens": 2})


@given(st.lists(st.integers(0, len(HELLO + USED + DONE)), max_size=4))
def test_any_cuts_give_the_same(cuts: list[int]) -> None:
    passed, relay = relayed(HELLO + USED + DONE, *cuts)
    assert b"".join([b"data: %b\n\n" % data for data in passed]) == HELLO
    assert (relay.id, relay.model, relay.finish_reason) == ("cmpl-1", "m-1", "stop")
    assert relay.usage == {"prompt_tokens": 1, "completion_tokens": 2}
    assert relay.said == len("Hellö".encode())


def test_a_text_is_content_and_an_empty_one_is_not() -> None:
    relay, entries = TextRelay(whole=False, hide_usage=True, choices=1), list[Entry]()
    relay.decode_data(event(choice(""))[6:-2], entries)
    assert not relay.has_content
    relay.decode_data(event(choice("a"))[6:-2], entries)
    assert relay.has_content
    assert not relay.complete


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (event(choice("a")), UpstreamIncomplete),
        (event(choice("a", finish_reason="stop")) + event(choice("b")), UpstreamIncomplete),
        (DONE, UpstreamEmpty),
        (event(choice("a", finish_reason="abort")), UpstreamError),
        (event(error={"message": "no"}), UpstreamError),
    ],
)
def test_what_is_not_complete(raw: bytes, kind: type[UpstreamError]) -> None:
    with pytest.raises(kind):
        relayed(raw)


def test_choices_of_several_prompts_end_one_by_one() -> None:
    parts = [event(choice("a", 1), choice("b", 0)), event(choice("", 1, "stop")), event(choice("", 0, "length"))]
    assert len(relayed(b"".join(parts), choices=2)[0]) == 3
    with pytest.raises(UpstreamIncomplete):
        relayed(b"".join([*parts[:2], event(choice("c", 2))]), choices=3)


@pytest.mark.parametrize("odd", [5, None, {"a": 1}, ["a"]])
def test_texts_of_other_types_pass_and_are_no_content(odd: object) -> None:
    raw = event(choice(odd), "x", choice("b", finish_reason="stop"))
    passed, relay = relayed(raw)
    assert passed == [raw[6:-2]]
    assert relay.said == 1


def test_near_json_is_encoded_again() -> None:
    passed, relay = relayed(b'data: {"choices":[{"text":"a\\ud83d","x":NaN,"finish_reason":"stop"}]}\n\n')
    assert json.loads(passed[0])["choices"][0] == {"text": "a\ufffd", "x": None, "finish_reason": "stop"}
    assert relay.has_content


def test_a_mute_reason_is_null_for_strict_clients() -> None:
    passed, _ = relayed(event(choice("a", finish_reason="")) + event(choice("b", finish_reason="stop")))
    assert [json.loads(data)["choices"][0]["finish_reason"] for data in passed] == [None, "stop"]
