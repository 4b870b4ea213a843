"""Ends connections with a reset, as after a killed process or a lost mobile network."""

import asyncio
import socket
import struct
from contextlib import suppress

NOW = struct.pack("ii", 1, 0)  # SO_LINGER with no time: closing sends RST instead of FIN


def reset(writer: asyncio.StreamWriter) -> None:
    """Sends RST, unless the other side has already closed the connection. Then uvloop has no socket to return."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOW)
    writer.transport.abort()
