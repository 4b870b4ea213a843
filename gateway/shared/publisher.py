"""Writes the entries of this process's streams to Redis, so that others can read them.

One task looks at all streams 22 times a second, and sends what is new in one pipeline: a batch for each stream.
The streams themselves know nothing of it, so an event costs nothing more. A shorter time would send each event alone,
which costs as much as relaying it; a longer one would show in what viewers elsewhere see.

While Redis is away nothing is sent, and nothing is queued: the entries rest in the memory of this process. Afterwards,
each stream that Redis lost is written again.
"""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.entries import Kind
from gateway.errors import RedisUnavailable
from gateway.shared.base import Command, CommandError, Connection
from gateway.shared.batches import batches, read_batch
from gateway.shared.ending import end
from gateway.shared.keys import Keys
from gateway.shared.meta import read_meta
from gateway.shared.meta_commands import deletion, writing
from gateway.shared.progress import Progress, Published, Sent

TICK_SECONDS = 0.045
_TICK_BYTES = 4_194_304  # of payloads in one tick: Redis takes them within the time limit of an operation
_STREAM_BYTES = 1_048_576  # of payloads of one stream in one tick
_CHECKED_AT_ONCE = 500  # streams about which one pipeline asks
_WRITTEN = "equal or smaller"  # of an XADD that Redis refuses because it has the entries already
# Between two ticks, beyond which others may have taken this process for dead: they do after some seconds without its
# lease, and write an end to its streams. What is sent behind that end would leave it in the middle.
_STILL_SECONDS = 3.0
_LAST_SECONDS = 2.0  # for the last entries, when the process ends

logger = logging.getLogger(__name__)


class Publisher:
    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._running: dict[str, Progress] = {}  # not yet sent to their ends
        self._ended: dict[str, Progress] = {}
        self._is_lost = False  # Redis may have lost some of them
        self._doubted: set[str] = set()  # of those that were sent, which Redis may have lost
        self._refused: set[str] = set()  # names of commands of which the log tells
        self._loop = asyncio.get_running_loop()
        self._ticked_at = self._loop.time()
        self._task = self._loop.create_task(self._run())

    def add(self, stream: Published, *, life: float, keep: float) -> None:
        """Publishes a stream from now on. It rests in Redis for `keep` seconds after its end.

        It rests there for `life` seconds if it gets no end, because this process died.
        """
        self._running[stream.id] = Progress(stream, life, keep)

    def remove(self, stream_id: str) -> None:
        """The process forgets the stream. Its last entries are still written, if Redis is there.

        What is in Redis remains until its time has passed.
        """
        self._ended.pop(stream_id, None)
        progress = self._running.get(stream_id)
        if progress is not None and progress.stream.log.ended and self._connection.is_up:
            progress.is_forgotten = True
        else:
            self._running.pop(stream_id, None)

    async def delete(self, stream_id: str) -> None:
        """Sends what is new of a stream, and has Redis forget the stream. Raises RedisUnavailable."""
        await self.publish(stream_id)
        self._running.pop(stream_id, None)
        self._ended.pop(stream_id, None)
        await self._connection.run_all(deletion(self._keys, stream_id))

    def check(self) -> None:
        """Looks, before the next tick, whether Redis still has what was sent, and sends again what it lost."""
        self._is_lost = True

    def doubt(self, stream_id: str) -> None:
        """The same, for one stream."""
        self._doubted.add(stream_id)

    async def abandon(self, stream_id: str) -> None:
        """Has Redis forget a stream of this process that has no end there, and is not here any more to get one.

        Raises RedisUnavailable.
        """
        if self._known(stream_id) is not None:
            return
        log, meta = self._keys.log(stream_id), self._keys.meta(stream_id)
        there = read_meta(await self._connection.run("HGETALL", meta))
        is_there, info = await self._connection.run_all([("EXISTS", log), ("XINFO STREAM", log)])
        if there is not None and not there.is_deleted and not (is_there and _may_have_end(info)):
            await self._connection.run("DEL", log, meta)

    async def publish(self, stream_id: str) -> None:
        """Sends what is new of one stream at once. Raises RedisUnavailable."""
        if (progress := self._known(stream_id)) is None:
            return
        await progress.settle()
        if self._has_stood_still:
            await self._compare([progress])
            await progress.settle()  # the next tick may have sent it meanwhile
        if self._known(stream_id) is progress:
            await self._send([progress])

    def _known(self, stream_id: str) -> Progress | None:
        return self._running.get(stream_id) or self._ended.get(stream_id)

    def __len__(self) -> int:
        """The number of streams that are not yet sent to their ends."""
        return len(self._running)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self._tick()
            except RedisUnavailable:
                pass  # the connection has logged it
            except Exception:
                logger.exception("streams could not be written to Redis")

    @property
    def _has_stood_still(self) -> bool:
        return self._loop.time() > self._ticked_at + _STILL_SECONDS

    async def _tick(self) -> None:
        if not self._connection.is_up:
            return
        if (self._is_lost or self._has_stood_still or self._doubted) and not await self._look():
            return
        self._ticked_at = self._loop.time()  # until it has looked, nothing else is sent without a look
        await self._send([progress for progress in self._running.values() if progress.sending is None])

    # What is new

    async def _send(self, streams: Sequence[Progress]) -> None:
        commands: list[Command] = []
        sent: list[Sent] = []
        size = 0
        for place, progress in enumerate(streams):
            if size >= _TICK_BYTES:
                self._postpone(streams[:place])
                break
            stream = progress.stream
            if stream.log.last == progress.sent and stream.version == progress.version:
                continue
            version = stream.version
            last, taken = self._add(progress, version, commands)
            size += taken
            sent.append(Sent(progress, last, version, len(commands)))
        if not commands:
            return
        replies = await self._replies(commands, sent)
        start = 0
        for some in sent:
            self._look_at(some, commands[start : some.behind], replies[start : some.behind])
            start = some.behind

    async def _replies(self, commands: Sequence[Command], sent: Sequence[Sent]) -> list[Any]:
        sending = self._loop.create_future()
        for some in sent:
            some.progress.sending = sending
        try:
            return await self._connection.run_all(commands)
        except RedisUnavailable:
            self._is_lost = True  # some of it may have been written
            self._running = {key: value for key, value in self._running.items() if not value.is_forgotten}
            raise
        finally:
            for some in sent:
                some.progress.sending = None
            sending.set_result(None)

    def _postpone(self, streams: Sequence[Progress]) -> None:
        """The others come first in the next tick."""
        for progress in streams:
            if self._running.pop(progress.stream.id, None) is not None:
                self._running[progress.stream.id] = progress

    def _add(self, progress: Progress, version: int, commands: list[Command]) -> tuple[int, int]:
        """Appends the commands for what is new. Returns the number of the last entry, and the bytes of payloads."""
        stream = progress.stream
        log, meta = self._keys.log(stream.id), self._keys.meta(stream.id)
        if progress.version < 0:  # its fields stay: others may have added tickets, or have deleted it
            commands.append(("DEL", log))
        if progress.version != version:
            commands += writing(meta, stream.fields(), progress.life)
        last, size = progress.sent, 0
        for number, data in batches(stream.log.entries, progress.sent + 1, _STREAM_BYTES):
            if last:
                commands.append(("XADD", log, "NOMKSTREAM", f"{number}-0", "b", data))
            else:
                commands += [("XADD", log, f"{number}-0", "b", data), ("PEXPIRE", log, progress.life)]
            last, size = number, size + len(data)
        if stream.log.ended and last == stream.log.last:
            commands += [("PEXPIRE", log, progress.keep), ("PEXPIRE", meta, progress.keep)]
        return last, size

    def _look_at(self, some: Sent, commands: Sequence[Command], replies: Sequence[Any]) -> None:
        progress = some.progress
        for command, reply in zip(commands, replies, strict=True):
            if command[0] == "XADD" and reply is None:
                progress.restart()  # the key is gone
                return
            name = str(command[0])
            if isinstance(reply, CommandError):
                self._tell_refused(name, str(reply))
            else:
                self._refused.discard(name)
        progress.sent, progress.version = max(progress.sent, some.last), some.version
        log = progress.stream.log
        if not log.ended or progress.sent < log.last:
            return
        if self._running.pop(progress.stream.id, None) is not None and not progress.is_forgotten:
            self._ended[progress.stream.id] = progress

    def _tell_refused(self, name: str, words: str) -> None:
        """Once for each command until it works, since a right may be missing."""
        if name not in self._refused and not (name == "XADD" and _WRITTEN in words):
            self._refused.add(name)
            logger.error("Redis refused %s of a stream: %s", name, words)

    # What was lost

    async def _look(self) -> bool:
        """False if the process stood still meanwhile, and not all streams were looked at."""
        doubted = [progress for name in self._doubted if (progress := self._known(name)) is not None]
        every = self._is_lost or self._has_stood_still
        self._is_lost, self._doubted = False, set()
        try:
            await self._compare([*self._running.values(), *self._ended.values()] if every else doubted)
        except RedisUnavailable:
            self._is_lost = True
            raise
        return every or not self._has_stood_still

    async def _compare(self, streams: Sequence[Progress]) -> None:
        """Asks for the last entry of each that was sent. One that Redis lacks, or has otherwise, is sent again."""
        known = [progress for progress in streams if progress.version >= 0 and progress.sending is None]
        for start in range(0, len(known), _CHECKED_AT_ONCE):
            some = known[start : start + _CHECKED_AT_ONCE]
            commands = list(self._questions(some))
            replies = await self._connection.run_all(commands)
            for progress, exists, log in zip(some, replies[::2], replies[1::2], strict=True):
                if not exists or _last_number(log) != progress.sent:
                    await progress.settle()
                    progress.restart()
                if progress.version != progress.stream.version:  # also where fields that changed did not get there
                    self._run_again(progress)

    def _run_again(self, progress: Progress) -> None:
        if self._ended.pop(progress.stream.id, None) is not None:  # its process has not forgotten it meanwhile
            self._running[progress.stream.id] = progress

    def _questions(self, streams: Sequence[Progress]) -> Iterator[Command]:
        for progress in streams:
            yield "EXISTS", self._keys.meta(progress.stream.id)
            yield "XINFO STREAM", self._keys.log(progress.stream.id)

    async def close(self) -> None:
        """Sends what is left, if Redis answers."""
        await end([self._task])
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                while rest := [some for some in self._running.values() if some.sent < some.stream.log.last]:
                    await rest[0].settle()
                    await self._tick()
                    if not self._connection.is_up:
                        return
        except (RedisUnavailable, TimeoutError):
            pass


def _last_number(log: Any) -> int:
    """The number of the last entry in a log, by the reply to XINFO STREAM. 0 if there is none."""
    if isinstance(log, CommandError):
        return 0
    return int(bytes(log["last-generated-id"]).partition(b"-")[0])


def _may_have_end(log: Any) -> bool:
    """Whether the last entry in a log is an end, by the reply to XINFO STREAM, or nobody knows what it is."""
    try:
        last = log["last-entry"]
        return last is not None and read_batch(last[1][b"b"])[1][-1].kind is Kind.END
    except (TypeError, LookupError, ValueError):  # it was refused, or is of another version
        return True
