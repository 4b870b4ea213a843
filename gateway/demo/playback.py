"""Performs a script on a connection: streamed, or as one whole answer after the same waits.

A write waits for a slow reader, and the script waits with it. So a client holds one batch of frames and the write
buffer of aiohttp, however long the answer is. If the client has left, a write raises ConnectionResetError. Every wait
checks the connection too, and raises the same error.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from aiohttp import web

from .completion import Assembly, Completion, Delta, Tally, error_frame
from .errors import SERVER_ERROR, ApiError
from .models import Act, Step
from .pace import Pace

_BATCH = 64  # frames in one write if none has to wait: about 16 KiB, so that system calls are few and turns short
_LOOK = 0.25  # seconds between two checks of the connection in a long wait

_STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # tells an nginx before the demo to pass every event on at once
}


@dataclass(slots=True)
class Playback:
    """One answer: its script, its pace and its connection."""

    request: web.Request
    completion: Completion
    steps: Iterator[Step]
    pace: Pace
    tally: Tally
    longest: float
    _due: float = field(init=False, default_factory=lambda: asyncio.get_running_loop().time())

    async def run(self, *, stream: bool) -> web.StreamResponse:
        try:
            async with asyncio.timeout(self.longest):
                return await (self._stream() if stream else self._whole())
        except TimeoutError:
            raise self._hung_up(abort=True) from None  # a reader that stands still would delay a close

    # Streamed answers

    async def _stream(self) -> web.StreamResponse:
        response = web.StreamResponse(headers=_STREAM_HEADERS)
        await response.prepare(self.request)
        # One write sends the last frames and the end of the body. A short answer without waits needs no other write.
        await response.write_eof(await self._play(response))
        return response

    async def _play(self, response: web.StreamResponse) -> bytes:
        ready = self.completion.first_frames
        for step in self._admitted():
            wait = self.pace.before(step)
            if wait or len(ready) >= _BATCH:
                if ready:
                    await response.write(b"".join(ready))
                    ready.clear()
                await self._wait(wait)
            match step:
                case Delta():
                    ready.append(self.completion.delta_frame(step))
                case Act.KEEP_ALIVE:
                    ready.append(b": keep-alive\n\n")
                case Act.ERROR:
                    return b"".join([*ready, error_frame(SERVER_ERROR)])
                case Act.CUT:
                    await response.write(b"".join(ready))
                    raise self._hung_up()
        return b"".join([*ready, self.completion.last_frames(self.tally)])

    # Whole answers

    async def _whole(self) -> web.StreamResponse:
        assembly = Assembly()
        for number, step in enumerate(self._admitted()):
            wait = self.pace.before(step)
            if wait or number % _BATCH == 0:
                await self._wait(wait)
            match step:
                case Delta():
                    assembly.add(step)
                case Act.ERROR:
                    raise ApiError(500, SERVER_ERROR)
                case Act.CUT:
                    await self._send_half(self.completion.whole(self.tally, assembly.message()))
                    raise self._hung_up()
        body = self.completion.whole(self.tally, assembly.message())
        return web.Response(body=body, content_type="application/json")

    async def _send_half(self, body: bytes) -> None:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(body)
        await response.prepare(self.request)
        await response.write(body[: len(body) // 2])

    # Both kinds of answers

    def _admitted(self) -> Iterator[Step]:
        """The steps up to the token limit of the request. It counts the tokens."""
        for step in self.steps:
            if isinstance(step, Delta) and not self.tally.admits(step):
                return
            yield step

    async def _wait(self, seconds: float) -> None:
        """Sleeps until the next deadline. Deadlines are absolute, so that one late step does not slow the pace.

        Other connections get their turn even if the wait is 0.
        """
        loop = asyncio.get_running_loop()
        self._due += seconds
        while True:
            left = max(self._due - loop.time(), 0.0)
            await asyncio.sleep(min(left, _LOOK))
            if self.request.transport is None or self.request.transport.is_closing():
                raise ConnectionResetError("the client has left")
            if left <= _LOOK:
                return

    def _hung_up(self, *, abort: bool = False) -> ConnectionResetError:
        """Breaks the connection without an end of the body. Without `abort`, buffered bytes are sent first."""
        transport = self.request.transport
        if transport is not None and abort:
            transport.abort()
        elif transport is not None:
            transport.close()
        return ConnectionResetError("the demo hung up")
