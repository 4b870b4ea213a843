"""Clients of `/chat` and `/streams`: they read, lag, are cut, come back elsewhere, stop, watch together and vanish."""

import asyncio
import json

from tests.chaos.answers import question
from tests.chaos.connection import Broken, Connection, Silent
from tests.chaos.reading import Manner, Reading
from tests.chaos.told import Asked, Told
from tests.chaos.world import World
from tests.rig.clients import EVENTS, TEXT
from tests.rig.whatwg import Dispatched

_READER = Manner()
_CUT = Manner(cut=0.15)
_SLOW = Manner(cut=0.01, pause=0.01)
_STOPS = Manner(cut=0.03, stop=0.15)
_VANISHES = Manner(vanish=0.2)


async def reader(world: World) -> None:
    await _chat(world, "chat", _READER)


async def cut(world: World) -> None:
    await _chat(world, "chat, cut", _CUT)


async def slow(world: World) -> None:
    await _chat(world, "chat, slow", _SLOW)


async def stops(world: World) -> None:
    await _chat(world, "chat, stopped", _STOPS)


async def vanishes(world: World) -> None:
    await _chat(world, "chat, vanished", _VANISHES)


async def keyed(world: World) -> None:
    """Asks with an `Idempotency-Key`, and does not know whether the request arrived."""
    async with world.ask("chat, asked twice") as asked:
        told = asked.client()
        headers = {**EVENTS, "Idempotency-Key": f"key-of-{asked.name}-and-more"}
        body = {"question": question(asked.name)}
        try:
            lost = await Connection.open(world.port())
            lost.send("POST", "/chat", body, headers)
            await asyncio.sleep(world.chance.choice([0, 0.01, 0.3]))
            lost.cut(world.how())
        except Broken:
            pass
        asked.asks += 1
        connection = await world.again(asked, told, "POST", "/chat", headers, body)
        if connection is not None:
            await NativeReading(world, asked, told, _CUT).follow(connection, "/chat")


async def _chat(world: World, kind: str, manner: Manner) -> None:
    async with world.ask(kind) as asked:
        told = asked.client()
        body = {"question": question(asked.name)}
        connection = await world.first(told, "/chat", body, EVENTS, is_small=manner.pause > 0)
        if connection is not None:
            await NativeReading(world, asked, told, manner).follow(connection, "/chat")


async def watchers(world: World) -> None:
    """Several viewers of one stream, at any gateway, of which one may stop it."""
    async with world.ask("streams, watched") as asked:
        first = asked.client()
        connection = await world.first(first, "/streams", {"question": question(asked.name)}, {})
        if connection is None:
            return
        try:
            made = await connection.json()
        except Broken:
            first.end = "broken"
            return
        finally:
            connection.cut("fin")
        manners = [world.chance.choice([_READER, _CUT, _SLOW, _VANISHES]) for _ in range(world.chance.randint(1, 3))]
        if world.chance.random() < 0.3:
            manners[0] = _STOPS
        world.tickets.update(url.rpartition("ticket=")[2] for url in (made["url"], made["viewer_url"]))
        urls = [made["url"], *[made["viewer_url"]] * len(manners)]
        tolds = [first, *[asked.client() for _ in manners[1:]]]
        await asyncio.gather(
            *[
                _watch(world, asked, told, manner, url, made["url"])
                for told, manner, url in zip(tolds, manners, urls, strict=False)
            ]
        )


async def _watch(world: World, asked: Asked, told: Told, manner: Manner, url: str, stop_url: str) -> None:
    await asyncio.sleep(world.chance.choice([0, 0, 0.2, 1.0]))
    connection = await world.again(asked, told, "GET", url, EVENTS)
    if connection is not None:
        await NativeReading(world, asked, told, manner, stop_url=stop_url).follow(connection, url)


async def text(world: World) -> None:
    async with world.ask("chat as text") as asked:
        told = asked.client()
        connection = await world.first(told, "/chat", {"question": question(asked.name)}, TEXT)
        if connection is None:
            return
        data, told.end = b"", "complete"
        try:
            async for part in connection.parts():
                data += part
        except Broken:
            told.end = "broken"
        except Silent:
            told.faults.append("a body fell silent")
        told.text = data.decode(errors="ignore" if told.end == "broken" else "strict")
        connection.cut("fin")


async def whole(world: World) -> None:
    async with world.ask("chat as JSON") as asked:
        told = asked.client()
        connection = await world.first(told, "/chat", {"question": question(asked.name)}, {})
        if connection is None:
            return
        try:
            choice = (await connection.json())["choices"][0]
            told.end, told.text = "complete", choice["message"]["content"]
        except Broken:
            told.end = "broken"
        except Silent:
            told.faults.append("a body fell silent")
        connection.cut("fin")


async def holds(world: World) -> None:
    """Asks, reads nothing, and goes away without a word when a phone would have lost its network."""
    async with world.ask("chat, never read") as asked:
        told = asked.client()
        told.end = "left"
        asked.was_left = True
        try:
            connection = await Connection.open(world.port(), is_small=True)
        except Broken:
            return
        connection.send("POST", "/chat", {"question": question(asked.name)}, EVENTS)
        await asyncio.sleep(world.chance.uniform(1, 8))
        connection.cut("rst")


class NativeReading(Reading):
    def __init__(self, world: World, asked: Asked, told: Told, manner: Manner, stop_url: str = "") -> None:
        super().__init__(world, asked, told, manner)
        self._stop_url = stop_url
        self._last_id = ""
        self._number = -1

    async def follow(self, connection: Connection | None, path: str) -> None:
        """Reads to the end, however often the connection is lost."""
        while connection is not None:
            if connection.status == 204:
                self._told.faults.append("204 for a client that has no end")
                return
            if await self.read(connection):
                break
            connection = await self._come_back(path)
        if self._told.end not in ("", "left", "lost", "broken") and self.chance(self._manner.looks_twice):
            await self._look_again(path)

    async def _come_back(self, path: str) -> Connection | None:
        if not self._last_id and path == "/chat":
            self._told.end = "broken"  # not even the start came, so there is nothing to come back to
            return None
        self._world.done["came back"] += 1
        await asyncio.sleep(self._world.chance.choice([0, 0, 0.05, 0.5]))
        headers = {**EVENTS, "Last-Event-ID": self._last_id} if self._last_id else EVENTS
        return await self._world.again(self._asked, self._told, "GET", path, headers)

    async def _look_again(self, path: str) -> None:
        """Comes back with the id of the end, as an `EventSource` does. Its answer must not begin again."""
        other = Told()
        connection = await self._world.again(
            self._asked, other, "GET", path, {**EVENTS, "Last-Event-ID": self._last_id}
        )
        self._told.faults += other.faults
        if connection is not None:
            if connection.status != 204:
                self._told.faults.append(f"{connection.status} for a client that has the end")
            connection.cut("fin")

    def stopping(self) -> tuple[str, str]:
        return "DELETE", self._stop_url

    def take(self, event: Dispatched) -> None:
        told = self._told
        number = int(event.last_event_id.rpartition(".")[2])
        if number != self._number + 1:
            told.faults.append(f"event {number} behind event {self._number}")
        self._number, self._last_id = number, event.last_event_id
        match event.type:
            case "start":
                start = json.loads(event.data)
                self._world.tickets.update({start["ticket"]} if "ticket" in start else ())
                self._stop_url = self._stop_url or f"/streams/{start['stream']}?ticket={start['ticket']}"
            case "message":
                if told.code:
                    told.faults.append("text behind a failure")
                told.text += event.data
            case "failure":
                told.code = json.loads(event.data)["error"]["code"]
            case "end":
                end = json.loads(event.data)
                told.end, told.attempts = end["reason"], end["attempts"]
            case _:
                told.faults.append(f"an event {event.type}")
