"""Listens for clients, and lets connections wait in the system's queue while as many are open as there may be.

An event loop that runs out of descriptors closes the next client without a word (libuv), or stops listening for a
second (asyncio). So it stops listening before that. The sockets are kept meanwhile: the system goes on to take
connections for them, and they are the loop's again as soon as a client has left.
"""

import asyncio
import errno
import socket
from typing import Any

from aiohttp import web

from gateway.admission.descriptors import Descriptors

_QUEUE = 1024  # connections that the system holds for us; Linux takes up to 4096, and the others try again themselves
_UNACKNOWLEDGED_MS = 120_000  # for a peer to acknowledge what it was sent; connections have it from their listener
_LOOK_SECONDS = 1.0  # between two looks whether there is room again; a client who leaves is noticed at once


class Door:
    """Where `server` is reached. `close` it."""

    def __init__(self, server: web.Server, descriptors: Descriptors) -> None:
        self._server = server
        self._descriptors = descriptors
        self._sockets: list[socket.socket] = []
        self._listeners: list[asyncio.Server] = []  # none while it is shut
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._watch_connections()

    async def open(self, host: str, port: int) -> str:
        """Listens; returns its address as a URL. Raises OSError."""
        listener = await asyncio.get_running_loop().create_server(self._server, host, port, backlog=_QUEUE)
        self._listeners = [listener]
        self._sockets = [socket.socket(fileno=socket.dup(one.fileno())) for one in listener.sockets]
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            for one in self._sockets:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        sockets, self._sockets = self._sockets, []
        if self._opening is not None:
            await self._opening
        if self._timer is not None:
            self._timer.cancel()
        self._shut()
        for one in sockets:
            one.close()

    def _watch_connections(self) -> None:
        """aiohttp tells the server of each connection; a version that did not would leave the door open."""
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

        server.connection_made = connection_made  # type: ignore[method-assign]  # there is no other way to be told
        server.connection_lost = connection_lost  # type: ignore[method-assign]  # the same

    def _shut(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = []

    def _look(self) -> None:
        """Opens it again if there is room."""
        if self._listeners or self._opening is not None or not self._sockets or self._descriptors.full:
            return
        self._opening = asyncio.get_running_loop().create_task(self._reopen())

    def _look_later(self) -> None:
        """As long as it is shut: it is not always a client who leaves room."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sockets and not self._listeners:
            self._look()
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look_later)

    async def _reopen(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            for one in self._sockets:
                self._listeners.append(await loop.create_server(self._server, sock=one.dup(), backlog=_QUEUE))
        except OSError as error:  # out of descriptors after all
            self._descriptors.warn(f"listening failed ({errno.errorcode.get(error.errno or 0)})")
            self._shut()
        finally:
            self._opening = None
