"""What the log of a gateway must not have: errors, keys, tickets, and what was asked and answered."""

import re
from collections.abc import Collection

from tests.chaos.answers import MARK

UPSTREAM_KEY = "key-of-the-upstream-of-the-chaos"

_WORDS = {"Traceback": "an exception", '"level":"ERROR"': "an error", MARK: "a text", UPSTREAM_KEY: "a key"}
_TICKET = re.compile(r"(?<![\w-])[\w-]{22}(?![\w-])")  # or the id of a stream, which may be in a log


def log_faults(log: str, tickets: Collection[str]) -> list[str]:
    """What was found, each with its line."""
    found = []
    for line in log.split("\n"):
        kinds = [kind for word, kind in _WORDS.items() if word in line]
        if not set(_TICKET.findall(line)).isdisjoint(tickets):
            kinds.append("a ticket")
        found += [f"{kind} is in the log: {line[:300]}" for kind in kinds]
    return found
