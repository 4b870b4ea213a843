"""One client of a stream of events, over all its connections: it reads, lags, stops, is cut and vanishes."""

import asyncio
from dataclasses import dataclass

from tests.chaos.connection import Broken, Connection, Silent
from tests.chaos.told import Asked, Told
from tests.chaos.world import World
from tests.rig.whatwg import Dispatched


@dataclass(frozen=True)
class Manner:
    """What a client does beside reading. Chances are those at each event. None is cut more than `_MOST_CUTS` times."""

    cut: float = 0.0  # loses its connection, and comes back
    stop: float = 0.0
    vanish: float = 0.0
    pause: float = 0.0  # seconds before each event is read
    looks_twice: float = 0.3  # the chance that it comes back behind the end, as an EventSource does


# Seconds for an event; one that comes sooner may have been there before the connection was cut. Behind a stop, several
# may have been there, and this process, which has all clients, may take them late: see `disturbances`.
_WAITED, _WAITED_BEHIND_A_STOP = 0.02, 0.25
_MOST_CUTS = 12  # an answer is kept for six seconds after its end, and a client is away for up to half a second


class Reading:
    """A subclass takes the events of one API, and knows how that API stops an answer."""

    def __init__(self, world: World, asked: Asked, told: Told, manner: Manner) -> None:
        self._world = world
        self._asked = asked
        self._told = told
        self._manner = manner
        self._cuts = 0

    async def read(self, connection: Connection) -> bool:
        """Returns whether the client is done: it has the end, or has left."""
        told, manner = self._told, self._manner
        read_at = waits_since = self._world.now
        waited = _WAITED
        try:
            async for event in connection.events():
                if self._world.now - waits_since > waited:
                    read_at, waited = self._world.now, _WAITED
                if told.end:
                    told.faults.append(f"an event behind the end: {event}")
                self.take(event)
                if manner.pause:
                    await asyncio.sleep(manner.pause)
                if self.chance(manner.vanish):
                    connection.cut(self._world.how())
                    told.end, self._asked.was_left = told.end or "left", True
                    return True
                if not told.end and self.chance(manner.stop):
                    await self._stop()
                    waited = _WAITED_BEHIND_A_STOP
                if not told.end and self._cuts < _MOST_CUTS and self.chance(manner.cut):
                    self._cuts += 1
                    connection.cut(self._world.how())
                    return False
                waits_since = self._world.now
        except Broken:
            pass
        except Silent:
            told.faults.append("a stream without heartbeats")
            return True
        connection.cut("fin")
        if not told.end:
            self._asked.cut_by_gateway.append((read_at, self._world.now))
        return bool(told.end)

    def take(self, event: Dispatched) -> None:
        raise NotImplementedError

    def stopping(self) -> tuple[str, str]:
        """The method and the path that stop the answer."""
        raise NotImplementedError

    def chance(self, of: float) -> bool:
        return of > 0 and self._world.chance.random() < of

    async def _stop(self) -> None:
        self._world.done["stops"] += 1
        self._asked.was_stopped = True
        other = Told()
        connection = await self._world.again(self._asked, other, *self.stopping(), {})
        self._told.faults += other.faults
        if connection is not None:
            connection.cut("fin")
