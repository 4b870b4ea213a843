"""The paced upstream of the benchmark: an OpenAI-compatible server that costs next to nothing.

    python -m tests.bench.upstream PORT      ends with its standard input, so that it outlives nobody

The model's name says what to send (see `wire.model_name`). Bare asyncio protocols on uvloop, because a server
library here would cost as much as the contender between it and the client. One wheel of 1 ms ticks, the finest
that the loop's timers offer, paces all streams, instead of a timer for each; the phases are spread over the
period, so that streams are independent of each other, as they are in life, and do not arrive in one burst.
"""

import asyncio
import gc
import sys
import time
from itertools import count
from typing import cast

import uvloop

from tests.bench.wire import (
    ANSWER_HEAD,
    FIRST_CHUNK,
    LAST_CHUNKS,
    WireError,
    asked,
    event_chunk,
    page,
    take_request,
)

TICK = 0.001
_GOLDEN = 0.618034  # multiples of it, modulo 1, fall evenly between each other: any number of streams is spread
_BACKLOG = 4096  # every stream of a load may connect at once


class Wheel:
    """Calls each connection's `send_event` on the tick that it is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, list[Connection]] = {}
        self._tick = 0  # the last one done
        self._turning = False

    def now(self) -> float:
        """The time in ticks."""
        return self._loop.time() / TICK

    def add(self, connection: "Connection", due: float) -> None:
        if not self._turning:
            self._turning, self._tick = True, int(self.now())
            self._loop.call_later(TICK, self._turn)
        self._slots.setdefault(max(int(due), self._tick + 1), []).append(connection)

    def _turn(self) -> None:
        now = int(self.now())
        while self._tick < now:  # more than once when the process was late: no event is left out
            self._tick += 1
            for connection in self._slots.pop(self._tick, ()):
                connection.send_event()
        self._turning = bool(self._slots)
        if self._turning:
            self._loop.call_later(TICK, self._turn)


class Connection(asyncio.Protocol):
    """One client connection, and the stream that it is sending, if any."""

    __slots__ = ("_buffer", "_chunk", "_due", "_left", "_period", "_phases", "_transport", "_wheel")

    def __init__(self, wheel: Wheel, phases: "count[int]") -> None:
        self._wheel = wheel
        self._phases = phases
        self._buffer = bytearray()
        self._chunk = b""  # an event's, before it is stamped
        self._left = 0  # events still to send
        self._period = self._due = 0.0  # in ticks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            while not self._left and (request := take_request(self._buffer)):
                self._answer(*request)
        except WireError as error:
            print(error, file=sys.stderr)
            self._transport.close()

    def _answer(self, line: bytes, body: bytes) -> None:
        wanted = asked(body)
        if wanted is None or wanted.events < 1:
            self._transport.write(page(line))
            return
        rate, events, padding = wanted
        self._chunk = event_chunk(padding)
        if rate == 0:
            stamped = self._chunk % time.monotonic_ns()
            self._transport.write(b"".join([ANSWER_HEAD, FIRST_CHUNK, stamped * events, LAST_CHUNKS]))
            return
        self._left = events
        self._period = 1 / rate / TICK
        # The first event goes out at once, so that its way takes what the contender adds and nothing else.
        phase = next(self._phases) * _GOLDEN % 1
        self._due = self._wheel.now() + self._period * (phase - 1)
        self.send_event(ANSWER_HEAD + FIRST_CHUNK)

    def send_event(self, before: bytes = b"") -> None:
        if self._transport.is_closing():
            return
        self._left -= 1
        after = b"" if self._left else LAST_CHUNKS
        self._transport.write(before + self._chunk % time.monotonic_ns() + after)
        if self._left:
            self._due += self._period
            self._wheel.add(self, self._due)
        elif self._buffer:
            self.data_received(b"")


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    wheel, phases = Wheel(loop), count()
    await loop.create_server(lambda: Connection(wheel, phases), "127.0.0.1", port, backlog=_BACKLOG)
    parent_gone = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), parent_gone.set)  # nothing is ever written there
    await parent_gone.wait()


if __name__ == "__main__":
    gc.disable()  # a collection would be a pause in every stream; what is kept per connection is small
    uvloop.run(serve(int(sys.argv[1])))
