r"""Finds half of a surrogate pair in a JSON text, such as `"\ud83d"` without its other half.

JSON can express one, and UTF-8 cannot (RFC 8259, section 8.2). Programs produce them by cutting a text between two
UTF-16 units. The message with which msgspec refuses them does not name the cause. Therefore a text that msgspec has
refused is searched here.
"""

import re
from itertools import islice

_MOST_TOKENS = 20_000  # read to find the path, which takes 8 ms; a chat of 2,000 messages has 16,000
_LONGEST_PATH = 200  # characters
_LONGEST_NAME = 64  # characters of each name in it

_HALF = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")  # also the first half of a whole pair
_NO_HALF = re.compile(
    rb"""(?x)
    (?: [^\\]++
      | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}  # a whole pair
      | \\u(?![dD][89a-fA-F])
      | \\[^u]
    )*+"""
)
_TOKEN = re.compile(rb'"((?:[^"\\]++|\\.)*+)(")?|[\[\]{},]', re.DOTALL)  # a string, perhaps unfinished, or punctuation


def half_of_pair(text: bytes) -> tuple[str | None, str] | None:
    """The path to the first half, such as `messages[0].content`, and a message about it. None if there is none.

    The path is None if the half is far from the beginning, or in a name of the outermost object.
    """
    if not _HALF.search(text):
        return None
    behind = _NO_HALF.match(text)
    half = _HALF.match(text, behind.end()) if behind else None
    if half is None:
        return None
    place = _Place(text[: half.start()])
    if place.is_known and not place.is_string:
        return None
    number = half[0][2:].decode().upper()
    return place.path or None, (
        f"{place} holds half of a surrogate pair (U+{number}, byte {half.start()}), which is not a character. "
        "Send both halves, or neither: a text must not be cut inside of a character."
    )


class _Place:
    """The path to the end of an unfinished JSON text."""

    def __init__(self, beginning: bytes) -> None:
        self.is_string = False
        self.is_name = False
        self._steps: list[int | str | None] = []  # the outermost first; None before a name
        tokens = _TOKEN.finditer(beginning)
        for token in islice(tokens, _MOST_TOKENS):
            self._add(token)
        self.is_known = next(tokens, None) is None

    def __str__(self) -> str:
        where = f"at `{self.path}`" if self.path else "in the body"
        return f"A name {where}" if self.is_known and self.is_name else f"The text {where}"

    @property
    def path(self) -> str:
        if not self.is_known:
            return ""
        parts = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in self._steps if step is not None]
        return "".join(parts[:_LONGEST_PATH]).removeprefix(".")[:_LONGEST_PATH]

    def _add(self, token: re.Match[bytes]) -> None:
        sign = token[0][:1]
        self.is_string = sign == b'"' and token[2] is None
        self.is_name = sign == b'"' and self._steps[-1:] == [None]
        if sign == b"{":
            self._steps.append(None)
        elif sign == b"[":
            self._steps.append(0)
        elif sign in (b"}", b"]"):
            del self._steps[-1:]
        elif sign == b",":
            self._go_on()
        elif self.is_name and not self.is_string:
            self._steps[-1] = token[1][:_LONGEST_NAME].decode(errors="replace")

    def _go_on(self) -> None:
        """Moves to the next item of a list or an object."""
        if self._steps:
            last = self._steps[-1]
            self._steps[-1] = last + 1 if isinstance(last, int) else None
