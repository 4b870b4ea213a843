"""Rows 28 to 45: odd forms of events and chunks. Nearly all of them are harmless, so the first target answers alone."""

from collections.abc import Sequence

from tests.faults.scenario import HELLO, Scenario, fails, harmless, rescued, unharmed
from tests.rig.scripted_upstream import DONE, Stall, Step, chunk, delta, event, finish, stream, usage

_SMALL = "[stream]\nmax_event_bytes = 100_000"
_END = [finish(), DONE]
_TWO = [
    event(
        {**chunk(), "choices": [{"index": n, "delta": {"content": text}} for n, text in enumerate(("Hello", "Bye"))]}
    ),
    event({**chunk(), "choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]}),
]
_FRAGMENT = {"index": 0, "id": "", "function": {"arguments": None}}


def _odd(number: int, name: str, *parts: bytes, text: str = HELLO, settings: str = "") -> Scenario:
    """The parts, then the usual answer."""
    return harmless(number, name, stream(*parts, delta(HELLO), *_END), text, settings)


def _bytes(data: bytes, size: int = 1) -> Sequence[Step]:
    return stream(*[data[at : at + size] for at in range(0, len(data), size)])


def _too_large(number: int, name: str, data: bytes) -> Scenario:
    """A bound of the gateway's own: another target would meet it, too."""
    outcome = fails("event_too_large", "Hello")
    return Scenario(number, name, [stream(delta("Hello"), data, Stall())], outcome, outcome, _SMALL)


SIZES = [
    harmless(28, "an event of 90,000 bytes", stream(delta("x" * 90_000), *_END), "x" * 90_000, _SMALL),
    _too_large(28, "an event of 200,000 bytes", delta("x" * 200_000)),
    _too_large(29, "a line without an end", b"data: " + b"x" * 200_000),
    _odd(30, "a comment of 300,000 bytes", b": " + b"x" * 300_000 + b"\n\n", settings=_SMALL),
    harmless(31, "chunks of one byte", _bytes(delta(HELLO) + b"".join(_END))),
    harmless(31, "2,000 tiny events", stream(delta("a") * 2000, *_END), "a" * 2000),
]

BYTES = [
    harmless(32, "CR, LF and CRLF", stream(delta(HELLO).replace(b"\n", b"\r"), finish().replace(b"\n", b"\r\n"), DONE)),
    harmless(33, "a byte-order mark", stream(b"\xef\xbb\xbf" + delta(HELLO), *_END)),
    harmless(34, "a split character", _bytes(delta("é👍") + b"".join(_END)), "é👍"),
    harmless(35, "invalid UTF-8", stream(delta("a?b").replace(b"?", b"\xff"), *_END), "a\ufffdb"),
    harmless(36, "U+2028 and NEL", stream(delta("a\u2028b\x85c"), *_END), "a\u2028b\x85c"),
    Scenario(
        37,
        "an event that is not JSON",
        [stream(delta("Hello"), b"data: {oops\n\n", delta(", world"), *_END)],
        unharmed(),
        rescued(),
    ),
]

CHUNKS = [
    _odd(38, "deep nesting", b'data: {"choices":[],"x":' + b"[" * 200 + b"]" * 200 + b"}\n\n"),
    _odd(38, "an integer of 5000 digits", b'data: {"choices":[],"x":' + b"7" * 5000 + b"}\n\n"),
    _odd(38, "NaN", b'data: {"choices":[],"x":NaN}\n\n'),
    harmless(38, "a lone surrogate", stream(delta("?").replace(b"?", rb"\ud800"), *_END), "\ufffd"),
    _odd(39, "no choices", event({"choices": []}), event({"choices": None}), event({"id": "x"})),
    _odd(39, "delta null", event({"choices": [{"index": 0, "delta": None}]}), event({"choices": [{"index": 0}]})),
    _odd(39, "no object", b"data: 7\n\ndata: null\n\n"),
    _odd(40, "content null", event(chunk(content=None))),
    _odd(40, "reasoning", event(chunk(reasoning_content="hm")), event(chunk(reasoning="hm"))),
    _odd(41, "usage three times", usage(total_tokens=0), usage(total_tokens=4), event({**chunk(), "usage": None})),
    _odd(42, "fragments of a tool call", event(chunk(tool_calls=[])), event(chunk(tool_calls=[_FRAGMENT]))),
    harmless(43, "two choices", stream(*_TWO, delta(", world"), *_END)),
    harmless(44, "an unknown finish reason", stream(delta(HELLO), finish("sunset"), DONE)),
    harmless(45, "a role in every chunk", stream(event(chunk(role="assistant", content=HELLO)), *_END)),
    harmless(45, "two finishes", stream(delta(HELLO), finish("length"), *_END)),
    _odd(45, "an empty id", event({**chunk(content=""), "id": ""})),
]

FORMS = [*SIZES, *BYTES, *CHUNKS]
