"""An upstream on a real socket. Its response is a list of steps, so a test defines all events on the wire in order.

    upstream.script(stream(delta("Hello"), Pause(0.1), delta(" world"), finish(), DONE))

`stream` makes the steps of a chunked event stream. `Close`, `Reset` and `Stall` break it in the ways of real upstreams.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.rig.ports import hold
from tests.rig.reset import reset


@dataclass(frozen=True)
class Send:
    data: bytes


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Until:
    """Silence until the test sets the event."""

    event: asyncio.Event


@dataclass(frozen=True)
class Stall:
    """Silence until the other side leaves."""


@dataclass(frozen=True)
class Close:
    """Sends FIN, even if the headers announced more data."""


@dataclass(frozen=True)
class Reset:
    """Sends RST."""


Step = Send | Pause | Until | Stall | Close | Reset

DONE = b"data: [DONE]\n\n"


def event(payload: object) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n"


def chunk(finish_reason: str | None = None, **fields: object) -> dict[str, object]:
    """A `chat.completion.chunk` whose delta has these `fields`."""
    choice = {"index": 0, "delta": fields, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m-1", "choices": [choice]}


def delta(text: str) -> bytes:
    return event(chunk(content=text))


def finish(reason: str = "stop", **more: object) -> bytes:
    return event(chunk(reason) | more)


def usage(**counts: int) -> bytes:
    return event(chunk() | {"choices": [], "usage": counts})


def head(status: int = 200, content_type: str = "text/event-stream", /, **fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*parts: bytes | Step, **fields: str) -> list[Step]:
    """The steps of a chunked event stream. It ends cleanly unless the last part breaks it."""
    steps: list[Step] = [Send(head(200, **fields, Transfer_Encoding="chunked"))]
    steps += [Send(chunked(part)) if isinstance(part, bytes) else part for part in parts]
    ends = not parts or not isinstance(parts[-1], Stall | Close | Reset)
    return [*steps, Send(b"0\r\n\r\n")] if ends else steps


def answer(status: int, body: bytes | object, content_type: str = "application/json", **fields: str) -> list[Step]:
    """A response with a `Content-Length`."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return [Send(head(status, content_type, Content_Length=str(len(data)), **fields) + data)]


@dataclass
class Received:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        value: dict[str, object] = json.loads(self.body)
        return value


Script = Sequence[Step] | Callable[[Received], Sequence[Step]]


@dataclass
class ScriptedUpstream:
    """Answers requests with the scripts in turn, and repeats the last one. A script may depend on the request."""

    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    playing: int = 0  # scripts that are running
    left: int = 0  # connections that the other side closed before the script was over
    url: str = ""
    _scripts: list[Script] = field(default_factory=list)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def script(self, *scripts: Script) -> None:
        self._scripts = list(scripts)

    async def start(self) -> None:
        self._held = hold()
        host, port = self._held.getsockname()
        self._server = await asyncio.start_server(self._serve, host, port, reuse_port=True)
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        await self.refuse()
        self._held.close()

    async def refuse(self) -> None:
        """Breaks its connections off and refuses new ones. It keeps the port."""
        self._server.close()
        self.hang_up()
        await self._server.wait_closed()

    def hang_up(self) -> None:
        """Breaks its connections off."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def until(self, *, requests: int = 0, left: int = 0, within: float = 5.0) -> None:
        """Waits until so much has happened. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while len(self.requests) < requests or self.left < left:
                self._changed.clear()
                await self._changed.wait()

    @property
    def open_connections(self) -> int:
        return len(self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        ahead: bytes | None = b""
        try:
            while ahead is not None:
                ahead = await self._exchange(reader, writer, ahead)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            self._changed.set()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ahead: bytes) -> bytes | None:
        """Handles one request with its script. `ahead`: what was read of it before.

        Returns what was read of the next request, or None if the connection has ended.
        """
        received = await _read_request(reader, ahead)
        if received is None:
            return None
        self.requests.append(received)
        self._changed.set()
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        steps = script(received) if callable(script) else script
        playing = asyncio.create_task(_play(steps, writer))
        reading = asyncio.create_task(_next_byte(reader))
        self.playing += 1
        try:
            await asyncio.wait([playing, reading], return_when=asyncio.FIRST_COMPLETED)
            if reading.done() and reading.result():  # the response is whole for the other side, which asks again
                await playing
        finally:
            self.playing -= 1
        if playing.done() and not isinstance(playing.exception(), ConnectionError):
            reading.cancel()
            await asyncio.wait([reading])
            return (b"" if reading.cancelled() else reading.result()) if playing.result() else None
        playing.cancel()  # unless a write was the first to see that the other side has left
        reading.cancel()
        self.left += 1
        return None


async def _next_byte(reader: asyncio.StreamReader) -> bytes:
    """Nothing if the other side has left."""
    with suppress(ConnectionError):
        return await reader.read(1)
    return b""


async def _play(script: Sequence[Step], writer: asyncio.StreamWriter) -> bool:
    for step in script:
        match step:
            case Send(data):
                if writer.transport.is_closing():  # uvloop would raise RuntimeError
                    await asyncio.Event().wait()  # `_leaves` is about to notice and count it
                writer.write(data)
                await writer.drain()
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Until(happened):
                await happened.wait()
            case Stall():
                await asyncio.Event().wait()
            case Close():
                return False
            case Reset():
                reset(writer)
                return False
    return True


async def _read_request(reader: asyncio.StreamReader, ahead: bytes) -> Received | None:
    try:
        lines = (ahead + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = lines[0].split(" ")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, path, headers, body)
