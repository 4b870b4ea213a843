"""One server-sent event, and the bytes that carry it.

WHATWG HTML, section 9.2 "Server-sent events": https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from dataclasses import dataclass

HEARTBEAT = b":\n\n"
"""A comment line in a block of its own: no client dispatches it, every proxy sees traffic."""

_LF, _CR = b"\n\r"  # as numbers: bytes look for one three times as fast as for bytes of one
_FORBIDDEN = ("\r", "\n", "\0")  # would end the line, or make the client ignore the id


@dataclass(slots=True)  # not frozen: one is made per upstream event, and frozen costs three times as much to build
class Event:
    """What a client dispatches: `data` is UTF-8 bytes, `id` the last event id in force, `type` never empty."""

    data: bytes
    type: str = "message"
    id: str = ""


def encode(event: Event, *, retry: int | None = None) -> bytes:
    """The event as one block, its fields in the order retry, event, data, id.

    The id comes last because some clients take it when its line is read. If the connection is cut inside the event,
    such a client then still comes back with the id before, and gets the event.

    An empty `id` and the type `message` are left out, being what a client assumes. `retry` is in milliseconds.
    Raises ValueError for an id or type that holds CR, LF or NUL: they are refused, not cleaned.
    """
    head = "" if retry is None else f"retry: {retry:d}\n"
    if event.type != "message":
        head += f"event: {_checked('type', event.type)}\n"
    tail = f"id: {_checked('id', event.id)}\n" if event.id else ""
    return head.encode() + encode_data(event.data) + tail.encode() + b"\n"


def encode_data(data: bytes) -> bytes:
    r"""One `data:` line per line of `data`; CR, LF and CRLF all end a line, so a client reads each as ``\n``."""
    if _LF not in data and _CR not in data:
        return b"data: %b\n" % data
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"".join([b"data: %b\n" % line for line in lines])


def _checked(field: str, value: str) -> str:
    if any(char in value for char in _FORBIDDEN):
        raise ValueError(f"an event's {field} must not hold CR, LF or NUL")
    return value
