"""The commands that change what Redis holds of a stream beside its entries. Pure: see `meta` for the fields."""

from collections.abc import Mapping

from gateway.shared.base import Command
from gateway.shared.keys import Keys
from gateway.shared.meta import DELETED, is_ticket, ticket_fields

_DELETED_MS = 10_000  # that a deleted stream is remembered as such; copies of it elsewhere last for half of that

_MOST_ADDED = 32  # tickets of a stream from which on other processes add none; its own one issues as many
_MOST = 64  # tickets of a stream

_TICKETS = """
local tickets = 0
local fields = redis.call('HGETALL', KEYS[1])
for n = 1, #fields, 2 do
  if string.sub(fields[n], 1, 2) == 't:' then tickets = tickets + 1 end
end
"""
# Adds tickets to a hash that is there, until it has ARGV[1]. A ticket alone would be a stream without a producer.
_ADD = (
    _TICKETS
    + """
if #fields == 0 then return end
for n = 2, #ARGV, 2 do
  if tickets >= tonumber(ARGV[1]) then return end
  tickets = tickets + redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1])
end
"""
)
# Of more than ARGV[1] tickets, leaves those that follow. HDEL would be one more right that a user of Redis needs.
_REDUCE = (
    _TICKETS
    + """
if tickets <= tonumber(ARGV[1]) then return end
local stays, rest = {}, {}
for n = 2, #ARGV do stays[ARGV[n]] = true end
for n = 1, #fields, 2 do
  if stays[fields[n]] or string.sub(fields[n], 1, 2) ~= 't:' then
    table.insert(rest, fields[n])
    table.insert(rest, fields[n + 1])
  end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(rest))
"""
)


def writing(meta: str, fields: Mapping[str, str | bytes], life: int) -> list[Command]:
    """`meta` is the name of the key, and `life` its milliseconds. Of too many tickets, those in `fields` stay."""
    tickets = [name for name in fields if is_ticket(name)]
    reducing: list[Command] = [("EVAL", _REDUCE, 1, meta, _MOST, *tickets)] if len(tickets) >= _MOST_ADDED else []
    return [("HSET", meta, *_flat(fields)), *reducing, ("PEXPIRE", meta, life)]


def adding(meta: str, tickets: Mapping[bytes, bool]) -> Command:
    """Does nothing if Redis does not have the stream, or has enough tickets of it."""
    return ("EVAL", _ADD, 1, meta, _MOST_ADDED, *_flat(ticket_fields(tickets)))


def deletion(keys: Keys, stream_id: str) -> list[Command]:
    """Nobody finds the stream from now on. Viewers elsewhere have a moment to read its end."""
    log, meta = keys.log(stream_id), keys.meta(stream_id)
    return [*writing(meta, DELETED, _DELETED_MS), ("PEXPIRE", log, _DELETED_MS)]


def _flat(fields: Mapping[str, str | bytes]) -> list[str | bytes]:
    return [part for field in fields.items() for part in field]
