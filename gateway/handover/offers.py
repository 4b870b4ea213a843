"""Hands the listening sockets of one process to the next one, which then accepts from the same queue.

A process asks with `["listen", HOST, PORT, EPOCH]`. The answer is `yes` with the sockets, or `no`. It says `taken` as
soon as it listens on them. The other one stops listening, and says `done`. If either of them fails before that, the
old process goes on as if nothing had happened.

No client notices: a connection that waits in the queue is accepted by whoever looks next. With SO_REUSEPORT each
process would have a queue of its own, and the one that leaves would reset the connections in its queue. It would also
let a second gateway share the port by mistake.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

_SECONDS = 10.0  # for each step of the other process, which takes milliseconds; a starting process is busy with imports
_MOST = 16  # listening sockets: `localhost` has two
_YES, _NO, _TAKEN, _DONE = b"yes\n", b"no\n", b"taken\n", b"done\n"


class Offer:
    """Listening sockets of another process. The owner must call `take` or `close`."""

    def __init__(self, connection: socket.socket, sockets: list[socket.socket]) -> None:
        self.sockets = sockets
        self._connection = connection

    def take(self) -> None:
        """Has the other process stop listening. Raises OSError if it does not."""
        with self._connection:
            self._connection.sendall(_TAKEN)
            if self._connection.recv(len(_DONE)) != _DONE:
                raise ConnectionAbortedError("The other process keeps the port.")

    def close(self) -> None:
        self._connection.close()
        for one in self.sockets:
            one.close()


def ask_for_sockets(path: Path, host: str, port: int, epoch: str) -> Offer | None:
    """Asks the process whose questions are answered at `path`. Waits, so call it in a thread. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_SECONDS)
        connection.connect(str(path))
        connection.sendall(msgspec.json.encode(["listen", host, port, epoch]) + b"\n")
        answer, descriptors, _, _ = socket.recv_fds(connection, len(_YES), _MOST)
    except BaseException:
        connection.close()
        raise
    sockets = [socket.socket(fileno=one) for one in descriptors]
    if answer == _YES and sockets:
        return Offer(connection, sockets)
    connection.close()
    return None


async def offer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    sockets: Sequence[socket.socket],
    leave: Callable[[], Awaitable[None]],
) -> None:
    """Answers the question. Awaits `leave` when the sockets are taken. Raises OSError."""
    if not sockets:
        writer.write(_NO)
        return
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as one:
        socket.send_fds(one, [_YES], [listener.fileno() for listener in sockets])
    async with asyncio.timeout(_SECONDS):
        taken = await reader.readline() == _TAKEN
    if taken:
        await leave()
        writer.write(_DONE)
