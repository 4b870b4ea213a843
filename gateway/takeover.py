"""Takes over the port from another process of the same gateway, and later hands it over to the next one.

The operator turns this on with `server.runtime_dir`. Without it, a second gateway on a port is an error.
"""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web

from gateway.door import Door
from gateway.handover.offers import Offer, ask_for_sockets, offer
from gateway.port import bind
from gateway.shared_port import SharedPort, wait_while

logger = logging.getLogger(__name__)

_IN_HAND_SECONDS = 1.0  # for requests whose body is being read; further ones are passed on
_TAKEN = "another process has taken over the port; this one ends after its answers"


class Takeover(SharedPort):
    """A port that another process of this gateway may have had, and may get."""

    def __init__(self, app: web.Application, host: str, port: int, taken: Callable[[], None]) -> None:
        """`taken` is called when another process has taken over the port."""
        super().__init__(app, lambda: bind(host, port))
        self._address = host, port
        self._taken = taken
        self._handing = asyncio.Lock()  # the sockets are offered to one process at a time

    async def _open(self, door: Door) -> None:
        self._door = door
        offered = await self._offered()
        try:
            await door.open(self._sockets() if offered is None else offered.sockets)
            await self._listen_for_questions()
            if offered is not None:
                await asyncio.to_thread(offered.take)
        except BaseException:
            if offered is not None:
                offered.close()
            raise

    @property
    def _is_needed(self) -> bool:
        """With a successor, also while this process holds streams: clients come back for them, through the other."""
        return super()._is_needed or (self._neighbours.successor is not None and self._streams.held > 0)

    @property
    def is_passing_on(self) -> bool:
        """They came on connections that were open before."""
        return self._neighbours.successor is not None and bool(self._neighbours.passing)

    async def outlast(self, seconds: float, stop: asyncio.Event) -> None:
        await wait_while(lambda: self.is_passing_on, seconds, stop)

    async def _offered(self) -> Offer | None:
        """The sockets of the process that listens at this address. A process that is new meanwhile is asked, too."""
        neighbours, asked = self._neighbours, set[str]()
        while new := [other for other in neighbours.others() if other not in asked]:
            asked.update(new)
            alive = await asyncio.gather(*[neighbours.alive(other) for other in new])
            for other, is_alive in zip(new, alive, strict=True):
                if is_alive:
                    path = neighbours.folder.questions(other)
                    offered = await asyncio.to_thread(ask_for_sockets, path, *self._address, neighbours.epoch)
                    if offered is not None:
                        return offered
        return None

    async def _answer(self, question: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match question:
            case ["listen", str(host), int(port), str(epoch)]:
                await self._hand_over(reader, writer, (host, port), epoch)
            case _:
                await super()._answer(question, reader, writer)

    async def _hand_over(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: tuple[str, int], epoch: str
    ) -> None:
        async def leave() -> None:
            await self._door.close()
            self._neighbours.successor = epoch
            logger.warning(_TAKEN)
            asyncio.get_running_loop().call_later(_IN_HAND_SECONDS, self._taken)

        async with self._handing:
            sockets = self._door.sockets
            is_here = bool(sockets) and address == (self._address[0], sockets[0].getsockname()[1])
            await offer(reader, writer, sockets if is_here else (), leave)
