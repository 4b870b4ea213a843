"""What an error for a caller, or for the log, does not say: the values that the gateway uses for the upstream."""

import pytest

from gateway.config import Secret, Upstream
from gateway.errors import UpstreamError
from gateway.upstream.redaction import redact

UPSTREAM = Upstream(
    "up",
    "https://Models.Partner.example:8443/v1",
    Secret("AbC-short-key"),
    {"X-Operator": Secret("Word-of-Operator"), "X-Flag": Secret("on")},
    proxy="http://operator:p%40ss-word@Gate.Partner.example:3128",
)
LOCAL = Upstream("local", "http://localhost:11434/v1", proxy="http://127.0.0.1:3128")
WORD = Upstream("word", "http://ollama/v1")

GONE = [
    "AbC-short-key",
    "abc-short-key",
    "ABC-SHORT-KEY",
    "Word-of-Operator",
    "word-of-operator",
    "models.partner.example",
    "Models.Partner.example",
    "MODELS.PARTNER.EXAMPLE",
    "gate.partner.example",
    "Gate.Partner.Example",
    "p@ss-word",
    "P@SS-WORD",
]


@pytest.mark.parametrize("secret", GONE)
def test_what_the_gateway_uses_is_removed_in_any_case_of_letters(secret: str) -> None:
    """From everything that a caller sees, and from the log."""
    for said in (secret, f"a {secret} b", f"a={secret};", f"x{secret}x", f"({secret})"):
        error = UpstreamError(said, code=said, param=said, note=said)
        logged = redact(error, UPSTREAM)
        for text in (error.message, error.code, error.param, logged):
            assert secret.lower() not in str(text).lower()


def test_words_stay() -> None:
    """A host that is a word is removed only as it is written, and a short value not at all."""
    error = UpstreamError("Ollama is on strike; ask ollama later.", note="on")
    assert redact(error, WORD) == "upstream_error: on"
    assert error.message == "Ollama is on strike; ask [redacted] later."


def test_the_log_names_this_machine() -> None:
    error = UpstreamError("no", note="localhost:11434 by 127.0.0.1")
    assert redact(error, LOCAL) == "upstream_error: localhost:11434 by 127.0.0.1"
