"""Reads values of a chat request, and says what of it Anthropic's API has no place for."""

from typing import TypeVar

from msgspec import Raw
from msgspec.json import Decoder

from gateway.errors import UpstreamCannot

T = TypeVar("T")


def read(raw: Raw, decoder: Decoder[T], where: str) -> T:
    """`raw` is JSON that was read before, so only its form can be wrong. Raises UpstreamCannot."""
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError) as error:
        reason, _, place = str(error).replace("`", "").partition(" - at ")
        raise UpstreamCannot(f"{reason}.", param=where + place.removeprefix("$")) from None


def no_place(what: str, where: str) -> UpstreamCannot:
    return UpstreamCannot(f"Anthropic's API has no place for {what}. Leave it out, or ask another model.", param=where)
