"""The rude end of a connection, as a process that is killed or a mobile network leaves it."""

import asyncio
import socket
import struct
from contextlib import suppress

NOW = struct.pack("ii", 1, 0)  # SO_LINGER for no time: closing sends RST and no FIN


def reset(writer: asyncio.StreamWriter) -> None:
    """RST, unless the other side was faster: then the socket is closed, and uvloop has none to show."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOW)
    writer.transport.abort()
