"""Rows 1 to 10: responses that are no answer, and statuses that are not 200."""

from email.utils import formatdate
from time import time

from tests.faults.scenario import COMPLETION, WELL, Scenario, before_content, fails, later, rescued, unharmed
from tests.rig.scripted_upstream import DONE, answer, event, stream

_ERROR = {"error": {"message": "no", "type": "server_error", "code": None}}
_PAGE = b"<html><body>SECRET</body></html>"
_LIMITED = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
_TOO_LONG = {"error": {"message": "This model's maximum context length is 9", "code": "context_length_exceeded"}}
_ODD_WHOLE = {**COMPLETION, "x": 1.0}


def _rejected(number: int, name: str, status: int, body: object, code: str) -> Scenario:
    """The request itself is at fault: no other target is asked."""
    script = answer(status, body)
    return Scenario(number, name, [script], fails(code), fails(code), whole=[script])


def _elsewhere(number: int, name: str, status: int, body: object, code: str) -> Scenario:
    return before_content(number, name, answer(status, body), code, whole=True)


def _moment(status: int) -> Scenario:
    """The target is asked once more, and then the other one."""
    script = answer(status, _ERROR)
    return before_content(8, f"status {status}", script, "upstream_error", again=True, whole=True)


def _limited(name: str, **fields: str) -> Scenario:
    """Alone, the target is asked again after the time that it named. With two, the other one is asked at once."""
    first = [answer(429, _LIMITED, **fields), WELL]
    return Scenario(9, name, first, unharmed(requests=2), rescued())


STATUSES = [
    before_content(1, "a JSON error with status 200", answer(200, _ERROR), "upstream_error", again=True, whole=True),
    _elsewhere(2, "a web page", 200, _PAGE, "upstream_misconfigured"),
    Scenario(3, "one JSON body", [answer(200, _ODD_WHOLE)], unharmed(), unharmed(), whole=[answer(200, _ODD_WHOLE)]),
    before_content(4, "an empty body", answer(200, b""), "upstream_incomplete", again=True, whole=True),
    before_content(4, "an empty stream", stream(), "upstream_incomplete", again=True, whole=True),
    before_content(5, "only [DONE]", stream(DONE), "upstream_empty", again=True, whole=True),
    _rejected(6, "status 400", 400, _ERROR, "upstream_rejected"),
    _rejected(6, "status 422", 422, _ERROR, "upstream_rejected"),
    _rejected(6, "refused content", 400, {"error": {"message": "no", "code": "content_filter"}}, "content_filter"),
    _elsewhere(6, "a long prompt", 400, _TOO_LONG, "context_length_exceeded"),
    _elsewhere(6, "an unknown model", 404, {"error": {"message": "no model m"}}, "upstream_rejected"),
    _elsewhere(7, "status 401", 401, {"error": {"message": "SECRET"}}, "upstream_misconfigured"),
    _elsewhere(7, "status 403", 403, {"error": {"message": "SECRET"}}, "upstream_misconfigured"),
    *[_moment(status) for status in (408, 409, 425, 500, 502, 503, 504, 529)],
    Scenario(8, "status 500 once", [answer(500, _ERROR), WELL], unharmed(requests=2), unharmed(requests=2)),
    before_content(8, "an error before the content", stream(event(_ERROR)), "upstream_error", again=True, whole=True),
    _limited("status 429, seconds", Retry_After="0.1"),
    _limited("status 429, milliseconds", Retry_After_Ms="100"),
    _limited("status 429, a date", Retry_After=formatdate(time(), usegmt=True)),
    later(9, "status 429 for ever", answer(429, _LIMITED, Retry_After="0.1"), "upstream_rate_limited"),
    before_content(9, "a long wait", answer(429, _LIMITED, Retry_After="60"), "upstream_rate_limited", whole=True),
    before_content(10, "x-should-retry: false", answer(503, _ERROR, X_Should_Retry="false"), "upstream_error"),
]
