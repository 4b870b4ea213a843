"""The form in which entries rest in Redis. Pure: entries in, bytes out, and back.

A batch is a MessagePack array: the number of its first entry, and the entries, each a kind and a payload.
"""

from collections.abc import Iterator, Sequence

import msgspec

from gateway.entries import Entry, Kind

_LARGEST = 262_144  # bytes of payloads in one batch, which is held three times while it is sent

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(tuple[int, list[tuple[Kind, bytes]]])


def batches(entries: Sequence[Entry], first: int, most: int) -> Iterator[tuple[int, bytes]]:
    """The entries from number `first` on, as batches: the number of the last entry of each, and its bytes.

    Stops after the batch with which `most` bytes are reached.
    """
    size = 0
    number = first
    while number <= len(entries) and size < most:
        start, held = number, 0
        parts: list[tuple[Kind, bytes]] = []
        while number <= len(entries) and held < _LARGEST:
            entry = entries[number - 1]
            parts.append((entry.kind, entry.payload))
            held += len(entry.payload)
            number += 1
        size += held
        yield number - 1, _encode((start, parts))


def read_batch(data: bytes) -> tuple[int, list[Entry]]:
    """The number of the first entry, and the entries. Raises ValueError."""
    first, parts = _decoder.decode(data)
    return first, [Entry(kind, payload) for kind, payload in parts]
