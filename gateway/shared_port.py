"""The port of a process that has neighbours: they pass requests on to each other, by the stream that each one names."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence

import msgspec
from aiohttp import web

from gateway.door import Door
from gateway.handlers.services import SERVICES
from gateway.handover.folder import listening_at
from gateway.handover.neighbours import Neighbours
from gateway.port import Port
from gateway.streams.registry import Streams

logger = logging.getLogger(__name__)

_QUESTION_SECONDS = 5.0  # for a question to come, on a connection of this machine
_LAST_LOOKS = 10  # a second for the last events of a neighbour whose answers end at the same time
_LOOK_SECONDS = 0.1  # between two looks whether anything is left that clients may come back for


class SharedPort(Port):
    """Listens in the folder of the neighbours, too."""

    def __init__(self, app: web.Application, sockets: Callable[[], Sequence[socket.socket]]) -> None:
        super().__init__(sockets)
        self._app = app
        self._servers: list[asyncio.Server] = []
        self._is_open = False

    async def open(self, server: web.Server, door: Door) -> None:
        """Neighbours that see this process can already pass requests on to it."""
        folder, epoch = self._neighbours.folder, self._neighbours.epoch
        self._is_open = True
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_unix_server(server, sock=listening_at(folder.requests(epoch))))
        await self._open(door)

    async def _open(self, door: Door) -> None:
        await door.open(self._sockets())
        await self._listen_for_questions()

    async def _listen_for_questions(self) -> None:
        questions = listening_at(self._neighbours.folder.questions(self._neighbours.epoch))
        self._servers.append(await asyncio.start_unix_server(self._hear, sock=questions))

    async def linger(self, seconds: float, hurry: asyncio.Event) -> None:
        """Waits while others need this process. `seconds` and `hurry` bound the wait.

        Past these bounds, the ends of answers that neighbours have broken off are still passed on.
        """
        await wait_while(lambda: self._is_needed, seconds, hurry)
        for _ in range(_LAST_LOOKS):
            if self._neighbours.passing:
                await asyncio.sleep(_LOOK_SECONDS)

    def close(self) -> None:
        """Leaves the neighbours. What is passed on is broken off."""
        for server in self._servers:
            server.close()
        if self._is_open:
            self._neighbours.folder.forget(self._neighbours.epoch)
            self._neighbours.close()

    @property
    def _neighbours(self) -> Neighbours:
        neighbours = self._app[SERVICES].neighbours
        assert neighbours is not None
        return neighbours

    @property
    def _streams(self) -> Streams:
        return self._app[SERVICES].streams

    @property
    def _is_needed(self) -> bool:
        return bool(self._neighbours.passing)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_QUESTION_SECONDS):
                await self._answer(msgspec.json.decode(await reader.readline()), reader, writer)
        except (OSError, ValueError) as error:  # the other process has gone, or is of another version
            logger.debug("a question of another process was not answered: %s", error)
        finally:
            writer.close()

    async def _answer(self, question: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers a question of another process."""
        match question:
            case ["alive"]:
                writer.write(b"yes\n")
            case ["holds", str(caller), str(key)]:
                writer.write(b"yes\n" if self._streams.knows((caller, key)) else b"no\n")


async def wait_while(is_needed: Callable[[], bool], seconds: float, stop: asyncio.Event) -> None:
    """Waits while this process is needed. The other arguments bound the wait."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while is_needed() and not stop.is_set() and loop.time() < end:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await stop.wait()
