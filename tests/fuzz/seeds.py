"""Where the fuzzer begins: the tables of cases that the tests have anyway, and files for what they lack.

A file in `corpus/TARGET/` is one input. Put what the fuzzer finds there, once it is mended.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fuzz.mutation import LONGEST
from tests.messages import test_request as message_requests
from tests.rig import anthropic
from tests.sse.cases import LIMIT_CASES, PARSER_CASES, SPLITTER_CASES
from tests.upstream.dialects.cases import PROVIDERS
from tests.upstream.dialects.test_openai import BODIES, HOSTILE, IGNORED, TEXTS, raw_delta

CORPUS = Path(__file__).parent / "corpus"


def seeds(target: str) -> list[bytes]:
    files = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    return [*files, *[seed for seed in _TABLES[target]() if len(seed) <= LONGEST[target]]]


def _splitter() -> Iterator[bytes]:
    yield from [case.stream for case in SPLITTER_CASES.values()]


def _parser() -> Iterator[bytes]:
    yield from [case.stream for case in PARSER_CASES.values()]
    yield from [case.stream for case in LIMIT_CASES.values()]


def _decoder() -> Iterator[bytes]:
    yield from _streams()
    yield from [_bytes(body) for body, *_ in BODIES.values()]
    yield from [raw_delta(delta) for delta, *_ in TEXTS]
    yield from [b"data: %b\n\n" % _bytes(value) for value in IGNORED]
    yield from [b"data: %b\n\n" % text.encode() for text in HOSTILE.values()]
    yield json.dumps(
        {"type": "message", "id": "msg_1", "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn"}
    ).encode()


def _streams() -> Iterator[bytes]:
    yield from [sent for sent, _ in PROVIDERS.values()]
    yield b"".join(anthropic.message(anthropic.thinking(0, "so"), anthropic.text(1, "Hel", "lo")))
    yield b"".join(anthropic.message(anthropic.tool(0, "f", '{"a"', ":1}"), anthropic.tool(1, "g"), reason="tool_use"))
    yield anthropic.start() + anthropic.error("overloaded_error")


def _answers() -> Iterator[bytes]:
    yield from [sent for sent, _ in PROVIDERS.values()]


def _messages() -> Iterator[bytes]:
    yield from _answers()
    conversations = [turns for turns, _ in message_requests.CONVERSATIONS.values()]
    conversations += [[("user", blocks)] for blocks, _ in message_requests.RESULTS.values()]
    for turns in conversations:
        messages = [{"role": role, "content": content} for role, content in turns]
        yield _bytes({"model": "m", "max_tokens": 7, "messages": messages})
    bodies = [fields for fields, _ in message_requests.FIELDS.values()]
    bodies += [fields for fields, *_ in message_requests.REFUSED.values()]
    for fields in bodies:
        sent: dict[str, Any] = {"max_tokens": 7, "messages": message_requests.HI, **fields}
        yield _bytes({name: value for name, value in sent.items() if value is not ...})


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


_TABLES = {
    "splitter": _splitter,
    "parser": _parser,
    "decoder": _decoder,
    "responses": _answers,
    "messages": _messages,
}
