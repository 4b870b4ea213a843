"""Takes a body's bytes in the turn of the event loop that brings them, so that no task is woken for a read.

While it is open, a tap is the transport's protocol. It passes everything on to aiohttp's own protocol, the *handler*,
which parses the body into the response's *reader*; and it calls `take` with what is in there, once per read. The tap
closes within the call that ends it: the body's end, a stop, an error. From then on the handler is the transport's
protocol again, so the connection can go back to the pool; what arrives waits in the reader, under aiohttp's own flow
control, until another tap is opened.

While the tap is open there is nothing to control, since each read is taken before the next one. So the reader is of a
class that only collects: aiohttp's own counts, looks for waiters, and at every read resumes what is not paused.
A read brings at most 256 KiB. A body with a content coding, which could grow without a bound, is not tapped.

A read that is one whole chunk, as nearly every one is, does not pass through aiohttp's parser: behind a chunk that is
in the same state as before it. So its code and its state stay out of the processor's caches.

`fits` says whether aiohttp has the names that this needs. Where it has not, reads are pulled: see `UpstreamResponse`.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.errors import UpstreamIncomplete
from gateway.upstream.chunked import whole_chunk

_READ = 262_144  # bytes that are taken at once of what has arrived while no tap was open: as many as a read brings

HANDLER_NAMES = ("data_received", "eof_received", "connection_lost", "pause_writing", "resume_writing")
"""Of aiohttp's `ResponseHandler`."""

READER_NAMES = (
    "at_eof",
    "exception",
    "read_nowait",
    "feed_data",
    "begin_http_chunk_receiving",
    "end_http_chunk_receiving",
    "_buffer",
    "_eof",
    "_http_chunk_splits",
    "_size",
)
"""Of aiohttp's `StreamReader`; the last four are private."""

Take = Callable[[bytes], bool]
"""Takes a read. Is reading to stop?"""


def fits(handler: type, reader: type) -> bool:
    """Have aiohttp's classes the names that a tap uses, and can a reader collect for a while?"""
    names = [(handler, name) for name in HANDLER_NAMES] + [(reader, name) for name in READER_NAMES]
    return all(hasattr(owner, name) for owner, name in names) and not reader.__dictoffset__


def collecting(reader: type) -> type:
    """A class that aiohttp's reader can be given for a while: it only collects what is fed."""
    body = {
        "__slots__": (),
        "feed_data": _collect,
        "begin_http_chunk_receiving": _begin_chunk,
        "end_http_chunk_receiving": _end_chunk,
    }
    return type("Collecting", (reader,), body)


def join(reader: Any) -> None:
    """Makes one piece of all that has arrived: with each piece that is read, aiohttp starts its parser again.

    A short answer has come in one read, as six chunks. Without this it takes 1.7 % more. A reader that has no body
    to read has no buffer.
    """
    if len(pieces := getattr(reader, "_buffer", ())) > 1:
        reader._buffer = deque([b"".join(pieces)])


def _collect(self: Any, data: bytes, size: int = 0) -> bool:
    self._buffer.append(data)
    return False  # there is no more of it to come


def _begin_chunk(self: Any) -> None:
    self._http_chunk_splits.clear()


def _end_chunk(self: Any) -> None:
    self._http_chunk_splits.append(0)  # there is something in it: aiohttp's parser is behind a chunk


class Tap(asyncio.Protocol):
    """`over` is True where `take` said stop, False where the body has ended, or the error of either."""

    __slots__ = (
        "_between_chunks",
        "_buffer",
        "_class",
        "_handler",
        "_parse",
        "_reader",
        "_take",
        "_transport",
        "over",
    )

    def __init__(self, reader: Any, take: Take) -> None:
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._reader = reader
        self._class = type(reader)
        self._buffer: list[bytes] = []
        self._take = take
        self._transport: asyncio.Transport | None = None
        self._between_chunks = False  # would the next byte begin a chunk, as aiohttp's parser sees it?

    def open(self, handler: Any, transport: asyncio.Transport | None, collecting: type) -> None:
        """Takes what has arrived already, and then what arrives: nothing, where there is no transport any more."""
        try:
            while data := self._reader.read_nowait(_READ):  # which has aiohttp parse more, where it had paused itself
                if self._take(data):
                    return self._end(True)
            if self._reader.at_eof():
                return self._end(False)
        except Exception as error:
            return self._end(error)
        if transport is None:
            return self._end(UpstreamIncomplete())
        self._handler, self._transport, self._parse = handler, transport, handler.data_received
        # Lists, since an empty deque takes 0.6 KiB. The second is needed for a chunk that begins now and ends later.
        self._reader._buffer, self._reader._http_chunk_splits = self._buffer, []
        self._reader.__class__ = collecting
        transport.set_protocol(self)

    def close(self) -> None:
        """The connection is aiohttp's alone again. May be called twice."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        self._between_chunks = False
        self._reader.__class__ = self._class
        self._reader._buffer, self._reader._http_chunk_splits = deque(self._buffer), deque()
        self._reader._size = sum(map(len, self._buffer))
        if transport.get_protocol() is self:
            transport.set_protocol(self._handler)

    # Called by the transport

    def data_received(self, data: bytes) -> None:
        content = whole_chunk(data) if self._between_chunks and not self.over.done() else b""
        try:
            if content:
                if self._take(content):
                    self._end(True)
            else:
                self._let_parse(data)
        except Exception as error:  # of this stream alone; its task raises it
            self._end(error)

    def _let_parse(self, data: bytes) -> None:
        """What aiohttp's parser makes of a read is taken from its reader."""
        self._parse(data)
        if self.over.done():
            return
        buffer, reader = self._buffer, self._reader
        self._between_chunks = bool(reader._http_chunk_splits) and data[-2:] == b"\r\n"
        if buffer and self._take(buffer.pop() if len(buffer) == 1 else self._joined()):
            self._end(True)
        elif reader._eof:
            self._end(False)

    def eof_received(self) -> bool | None:
        keeps_open: bool | None = self._handler.eof_received()
        return keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.connection_lost(exc)
        if not self.over.done():  # aiohttp tells the reader nothing of a malformed chunk
            self._end(False if self._reader.at_eof() else self._reader.exception() or UpstreamIncomplete())

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def _joined(self) -> bytes:
        """What one read brought, in several chunks."""
        data = b"".join(self._buffer)
        self._buffer.clear()
        return data

    def _end(self, outcome: bool | BaseException) -> None:
        self.close()
        if self.over.done():  # `take` has had the stream interrupted, and so its task cancelled
            return
        if isinstance(outcome, bool):
            self.over.set_result(outcome)
        else:
            self.over.set_exception(outcome)
