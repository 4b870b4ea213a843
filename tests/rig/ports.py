"""Loopback ports that no other test takes while this one counts on them.

The suite runs in several processes. A port that was closed just now may be given to any of them at once.
"""

import contextlib
import random
import socket
from collections.abc import Iterator

HOST = "127.0.0.1"
# Below the range from which Linux gives ports of its own accord (from 32768): nothing gets one of these by chance.
_UNGIVEN = range(20_000, 32_000)
_ATTEMPTS = 100


def hold(port: int = 0) -> socket.socket:
    """A socket that keeps `port`, or a free one, and refuses connections: it is bound, and does not listen.

    A server of this process may listen there meanwhile, with `reuse_port`. Nobody else gets the port.
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
    """A port for a program that is started next. Raises OSError if none was free in a hundred attempts."""
    for port in random.SystemRandom().sample(_UNGIVEN, _ATTEMPTS):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise OSError(f"none of {_ATTEMPTS} ports was free")
