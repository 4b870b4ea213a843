"""What an upstream's status means for the one who asked: a table, and what must never come through."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateway.endpoints import Endpoint
from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    Recovery,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTLS,
)
from gateway.upstream.dialects.status import error_from_status, refused_usage


def told(status: int, body: object = b"", *, endpoint: Endpoint = Endpoint.CHAT, **headers: str) -> GatewayError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return error_from_status(status, fields, data, endpoint=endpoint)


def error_body(message: object, **fields: object) -> dict[str, object]:
    return {"error": {"message": message, **fields}}


HTML = b"<html><body>502 Bad Gateway at upstream-7.internal</body></html>"
AZURE = error_body(
    "Too long.", code="content_filter", param="prompt", innererror={"code": "X", "content_filter_result": {}}
)

# Who is at fault decides the class; the class decides the status, the code and whether asking again may work.
CLASSES = {
    UpstreamRejected: [400, 413, 422],
    UpstreamRateLimited: [429],
    UpstreamMisconfigured: [201, 204, 206, 300, 301, 302, 303, 304, 307, 308, 401, 402, 403, 404, 405, 407, 415],
    UpstreamError: [
        100,
        199,
        406,
        408,
        409,
        410,
        418,
        421,
        425,
        431,
        451,
        499,
        500,
        501,
        502,
        503,
        504,
        520,
        529,
        599,
        999,
    ],
}


@pytest.mark.parametrize(("kind", "status"), [(kind, status) for kind, all_of in CLASSES.items() for status in all_of])
def test_every_status_has_its_class(kind: type[GatewayError], status: int) -> None:
    error = told(status)
    assert type(error) is kind
    assert error.retryable is kind.retryable
    assert error.status == {UpstreamRejected: status, UpstreamRateLimited: 429}.get(kind, 502)


# The caller's own mistakes, in the upstream's words

WORDS: dict[str, tuple[object, str, str, str | None]] = {
    # the body, the message, the code, the param
    "OpenAI": (
        error_body("Too long.", type="t", param="messages", code="too_long"),
        "Too long.",
        "too_long",
        "messages",
    ),
    "Azure, with an inner error": (AZURE, "Too long.", "content_filter", "prompt"),
    "a string": ({"error": "Too long."}, "Too long.", "upstream_rejected", None),
    "flat": ({"object": "error", "message": "Too long.", "code": 400}, "Too long.", "upstream_rejected", None),
    "fault_77 keys and addresses": (
        error_body("Key sk-abcdef123 at http://10.0.0.1/v1\r\nX: y"),
        "Key [redacted] at [address] X: y",
        "upstream_rejected",
        None,
    ),
    "a long message": (error_body("é" * 5_000), "é" * 2_000, "upstream_rejected", None),
    "a long code": (error_body("Too long.", code="x " * 33), "Too long.", "upstream_rejected", None),
    "fields of other types": (error_body("Too long.", code=7, param=["a"]), "Too long.", "upstream_rejected", None),
}


@pytest.mark.parametrize("status", [400, 404, 413, 422])
@pytest.mark.parametrize("case", WORDS)
def test_fault_06_the_callers_mistakes_are_told_in_the_upstreams_words(case: str, status: int) -> None:
    body, message, code, param = WORDS[case]
    error = told(status, body)
    assert (error.status, error.message, error.code, error.param) == (status, message, code, param)
    assert error.type == "invalid_request_error"
    assert not error.retryable


WORDLESS = {
    "nothing": b"",
    "a web page": HTML,
    "not JSON": b'{"error":',
    "cut short": json.dumps(error_body("x" * 100_000)).encode()[:65_536],
    "an empty list": b"[]",
    "a number": b"7",
    "null": b"null",
    "null as its error": {"error": None},
    "a list of nothing as its error": {"error": [None, 7, {}]},
    "a message that is none": error_body({"a": 1}),
    "an empty message": error_body(""),
    "another shape": {"reasons": ["no"]},
    "prose that is not UTF-8": b"no \xff",
    "prose with a control character": b"no\x00",
    "a page as its message": error_body("<!DOCTYPE html><p>no"),
    "nested deeply": b"[" * 100_000,
}


@pytest.mark.parametrize("case", WORDLESS)
def test_without_words_of_the_upstream_there_are_our_own(case: str) -> None:
    body = WORDLESS[case]
    for status in (400, 413, 422):
        error = told(status, body)
        assert (error.status, error.message) == (status, UpstreamRejected.message)
    assert told(429, body).message == UpstreamRateLimited.message


@pytest.mark.parametrize("case", WORDLESS)
def test_a_404_without_words_is_a_wrong_path(case: str) -> None:
    """Not a model that is missing: the operator has to look, and the caller gets no 404 for a route that is right."""
    error = told(404, WORDLESS[case])
    assert type(error) is UpstreamMisconfigured
    assert "does `base_url` lack `/v1`?" in error.message
    assert "does `base_url` lack `/v1`?" in str(error.note)


@pytest.mark.parametrize(
    "body",
    [
        b"404 page not found\n",
        b"no such thing",
        {"detail": "Not Found"},
        {"status": 404, "error": "Not Found", "path": "/v1/v1/chat/completions"},
        {"message": "Not found."},
        {"message": "Cannot POST /chat/completions", "error": "Not Found", "statusCode": 404},
        {"message": "The route chat/completions could not be found."},
        {"error": {"message": "Invalid URL (POST /chat/completions)", "type": "invalid_request_error"}},
        {
            "error": {
                "message": "Unknown request URL: POST /chat. Please check the URL for typos.",
                "code": "unknown_url",
            }
        },
        {"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}},
        {"error": {"code": "404", "message": "Resource not found"}},
    ],
)
def test_a_404_of_a_router_is_a_wrong_path(body: object) -> None:
    """Its words are told: they may be about something else."""
    error = told(404, body)
    assert type(error) is UpstreamMisconfigured
    assert error.note is not None
    assert error.note.startswith("it does not know the path: does `base_url` lack `/v1`? It said: ")
    assert "does `base_url` lack `/v1`? It said: " in error.message
    assert error.message.rpartition("said: ")[2] == error.note.rpartition("said: ")[2]


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.COMPLETIONS, Endpoint.MODERATIONS, Endpoint.RERANK])
@pytest.mark.parametrize("body", [b"404 page not found\n", {"detail": "Not Found"}, {"message": "Cannot POST /v1/{}"}])
def test_a_404_of_a_router_elsewhere_is_an_endpoint_that_is_missing(body: Any, endpoint: Endpoint) -> None:
    if isinstance(body, dict):
        body = {name: words.format(endpoint) for name, words in body.items()}
    error = told(404, body, endpoint=endpoint)
    assert type(error) is UpstreamMisconfigured
    assert error.message.startswith(f"The model's server has no `/{endpoint}`.")
    assert error.note is not None
    assert error.note.startswith(f"it has no `/{endpoint}`: leave that out of the `endpoints` of its models. It said: ")


def test_a_model_for_another_endpoint_is_the_callers_mistake() -> None:
    words = "This is a chat model and not supported in the v1/completions endpoint. Did you mean v1/chat/completions?"
    error = told(404, {"error": {"message": words}}, endpoint=Endpoint.COMPLETIONS)
    assert type(error) is UpstreamRejected
    assert (error.status, error.message) == (404, words)


@pytest.mark.parametrize(
    "body",
    [
        b"<html><center>The plain HTTP request was sent to HTTPS port</center></html>",
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"<p>Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    ],
)
def test_a_server_that_wants_tls_and_says_so(body: bytes) -> None:
    """The caller's request is not at fault, though its status is a 400."""
    error = told(400, body)
    assert type(error) is UpstreamTLS
    assert "`base_url` needs https" in error.message


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429])
def test_the_reason_is_in_the_log(status: int) -> None:
    assert told(status, {"detail": "Too long."}).note == "Too long."


@pytest.mark.parametrize("status", [401, 402, 403, 405, 500, 503])
def test_status_code_and_reason_of_what_the_operator_has_to_look_at_are_in_the_log(status: int) -> None:
    refusal = {"message": "Incorrect API key provided: sk-abcdefgh.", "code": "invalid_api_key"}
    note = f"status {status}: invalid_api_key: Incorrect API key provided: [redacted]"
    assert told(status, {"error": refusal}).note == note
    assert told(status, b"").note == f"status {status}"


# The gateway's own wish for usage


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, error_body("Unknown parameter: 'stream_options'.", param="stream_options")),
        (400, error_body("Unrecognized request argument supplied.", param="stream_options")),
        (422, {"detail": [{"loc": ["body", "stream_options"], "msg": "extra fields not permitted"}]}),
        (422, {"detail": "include_usage is not supported"}),
        (500, b"TypeError: unexpected keyword argument 'stream_options'"),
    ],
)
def test_refused_stream_options_are_told_with_the_option_that_ends_them(status: int, body: object) -> None:
    refused = told(status, body)
    assert isinstance(refused, UpstreamError)
    error = refused_usage(refused)
    assert error is not None
    assert "`stream_usage = false`" in error.message
    assert error.note is not None
    assert error.note.startswith("set `upstreams.stream_usage = false`; ")
    assert (error.status, error.code, error.retryable) == (502, "upstream_misconfigured", False)


def test_other_refusals_are_not_about_usage() -> None:
    refused = told(400, error_body("`stream` must be true"))
    assert isinstance(refused, UpstreamError)
    assert refused_usage(refused) is None


# What must not come through

SECRET = error_body("Incorrect key: SECRET", code="SECRET", param="SECRET", type="SECRET")


@pytest.mark.parametrize("status", [401, 402, 403, 405, 407, 415])
@pytest.mark.parametrize("body", [SECRET, b"SECRET", b"<html>SECRET"])
def test_fault_07_a_refused_key_is_not_the_callers_and_nothing_of_the_body_is_told(status: int, body: object) -> None:
    error = told(status, body, WWW_Authenticate="SECRET", Retry_After="7")
    assert error.status == 502
    assert error.code == "upstream_misconfigured"
    assert error.headers == {}
    assert "SECRET" not in json.dumps(error.body())


@pytest.mark.parametrize("status", [301, 302, 307, 408, 409, 500, 502, 503, 529])
@pytest.mark.parametrize("body", [SECRET, b"SECRET", b"<html>SECRET"])
def test_fault_02_of_other_failures_the_status_is_told(status: int, body: object) -> None:
    error = told(status, body, Location="http://SECRET/")
    assert str(status) in error.message
    assert "SECRET" not in json.dumps(error.body())


# How long to wait


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        ("7", True),
        ("0.5", True),
        ("Wed, 21 Oct 2026 07:28:00 GMT", True),
        ("0" * 63 + "7", True),
        ("0" * 64 + "7", False),
        ("soon", False),
        ("-1", False),
        ("", False),
        ("é", False),
        ("7\r\nX: y", False),
        ("\x1b[2J", False),
    ],
)
def test_fault_09_a_limit_passes_retry_after_on(value: str, passed: bool) -> None:
    error = told(429, error_body("Slow down."), retry_after=value)
    assert error.headers == ({"Retry-After": value} if passed else {})
    assert (error.status, error.message, error.code) == (429, "Slow down.", "upstream_rate_limited")
    assert error.retryable


def test_fault_09_without_retry_after_there_is_none() -> None:
    assert told(429).headers == {}


_errors = st.dictionaries(st.sampled_from(["error", "message", "code"]), st.text() | st.none() | st.lists(st.text()))


@given(st.integers(100, 599), st.binary(max_size=50) | _errors.map(lambda value: json.dumps(value).encode()))
def test_any_response_is_an_error_that_can_be_sent(status: int, body: bytes) -> None:
    error = error_from_status(status, {}, body)
    json.dumps(error.failure()).encode()
    assert 400 <= error.status < 600


# When, where and whether to ask again


NOON = 1_764_072_000.0  # Tue, 25 Nov 2025 12:00:00 GMT


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After-Ms": "1500", "Retry-After": "9"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "Tue, 25 Nov 2025 12:00:07 GMT"}, 7.0),
        ({"Retry-After": "Tue, 25 Nov 2025 11:59:00 GMT"}, 0.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "9" * 400}, None),
        ({"Retry-After-Ms": "x", "Retry-After": "3"}, 3.0),
    ],
)
def test_fault_09_how_long_the_upstream_wants_to_be_left_alone(fields: dict[str, str], seconds: float | None) -> None:
    for status in (429, 503):
        error = error_from_status(status, CIMultiDict(fields), b"", now=NOON)
        assert isinstance(error, UpstreamError)
        assert error.wait == seconds


def test_fault_09_milliseconds_are_passed_on_as_whole_seconds() -> None:
    assert told(429, Retry_After_Ms="1500").headers == {"Retry-After": "2"}


@pytest.mark.parametrize(("value", "is_final"), [("false", True), ("False", True), ("true", False), ("", False)])
def test_fault_10_whether_it_wants_to_be_asked_again(value: str, is_final: bool) -> None:
    error = told(500, X_Should_Retry=value)
    assert isinstance(error, UpstreamError)
    assert error.is_final is is_final


@pytest.mark.parametrize(
    "body",
    [
        error_body("Too long.", code="context_length_exceeded"),
        error_body("This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."),
        error_body("request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it"),
        error_body("prompt is too long: 210000 tokens > 200000 maximum"),
        error_body("Your input exceeds the context window of this model."),
        error_body("The input token count (1048577) exceeds the maximum number of tokens allowed"),
        error_body("Range of input length should be [1, 30720]"),
    ],
)
def test_a_request_that_is_too_long_is_told_by_its_own_code(body: object) -> None:
    """Whatever the server says, since many say it in words only. Another target may have a longer context."""
    for status in (400, 413, 422):
        error = told(status, body)
        assert isinstance(error, ContextLengthExceeded)
        assert (error.status, error.code, error.recovery) == (status, "context_length_exceeded", Recovery.ELSEWHERE)


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation", "data_inspection_failed"])
@pytest.mark.parametrize("status", [400, 403])
def test_a_refusal_of_content_is_the_callers_and_goes_nowhere_else(status: int, code: str) -> None:
    """With 403, too, where any other answer is about the gateway's own key."""
    error = told(status, error_body("Not this.", code=code))
    assert isinstance(error, UpstreamRejected)
    assert (error.status, error.message, error.recovery) == (status, "Not this.", Recovery.NOTHING)
