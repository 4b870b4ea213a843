"""Streams without viewers. `life` decides what happens to a stream whose last viewer has left, and this module does it.

A stream that waits for a viewer is an orphan. The number of orphans is bounded: beyond it, the oldest orphan of the
caller with the most is ended.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

from gateway.config import Stream
from gateway.entries import EndReason
from gateway.streams.held import HeldStream
from gateway.streams.life import Next
from gateway.streams.retention import Holding


class Unwatched:
    """`limits` are those for streams without viewers."""

    def __init__(self, limits: Stream, holding: Holding) -> None:
        self.limits = limits
        self._holding = holding
        self._orphans: OrderedDict[str, HeldStream[Any]] = OrderedDict()  # running, without viewers, waiting for one
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        """The number of orphans."""
        return len(self._orphans)

    def visit(self, stream: HeldStream[Any], *, as_guest: bool) -> None:
        """A viewer has come. A guest's visit interrupts the time without a viewer, and does not reset it."""
        stream.is_attended |= not as_guest
        stream.cancel_timer()
        if stream.left_at is not None:
            stream.unwatched += self._loop.time() - stream.left_at
            stream.left_at = None
        if not as_guest:
            stream.unwatched = 0.0
        self._orphans.pop(stream.id, None)

    def leave(self, stream: HeldStream[Any]) -> None:
        """The stream has no viewers."""
        stream.cancel_timer()
        stream.frames.clear()
        match stream.when_unwatched():
            case Next.AWAIT_OWNER:
                self._orphan(stream, self.limits.attach_seconds, self._unattended)
            case Next.AWAIT_VIEWER:
                self._orphan(stream, self.limits.grace_seconds, self.give_up)
            case Next.FINISH:
                stream.log.abandon()
            case Next.CANCEL:
                self.give_up(stream)
            case Next.KEEP:
                self._holding.keep(stream)
            case Next.FORGET:
                self._holding.forget(stream)
            case Next.NOTHING:
                pass

    def end(self, stream: HeldStream[Any]) -> None:
        """The stream's task has finished. It no longer waits for a viewer."""
        stream.cancel_timer()
        self._orphans.pop(stream.id, None)
        if not stream.viewers:
            self.leave(stream)

    def give_up(self, stream: HeldStream[Any]) -> None:
        stream.cancel_timer()
        self._orphans.pop(stream.id, None)
        stream.generation.interrupt(EndReason.CLIENT_GONE)

    def oldest_left_by(self, scope: str) -> HeldStream[Any] | None:
        """The answer that the caller left longest ago. It is ended so that a reloaded page can ask again."""
        own = (stream for stream in self._orphans.values() if stream.scope == scope and stream.is_attended)
        return next(own, None)

    def _orphan(self, stream: HeldStream[Any], seconds: float, then: Callable[[HeldStream[Any]], None]) -> None:
        """Calls `then` after `seconds` without a viewer."""
        self._orphans[stream.id] = stream
        stream.left_at = self._loop.time()
        stream.timer = self._loop.call_later(max(0.0, seconds - stream.unwatched), then, stream)
        if len(self._orphans) > self.limits.max_orphans:
            self.give_up(self._oldest_of_the_most())

    def _oldest_of_the_most(self) -> HeldStream[Any]:
        """The oldest orphan of the caller with the most, so that no caller displaces another who has fewer."""
        most, _ = Counter(stream.scope for stream in self._orphans.values()).most_common(1)[0]
        return next(stream for stream in self._orphans.values() if stream.scope == most)

    def _unattended(self, stream: HeldStream[Any]) -> None:
        self._orphans.pop(stream.id, None)
        stream.is_attended = True
        stream.unwatched = 0.0
        self.leave(stream)
