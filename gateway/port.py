"""Where the listening sockets of a process come from: its own, or those that the parent of several workers made."""

import asyncio
import socket
from collections.abc import Callable, Sequence

from aiohttp import web

from gateway.door import QUEUE, Door

_UNACKNOWLEDGED_MS = 120_000  # for a peer to acknowledge what it was sent; connections inherit it from their listener


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


def bind(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of the host. Port 0 means any free port. Raises OSError."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            one = socket.create_server(address, family=family, backlog=QUEUE)
            sockets.append(one)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    except OSError:
        for one in sockets:
            one.close()
        raise
    return sockets


def url_of(sockets: Sequence[socket.socket], host: str) -> str:
    """The address as a URL, with the host as it was given."""
    return f"http://{f'[{host}]' if ':' in host else host}:{sockets[0].getsockname()[1]}"
