"""Runs a real Redis on a free port, and a proxy before it that can be made slow."""

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from tests.rig.ports import HOST, free_port
from tests.rig.processes import answers
from tests.rig.reset import reset

REDIS = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """Without persistence: after a restart it is empty."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    async def start(self, *options: str) -> None:
        assert REDIS is not None
        command = [REDIS, "--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly", "no", *options]
        self._process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        await answers(self.port)

    async def stop(self) -> None:
        """Ends it as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await process.wait()

    def freeze(self) -> None:
        """It keeps its connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def say(self, *words: str | bytes) -> bytes:
        """Sends one command by hand, and returns the first 64 KiB of the reply."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        writer.write(packed(*words))
        reply = await reader.read(65_536)
        writer.close()
        await writer.wait_closed()
        return reply


def packed(*words: str | bytes) -> bytes:
    """A command, as it is sent."""
    parts = [word if isinstance(word, bytes) else word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


@contextmanager
def running_redis() -> Iterator[str]:
    """The address of a Redis for many tests, which share what is in it."""
    assert REDIS is not None, "redis-server is not installed"
    port = free_port()
    command = [REDIS, "--port", str(port), "--bind", HOST, "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield f"redis://{HOST}:{port}/0"
        process.kill()


@asynccontextmanager
async def redis_server(*options: str) -> AsyncIterator[RedisServer]:
    """Skips the test where Redis is not installed."""
    if REDIS is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer()
    await server.start(*options)
    try:
        yield server
    finally:
        await server.stop()


class SlowProxy:
    """Passes bytes on to `port`, those of replies after `delay` seconds."""

    def __init__(self, port: int) -> None:
        self.delay = 0.0
        self._port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"redis://{HOST}:{self._server.sockets[0].getsockname()[1]}/0"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Sends RST to all clients, as a firewall does that has forgotten their connections."""
        for writer in self._clients:
            reset(writer)
        self._clients.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            there, back = await asyncio.open_connection(HOST, self._port)
        except OSError:  # Redis is stopped
            writer.transport.abort()
            return
        ways = [(reader, back, False), (there, writer, True)]
        self._tasks |= {asyncio.create_task(self._pass(*way)) for way in ways}

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, is_reply: bool) -> None:
        try:
            while data := await source.read(65_536):
                if is_reply and self.delay:
                    await asyncio.sleep(self.delay)
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.transport.abort()
