"""Words for mistakes that are common in a configuration file: what to write instead. Pure."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, get_args

_OTHER_FORMAT = "this looks like {}, but the configuration is TOML; config.example.toml shows how to write it"
_LISTS_OF_TABLES = r"\[\s*(upstreams|models|keys)\s*\]"
_TERMS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "array": "a list",
    "list": "a list",
    "object": "a table",
    "dict": "a table",
    "date": "a date",
    "datetime": "a date with a time",
    "time": "a time",
}
_LONGEST_SHOWN = 40  # characters of a value that a message repeats; longer ones hide the advice


def syntax_fault(text: str, message: str) -> str:
    """The fault for a text that tomllib refuses with this message."""
    other = _other_format(text)
    if other is not None:
        return _OTHER_FORMAT.format(other)
    place = re.search(r"at line (\d+)", message)
    line = text.split("\n")[int(place[1]) - 1].strip() if place else ""
    hint = _syntax_hint(line, message)
    return f"not valid TOML: {message}; {hint}" if hint else f"not valid TOML: {message}"


def unknown_key(key: str, known: Iterable[str]) -> str:
    """The fault for a key that does not exist, with the most similar one that does."""
    similar = get_close_matches(key, known, n=1)
    return f"unknown key; did you mean {similar[0]}?" if similar else "unknown key"


def not_a_list(value: Any, path: str) -> str | None:
    """The fault for a value in the place of a list, or None if there is no advice."""
    if isinstance(value, dict):
        return f"write [[{path}]], with two brackets" if path.isidentifier() else "expected a list; write [{...}]"
    if not isinstance(value, str):
        return None
    shown = value if value.isprintable() and len(value) <= _LONGEST_SHOWN and not set(value) & {'"', "\\"} else "..."
    return f'expected a list; write ["{shown}"]'


def expected(kind: Any, value: Any) -> str | None:
    """The values that a type admits, if the message of msgspec about this value would not tell them."""
    if isinstance(value, str) and any(getattr(item, "pattern", None) for item in getattr(kind, "__metadata__", ())):
        return "expected 1 to 200 characters without line ends"
    for one in get_args(kind) or (kind,):
        if isinstance(one, type) and issubclass(one, StrEnum):
            return f"expected one of {', '.join(one)}"
        if getattr(one, "__name__", "") == "date":
            return "expected a date, such as 2027-12-31"
    return None


def in_terms_of_toml(message: str) -> str:
    """A message of msgspec, whose types are Python's: Expected `int | null`, got `str`."""
    return re.sub(r"`([^`]*)`", lambda found: _either(found[1].split(" | ")), message)


def _either(kinds: Iterable[str]) -> str:
    """A field that may be null is left out of the file."""
    return " or ".join([_TERMS.get(kind, kind) for kind in kinds if kind != "null"])


def _other_format(text: str) -> str | None:
    """The format of a text that is not TOML, if its first line shows it."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    first = lines[0] if lines else ""
    if first.startswith("{"):
        return "JSON"
    return "YAML" if re.match(r"---|- |[\w-]+:(\s|$)", first) else None


def _syntax_hint(line: str, message: str) -> str | None:
    value = line.partition("=")[2].strip()
    if message.startswith("Cannot declare") and (table := re.match(_LISTS_OF_TABLES, line)):
        return f"write [[{table[1]}]], with two brackets"
    if message.startswith(("Unescaped", "Invalid hex value")):
        return "write a text with backslashes in single quotes, such as 'C:\\certs\\ca.pem'"
    if re.match(r"\d{4}-\d", value):
        return "write a date that exists, such as 2027-12-31"
    if value.lower() in ("true", "false"):
        return f"write {value.lower()}"
    if message.startswith(("Invalid value", "Expected newline")) and re.match(r"[^\"'\[{]", value):
        return 'write a text in straight quotes, such as host = "localhost"'
    return None
