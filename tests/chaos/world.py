"""What all clients of one run share: the gateways that they may ask, chance, and the record of what happened."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.chaos.connection import Broken, Connection, Silent
from tests.chaos.told import Asked, Told

_PATIENCE = 40.0  # seconds for which a client tries to come back; a gateway is away for less than ten
_BACKOFF = 0.2  # seconds between two tries


@dataclass(frozen=True)
class Disturbance:
    kind: str  # redis frozen, redis killed, gateway killed, gateway drained
    began: float
    ended: float  # when all was well again; infinite until then


@dataclass
class World:
    ports: list[int]
    seed: int
    disturbances: list[Disturbance] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)  # what clients did
    current: list[Disturbance] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # of processes
    tickets: set[str] = field(default_factory=set)  # that its clients were given
    over: asyncio.Event = field(default_factory=asyncio.Event)  # no client begins after this

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self._number = 0
        self.began = self.now

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def port(self) -> int:
        return self.chance.choice(self.ports)

    @asynccontextmanager
    async def ask(self, kind: str, *, is_one_object: bool = False) -> AsyncIterator[Asked]:
        """The record of a new answer, which is kept once its clients are done with it."""
        self._number += 1
        name = f"{self.seed}-{self._number}" + ("-object" if is_one_object else "")
        asked = Asked(kind, name, self.now)
        self.done[kind] += 1
        yield asked
        asked.ended = self.now
        self.asked.append(asked)

    async def first(
        self, told: Told, path: str, body: object, headers: dict[str, str], *, is_small: bool = False
    ) -> Connection | None:
        """Asks a question once. None if it was refused or lost on the way, which is then told."""
        try:
            connection = await Connection.ask(self.port(), "POST", path, body, headers, is_small=is_small)
        except Broken:
            told.end = "broken"
            return None
        except Silent:
            told.faults.append("no header came")
            return None
        if connection.status in (200, 201):
            return connection
        await self.refused(told, connection)
        return None

    async def refused(self, told: Told, connection: Connection) -> None:
        told.end, told.status = "refused", connection.status
        try:
            told.code = (await connection.json())["error"]["code"]
        except Broken:
            told.end = "broken"
        except (Silent, KeyError, ValueError) as error:
            told.faults.append(f"a status {connection.status} without an error: {error!r}")
        connection.cut("fin")

    async def again(
        self, asked: Asked, told: Told, method: str, path: str, headers: dict[str, str], body: object = None
    ) -> Connection | None:
        """Comes back to an answer, at any gateway, for as long as they are away. None if that was refused."""
        deadline = self.now + _PATIENCE
        tries = 0
        while self.now < deadline:
            tries += 1
            asked.asks += tries > 1 and body is not None
            try:
                connection = await Connection.ask(self.port(), method, path, body, headers)
            except Broken as error:
                asked.waits.append((self.now, 0, str(error)))
                await asyncio.sleep(_BACKOFF)
                continue
            except Silent:
                told.faults.append("no header came to a client that came back")
                return None
            if connection.status in (200, 204):
                return connection
            refusal = Told()
            await self.refused(refusal, connection)
            told.faults += refusal.faults
            if connection.status != 503:
                told.end = "lost" if body is None else "refused"
                told.status, told.code = connection.status, refusal.code
                return None
            if "retry-after" not in connection.fields:
                told.faults.append(f"503 {refusal.code} without retry-after")
            asked.waits.append((self.now, 503, refusal.code))
            await asyncio.sleep(_BACKOFF)
        told.faults.append(f"it could not come back for {_PATIENCE:.0f} s: {asked.waits[-3:]}")
        return None

    def how(self) -> str:
        """How a client that leaves ends its connection."""
        return self.chance.choice(["fin", "rst"])
