"""Reads what others write to Redis: the logs that this process follows, and the messages to it.

One connection waits for all of them at once. After each reply it pauses for a moment, because a producer's entries
arrive one stream after the other, and each question names all streams.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.entries import Entry
from gateway.errors import RedisUnavailable
from gateway.shared.base import Command, Connection
from gateway.shared.batches import read_batch
from gateway.shared.ending import end
from gateway.shared.keys import Keys
from gateway.shared.messages import Message, read_message

_WAIT_SECONDS = 5.0  # for one reply; a message to itself ends the wait earlier
_PAUSE_SECONDS = 0.005
_AWAY_SECONDS = 0.2  # between two looks whether Redis is back
_BATCHES = 64  # of one stream in one reply, or 16 MiB
_FROM_START = "0-0"
_UNREADABLE = 10**9  # in place of the number of an entry: none is as high, so whoever takes it sees a gap

Take = Callable[[int, list[Entry]], None]
"""Takes entries, and the number of the first one."""

logger = logging.getLogger(__name__)


class _Followed:
    __slots__ = ("cursor", "take")

    def __init__(self, cursor: int, take: Take) -> None:
        self.cursor = f"{cursor}-0"
        self.take = take


class Reader:
    """`hear` is called with each message to this process."""

    def __init__(self, process: str, connection: Connection, keys: Keys, hear: Callable[[Message], None]) -> None:
        self._connection = connection
        self._keys = keys
        self._hear = hear
        self._inbox = keys.inbox(process).encode()
        self._heard = _FROM_START
        self._followed: dict[bytes, _Followed] = {}
        self._task = asyncio.get_running_loop().create_task(self._run())

    def follow(self, stream_id: str, cursor: int, take: Take) -> None:
        """Calls `take` with the entries behind `cursor`, from the next question on: see `Process.wake`."""
        self._followed[self._keys.log(stream_id).encode()] = _Followed(cursor, take)

    def unfollow(self, stream_id: str) -> None:
        self._followed.pop(self._keys.log(stream_id).encode(), None)

    async def load(self, stream_id: str, take: Take) -> None:
        """Calls `take` with the entries that are there, in order. Raises RedisUnavailable."""
        log, start = self._keys.log(stream_id), "-"
        while batches := await self._connection.run("XRANGE", log, start, "+", "COUNT", _BATCHES):
            for _, fields in batches:
                take(*_read(fields))
            start = f"({batches[-1][0].decode()}"

    async def _run(self) -> None:
        while True:
            try:
                await self._read()
                await asyncio.sleep(_PAUSE_SECONDS)
            except RedisUnavailable:
                await asyncio.sleep(_AWAY_SECONDS)
            except Exception:
                logger.exception("a reply of Redis could not be used")
                await asyncio.sleep(_AWAY_SECONDS)

    async def _read(self) -> None:
        names = [self._inbox, *self._followed]
        cursors = [self._heard, *[followed.cursor for followed in self._followed.values()]]
        question: Command = (
            "XREAD",
            "COUNT",
            _BATCHES,
            "BLOCK",
            int(_WAIT_SECONDS * 1000),
            "STREAMS",
            *names,
            *cursors,
        )
        for name, batches in await self._connection.wait(_WAIT_SECONDS, *question) or ():
            if name == self._inbox:
                self._take_messages(batches)
            elif (followed := self._followed.get(name)) is not None:
                self._take_batches(followed, batches)

    def _take_messages(self, messages: list[Any]) -> None:
        for number, fields in messages:
            self._heard = number.decode()
            try:
                self._hear(read_message(fields[b"m"]))
            except (KeyError, msgspec.MsgspecError) as error:
                logger.warning("a message to this process cannot be read: %s", error)

    def _take_batches(self, followed: _Followed, batches: list[Any]) -> None:
        for number, fields in batches:
            followed.cursor = number.decode()
            followed.take(*_read(fields))

    async def close(self) -> None:
        await end([self._task])


def _read(fields: Mapping[bytes, bytes]) -> tuple[int, list[Entry]]:
    """The number of the first entry of a batch, and its entries."""
    try:
        return read_batch(fields[b"b"])
    except (KeyError, ValueError) as error:
        logger.warning("entries of a stream in Redis cannot be read: %s", error)
        return _UNREADABLE, []
