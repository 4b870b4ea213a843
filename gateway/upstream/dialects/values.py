"""Passes answers on that are values and no texts: embeddings, moderations and ranks. They come as one JSON body.

https://platform.openai.com/docs/api-reference/embeddings, and `.../moderations`. OpenAI has no ranks. Most servers that
have some send them as a list in `results` or `data`; Text Embeddings Inference sends the bare list.

The body passes unchanged, unless it is an error, or near-JSON (see `relay`).
"""

from codecs import getincrementaldecoder
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamEmpty, UpstreamError, UpstreamIncomplete
from gateway.upstream.dialects.chunks import as_object, dump, read_json
from gateway.upstream.dialects.error_reasons import reason_in
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.reported_errors import error_from, error_in
from gateway.upstream.dialects.usage import of_value

_BRACKET = b"["
_PIECE = 65_536  # bytes that are decoded at once


class _Value(msgspec.Struct, gc=False):
    """The fields that are looked at. Values are only checked to be JSON: 1 MB of numbers takes 6 ms, of base64 2 ms."""

    model: Any = None
    usage: Any = None
    meta: Any = None  # Cohere's place for usage
    error: Any = None
    data: msgspec.Raw = msgspec.Raw()
    results: msgspec.Raw = msgspec.Raw()

    @property
    def is_answer(self) -> bool:
        lists = [values for values in (self.data, self.results) if bytes(memoryview(values)[:1]) == _BRACKET]
        return bool(lists) and not self.error


_Look = _Value | list[msgspec.Raw]

_decode: Callable[[bytes], _Look] = msgspec.json.Decoder(_Look).decode
_Utf8Decoder = getincrementaldecoder("utf-8")


class ValueRelay(Decoder):
    """See `Decoder`. Such an answer has no text and no finish reason."""

    whole = True
    finishes = False
    is_joined = False

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, Any] | None = None

    @property
    def usage(self) -> dict[str, Any] | None:
        return self._counts

    def decode_completion(self, body: bytes, entries: list[Entry]) -> None:
        """Passes the body on. Raises UpstreamError if it is an error, or no object and no list."""
        body, value = _decoded(body)
        if isinstance(value, list):
            _check_list(value)
        else:
            if not value.is_answer:
                _check_fields(body)
            self.model = value.model if isinstance(value.model, str) else None
            self._counts = of_value(value.usage, value.meta)
        self.done = self.has_content = self._answered = True
        entries.append(Entry(Kind.CHUNK, body if _is_utf8(body) else body.decode(errors="replace").encode()))


def _decoded(body: bytes) -> tuple[bytes, _Look]:
    """The body, and what is looked at of it. Near-JSON is encoded again."""
    try:
        return body, _decode(body)
    except (ValueError, RecursionError):
        value = read_json(body)
    if not isinstance(value, dict | list):
        if body.strip()[:1] in (b"", b"{", b"["):  # an empty body, or part of one
            raise UpstreamIncomplete()
        raise UpstreamError("The model's server answered with something that is not a JSON object.")
    try:
        body = dump(value)
        return body, _decode(body)
    except RecursionError:
        raise UpstreamError("The model's server answered with JSON that is nested too deeply.") from None


def _is_utf8(body: bytes) -> bool:
    """Piece by piece. To decode and encode all of 30 MB takes ten times as long, and the text four times the room."""
    decoder = _Utf8Decoder()
    try:
        for start in range(0, 0 if body.isascii() else len(body), _PIECE):
            decoder.decode(body[start : start + _PIECE], final=start + _PIECE >= len(body))
    except UnicodeDecodeError:
        return False
    return True


def _check_list(values: list[msgspec.Raw]) -> None:
    """Raises the error that is the only value of the list, as Google sends it."""
    only = as_object(read_json(bytes(values[0]))) if len(values) == 1 else None
    if only is not None and only.get("error"):
        raise error_from(only)


def _check_fields(body: bytes) -> None:
    """Looks for an error in an object without the usual lists. Raises UpstreamError."""
    fields = as_object(read_json(body)) or {}
    if error := error_in("", fields):
        raise error
    if words := reason_in(fields).words:
        raise UpstreamError(words, note=words)
    if not any(fields.values()):
        raise UpstreamEmpty()
