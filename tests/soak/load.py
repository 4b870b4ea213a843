"""The load of a soak: streams at a steady pace, and beside them the clients of the chaos, who end in every way.

The steady streams are those of the benchmark, whose client and upstream cost little: half of what a gateway can take is
more than clients in Python that look at every event could read.
"""

import asyncio
from collections.abc import Iterator
from functools import partial

from tests.bench.client import Asker, Question, Tally, Target, open_connection, question
from tests.bench.contenders import CHAT_COMPLETIONS
from tests.bench.wire import DEFAULT_BODY, model_name
from tests.chaos.run import CLIENTS
from tests.chaos.world import World
from tests.rig.ports import HOST

RATE, EVENTS = 50.0, 100  # of a steady stream: events a second, and in all
MODEL = model_name(RATE, EVENTS)


class Steady:
    """Connections that ask one question after the other, half of them on each surface."""

    def __init__(self, port: int) -> None:
        self._targets = [Target(HOST, port, path, {}, DEFAULT_BODY, None) for path in ("/chat", CHAT_COMPLETIONS)]
        self._tally = Tally(0)
        self._is_over = False
        self.connections = 0

    @property
    def answers(self) -> int:
        return self._tally.answers

    @property
    def events(self) -> int:
        return self._tally.events

    async def grow(self, connections: int) -> None:
        for _ in range(connections - self.connections):
            target = self._targets[self.connections % 2]
            asked = question(target, RATE, EVENTS)
            await open_connection(target, partial(Asker, self._tally, self._questions(asked)))
            self.connections += 1
            await asyncio.sleep(1 / RATE / 3)  # out of step with each other

    def check(self) -> None:
        """Raises LoadError if a stream was not what it should have been."""
        self._tally.check()

    def stop(self) -> None:
        """Each connection ends behind its answer."""
        self._is_over = True

    def _questions(self, one: Question) -> Iterator[Question]:
        while not self._is_over:
            yield one


async def misbehave(world: World, per_second: float) -> None:
    """Clients of the chaos come at this rate, until the world is over. Returns when all of them are done."""
    clients: set[asyncio.Task[None]] = set()
    while not world.over.is_set():
        (one,) = world.chance.choices(list(CLIENTS), list(CLIENTS.values()))
        client = asyncio.create_task(one(world))
        clients.add(client)
        client.add_done_callback(clients.discard)
        await asyncio.sleep(world.chance.expovariate(per_second))
    await asyncio.gather(*clients)
