"""The commands that change what Redis holds of a stream beside its entries. Pure: see `meta` for the fields."""

from collections.abc import Mapping

from gateway.shared.base import Command
from gateway.shared.keys import Keys
from gateway.shared.meta import DELETED, ticket_fields

_DELETED_MS = 10_000  # that a deleted stream is remembered as such; copies of it elsewhere last for half of that

# Adds fields to a hash that is there. One of these fields alone would be a stream without a producer.
_ADD = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], unpack(ARGV)) end
"""


def writing(meta: str, fields: Mapping[str, str | bytes], life: int) -> list[Command]:
    """`meta` is the name of the key, and `life` its milliseconds."""
    return [("HSET", meta, *_flat(fields)), ("PEXPIRE", meta, life)]


def adding(meta: str, tickets: Mapping[bytes, bool]) -> Command:
    """Does nothing if Redis does not have the stream."""
    return ("EVAL", _ADD, 1, meta, *_flat(ticket_fields(tickets)))


def deletion(keys: Keys, stream_id: str) -> list[Command]:
    """Nobody finds the stream from now on. Viewers elsewhere have a moment to read its end."""
    log, meta = keys.log(stream_id), keys.meta(stream_id)
    return [*writing(meta, DELETED, _DELETED_MS), ("PEXPIRE", log, _DELETED_MS)]


def _flat(fields: Mapping[str, str | bytes]) -> list[str | bytes]:
    return [part for field in fields.items() for part in field]
