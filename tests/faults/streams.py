"""Rows 11 to 27: errors inside a stream, ends of all kinds, and silence."""

from tests.faults.scenario import (
    HELLO,
    WELL,
    Scenario,
    before_content,
    broken_off,
    fails,
    harmless,
)
from tests.rig.scripted_upstream import DONE, Close, Pause, Reset, Stall, Step, chunk, delta, event, finish, stream

_ERROR = {"error": {"message": "no", "type": "server_error"}}
_USED = {"prompt_tokens": 3, "completion_tokens": 1}
_SHORT = "[timeouts]\nfirst_token = 0.2\nidle = 0.2\ntotal = 5"
_PATIENT = "[timeouts]\nfirst_token = 2\nidle = 0.3\ntotal = 5"
_TOTAL = "[timeouts]\nfirst_token = 5\nidle = 5\ntotal = 0.4"
_HEARTBEATS = "[stream]\nheartbeat_seconds = 0.05"
_REST = [delta(", world"), finish(), DONE]
_COMMENTS: list[bytes | Step] = [b": keep-alive\n\n", Pause(0.04)]


def _error(number: int, name: str, *parts: bytes) -> Scenario:
    return broken_off(number, name, *parts, Stall(), code="upstream_error")


ERRORS = [
    _error(11, "an error object", event(_ERROR)),
    _error(12, "an error by its event's name", b'event: error\ndata: {"message":"no"}\n\n'),
    _error(13, "an error, then [DONE]", event(_ERROR), DONE),
    _error(14, "an error, a finish reason and usage", event({**chunk("error"), **_ERROR, "usage": _USED})),
    _error(15, "x_groq.error", event({**chunk(), "x_groq": {"error": "no"}})),
    _error(15, "object: error", event({"object": "error", "message": "no", "code": 500})),
    _error(15, "an error: field", b'error: {"code":500,"message":"no"}\n\n'),
    _error(15, "an error that is a string", event({"error": "no"})),
]

ENDS = [
    broken_off(16, "an empty delta, then the end", delta(""), code="upstream_incomplete"),
    broken_off(17, "a reset", Reset(), code="upstream_incomplete"),
    broken_off(17, "a body without its end", Close(), code="upstream_incomplete"),
    before_content(17, "a reset behind the header", stream(Reset()), "upstream_incomplete", again=True, whole=True),
    harmless(18, "no [DONE]", stream(delta(HELLO), finish())),
    broken_off(19, "no finish reason", code="upstream_incomplete"),
    harmless(20, "[DONE] without a finish reason", stream(delta(HELLO), DONE)),
    harmless(21, "data behind [DONE]", stream(delta(HELLO), finish(), DONE, delta("!"), Stall())),
    broken_off(22, "[DONE]xyz", b"data: [DONE]xyz\n\n", code="upstream_incomplete"),
    broken_off(22, "[DONE] as the first of two lines", b"data: [DONE]\ndata: x\n\n", code="upstream_incomplete"),
    harmless(23, "[DONE] without a space", stream(delta(HELLO), b"data:[DONE]\n\n")),
    harmless(23, "[DONE] with CRLF", stream(delta(HELLO), b"data: [DONE]\r\n\r\n")),
    harmless(23, "[DONE] without a line end", stream(delta(HELLO), b"data: [DONE]")),
]

SILENCE = [
    harmless(
        24, "comments before the content", stream(*_COMMENTS * 9, delta(HELLO), finish(), DONE), settings=_PATIENT
    ),
    harmless(24, "comments in the answer", stream(delta("Hello"), *_COMMENTS * 9, *_REST), settings=_PATIENT),
    before_content(24, "comments only", stream(*_COMMENTS * 20), "first_token_timeout", settings=_SHORT),
    harmless(25, "silence, then an answer", [Pause(0.12), *WELL], settings=_HEARTBEATS),
    before_content(25, "silence for ever", [Stall()], "first_token_timeout", settings=_SHORT),
    before_content(25, "silence behind the header", stream(Stall()), "first_token_timeout", settings=_SHORT),
    broken_off(26, "a stall", Stall(), code="idle_timeout", settings=_SHORT),
    Scenario(
        27,
        "comments for ever",
        [stream(delta("Hello"), *_COMMENTS * 50)],
        fails("total_timeout", "Hello"),
        fails("total_timeout", "Hello"),
        _TOTAL,
    ),
]

STREAMS = [*ERRORS, *ENDS, *SILENCE]
