"""This process among those that share a Redis: its lease, its inbox, and whether others live.

A lease is a key that expires. Its owner renews it; a process without one is dead, as far as others can know.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from gateway.errors import RedisUnavailable
from gateway.shared.base import Connection
from gateway.shared.keys import Keys
from gateway.shared.messages import Message, Subject, write_message

LEASE_SECONDS = 5.0  # a process that misses two renewals is still alive; a dead one is known within ten seconds
RENEW_SECONDS = 1.5
_MISSES = 4  # checks without a lease before a process counts as dead: a Redis that was flushed has none for a moment
CHECK_SECONDS = 1.0  # between two such checks
_INBOX_MESSAGES = 10_000  # about a megabyte; one that is full has not been read for long
_INBOX_SECONDS = 60  # that an inbox remains behind its process


class Process:
    """`lost` is called when Redis has lost what it held: at a renewal, the lease was gone."""

    def __init__(self, name: str, connection: Connection, keys: Keys, lost: Callable[[], None]) -> None:
        self.name = name
        self._connection = connection
        self._keys = keys
        self._lost = lost
        self._has_lease = False
        self._misses: dict[str, int] = {}
        self._is_waking = False
        self._tasks: set[asyncio.Task[object]] = set()

    async def renew(self) -> None:
        """Renews the lease, and lets the inbox live on. Raises RedisUnavailable."""
        lease, inbox = self._keys.lease(self.name), self._keys.inbox(self.name)
        before, *_ = await self._connection.run_all(
            [
                ("SET", lease, "", "PX", int(LEASE_SECONDS * 1000), "GET"),
                self._sending(inbox, Message(Subject.WAKE), is_own=True),
                ("EXPIRE", inbox, _INBOX_SECONDS),
            ]
        )
        had, self._has_lease = self._has_lease, True
        if had and before is None:
            self._lost()

    async def resign(self) -> None:
        """Gives the lease up: the process ends, and all that it produced has an end. Raises RedisUnavailable."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._connection.run("DEL", self._keys.lease(self.name), self._keys.inbox(self.name))

    async def send(self, process: str, message: Message) -> bool:
        """Returns whether the process has an inbox. Raises RedisUnavailable."""
        reply = await self._connection.run(*self._sending(self._keys.inbox(process), message, is_own=False))
        return reply is not None

    async def lives(self, process: str) -> bool:
        """Whether the process has a lease. Raises RedisUnavailable."""
        return bool(await self._connection.run("EXISTS", self._keys.lease(process)))

    def wake(self) -> None:
        """Ends the wait for messages, so that what is followed from now on is read."""
        if not self._is_waking:
            self._is_waking = True
            task = asyncio.get_running_loop().create_task(self._wake())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _wake(self) -> None:
        self._is_waking = False
        with suppress(RedisUnavailable):  # the one who waits sees that, too
            await self._connection.run(*self._sending(self._keys.inbox(self.name), Message(Subject.WAKE), is_own=True))

    @staticmethod
    def _sending(inbox: str, message: Message, *, is_own: bool) -> tuple[str | bytes | int, ...]:
        """The inbox of a process that is gone is not made again."""
        if_there = () if is_own else ("NOMKSTREAM",)
        return ("XADD", inbox, *if_there, "MAXLEN", "~", _INBOX_MESSAGES, "*", "m", write_message(message))

    async def dead_among(self, others: Iterable[str]) -> set[str]:
        """Those that have had no lease for some checks. Call it every CHECK_SECONDS. Raises RedisUnavailable."""
        others = [other for other in set(others) if other != self.name]
        replies = await self._connection.run_all([("EXISTS", self._keys.lease(other)) for other in others])
        missing = [other for other, there in zip(others, replies, strict=True) if not there]
        self._misses = {other: self._misses.get(other, 0) + 1 for other in missing}
        return {other for other, misses in self._misses.items() if misses >= _MISSES}
