"""Listens for clients. While the limit on connections is reached, new ones wait in the system's queue.

An event loop without free descriptors closes the next connection without an answer (libuv), or stops listening for a
second (asyncio). So the door stops listening before that. It keeps the sockets, so the system goes on to accept
connections into its queue. The loop listens on them again as soon as a client has left.
"""

import asyncio
import errno
import socket
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from gateway.admission.descriptors import Descriptors
from gateway.bounds import DEFAULT_BOUNDS, Bounds

QUEUE = 1024  # connections in the system's queue; Linux allows up to 4096, and clients beyond it retry by themselves


class Door:
    """The listening sockets of `server`. The owner must call `close`."""

    def __init__(self, server: web.Server, descriptors: Descriptors, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._server = server
        self._descriptors = descriptors
        self._look_seconds = bounds.door_seconds
        self._sockets: list[socket.socket] = []
        self._listeners: list[asyncio.Server] = []  # empty while the door is shut
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch_connections()

    async def open(self, sockets: Sequence[socket.socket]) -> None:
        """Lets clients of these listening sockets in. `close` closes the sockets. Raises OSError."""
        self._sockets = list(sockets)
        await self._listen()

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """Those that it listens on. They are empty once it is closed."""
        return self._sockets

    async def close(self) -> None:
        """Stops listening for good. Connections that are open stay open."""
        sockets, self._sockets = self._sockets, []
        if self._opening is not None:
            await self._opening
        if self._timer is not None:
            self._timer.cancel()
        self._shut()
        for one in sockets:
            one.close()

    def _watch_connections(self) -> None:
        """Counts connections in two methods that aiohttp calls for each. Without these calls the door never shuts."""
        server = self._server
        made, lost = server.connection_made, server.connection_lost

        def connection_made(handler: Any, transport: asyncio.Transport) -> None:
            made(handler, transport)
            self._descriptors.add_client()
            if self._descriptors.full and self._listeners:
                self._descriptors.warn("new connections wait")
                self._shut()
                self._look_later()

        def connection_lost(handler: Any, exc: BaseException | None = None) -> None:
            lost(handler, exc)
            self._descriptors.drop_client()
            if not self._listeners:
                self._look()

        server.connection_made = connection_made  # type: ignore[method-assign]  # aiohttp has no other hook
        server.connection_lost = connection_lost  # type: ignore[method-assign]  # the same

    def _shut(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _look(self) -> None:
        """Listens again if there is room."""
        if self._listeners or self._opening is not None or not self._sockets or self._descriptors.full:
            return
        self._opening = asyncio.get_running_loop().create_task(self._reopen())

    def _look_later(self) -> None:
        """Checks again and again while the door is shut, because room also comes from others than clients."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sockets and not self._listeners:
            self._look()
            self._timer = asyncio.get_running_loop().call_later(self._look_seconds, self._look_later)

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for one in self._sockets:
            self._listeners.append(await loop.create_server(self._server, sock=one.dup(), backlog=QUEUE))

    async def _reopen(self) -> None:
        try:
            await self._listen()
        except OSError as error:  # out of descriptors after all
            self._descriptors.warn(f"listening failed ({errno.errorcode.get(error.errno or 0)})")
            self._shut()
        finally:
            self._opening = None
