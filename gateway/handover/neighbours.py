"""The other processes of this gateway on this machine, as one of them sees them.

A process that was started while another one drained is its successor. The epoch in a stream's id says which process
holds the stream. All waits are bounded: a process that does not answer in time counts as gone.
"""

import asyncio
from pathlib import Path

import msgspec

from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.handover.folder import Folder

_HEAD_BYTES = 131_072  # that a reader may hold until a line or a response's header is whole; ours have 1 KiB
_RETRY_SECONDS = 0.01  # until a process has accepted some of the connections that wait

_encode_json = msgspec.json.Encoder().encode

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Neighbours:
    """`epoch` is that of this process. `successor` is that of the process that has taken over its port."""

    def __init__(self, folder: Folder, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        """Raises OSError if the folder cannot be used."""
        folder.open()
        self.folder = folder
        self.epoch = folder.free_epoch()
        self.successor: str | None = None
        self.passing: set[asyncio.WriteTransport] = set()  # connections on which requests are passed on
        self._seconds = bounds.neighbour_seconds

    def others(self) -> list[str]:
        return self.folder.others(self.epoch)

    async def alive(self, epoch: str) -> bool:
        """Whether another process has this epoch, and answers."""
        return epoch != self.epoch and await self._ask(epoch, "alive")

    async def holder(self, caller: str, key: str) -> str | None:
        """The epoch of the process that has a stream of this caller with this idempotency key."""
        others = self.others()
        answers = await asyncio.gather(*[self._ask(other, "holds", caller, key) for other in others])
        return next((other for other, has_it in zip(others, answers, strict=True) if has_it), None)

    async def connect(self, epoch: str) -> Connection:
        """A connection for a request. Raises OSError."""
        async with asyncio.timeout(self._seconds):
            return await self._connected(epoch, self.folder.requests(epoch))

    def close(self) -> None:
        """Closes the connections on which requests are passed on, so that their clients come back elsewhere."""
        for transport in list(self.passing):
            transport.abort()

    async def _ask(self, epoch: str, *question: str) -> bool:
        try:
            async with asyncio.timeout(self._seconds):
                reader, writer = await self._connected(epoch, self.folder.questions(epoch))
                try:
                    writer.write(_encode_json(question) + b"\n")
                    return await reader.readline() == b"yes\n"
                finally:
                    writer.transport.abort()
        except (OSError, ValueError):  # TimeoutError is an OSError
            return False

    async def _connected(self, epoch: str, path: Path) -> Connection:
        while True:
            try:
                return await asyncio.open_unix_connection(path, limit=_HEAD_BYTES)
            except BlockingIOError:  # its queue is full
                await asyncio.sleep(_RETRY_SECONDS)
            except (ConnectionRefusedError, FileNotFoundError):
                self.folder.forget(epoch)
                raise
