"""How much of a stream of this process is in Redis."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from gateway.log.base import StreamLog


class Published(Protocol):
    """A stream of this process. `fields` are those of its `meta` key, and `version` grows with each change of them."""

    @property
    def id(self) -> str: ...

    @property
    def log(self) -> StreamLog: ...

    @property
    def version(self) -> int: ...

    def fields(self) -> Mapping[str, str | bytes]: ...


class Progress:
    """How much of a stream is in Redis: the number of the last entry there, and the version of its fields.

    Both are what Redis has acknowledged. `sending` is done when the reply to what is on its way has come. Nothing else
    is sent meanwhile: it could overtake that, on another connection.
    """

    __slots__ = ("is_forgotten", "keep", "life", "sending", "sent", "stream", "version")

    def __init__(self, stream: Published, life: float, keep: float) -> None:
        self.stream = stream
        self.life, self.keep = int(life * 1000), int(keep * 1000)  # milliseconds, as Redis takes them
        self.is_forgotten = False  # by its process, although not all of it is sent
        self.sending: asyncio.Future[None] | None = None
        self.restart()

    def restart(self) -> None:
        self.sent, self.version = 0, -1  # nothing is there

    async def settle(self) -> None:
        """Returns when nothing of it is on its way."""
        while self.sending is not None:
            await asyncio.wait([self.sending])


class Sent(NamedTuple):
    """What a pipeline has of a stream: up to which entry, which version, and the place behind its commands."""

    progress: Progress
    last: int
    version: int
    behind: int
