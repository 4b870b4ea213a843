"""The line in which commands wait for Redis: they are done in the order in which they came, as many as wait at a time.

The order matters: a client that is told of the end of its answer may ask again at once, and needs its place back by
then. One sender for all also means that a client that leaves breaks off no command, whose fate nobody would know.
"""

import asyncio
import logging
from itertools import islice
from typing import Any, Protocol

from gateway.errors import RedisUnavailable
from gateway.shared.base import Command, CommandError, Connection
from gateway.shared.ending import end

_BATCH = 100  # commands that are sent together: they hold up the event loop for 4 ms, and Redis for as long
_CLOSE_SECONDS = 1.0  # to send what is due at the end of the process: a healthy Redis takes as many as 20,000 commands
_TELL_SECONDS = 60.0  # between two log lines of a Redis that refuses commands

logger = logging.getLogger(__name__)


class Item(Protocol):
    """What waits in the line."""

    def command(self) -> Command:
        """Called when it is its turn, once for each time that it was put into the line."""
        ...

    def done(self, reply: Any) -> None: ...

    def lost(self) -> bool:
        """Redis is away: the command was not sent, or nobody knows its fate. Whether to put it into the line again."""
        ...


class Line:
    """A request waits for its reply for at most `wait_seconds`."""

    def __init__(self, connection: Connection, wait_seconds: float) -> None:
        self._connection = connection
        self._wait_seconds = wait_seconds
        self._waiting: dict[Item, None] = {}  # in order
        self._sender: asyncio.Task[None] | None = None
        self._silent_until = 0.0  # by the clock of the loop
        connection.listen(lambda is_up: self._start() if is_up else None)

    @property
    def is_up(self) -> bool:
        return self._connection.is_up

    def ask(self, command: Command) -> "Question":
        """`wait` waits for its reply, or anybody who is patient."""
        question = Question(command, asyncio.get_running_loop().create_future())
        if self.is_up:
            self.put(question)
        else:
            question.lost()
        return question

    async def wait(self, question: "Question") -> Any:
        """The reply. Raises RedisUnavailable, also if it takes too long, or CommandError.

        A question whose asker gives up, or is cancelled, leaves the line: before a slow Redis there would be more and
        more of them, and what it does for them has to be undone. One that is on its way gets its reply nevertheless.
        """
        try:
            async with asyncio.timeout(self._wait_seconds):
                return await asyncio.shield(question.reply)
        except TimeoutError:
            raise RedisUnavailable() from None
        finally:
            if question in self._waiting:
                del self._waiting[question]
                question.reply.cancel()

    def put(self, item: Item) -> None:
        """Puts it at the end, also if it stood further on: what it says may be about a command that came after it.

        While Redis is away, it waits for its return.
        """
        self._waiting.pop(item, None)
        self._waiting[item] = None
        self._start()

    def _start(self) -> None:
        if self.is_up and self._waiting and (self._sender is None or self._sender.done()):
            self._sender = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            batch = list(islice(self._waiting, _BATCH)) if self.is_up else []
            for item in batch:
                del self._waiting[item]
            try:
                replies = await self._connection.run_all([item.command() for item in batch])
            except BaseException as error:  # nobody is left waiting, whatever it is
                lost = [*batch, *self._waiting]
                self._waiting = dict.fromkeys(item for item in lost if item.lost())
                if isinstance(error, RedisUnavailable):
                    return
                raise
            for item, reply in zip(batch, replies, strict=True):
                item.done(reply)
            self._tell_refusal(replies)

    def _tell_refusal(self, replies: list[Any]) -> None:
        """Logs one of many refusals. A user of Redis that may not run scripts is the usual reason."""
        refusal = next((reply for reply in replies if isinstance(reply, CommandError)), None)
        now = asyncio.get_running_loop().time()
        if refusal is not None and now >= self._silent_until:
            self._silent_until = now + _TELL_SECONDS
            logger.warning("Redis refuses to count limits, so this process counts by itself: %s", refusal)

    async def close(self) -> None:
        """Waits until everything is sent, or until Redis is away, or for a second."""
        if self._sender is None:
            return
        await asyncio.wait([self._sender], timeout=_CLOSE_SECONDS)
        await end([self._sender])


class Question:
    """`reply` is the reply; or RedisUnavailable, or CommandError. It is cancelled if Redis never saw the question."""

    def __init__(self, command: Command, reply: asyncio.Future[Any]) -> None:
        self._command = command
        self.reply = reply

    def command(self) -> Command:
        return self._command

    def done(self, reply: Any) -> None:
        if self.reply.done():  # whoever asked was cancelled
            return
        if isinstance(reply, CommandError):
            self.reply.set_exception(reply)
        else:
            self.reply.set_result(reply)

    def lost(self) -> bool:
        if not self.reply.done():
            self.reply.set_exception(RedisUnavailable())
        return False
