"""An event's data alone means what it means in an event: the quick way of a decoder against its thorough one."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError
from gateway.sse import Event
from gateway.upstream.dialects.chunks import decode_chunk, only_text
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.relay import Relay

DECODERS: dict[str, Callable[[], Decoder]] = {
    "native": Decoder,
    "relay": lambda: Relay(whole=False, hide_usage=True),
    "relay of two": lambda: Relay(whole=False, hide_usage=False, choices=2),
}

_TEXTS = ["b", "é", "👍", "", None, "\ud83d", "\udc4d"]
_USAGES = [None, {}, {"total_tokens": 3}]
CHANGES: list[tuple[str, str, Any]] = [
    *[("delta", name, text) for name in ("content", "reasoning_content", "reasoning", "refusal") for text in _TEXTS],
    *[("delta", "role", role) for role in ("assistant", "", None)],
    ("delta", "tool_calls", [{}]),
    ("delta", "tool_calls", [{"index": 0, "function": {"arguments": "{"}}]),
    ("delta", "annotations", [{"type": "url"}]),
    ("delta", "images", [{"type": "image"}]),
    ("delta", "(extra)", {"a": 1}),
    *[("choice", "index", index) for index in (1, 2, None)],
    *[("choice", "finish_reason", reason) for reason in ("", "stop", "error", "null")],
    *[("choice", name, delta) for name in ("delta", "message") for delta in (None, {}, {"content": "c"})],
    *[("choice", "usage", usage) for usage in _USAGES],
    *[("chunk", "usage", usage) for usage in _USAGES],
    *[("chunk", name, value) for name in ("id", "model") for value in ("other", "", None)],
    ("chunk", "choices", []),
    ("chunk", "choices", None),
    ("delta", "tool_calls", []),
    *[("chunk", "error", error) for error in ({}, {"message": "no"})],
    *[("chunk", "x_groq", groq) for groq in ({}, {"usage": {"total_tokens": 9}}, {"error": "no"})],
    ("chunk", "code", "c"),
    ("chunk", "choices", [{"index": n, "delta": {"content": "d"}} for n in range(2)]),
]


def changed(changes: list[tuple[str, str, Any]]) -> bytes:
    """A chunk of one text, but for the changes."""
    delta: dict[str, object] = {"content": "a"}
    choice: dict[str, object] = {"index": 0, "delta": delta, "finish_reason": None}
    chunk: dict[str, object] = {"id": "i", "created": 7, "model": "m", "choices": [choice]}
    for place, name, value in changes:
        {"delta": delta, "choice": choice, "chunk": chunk}[place][name] = value
    return json.dumps(chunk).encode()


_chunk = st.lists(st.sampled_from(CHANGES), max_size=2).map(changed)
_raw = st.sampled_from([b"[DONE]", b" [DONE]", b"{oops", b"", b"[]", b'{"choices":[{"delta":{"content":"\xff"}}]}'])
_often = [[], [("choice", "finish_reason", "stop")], [("delta", "content", "\ud83d")], [("chunk", "model", "other")]]
_inner = [
    b"b",
    b" c",
    b"content",
    b'\\"',
    b"\\n",
    b"\t",
    b"\0",
    b"\x7f",
    "é".encode(),
    "👍".encode(),
    b"\xff",
    b"",
    b'"',
    b"\\",
]
_plain = st.sampled_from(_inner).map(lambda text: changed([]).replace(b'"a"', b'"%b"' % text))
_payloads = _plain | st.sampled_from(_often).map(changed) | _chunk | _raw


def state(decoder: Decoder) -> dict[str, Any]:
    return {name: copy.copy(getattr(value, "held", value)) for name, value in vars(decoder).items()}


@pytest.mark.parametrize("kind", DECODERS)
@settings(max_examples=settings().max_examples * 3)
@given(payloads=st.lists(_payloads, max_size=8))
def test_data_is_decoded_as_its_event_is(kind: str, payloads: list[bytes]) -> None:
    """The entries, what is known of the answer, the errors."""
    quick, thorough = DECODERS[kind](), DECODERS[kind]()
    for payload in payloads:
        found, expected = list[Entry](), list[Entry]()
        errors = [told(quick.decode_data, payload, found), told(thorough.decode, Event(payload), expected)]
        assert errors[0] == errors[1]
        assert found == expected
        # what a relay remembers of its last event counts only while that is decoded; the others save the quick way work
        ignored = dict.fromkeys(["_is_odd", "_is_mute", "_is_in_text", "_template", "_misses"])
        assert state(quick) | ignored == state(thorough) | ignored
        assert quick.complete == thorough.complete
        if errors[0] is not None:
            return  # nothing is decoded after an error


def told(decode: Callable[[Any, list[Entry]], object], payload: object, entries: list[Entry]) -> str | None:
    try:
        decode(payload, entries)
    except UpstreamError as error:
        return f"{error.code} {error.message}"
    return None


def test_which_chunks_are_taken_quickly() -> None:
    def text(delta: dict[str, object], **fields: object) -> str | None:
        choice = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None} | fields
        return only_text(decode_chunk(json.dumps({"id": "i", "choices": [choice], "usage": None}).encode()))

    assert text({"content": "a"}) == text({"content": "a", "role": "assistant", "refusal": None}) == "a"
    assert not text({"content": "", "role": "assistant"})
    assert not text({"content": "a"}, finish_reason="stop")
    assert not text({"content": "a"}, index=1)
    assert not text({"content": "a", "reasoning": "b"})


def test_bytes_that_are_not_ascii_pass_as_they_are() -> None:
    relay, entries = Relay(whole=False, hide_usage=False), list[Entry]()
    payload = '{"choices":[{"delta":{"content":"é👍"}}]}'.encode()
    relay.decode_data(payload, entries)
    assert entries == [Entry(Kind.CHUNK, payload)]
    assert relay.said == 6
