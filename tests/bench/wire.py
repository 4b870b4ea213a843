"""The bytes that the benchmark's upstream and its load client exchange, and how they are read. No I/O.

Both ends are written for this one job, since a general HTTP library costs more per event than some of the
contenders: only what a chunked answer to a small POST needs is here, and anything else is refused.

An event's content is a stamp, `@` + 16 hex digits + `;`: the upstream's CLOCK_MONOTONIC in ns when it was sent.
On Linux that clock is one for all processes, so the client reads the time that an event spent on its way. No
contender has a reason to escape or to split it, and as text or within JSON it is found by the same search.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

MODEL_PLACEHOLDER = "$MODEL"
DEFAULT_BODY = (
    '{"model":"$MODEL","messages":[{"role":"user","content":"Tell me about the sea, at length."}],"stream":true}'
)

_MODEL = re.compile(rb'bench-(\d+(?:\.\d+)?)-(\d+)(?:-(\d+))?"')
_STAMP = re.compile(rb"@([0-9a-f]{16});")
_STAMP_SIZE = 18
_CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length:\s*(\d+)\s*\r\n")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:\s*chunked\s*\r\n")
_MAX_HEAD = 65536  # far above what any contender sends; a peer that never ends its head is an error


class WireError(Exception):
    """The other side sent what this benchmark does not read."""


# What is asked for: the rate and the length of a stream travel in the model's name, which every gateway passes on, or
# in a message, for servers that know only the models that the upstream lists.


class Asked(NamedTuple):
    rate: float
    events: int
    padding: int = 0  # bytes of each event's content behind its stamp


def model_name(rate: float, events: int, padding: int = 0) -> str:
    """`bench-RATE-EVENTS` or `bench-RATE-EVENTS-PADDING`; a rate of 0 sends the whole answer at once."""
    return f"bench-{rate:.4f}-{events}" + (f"-{padding}" if padding else "")


def asked(body: bytes) -> Asked | None:
    """What a request's body asks for, or None where it names no such model."""
    found = _MODEL.search(body)
    return Asked(float(found[1]), int(found[2]), int(found[3] or 0)) if found else None


def watching(host: str, path: str) -> bytes:
    """A request for an event stream that has an address."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n".encode()


def request(host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    fields = {"Host": host, "Content-Type": "application/json", "Accept": "text/event-stream", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def take_request(buffer: bytearray) -> tuple[bytes, bytes] | None:
    """Takes the first whole request out of `buffer`: its request line and its body. None while it is not there."""
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[: end + 4])
    length = _CONTENT_LENGTH.search(head)
    if length is None and _CHUNKED.search(head):
        raise WireError("the benchmark's upstream reads no chunked request body")
    stop = end + 4 + (int(length[1]) if length else 0)
    if len(buffer) < stop:
        return None
    body = bytes(buffer[end + 4 : stop])
    del buffer[:stop]
    return head.split(b"\r\n", 1)[0], body


# What the upstream answers to any other request: some servers look first at the upstream that they stand before.

_PAGES = {
    b"GET /healthz ": b"{}",
    b"GET /health ": b"{}",
    b"GET /v1/models ": b'{"object":"list","data":[{"id":"bench","object":"model","created":1,"owned_by":"bench"}]}',
}


def page(line: bytes) -> bytes:
    """The whole answer to a request line that asks for no stream."""
    body = next((page for start, page in _PAGES.items() if line.startswith(start)), None)
    status = b"404 Not Found" if body is None else b"200 OK"
    fields = b"Content-Type: application/json\r\nContent-Length: %d" % len(body or b"")
    return b"HTTP/1.1 %b\r\n%b\r\n\r\n%b" % (status, fields, body or b"")


# What is answered: chunks of the size and shape that OpenAI sends, all but the stamp encoded once.


def chunk(payload: bytes) -> bytes:
    """One chunk of an HTTP/1.1 chunked body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _frame(delta: bytes, finish_reason: bytes = b"null") -> bytes:
    return (
        b'data: {"id":"chatcmpl-CiPzGh2vQb7oXr4WkTn9sYd1LmEa5","object":"chat.completion.chunk",'
        b'"created":1765432100,"model":"gpt-4o-mini-2024-07-18","system_fingerprint":"fp_34a54ae93c",'
        b'"choices":[{"index":0,"delta":' + delta + b',"logprobs":null,"finish_reason":' + finish_reason + b"}]}\n\n"
    )


ANSWER_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)
FIRST_CHUNK = chunk(_frame(b'{"role":"assistant","content":"","refusal":null}'))
LAST_CHUNKS = chunk(_frame(b"{}", b'"stop"')) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


def event_chunk(padding: int = 0) -> bytes:
    """One event's chunk; `event_chunk() % ns` stamps it."""
    stamped = _frame(b'{"content":"@%016x;' + b"." * padding + b'"}')
    return b"%x\r\n" % len(stamped % 0) + stamped + b"\r\n"


EVENT_CHUNK = event_chunk()


# How an answer is read.


class Stamps:
    """Finds the stamps in an answer's body, which may be cut anywhere."""

    __slots__ = ("_cut",)

    def __init__(self) -> None:
        self._cut = b""  # a stamp that has begun

    def feed(self, body: bytes) -> list[bytes]:
        """The hex digits of the stamps that `body` completes."""
        if self._cut:
            body = self._cut + body
            self._cut = b""
        start = body.rfind(b"@", -_STAMP_SIZE + 1)
        if start >= 0 and b";" not in body[start:]:
            self._cut = body[start:]
        return _STAMP.findall(body)


class Head(NamedTuple):
    status: int
    chunked: bool
    length: int | None  # None: chunked, or until the connection closes


class Answer:
    """One HTTP answer: bytes in, body out. `head` is None until it has come; `ended` says that the body is whole."""

    __slots__ = ("_last", "_left", "_rest", "ended", "head")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.ended = False
        self._rest = b""  # an unfinished head or chunk-size line
        self._left = 0  # bytes to come of the body, or of the chunk with its CRLF
        self._last = False  # the chunk is the one of size 0

    def feed(self, data: bytes) -> bytes:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if self.head is not None:
            return self._body(data)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            if len(data) > _MAX_HEAD:
                raise WireError("the head of the answer does not end")
            return b""
        self.head = _parse_head(data[: end + 4])
        self._left = self.head.length or 0
        self.ended = self.head.length == 0
        return self._body(data[end + 4 :])

    def close(self) -> None:
        """The connection was closed: the end of a body without a length, and the truncation of any other."""
        if self.head is not None and not self.head.chunked and self.head.length is None:
            self.ended = True

    def _body(self, data: bytes) -> bytes:
        assert self.head is not None
        if self.head.chunked:
            return self._chunks(data)
        if self.head.length is not None:
            self._left -= len(data)
            self.ended = self._left <= 0
        return data

    def _chunks(self, data: bytes) -> bytes:
        parts = []
        at, size = 0, len(data)
        while at < size and not self.ended:
            if self._left == 0:
                line_end = data.find(b"\r\n", at)
                if line_end < 0:
                    self._rest = data[at:]
                    break
                chunk_size = _chunk_size(data[at:line_end])
                self._last = chunk_size == 0  # no contender sends trailers behind it
                self._left = chunk_size + 2
                at = line_end + 2
            taken = min(self._left, size - at)
            parts.append(data[at : at + min(taken, max(self._left - 2, 0))])
            self._left -= taken
            at += taken
            self.ended = self._last and self._left == 0
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _parse_head(head: bytes) -> Head:
    try:
        status = int(head.split(b" ", 2)[1])
    except (IndexError, ValueError) as error:
        raise WireError(f"not an HTTP answer: {head[:80]!r}") from error
    length = _CONTENT_LENGTH.search(head)
    return Head(status, _CHUNKED.search(head) is not None, int(length[1]) if length else None)


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";", 1)[0], 16)
    except ValueError as error:
        raise WireError(f"not the size of a chunk: {line[:80]!r}") from error
