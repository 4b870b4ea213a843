"""All streams that the process holds, and the room that they take.

Ended streams are forgotten to make room for new ones, beginning with those that had no viewer for the longest time. A
running stream is never ended for a new one. Running streams have a bound of their own in bytes. Beyond it `room`
chooses which of them end.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any

from gateway.config import Config
from gateway.errors import AnswerTooLarge
from gateway.log.base import StreamLog, StreamStore
from gateway.log.snapshot import Snapshot
from gateway.streams.held import HeldStream
from gateway.streams.shedding import first_to_go

_HARD = 2  # times `store.max_bytes`, for all living streams: running ones cannot be forgotten to make room
_LOOKS = 8  # checks of all streams per `store.max_bytes` beyond that bound; a check of 20,000 streams takes 2 ms
_SHED = "The gateway is full, and no other answer was larger than this one. Ask for a shorter one."
_LAST_WORDS_SECONDS = 5.0  # for viewers of such an answer to read its end; then their connections are closed


class Holding:
    """`streams` are all of them, by id. `forgotten` is called with each stream that is forgotten."""

    def __init__(self, store: StreamStore, config: Config, forgotten: Callable[[HeldStream[Any]], None]) -> None:
        self.config = config
        self.streams: dict[str, HeldStream[Any]] = {}
        self._store = store
        self._forgotten = forgotten
        self._idle: OrderedDict[str, HeldStream[Any]] = OrderedDict()  # ended, without viewers
        self._polled: OrderedDict[str, HeldStream[StreamLog]] = OrderedDict()  # with a snapshot
        self._dying = 0  # bytes of streams that were ended to make room, and are still held
        self._shed_at = _HARD * store.bound  # bytes of living streams beyond which all streams are checked
        self._is_about_to_shed = False
        self._loop = asyncio.get_running_loop()
        store.relieve = self._relieve

    @property
    def is_full(self) -> bool:
        return self._store.full or len(self.streams) >= self.config.store.max_streams

    def make_room(self) -> bool:
        """Forgets ended streams without viewers until one more stream fits. Returns whether it does."""
        while self.is_full:
            if not self._idle:
                return False
            self.forget(next(iter(self._idle.values())))
        return True

    def keep(self, stream: HeldStream[Any]) -> None:
        """Keeps an ended stream for clients that come back, until its time has passed or its room is needed."""
        if stream.expires_at is None:
            stream.expires_at = self._loop.time() + self.config.stream.keep_seconds
        self._idle[stream.id] = stream
        stream.timer = self._loop.call_at(stream.expires_at, self.forget, stream)
        self._relieve()

    def use(self, stream: HeldStream[Any]) -> None:
        """A viewer has come to the stream. It is not idle, and counts as living again."""
        self._idle.pop(stream.id, None)
        self._dying -= stream.dying
        stream.dying = 0

    def snapshot(self, stream: HeldStream[StreamLog]) -> list[bytes]:
        """The stream as JSON, in parts that all polling clients share."""
        if stream.snapshot is None:
            stream.snapshot = Snapshot(stream.id, stream.log)
        self._polled[stream.id] = stream
        self._polled.move_to_end(stream.id)
        return stream.snapshot.parts()  # the log counts them, so snapshots or streams may be dropped

    def forget(self, stream: HeldStream[Any]) -> None:
        """Does nothing to another stream that has the same id by now."""
        stream.cancel_timer()
        _drop(self._idle, stream)
        _drop(self._polled, stream)
        stream.log.abandon()
        if _drop(self.streams, stream):
            self._dying -= stream.dying
            self._store.discard(stream.id)
            self._forgotten(stream)

    # Too many bytes

    def _relieve(self) -> None:
        """Called when the store holds more than its bound. Drops snapshots, then ended streams, then running ones."""
        while self._polled and self._store.overfull:
            _, polled = self._polled.popitem(last=False)
            polled.drop_snapshot()
        while self._idle and self._store.overfull:
            self.forget(next(iter(self._idle.values())))
        if self._living <= _HARD * self._store.bound:
            self._shed_at = _HARD * self._store.bound
        elif self._living > self._shed_at and not self._is_about_to_shed:
            self._is_about_to_shed = True
            self._loop.call_soon(self._shed)  # not now: this may be called within an append to a stream

    def _shed(self) -> None:
        """Ends streams until the remaining ones are within the bound."""
        self._is_about_to_shed = False
        bound = self._store.bound
        for stream in list(first_to_go(self.streams.values(), self._living - _HARD * bound)):
            self._make_die(stream)
        self._shed_at = max(_HARD * bound, self._living + bound // _LOOKS)

    @property
    def _living(self) -> int:
        """Bytes of the streams that were not ended to make room."""
        return self._store.size - self._dying

    def _make_die(self, stream: HeldStream[Any]) -> None:
        stream.dying = stream.log.held
        self._dying += stream.dying
        wait = 0.0 if stream.log.ended else _LAST_WORDS_SECONDS
        stream.generation.interrupt(AnswerTooLarge(_SHED))  # does nothing if it has ended
        self._loop.call_later(wait, stream.cut_all)


def _drop(streams: MutableMapping[str, HeldStream[Any]], stream: HeldStream[Any]) -> bool:
    """Returns whether it was this very stream that was there."""
    if streams.get(stream.id) is not stream:
        return False
    del streams[stream.id]
    return True
