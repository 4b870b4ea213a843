"""What a stream keeps of the request that created a response.

All of a response can be made of it and of the stream's entries, wherever these are: after a disconnection, and at
another process.
"""

from typing import Any

import msgspec

_PREFIX = "resp_"


class Head(msgspec.Struct, frozen=True):
    """`fields` are those of the response object that the request determines. `messages` are the input as chat messages.

    `qualified` are the functions of namespaces, by their names in the chat: each is a namespace and a name.
    `messages` include those of earlier responses, and not the instructions. `created_at` is in seconds since the epoch.
    """

    created_at: int
    fields: dict[str, msgspec.Raw]
    messages: list[Any]
    qualified: dict[str, tuple[str, str]] = {}
    background: bool = False
    store: bool = True


write_head = msgspec.json.Encoder().encode
read_head = msgspec.json.Decoder(Head).decode


def response_id(stream_id: str) -> str:
    return _PREFIX + stream_id


def stream_id(name: str) -> str | None:
    """The stream of a response. None if this is not the id of a response."""
    return name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else None
