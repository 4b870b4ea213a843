"""Reads the values of a request. An error names the place of the value, such as `messages[2].content[0].text`."""

from typing import TypeVar

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from gateway.errors import InvalidRequest

T = TypeVar("T")


def read(raw: Raw | bytes, decoder: Decoder[T], where: str) -> T:
    """`raw` is JSON that was read before, so it can only be missing, or have a wrong form. Raises InvalidRequest."""
    if not len(raw):
        raise InvalidRequest("A value is missing here.", param=where)
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        reason, _, place = str(error).replace("`", "").partition(" - at ")
        raise InvalidRequest(f"{reason}.", param=where + place.removeprefix("$")) from None


def needed(text: str | None, where: str) -> str:
    if text is None:
        raise InvalidRequest("A text is missing here.", param=where)
    return text


def unsupported(words: str, where: str) -> InvalidRequest:
    return InvalidRequest(words, code="unsupported_value", param=where)
