"""One server-sent event, and the bytes that carry it.

WHATWG HTML, section 9.2 "Server-sent events": https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from dataclasses import dataclass

HEARTBEAT = b":\n\n"
"""A comment line in a block of its own. Clients ignore it, and proxies see traffic."""

_LF, _CR = b"\n\r"  # as numbers: bytes look for one three times as fast as for bytes of one


@dataclass(slots=True)  # not frozen: one is made per upstream event, and a frozen one takes three times as long to make
class Event:
    """An event as a client dispatches it. `data` is UTF-8, `id` is the last event ID, and `type` is never empty."""

    data: bytes
    type: str = "message"
    id: str = ""


def encode(event: Event, *, retry: int | None = None) -> bytes:
    """The event as one block, its fields in the order retry, event, data, id.

    The id comes last because some clients store it as soon as they have read its line. If the connection breaks inside
    the event, such a client still sends the id of the event before, and gets this event again.

    An empty `id` and the type `message` are left out, because clients assume them. `retry` is in milliseconds.
    Raises ValueError for an id or type that contains CR, LF or NUL.
    """
    head = "" if retry is None else f"retry: {retry:d}\n"
    if event.type != "message":
        head += f"event: {_checked('type', event.type)}\n"
    tail = f"id: {_checked('id', event.id)}\n" if event.id else ""
    return head.encode() + encode_data(event.data) + tail.encode() + b"\n"


def encode_data(data: bytes) -> bytes:
    r"""One `data:` line per line of `data`. CR, LF and CRLF each end a line, and a client reads each as ``\n``."""
    if _LF not in data and _CR not in data:
        return b"data: %b\n" % data
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"".join([b"data: %b\n" % line for line in lines])


def _checked(field: str, value: str) -> str:
    if "\r" in value or "\n" in value or "\0" in value:  # they would end the line, or make the client ignore the id
        raise ValueError(f"an event's {field} must not hold CR, LF or NUL")
    return value
