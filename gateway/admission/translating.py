"""What the translations of other APIs' requests to those of a chat have in common.

An error names the place of the value that is meant, such as `messages[2].content[0].text`.
"""

from typing import TypeVar

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from gateway.config import OnDisconnect
from gateway.errors import InvalidRequest

T = TypeVar("T")

# Of messages and their parts in one request. Translating them takes about 50 ms; long conversations have some hundreds.
MOST_PARTS = 20_000
IMAGE_RESULT = "The result is an image. It follows."  # the text of a tool's result in a chat, which takes only a text

# Made once: making a decoder takes longer than decoding a value.
TEXT: Decoder[str | None] = Decoder(str | None)
BOOLEAN: Decoder[bool | None] = Decoder(bool | None)
INTEGER: Decoder[int | None] = Decoder(int | None)
ON_DISCONNECT: Decoder[OnDisconnect | None] = Decoder(OnDisconnect | None)

NULL = Raw(b"null")


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
