"""Changes an input in ways that keep much of its form: what a fuzzer's own mutations of bytes seldom do to JSON."""

import re
from collections.abc import Callable, Sequence
from random import Random

# Bytes: all forms fit into these, and longer inputs only take longer.
LONGEST = {"splitter": 128, "parser": 192, "decoder": 1536, "responses": 1536, "messages": 1536}

_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null|\[\]|\{\}|\r\n?|\n|[\[\]{},:]')

TOKENS: Sequence[bytes] = (
    *(b"null", b"true", b"false", b"0", b"-1", b"7.5", b"1e999", b"9" * 25, b"NaN", b'""', b"[]", b"{}", b"[[[", b"}}"),
    *(b'"\\ud83d"', b'"\\udc4d"', b'"\\u0000"', b'"stop"', b'"error"', b'"length"', b'"tool_calls"', b'"assistant"'),
    *(b'"type":', b'"role":', b'"content":', b'"index":1,', b'"finish_reason":"stop",', b'"error":{"message":"no"},'),
    *(b",", b":", b'"', b"\\", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf"),
    *(b"data: ", b"data:", b"event: error\n", b"event: ", b"id: 1\n", b"retry: 10\n", b": x\n", b"error: {}\n"),
    *(b"data: [DONE]\n\n", b"[DONE]", "é".encode(), "👍".encode(), "\u2028".encode(), b"7", b"x"),
)


def mutated(data: bytes, random: Random, most: int) -> bytes:
    for _ in range(random.choice((1, 1, 2, 4))):
        data = random.choice(_CHANGES)(data, random)
    return data[:most]


def _replace(data: bytes, random: Random) -> bytes:
    """One value, or one mark between values, becomes another."""
    found = _VALUE.search(data, random.randrange(len(data) + 1))
    if found is None:
        return _insert(data, random)
    return data[: found.start()] + _other(data, random) + data[found.end() :]


def _other(data: bytes, random: Random) -> bytes:
    """A token, or a value from elsewhere in the same input."""
    found = _VALUE.search(data, random.randrange(len(data) + 1)) if random.random() < 0.5 else None
    return random.choice(TOKENS) if found is None else found[0]


def _insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice(TOKENS) + data[place:]


def _span(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 4, 16, 64, 256)))


def _remove(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    return data[:start] + data[end:]


def _repeat(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    place = random.randrange(len(data) + 1)
    return data[:place] + data[start:end] + data[place:]


def _flip(data: bytes, random: Random) -> bytes:
    if not data:
        return data
    place = random.randrange(len(data))
    return data[:place] + bytes((data[place] ^ (1 << random.randrange(8)),)) + data[place + 1 :]


def _wrap(data: bytes, random: Random) -> bytes:
    """Nests a part deeply: recursion has an end at another depth in each step that a request takes."""
    start, end = _span(data, random)
    depth = random.choice((1, 2, 30, 400))
    return data[:start] + b"[" * depth + data[start:end] + b"]" * depth + data[end:]


_CHANGES: Sequence[Callable[[bytes, Random], bytes]] = (_replace, _replace, _insert, _remove, _repeat, _flip, _wrap)
