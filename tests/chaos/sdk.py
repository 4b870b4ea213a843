"""Clients of `/v1/chat/completions`, as SDKs are: streamed and whole, with and without an `Idempotency-Key`."""

import asyncio
import json

from tests.chaos.answers import question
from tests.chaos.connection import Broken, Connection, Silent
from tests.chaos.told import Asked, Told
from tests.chaos.world import World
from tests.rig.whatwg import Dispatched

_PATH = "/v1/chat/completions"


async def streamed(world: World) -> None:
    async with world.ask("v1, streamed") as asked:
        told = asked.client()
        connection = await world.first(told, _PATH, _body(asked), {})
        if connection is not None:
            await Reading(world, told).read(connection, cut=0.0)


async def slow(world: World) -> None:
    async with world.ask("v1, slow") as asked:
        told = asked.client()
        connection = await world.first(told, _PATH, _body(asked), {}, is_small=True)
        if connection is not None:
            await Reading(world, told).read(connection, cut=0.0, pause=0.02)


async def vanishes(world: World) -> None:
    async with world.ask("v1, vanished") as asked:
        told = asked.client()
        connection = await world.first(told, _PATH, _body(asked), {})
        if connection is not None and not await Reading(world, told).read(connection, cut=0.2):
            told.end, asked.was_left = "left", True


async def keyed(world: World) -> None:
    """Is cut, and asks again with its key: the answer comes from its beginning, in the same bytes."""
    async with world.ask("v1, asked again") as asked:
        told = asked.client()
        headers = {"Idempotency-Key": f"key-of-{asked.name}-and-more"}
        longest = b""
        for cut in (0.15, 0.05, 0.0):
            connection = await world.again(asked, told, "POST", _PATH, headers, _body(asked))
            if connection is None:
                return
            reading = Reading(world, told)
            told.text, told.end, told.code = "", "", ""
            is_done = await reading.read(connection, cut=cut)
            one, other = sorted([longest, b"".join(reading.blocks)], key=len)
            # Another call may have said another thing; the judge knows whether there was one.
            if not other.startswith(one) and not told.faults:
                asked.differs = True
            longest = other
            if is_done and told.end != "broken":
                return
            asked.asks += 1
            await asyncio.sleep(0.1)
        if not told.end:
            told.end = "broken"


async def whole(world: World) -> None:
    async with world.ask("v1, whole", is_one_object=True) as asked:
        told = asked.client()
        connection = await world.first(told, _PATH, _body(asked), {})
        if connection is not None:
            await _read_object(told, connection)


async def _read_object(told: Told, connection: Connection) -> None:
    try:
        choice = (await connection.json())["choices"][0]
        told.end, told.text = "complete", choice["message"]["content"]
    except Broken:
        told.end = "broken"
    except Silent:
        told.faults.append("a body fell silent")
    connection.cut("fin")


def _body(asked: Asked) -> dict[str, object]:
    is_streamed = not asked.name.endswith("-object")
    return {"messages": [{"role": "user", "content": question(asked.name)}], "stream": is_streamed}


class Reading:
    """The chunks of one response."""

    def __init__(self, world: World, told: Told) -> None:
        self.blocks: list[bytes] = []
        self._world = world
        self._told = told

    async def read(self, connection: Connection, *, cut: float, pause: float = 0.0) -> bool:
        """Returns whether there was an end, and the client did not cut the connection. `cut` is a chance."""
        told = self._told
        try:
            async for event in connection.events():
                if told.end:
                    told.faults.append(f"an event behind the end: {event}")
                self._take(event)
                if pause:
                    await asyncio.sleep(pause)
                if cut and self._world.chance.random() < cut:
                    connection.cut(self._world.how())
                    return False
        except Broken:
            told.end = told.end or "broken"  # behind an end, too, the answer is one that failed
            if told.end == "complete":
                told.faults.append("[DONE], and then a body that breaks off")
        except Silent:
            told.faults.append("a stream without heartbeats")
        connection.cut("fin")
        if not told.end:
            told.faults.append("a clean end without [DONE] and without an error")
        return True

    def _take(self, event: Dispatched) -> None:
        told = self._told
        if event.type != "message" or event.last_event_id:
            told.faults.append(f"an event that SDKs do not take: {event}")
        if event.data == "[DONE]":
            told.end = "complete"
            return
        value = json.loads(event.data)
        if "error" in value:
            told.end, told.code = "failed", value["error"]["code"]
            return
        self.blocks.append(event.data.encode())
        for choice in value["choices"]:
            told.text += choice["delta"].get("content") or ""
