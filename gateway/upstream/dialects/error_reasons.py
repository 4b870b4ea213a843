"""Finds the reason in an error of an upstream, in any of the known forms, and cleans it.

The forms are OpenAI's `{"error": {"message", "code", "param"}}`, the same without the wrapper, `{"error": "..."}`,
`{"detail": ...}` as a text, as an object or as FastAPI's list of `{"loc", "msg"}`, `{"message"}`, `{"errors": [...]}`,
the problem details of RFC 9457, a list of any of these, and plain text.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.upstream.dialects.chunks import as_object, read_json
from gateway.upstream.redaction import cleaned
from gateway.upstream.shapes import stripped

# `error` comes late, because Spring, NestJS and OAuth put only a name into it, and the sentence into another field.
_PLACES = ("message", "msg", "detail", "errors", "error_description", "error_msg", "error", "title")
_DEEPEST = 6  # levels of objects and lists; Mistral's errors, the deepest known, have four
_MOST_ENTRIES = 3  # of a list that a message has; in FastAPI, one mistake in a request can make a list of dozens
_MOST_STEPS = 10  # of the path to a field
_MAX_CODE = 64  # characters of an error code; a longer text is a sentence
_MOST_TEXT = 65_536  # characters of a text that are searched; `cleaned` cuts it further
_PAGES = ("<!doctype", "<html", "<head", "<body", "<?xml")
_TRACEBACK = "Traceback (most recent call last)"


class Reason(msgspec.Struct, frozen=True):
    """`words` are for a person, and `param` names a field of the request. All are cleaned."""

    words: str | None = None
    code: str | None = None
    param: str | None = None


def reason_of(body: bytes) -> Reason:
    """The reason in the body of an HTTP error."""
    body = stripped(body).rstrip()
    if body[:1] in (b"{", b"[", b'"'):
        return reason_in(read_json(body))
    return Reason() if _is_json(body) else Reason(_plain_text(body))


def reason_in(value: Any, *, depth: int = _DEEPEST) -> Reason:
    """The reason in a JSON value."""
    if isinstance(value, str):
        return Reason(_words(value))
    if depth and isinstance(value, list):
        return _in_list(value, depth - 1)
    if depth and isinstance(value, dict):
        return _in_object(value, depth - 1)
    return Reason()


def only_one(body: bytes) -> bytes:
    """The object in a list of one, as in Google's errors. Other data are returned unchanged."""
    if not body.startswith(b"["):
        return body
    try:
        (value,) = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (ValueError, RecursionError):  # not JSON, or not one value
        return body
    return bytes(value)


def _in_object(fields: dict[str, Any], depth: int) -> Reason:
    """The words of the first field that has some. A code and a param may be beside this field or inside of it."""
    words = code = param = None
    for name in _places(fields):
        inner = reason_in(fields.get(name), depth=depth)
        if name == "errors" and inner.words is None:
            inner = _by_field(fields.get(name), depth)
        words, code, param = words or inner.words, code or inner.code, param or inner.param
        if words is not None:
            break
    place = _path(fields.get("loc"))
    if words and place:
        words = f"{place}: {words}"
    return Reason(words, code or _code(fields.get("code")), param or place or _words(fields.get("param")))


def _places(fields: dict[str, Any]) -> Sequence[str]:
    """The fields to search, in order. An `error` that is an object or a list comes first."""
    return ("error", *_PLACES) if isinstance(fields.get("error"), dict | list) else _PLACES


def _in_list(values: list[Any], depth: int) -> Reason:
    found = [reason_in(value, depth=depth) for value in values[:_MOST_ENTRIES]]
    words = "; ".join([reason.words for reason in found if reason.words])
    if words and len(values) > _MOST_ENTRIES:
        words += f"; and {len(values) - _MOST_ENTRIES} more"
    code = next((reason.code for reason in found if reason.code), None)
    return Reason(words or None, code, next((reason.param for reason in found if reason.param), None))


def _by_field(errors: Any, depth: int) -> Reason:
    """The reason in `{"max_tokens": ["must be positive"]}`, the form of ASP.NET, Rails and Laravel."""
    fields = as_object(errors) or {}
    return _in_list([{"loc": [name], "msg": words} for name, words in fields.items()], depth)


def _path(loc: Any) -> str | None:
    """FastAPI's path to a field in OpenAI's form: `messages[0].content`."""
    if not isinstance(loc, list):
        return None
    steps = loc[1:] if loc[:1] == ["body"] else loc
    path = "".join([f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps[:_MOST_STEPS]])
    return cleaned(path.removeprefix(".")) or None


def _words(value: Any) -> str | None:
    """The text, cleaned. None for a web page. Of a traceback, only the last line."""
    if not isinstance(value, str):
        return None
    text = value[:_MOST_TEXT].strip()
    if text.lower().startswith(_PAGES):
        return None
    if _TRACEBACK in text:
        text = text.rpartition("\n")[2]
    return cleaned(text) or None


def _code(value: Any) -> str | None:
    is_code = isinstance(value, str) and value.isascii() and value.isprintable() and 0 < len(value) <= _MAX_CODE
    return cleaned(value) if is_code else None


def _plain_text(body: bytes) -> str | None:
    """The text of a body. None for a web page, and for binary data such as a compressed body."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    is_text = text.replace("\r", "").replace("\n", "").replace("\t", "").isprintable()
    return _words(text) if is_text and not text.startswith("<") else None


def _is_json(body: bytes) -> bool:
    """Whether the body is JSON. Here that can only be a number, true, false or null, which is not a reason."""
    return read_json(body) is not None or body == b"null"
