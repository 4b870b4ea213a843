"""A second parser of the event-stream format, written from the text of the standard, to check the real one against.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation

It takes a whole stream at once, as text. It follows the words of the standard and is slow.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Dispatched:
    type: str
    data: str
    last_event_id: str


def interpret(stream: bytes) -> list[Dispatched]:
    """All events that a browser would dispatch."""
    text = stream.decode("utf-8", errors="replace").removeprefix("\ufeff")
    *lines, _unfinished = re.split("\r\n|\r|\n", text)
    events: list[Dispatched] = []
    data, kind, last_id = "", "", ""
    for line in lines:
        if line == "":
            if data != "":
                events.append(Dispatched(kind or "message", data.removesuffix("\n"), last_id))
            data, kind = "", ""
            continue
        if line.startswith(":"):
            continue
        name, colon, value = line.partition(":")
        value = value.removeprefix(" ") if colon else ""
        if name == "event":
            kind = value
        elif name == "data":
            data += value + "\n"
        elif name == "id" and "\0" not in value:
            last_id = value
    return events
