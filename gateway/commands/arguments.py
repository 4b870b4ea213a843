"""The types of arguments, for argparse. Their messages say what was expected."""

import argparse
from collections.abc import Callable
from pathlib import Path

from gateway.observe.report import GROUPS


def file(text: str) -> Path:
    """An empty text would be the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a file, and got an empty text")
    return Path(text)


def name(text: str) -> str:
    """A Name as in the schema, of printable characters only."""
    if not (0 < len(text) <= 200 and text.isprintable()) or "${" in text:
        raise argparse.ArgumentTypeError("expected 1 to 200 printable characters without ${...}")
    return text


def groups(text: str) -> list[str]:
    """Names of GROUPS, separated by commas."""
    names = text.split(",")
    for one in names:
        if one not in GROUPS:
            raise argparse.ArgumentTypeError(
                f"{one!r} is not a group; choose from {', '.join(GROUPS)}, with commas between them"
            )
        if names.count(one) > 1:
            raise argparse.ArgumentTypeError(f"{one!r} appears more than once; name each group once")
    return names


def number(least: int, most: int) -> Callable[[str], int]:
    """A whole number. The messages of `type=int` would name Python functions."""

    def whole(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return whole


port = number(0, 65_535)
workers = number(1, 256)
count = number(1, 1_000_000)
milliseconds = number(0, 60_000)
