"""What a stream keeps of the request that created a response.

All of a response can be made of it and of the stream's entries, wherever these are: after a disconnection, and at
another process.
"""

import re

import msgspec
from msgspec import Raw

_PREFIX = "resp_"
_RESPONSE = re.compile(r"resp_([A-Za-z0-9_-]{22}(?:[A-Za-z0-9_-]{4})?)", re.ASCII)  # see `streams.epoch`
_ITEM = re.compile(r"(?:msg|rs|fc)_([A-Za-z0-9_-]{22,26})_[0-9]{1,9}", re.ASCII)


class Head(msgspec.Struct, frozen=True):
    """`created_at` is in seconds since the epoch. `fields` are those of the response that the request determines.

    `messages` are the input as a list of chat messages, with those of earlier responses, and without the instructions.
    Only a response that goes on with this one reads them. `qualified` are the functions of namespaces, by their names
    in the chat: each is a namespace and a name.
    """

    created_at: int
    fields: dict[str, Raw]
    messages: Raw
    qualified: dict[str, tuple[str, str]] = {}
    background: bool = False
    store: bool = True


write_head = msgspec.json.Encoder().encode
read_head = msgspec.json.Decoder(Head).decode


def response_id(stream_id: str) -> str:
    return _PREFIX + stream_id


def stream_id(name: str) -> str | None:
    """The stream of a response. None if a gateway did not make the id."""
    match = _RESPONSE.fullmatch(name)
    return None if match is None else match[1]


def stream_of_item(name: str) -> str | None:
    """The stream in the id of an item, such as `msg_STREAM_0`. None if it has another form."""
    match = _ITEM.fullmatch(name)
    return None if match is None else match[1]
