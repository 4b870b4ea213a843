"""The fields of a request, each kept as raw JSON until somebody wants to know what it says.

So any OpenAI parameter passes through as it was written, integers of any size survive, and of duplicate names the last
one wins, as JSON readers do.
"""

from codecs import getincrementaldecoder
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.admission.surrogates import half_of_pair
from gateway.errors import InvalidRequest
from gateway.upstream.shapes import without_mark

Fields = Mapping[str, msgspec.Raw]

_LONGEST_NAME = 200  # characters of a model or an assistant; the longest names in use are about 100
_PIECE = 65_536  # bytes that are decoded at once
POLICY = frozenset({"on_disconnect"})  # the name that may be in the query where a body is OpenAI's own
_VIEW_NAMES = ("model", "assistant", "format", "reasoning", *POLICY)

_Decoder = getincrementaldecoder("utf-8")
_encode_json = msgspec.json.Encoder().encode


def query_fields(query: Mapping[str, str]) -> dict[str, msgspec.Raw]:
    """The query of a GET as the body of a POST would say the same."""
    if "q" not in query:
        raise InvalidRequest("There is no question: add ?q=...", code="question_missing", param="q")
    return view_fields(query) | {"question": msgspec.Raw(_encode_json(query["q"]))}


def view_fields(query: Mapping[str, str]) -> dict[str, msgspec.Raw]:
    """What may be said in the query of any request: whom to ask, and how to show the answer."""
    return {name: msgspec.Raw(_encode_json(query[name])) for name in _VIEW_NAMES if name in query}


def body_fields(body: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object, with or without a byte-order mark. Raises InvalidRequest for anything else."""
    body = without_mark(body)
    try:
        _check_utf8(body)
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        param, words = half_of_pair(body) or (None, f"The body is not valid JSON: {error}.")
        raise InvalidRequest(words, code="invalid_json", param=param) from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", code="invalid_json") from None


def _check_utf8(body: bytes) -> None:
    """Piece by piece: a text of the whole body would take up to four times its bytes. Raises InvalidRequest."""
    decoder = _Decoder()
    for start in range(0, len(body), _PIECE):
        unfinished = len(decoder.getstate()[0])  # bytes of a character that the piece before has begun
        try:
            decoder.decode(body[start : start + _PIECE], final=start + _PIECE >= len(body))
        except UnicodeDecodeError as error:
            place = start - unfinished + error.start
            raise InvalidRequest(f"The body is not UTF-8 (byte {place}).", code="invalid_json") from None


def name_in(fields: Fields, param: str) -> str | None:
    """The name of a model or of an assistant."""
    name = value_in(fields, param, str | None)
    if name is not None and not (name.isprintable() and len(name) <= _LONGEST_NAME):
        raise InvalidRequest(f"`{param}` must be at most {_LONGEST_NAME} printable characters.", param=param)
    return name or None


def flag_in(fields: Fields, param: str) -> bool:
    """A yes or no: as JSON true, false, 1, 0, or as a query has them."""
    value = value_in(fields, param, bool | int | str | None)
    if value in (None, False, 0, "", "0", "false"):
        return False
    if value in (True, 1, "1", "true"):
        return True
    raise InvalidRequest(f"`{param}` must be 1 or 0.", param=param)


def value_in(fields: Fields, param: str, kind: Any) -> Any:
    """The field as a value of `kind`, which is a type that msgspec knows; None where it is not there."""
    if param not in fields:
        return None
    try:
        return msgspec.json.decode(fields[param], type=kind)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(" - at ")[0].replace("`", "")
        raise InvalidRequest(f"`{param}` has the wrong form: {reason}.", param=param) from None
