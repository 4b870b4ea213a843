"""Where the listening sockets of a process come from: its own, or those that the parent of several workers made."""

import asyncio
import socket
from collections.abc import Callable, Sequence

from aiohttp import web

from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.door import QUEUE, Door


class Port:
    """The port of one process. The owner must call `close`, also after a failure of `open`."""

    def __init__(self, sockets: Callable[[], Sequence[socket.socket]]) -> None:
        """`sockets` returns those to listen on, or raises OSError. They belong to the port from then on."""
        self._sockets = sockets

    async def open(self, server: web.Server, door: Door) -> None:
        """Lets clients of the port in. Raises OSError."""
        await door.open(self._sockets())

    async def linger(self, seconds: float, hurry: asyncio.Event) -> None:
        """Waits, after the running answers have ended, while others need this process. Both arguments bound it."""

    @property
    def is_passing_on(self) -> bool:
        """Whether answers of a process that has taken over the port go through this one."""
        return False

    async def outlast(self, seconds: float, stop: asyncio.Event) -> None:
        """Waits for the end of these answers. Both arguments bound the wait."""

    def close(self) -> None:
        """Called when the door is closed."""


def bind(host: str, port: int, bounds: Bounds = DEFAULT_BOUNDS) -> list[socket.socket]:
    """A socket for each address of the host. Port 0 means any free port. Raises OSError.

    Connections inherit from their listener how long a client may leave bytes unacknowledged.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            one = socket.create_server(address, family=family, backlog=QUEUE)
            sockets.append(one)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
                milliseconds = round(bounds.unacknowledged_seconds * 1000)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def url_of(sockets: Sequence[socket.socket], host: str) -> str:
    """The address as a URL, with the host as it was given."""
    return f"http://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"
