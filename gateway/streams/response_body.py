"""Reads the body of one response: its bytes become entries in the call that brings them."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from gateway.entries import Entry
from gateway.errors import AnswerTooLarge, EventTooLarge, UpstreamIncomplete
from gateway.log.base import Recording
from gateway.sse import END, Event, Parser
from gateway.sse import EventTooLarge as ParserOverflow
from gateway.streams.watchdog import Watchdog
from gateway.upstream.client import UpstreamResponse
from gateway.upstream.dialects import openai

_UNFINISHED = 65_536  # bytes of an unfinished event that are worth counting: nearly all events are smaller
_LARGE_READ = 32_768  # bytes: smaller reads make no burst, and are not counted
_BURST = 131_072  # bytes of large reads that a stream may take in one turn: one read brings 256 KiB at most
_JSON_BODY = 33_554_432  # bytes of an upstream that answers in one JSON body: its answer, its logprobs, its spaces


class Decoding(Protocol):
    """What the events go to: a decoder, or what translates them for one."""

    @property
    def done(self) -> bool: ...

    @property
    def complete(self) -> bool: ...

    def decode_data(self, data: bytes, entries: list[Entry]) -> None: ...

    def decode(self, event: Event, entries: list[Entry]) -> object: ...

    def decode_completion(self, body: bytes, entries: list[Entry]) -> None: ...


class Reading:
    """Calls `append` with the entries of each read that has any. The `watchdog` is told of each read.

    Either `events` or `completion` is called, once.
    """

    __slots__ = ("_append", "_burst", "_decoder", "_log", "_loop", "_parser", "_unfinished", "_watchdog")

    def __init__(
        self,
        decoder: Decoding,
        log: Recording,
        watchdog: Watchdog,
        append: Callable[[list[Entry]], None],
        *,
        max_event_bytes: int,
    ) -> None:
        self._decoder = decoder
        self._log = log
        self._watchdog = watchdog
        self._append = append
        self._loop = asyncio.get_running_loop()
        self._parser = Parser(max_bytes=max_event_bytes, data_fields=openai.DATA_FIELDS)
        self._burst = 0  # bytes of large reads in this turn of the event loop
        self._unfinished = 0  # bytes of an event, as far as the log counts them

    # A stream of events

    async def events(self, response: UpstreamResponse, chunk: bytes) -> None:
        """Takes reads up to the end of the answer or of the body. `chunk` was read already.

        One coroutine, since each one that a stream waits in takes 0.2 KiB. Raises UpstreamError or AnswerTooLarge.
        """
        try:
            try:
                stops = self._take(chunk)
                chunk = b""  # it need not be held for all of the answer
                while stops or await response.feed(self._take):
                    if self._decoder.done:
                        return
                    await self._wait_for_room()
                    stops = False
            except UpstreamIncomplete:
                if not self._decoder.complete:
                    raise
            self._take(END)
        finally:
            self._count_unfinished(0)
            del self._parser  # it may hold most of an event, and an error may hold this object for minutes

    def _take(self, chunk: bytes) -> bool:
        """Takes one read, from within the call that brought it. Is reading to stop?

        The entries of one read become one batch. Those before an error in it are kept.
        """
        log, decoder = self._log, self._decoder
        if log.ended:
            return True  # it was interrupted, and its task is about to hear of that
        entries: list[Entry] = []
        try:
            if (events := self._parser.whole(chunk)) is None:
                self._decode(chunk, entries)
            else:
                for data in events:
                    decoder.decode_data(data, entries)
                    if decoder.done:
                        break
        except ParserOverflow as error:
            raise EventTooLarge() from error
        finally:
            self._watchdog.last_read = self._loop.time()
            if entries:
                self._append(entries)
        return decoder.done or log.full or (len(chunk) >= _LARGE_READ and self._is_burst(len(chunk)))

    def _decode(self, chunk: bytes, entries: list[Entry]) -> None:
        parser, decoder = self._parser, self._decoder
        for event in parser.feed(chunk):
            decoder.decode(event, entries)
            if decoder.done:
                break
        if parser.held >= _UNFINISHED or self._unfinished:
            self._count_unfinished(parser.held)

    def _is_burst(self, size: int) -> bool:
        """Has this stream taken its share of this turn of the loop? uvloop reads a connection up to 32 times in one.

        Other streams come first then, and the bounds on what they hold together. Not told by the loop's time: uvloop
        asks the system for it each time, so it moves on within a turn.
        """
        if not self._burst:
            self._loop.call_soon(self._begin_turn)
        self._burst += size
        return self._burst >= _BURST

    def _begin_turn(self) -> None:
        self._burst = 0

    def _count_unfinished(self, held: int) -> None:
        """Counts the bytes of an event that has not come whole."""
        self._log.grow(held - self._unfinished)
        self._unfinished = held

    async def _wait_for_room(self) -> None:
        self._watchdog.paused = True
        await self._log.room()
        self._watchdog.last_read = self._loop.time()
        self._watchdog.paused = False

    # One JSON body

    async def completion(self, response: UpstreamResponse, start: bytes) -> None:
        """Takes a whole answer. `start` was read already. Raises UpstreamError or AnswerTooLarge."""
        body = bytearray(start)
        try:
            while chunk := await response.read():
                body += chunk
                self._log.grow(len(chunk))
                if len(body) > _JSON_BODY:
                    raise AnswerTooLarge()
            self._take_completion(bytes(body))
        finally:
            self._log.grow(len(start) - len(body))

    def _take_completion(self, body: bytes) -> None:
        entries: list[Entry] = []
        try:
            self._decoder.decode_completion(body, entries)
        finally:
            self._watchdog.last_read = self._loop.time()
            if entries:
                self._append(entries)
