"""Loopback ports that no other test can take while a test needs them.

The suite runs in several processes. The system may give a port that was just closed to any of them.
"""

import contextlib
import random
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
# Below the range from which Linux chooses free ports (from 32768), so no other program gets one of these by chance.
_UNGIVEN = range(20_000, 32_000)
_ATTEMPTS = 100


def hold(port: int = 0) -> socket.socket:
    """A socket that holds `port`, or a free one, and refuses connections: it is bound, but it does not listen.

    A server in this process can still listen there with `reuse_port`. No other process gets the port.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((HOST, port))
    return held


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """A port that refuses connections until the block ends."""
    with hold() as held:
        yield held.getsockname()[1]


def free_port() -> int:
    """A port for a program that the test starts next. Raises OSError if a hundred attempts find no free port."""
    for port in random.SystemRandom().sample(_UNGIVEN, _ATTEMPTS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise OSError(f"none of {_ATTEMPTS} ports was free")
