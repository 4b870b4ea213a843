"""What a client is told: one class per error, and an upstream's words only after they were cleaned."""

import json
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import errors
from gateway.config import Secret, Upstream
from gateway.entries import EndReason
from gateway.errors import GatewayError, UpstreamError, UpstreamRejected
from gateway.upstream.redaction import cleaned, redacted


def classes(base: type[GatewayError] = GatewayError) -> Iterator[type[GatewayError]]:
    yield base
    for kind in base.__subclasses__():
        yield from classes(kind)


ALL = sorted({kind for kind in classes() if kind.__module__ == errors.__name__}, key=lambda kind: kind.__name__)

CONTRACT = {
    # code: status, type, retryable, the end's reason
    "internal_error": (500, "server_error", False, EndReason.UPSTREAM_ERROR),
    "invalid_request": (400, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "invalid_api_key": (401, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "two_api_keys": (400, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "rate_limit_exceeded": (429, "rate_limit_error", True, EndReason.UPSTREAM_ERROR),
    "too_many_streams": (429, "rate_limit_error", True, EndReason.UPSTREAM_ERROR),
    "budget_reserved": (429, "rate_limit_error", True, EndReason.UPSTREAM_ERROR),
    "insufficient_quota": (429, "insufficient_quota", False, EndReason.UPSTREAM_ERROR),
    "forbidden": (403, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "origin_not_allowed": (403, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "proxy_not_allowed": (403, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "metrics_not_allowed": (403, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "prefetch_not_allowed": (403, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "not_found": (404, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "model_not_found": (404, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "endpoint_not_supported": (400, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "stream_not_found": (404, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "response_not_found": (404, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "previous_response_not_found": (400, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "previous_response_running": (400, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "policy_not_allowed": (403, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "idempotency_conflict": (409, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "stopped": (409, "invalid_request_error", False, EndReason.STOPPED),
    "method_not_allowed": (405, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "body_timeout": (408, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "body_too_large": (413, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "query_too_long": (414, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "media_type_not_supported": (415, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "content_coding_not_supported": (415, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "host_not_served": (421, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "hosts_differ": (421, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "busy": (503, "server_error", True, EndReason.UPSTREAM_ERROR),
    "store_unavailable": (503, "server_error", True, EndReason.UPSTREAM_ERROR),
    "too_many_running": (503, "server_error", True, EndReason.UPSTREAM_ERROR),
    "targets_full": (503, "server_error", True, EndReason.UPSTREAM_ERROR),
    "out_of_descriptors": (503, "server_error", True, EndReason.UPSTREAM_ERROR),
    "shutting_down": (503, "server_error", True, EndReason.SHUTTING_DOWN),
    "answer_too_large": (502, "server_error", False, EndReason.INCOMPLETE),
    "upstream_error": (502, "upstream_error", True, EndReason.UPSTREAM_ERROR),
    "upstream_unreachable": (502, "upstream_error", True, EndReason.UPSTREAM_ERROR),
    "upstream_misconfigured": (502, "upstream_error", False, EndReason.UPSTREAM_ERROR),
    "upstream_tls": (502, "upstream_error", False, EndReason.UPSTREAM_ERROR),
    "upstream_rate_limited": (429, "rate_limit_error", True, EndReason.UPSTREAM_ERROR),
    "upstream_rejected": (400, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "context_length_exceeded": (400, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "upstream_cannot": (400, "invalid_request_error", False, EndReason.UPSTREAM_ERROR),
    "upstream_incomplete": (502, "upstream_error", True, EndReason.INCOMPLETE),
    "producer_lost": (502, "upstream_error", True, EndReason.INCOMPLETE),
    "recording_lost": (410, "upstream_error", True, EndReason.INCOMPLETE),
    "upstream_empty": (502, "upstream_error", True, EndReason.INCOMPLETE),
    "event_too_large": (502, "upstream_error", False, EndReason.UPSTREAM_ERROR),
    "timeout": (504, "timeout_error", True, EndReason.TIMEOUT),
    "connect_timeout": (504, "timeout_error", True, EndReason.TIMEOUT),
    "first_token_timeout": (504, "timeout_error", True, EndReason.TIMEOUT),
    "idle_timeout": (504, "timeout_error", True, EndReason.TIMEOUT),
    "total_timeout": (504, "timeout_error", True, EndReason.TIMEOUT),
}


@pytest.mark.parametrize("kind", ALL)
def test_every_error_keeps_its_contract(kind: type[GatewayError]) -> None:
    error = kind()
    assert (error.status, error.type, error.retryable, error.end_reason) == CONTRACT[error.code]


def test_every_error_has_a_code_and_words_of_its_own() -> None:
    assert len({kind.code for kind in ALL}) == len({kind.message for kind in ALL}) == len(ALL) == len(CONTRACT)
    assert all(re.fullmatch(r"[a-z_]+", kind.code) for kind in ALL)
    assert all(kind.message.endswith(".") for kind in ALL)


def test_what_is_said_of_one_error_is_said_of_no_other() -> None:
    error = UpstreamError("No.", code="overloaded", type="t", param="p", headers={"Retry-After": "7"})
    assert error.body() == {"error": {"message": "No.", "type": "t", "param": "p", "code": "overloaded"}}
    assert error.failure() == {**error.body(), "retryable": True}
    assert error.headers == {"Retry-After": "7"}
    assert str(error) == "No."
    assert UpstreamError().body() == {
        "error": {"message": UpstreamError.message, "type": "upstream_error", "param": None, "code": "upstream_error"}
    }
    assert UpstreamError().headers == {}


def test_empty_words_are_none() -> None:
    assert UpstreamError("", code="", type="").body() == UpstreamError().body()


def test_the_upstream_decides_on_one_status_alone() -> None:
    assert UpstreamRejected("No.", status=413, code="c").status == 413
    assert UpstreamRejected().status == 400


# An upstream's words

ORDINARY = [
    "",
    "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the messages).",
    "max_tokens: 5000 is too large, at most 4096",
    "messages[0].content: expected a string, got null (line 1, column 42)",
    "The model `meta-llama/Llama-3.1-8B-Instruct` does not exist or you do not have access to it.",
    "Invalid value for 'temperature': 3.0 (version 1.2.3)",
    "Rate limit reached for gpt-4o in the organization on tokens per min. Limit: 30000, used: 29500.",
    "It failed at 10:30:45 on 2026-11-21T10:30:45",
    "std::bad_alloc in x::y",
    "An org-level limit, a sk-learn pipeline, and a token count of 7",
    "Keyword arguments: a=1, b=2; ratio 16:9",
    "余额不足，请充值后再试。",
    "参数错误模型不存在或者您没有访问该模型的权限请检查后重试并联系客服人员获取更多信息谢谢",
    "モデルが見つかりませんでしたのでもう一度ご確認のうえお試しくださいますようお願い申し上げます",
    "Модель недоступна; ещё раз попробуйте позже — ошибка № 5",
    "naïve café 👍",
]


@pytest.mark.parametrize("words", ORDINARY)
def test_ordinary_words_pass_untouched(words: str) -> None:
    assert cleaned(words) == words


SECRETS = [
    # the words; what must be gone
    ("Incorrect API key provided: sk-proj-abc***xyz.", "sk-proj"),
    ("Incorrect API key provided: hunter2-hunter2. See the docs.", "hunter2"),
    ("Authorization: Bearer abcDEF123456", "abcDEF"),
    ("authorization=Bearer   abcDEF123456", "abcDEF"),
    ("{'Authorization': 'Bearer abcDEF123456', 'x': 'y'}", "abcDEF"),
    ("Bearer abcDEF123456 is not valid", "abcDEF"),
    ("Basic dXNlcjpwYXNz is not valid", "dXNlc"),
    ("api-key: abcDEF", "abcDEF"),
    ("x-api-key = abcDEF", "abcDEF"),
    ('{"api_key": "abcDEF"}', "abcDEF"),
    ("MOONSHOT_API_KEY=abcDEF", "abcDEF"),
    ("token: abcDEF", "abcDEF"),
    ("gsk_abcdef123456 has expired", "gsk_"),
    ("xai-abcdef123456 has expired", "xai-"),
    ("in organization org-AbCdEf123456 on requests", "org-A"),
    ("key " + "0123456789abcdef" * 2 + " is unknown", "0123456789abcdef"),
    ("key " + "Ab9_" * 10, "Ab9_"),
    ("您的密钥sk-abcdef123456无效", "sk-abc"),
    ("sk-abcdef\x00123456", "sk-abcdef"),
]


@pytest.mark.parametrize(("words", "secret"), SECRETS)
def test_fault_77_keys_are_taken_out(words: str, secret: str) -> None:
    assert secret in words
    assert secret not in cleaned(words)
    assert "[redacted]" in cleaned(words)


ADDRESSES = [
    ("connect to http://10.0.0.1:8000/v1/chat failed", "10.0.0.1"),
    ("see https://user:pass@api.example/v1?key=x for more", "api.example"),
    ("redis://cache.internal:6379/0 is gone", "cache"),
    ("connect to 10.0.0.1:8000 failed", "10.0.0.1"),
    ("at 192.168.1.20.", "192.168"),
    ("connect to [2001:db8::1]:8000 failed", "db8"),
    ("from 2001:db8:0:0:0:0:0:1 only", "db8"),
    ("from fe80::1", "fe80"),
    ("from ::1", "::1"),
    ("from [::1]:8000", "::1"),
    ("from ::ffff:10.0.0.1", "10.0.0.1"),
    ("vllm-0.models.svc.cluster.local:8000 is gone", "vllm-0"),
    ("gpu7.corp did not answer", "gpu7"),
    ("localhost:11434 did not answer", "localhost:11434"),
    ("请访问https://console.example/keys查看", "console"),
]


@pytest.mark.parametrize(("words", "address"), ADDRESSES)
def test_fault_77_addresses_are_taken_out(words: str, address: str) -> None:
    assert address in words
    assert address not in cleaned(words)
    assert "[address]" in cleaned(words)


UPSTREAM = Upstream(
    "up",
    "https://models.example/v1",
    api_key=Secret("hunter2"),
    headers={"X-Team": Secret("blue team"), "X-Short": Secret("abc")},
)


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("hunter2 is not valid, hunter2!", "[redacted] is not valid, [redacted]!"),
        ("no such host: models.example", "no such host: [redacted]"),
        ("the blue team is over its limit", "the [redacted] is over its limit"),
        ("abc", "abc"),
        ("ordinary words", "ordinary words"),
        ("é " * 250, "é " * 250),
        ("é " * 251, "é " * 250 + "…"),
        ("é" * 496 + " hunter2", "é" * 496 + " [re…"),
    ],
)
def test_fault_77_what_the_gateway_itself_sent_is_known_to_the_letter(words: str, left: str) -> None:
    """Its key, its header values and its host, whatever they look like; a few characters are no secret."""
    assert redacted(words, UPSTREAM) == left


@pytest.mark.parametrize(
    ("words", "clean"),
    [
        ("a\r\nb", "a b"),
        ("a\n\n\tb", "a b"),
        ("\n a \n", "a"),
        ("a\0b", "a b"),
        ("a\x1b[31mb\x7f", "a [31mb"),
        ("a\x85b\u2028c\u2029d", "a b c d"),
        ("\ud83d", "?"),
        ("a\ud83d\udc4d", "a??"),
        ("x " * 250, "x " * 249 + "x"),
    ],
)
def test_fault_78_controls_and_length(words: str, clean: str) -> None:
    assert cleaned(words) == clean


def test_a_megabyte_of_words_costs_no_more_than_a_page() -> None:
    """The patterns see a bounded part of it, whatever it repeats."""
    for piece in ("a", "1:", "a.", "1.", "[", "sk-", "api_key", "a-", ": "):
        assert len(redacted(cleaned(piece * 1_000_000), UPSTREAM)) <= 501


@given(st.text(max_size=100) | st.text("sk-:/.0159abcdef[] \n=", max_size=100))
def test_any_words_become_one_bounded_line_that_can_be_sent(words: str) -> None:
    clean = redacted(cleaned(words), UPSTREAM)
    assert json.dumps(clean, ensure_ascii=False).encode()
    assert len(clean) <= 501
    assert clean.splitlines() in ([clean], [])
    assert clean.isprintable() or not words.isprintable()
