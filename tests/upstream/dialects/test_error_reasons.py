"""The reason of an error, in the shapes in which servers write one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream.dialects.error_reasons import Reason, only_one, reason_of

MANY = [{"loc": ["body", "messages", n, "content"], "msg": "Field required", "input": "SECRET"} for n in range(8)]
TRACEBACK = 'Traceback (most recent call last):\n  File "/srv/app.py", line 1, in f\nValueError: Too long.\n'

REASONS: dict[str, tuple[object, Reason]] = {
    # the body, the reason
    "OpenAI": (
        {"error": {"message": "Too long.", "type": "t", "param": "messages", "code": "too_long"}},
        Reason("Too long.", "too_long", "messages"),
    ),
    "Google": ([{"error": {"code": 400, "message": "Too long.", "status": "INVALID"}}], Reason("Too long.")),
    "Anthropic": ({"type": "error", "error": {"type": "t", "message": "Too long."}}, Reason("Too long.")),
    "vLLM, older": ({"object": "error", "message": "Too long.", "code": 400}, Reason("Too long.")),
    "Ollama, TGI": ({"error": "Too long.", "error_type": "validation"}, Reason("Too long.")),
    "Mistral": (
        {"object": "error", "message": {"detail": [{"loc": ["body", "model"], "msg": "Field required"}]}},
        Reason("model: Field required", None, "model"),
    ),
    "DashScope": ({"code": "InvalidParameter", "message": "Too long."}, Reason("Too long.", "InvalidParameter")),
    "Cloudflare": ({"success": False, "errors": [{"code": 7, "message": "Too long."}]}, Reason("Too long.")),
    "FastAPI, a text": ({"detail": "Too long."}, Reason("Too long.")),
    "FastAPI, an object": ({"detail": {"error": "Too long.", "code": "x"}}, Reason("Too long.", "x")),
    "FastAPI, a list": (
        {"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "Field required", "type": "missing"}]},
        Reason("messages[0].content: Field required", None, "messages[0].content"),
    ),
    "FastAPI, a long list": (
        {"detail": MANY},
        Reason(
            "; ".join([f"messages[{n}].content: Field required" for n in range(3)]) + "; and 5 more",
            None,
            "messages[0].content",
        ),
    ),
    "FastAPI, a place in a query": (
        {"detail": [{"loc": ["query", "n"], "msg": "not a number"}]},
        Reason("query.n: not a number", None, "query.n"),
    ),
    "a message alone": ({"message": "Too long."}, Reason("Too long.")),
    "a list of messages": ({"statusCode": 400, "message": ["a", "b"], "error": "Bad Request"}, Reason("a; b")),
    "a name and a sentence": ({"status": 400, "error": "Bad Request", "message": "Too long."}, Reason("Too long.")),
    "OAuth": ({"error": "invalid_request", "error_description": "Too long."}, Reason("Too long.")),
    "problem details": ({"type": "about:blank", "title": "Bad", "detail": "Too long."}, Reason("Too long.")),
    "a title alone": ({"title": "Too long.", "status": 400}, Reason("Too long.")),
    "errors as texts": ({"errors": ["a", "b"]}, Reason("a; b")),
    "errors by field": (
        {"title": "Invalid.", "errors": {"max_tokens": ["must be positive", "must be whole"]}},
        Reason("max_tokens: must be positive; must be whole", None, "max_tokens"),
    ),
    "errors as an object": ({"errors": {"message": "Too long."}}, Reason("Too long.")),
    "a code without words": ({"error": {"code": "model_not_found"}}, Reason(None, "model_not_found")),
    "plain text": (b"Too long.\r\nBy 7.\n", Reason("Too long. By 7.")),
    "plain text in Chinese": ("太长".encode(), Reason("太长")),
    "a JSON string": (b'"Too long."', Reason("Too long.")),
    "a byte-order mark before JSON": (b'\xef\xbb\xbf{"error":"Too long."}', Reason("Too long.")),
    "a byte-order mark before text": (b"\xef\xbb\xbfToo long.", Reason("Too long.")),
    "empty lines before JSON": (b'\n\n \xef\xbb\xbf\n{"detail":"Too long."}\n', Reason("Too long.")),
    "bytes that are not UTF-8": (b'{"detail":"no \xff"}', Reason("no \ufffd")),
    "a lone surrogate": (b'{"detail":"no \\ud83d"}', Reason("no ?")),
    "not quite JSON": (b'{"detail":"no","x":NaN}', Reason("no")),
    "a traceback": ({"detail": TRACEBACK}, Reason("ValueError: Too long.")),
    "a traceback as text": (TRACEBACK.encode(), Reason("ValueError: Too long.")),
    "fault_77 a key and an address": (
        {"detail": "Key sk-abcdef123 at http://10.0.0.1/v1"},
        Reason("Key [redacted] at [address]"),
    ),
    "fault_77 in plain text": (b"Key sk-abcdef123 at 10.0.0.1:80", Reason("Key [redacted] at [address]")),
    "a page": (b"<html>no", Reason()),
    "a page behind empty lines": (b"\r\n <!DOCTYPE html>no", Reason()),
    "a page in a detail": ({"detail": "\n<HTML><body>no"}, Reason()),
    "compressed": (b"\x1f\x8b\x08\x00no", Reason()),
    "cut short": (b'{"detail":"no', Reason()),
    "a number": (b"7", Reason()),
    "true": (b"true", Reason()),
    "null": (b"null", Reason()),
    "white space": (b" \r\n", Reason()),
    "white space as words": ({"detail": " \n"}, Reason()),
    "deep": (b'{"error":' * 50 + b'"no"' + b"}" * 50, Reason()),
    "deeper than anybody reads": (b'{"error":' * 100_000, Reason()),
}


@pytest.mark.parametrize("case", REASONS)
def test_reasons(case: str) -> None:
    body, reason = REASONS[case]
    assert reason_of(body if isinstance(body, bytes) else json.dumps(body).encode()) == reason


def test_a_reason_is_bounded() -> None:
    """However long its texts, its lists and its paths are."""
    entry = {"loc": list(range(300)), "msg": "x " * 3_000}
    for value in ("x " * 300_000, [entry["msg"]] * 100, [entry] * 100):
        reason = reason_of(json.dumps({"detail": value}).encode())
        assert reason.words is not None
        assert len(reason.words) < 7_000


_names = st.sampled_from(["error", "message", "msg", "detail", "errors", "loc", "code", "param", "title"])
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4),
    max_leaves=12,
)


@given(_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=30))
def test_any_body_gives_words_that_can_be_sent_or_none(body: bytes) -> None:
    reason = reason_of(body)
    for text in (reason.words, reason.code, reason.param):
        assert text is None or (text.encode() and text.splitlines() == [text])


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (b'[ {"a": 1.0} ]', b'{"a": 1.0}'),
        (b'[{"a":1},{"b":2}]', b'[{"a":1},{"b":2}]'),
        (b"[]", b"[]"),
        (b'{"a":[1]}', b'{"a":[1]}'),
        (b'[{"a":', b'[{"a":'),
        (b"[" * 100_000, b"[" * 100_000),
    ],
)
def test_a_list_of_one_is_that_one_to_the_byte(body: bytes, left: bytes) -> None:
    assert only_one(body) == left
