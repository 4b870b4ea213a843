"""A viewer: a log, a view of it, a cursor, and the connection that it writes to.

There is no queue per viewer. One that is slow lags behind in the log, blocks nobody and costs no copy; one whose
connection takes nothing for `Bounds.stall_seconds` is cut, without an end, so that it comes back and resumes.

A viewer that keeps up is written to in the generation's own step, right behind the upstream read. Its task sleeps
through that, and wakes only for what needs waiting: a backlog, a heartbeat, the end.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.log.base import Recording
from gateway.sse import HEARTBEAT
from gateway.streams.frames import Source


class Sink(Protocol):
    """Where a viewer's bytes go."""

    async def write(self, data: bytes) -> None:
        """Returns when there is room for more. Raises ClientGone."""
        ...

    def write_now(self, data: bytes) -> bool:
        """The same without waiting; False, and nothing is written, where there is no room or nobody is left."""
        ...

    async def finish(self, data: bytes) -> None:
        """The last bytes of a log that has ended, or none. Raises ClientGone."""
        ...

    def abort(self) -> None:
        """Cuts the connection at once; a write that waits for it raises."""
        ...


class Viewer:
    """Follows a source from `cursor` to its end.

    `heartbeat` is how many seconds of silence a comment line fills; None for a view that has no room for comments.
    """

    __slots__ = (
        "_cursor",
        "_heartbeat",
        "_is_idle",
        "_last_write",
        "_loop",
        "_recording",
        "_silent",
        "_sink",
        "_source",
        "_stall_seconds",
        "_timer",
        "_waiting",
        "_writing",
    )

    def __init__(
        self, source: Source, sink: Sink, *, cursor: int = 0, heartbeat: float | None, bounds: Bounds = DEFAULT_BOUNDS
    ) -> None:
        self._source = source
        self._recording = source.recording
        self._sink = sink
        self._cursor = cursor
        self._heartbeat = heartbeat
        self._stall_seconds = bounds.stall_seconds
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_write = self._loop.time()
        self._writing = False
        self._is_idle = False  # does the task wait for what comes next?
        self._silent = False  # is a heartbeat due?

    async def run(self) -> None:
        """Writes everything up to the end entry. Raises ClientGone."""
        self._recording.follow(self._on_batch)
        self._look()
        try:
            while True:
                before = self._cursor
                data, self._cursor = self._source.after(before)
                if self._recording.ended and self._cursor == self._recording.last:
                    return await self._write(data, self._sink.finish)  # also where the end shows nothing
                if data:
                    await self._write(data, self._sink.write)
                elif self._cursor > before:
                    await asyncio.sleep(0)  # nothing of many entries is shown, and there may be more
                elif self._silent:
                    await self._write(HEARTBEAT, self._sink.write)
                else:
                    self._is_idle, self._waiting = True, self._loop.create_future()
                    await self._waiting
        finally:
            self._is_idle = False
            self._recording.unfollow(self._on_batch)
            if self._timer is not None:
                self._timer.cancel()

    def _on_batch(self) -> None:
        """Called within the append. A viewer that does not wait is writing, and sees the batch when it looks again."""
        if not self._is_idle:
            return
        try:
            data, cursor = self._source.after(self._cursor)
            if self._recording.ended or (data and not self._sink.write_now(data)):
                self._wake()
                return
        except Exception as error:  # this viewer's own: the generation and the other viewers go on
            self._wake(error)
            return
        self._cursor = cursor
        if data:
            self._last_write = self._loop.time()
        if cursor < self._recording.last or self._recording.full:
            self._wake()  # the batch is more than one piece, or its room is waited for

    async def _write(self, data: bytes, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._last_write = self._loop.time()
        self._silent = False
        self._writing = True
        await write(data)
        self._writing = False

    def _wake(self, error: Exception | None = None) -> None:
        self._is_idle = False
        if self._waiting is None or self._waiting.done():
            return
        if error is None:
            self._waiting.set_result(None)
        else:
            self._waiting.set_exception(error)

    def _look(self) -> None:
        """One timer per viewer, for both of its waits: it looks at what was written when, and sleeps again."""
        now = self._loop.time()
        patience = self._stall_seconds if self._writing or self._heartbeat is None else self._heartbeat
        due = self._last_write + patience
        if now >= due:
            if self._writing:
                self._sink.abort()
                return
            self._silent = self._heartbeat is not None
            self._wake()
            due = now + patience
        self._timer = self._loop.call_at(min(due, now + self._stall_seconds), self._look)


async def until(recording: Recording, condition: Callable[[], bool], *, within: float | None = None) -> bool:
    """Waits until `condition` holds, which is looked at with every batch; False after `within` seconds without it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bool] = loop.create_future()

    def look() -> None:
        if condition():
            end(True)

    def end(holds: bool) -> None:
        if not future.done():
            future.set_result(holds)

    timer = None if within is None else loop.call_later(within, end, False)  # in 2 µs; `asyncio.timeout` takes 8
    recording.follow(look)
    try:
        look()
        return await future
    finally:
        recording.unfollow(look)
        if timer is not None:
            timer.cancel()
