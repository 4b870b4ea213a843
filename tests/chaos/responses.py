"""Clients of `/v1/responses`: in the background, cut, resumed behind a number at any gateway, and cancelled."""

import asyncio
import json
from typing import Any

from tests.chaos.answers import question
from tests.chaos.connection import Broken, Silent
from tests.chaos.reading import Manner, Reading
from tests.chaos.told import Asked, Told
from tests.chaos.world import World
from tests.rig.whatwg import Dispatched

_PATH = "/v1/responses"
_LATER = 5.0  # seconds: entries are written to Redis twenty times a second, and the machine may be busy
_STATUSES = {"complete": "completed", "failed": "failed"}
_ENDS = {"response.completed": "complete", "response.failed": "failed", "response.incomplete": "stopped"}


async def background(world: World) -> None:
    await _follow(world, "responses, resumed", Manner(cut=0.1))


async def cancelled(world: World) -> None:
    await _follow(world, "responses, cancelled", Manner(cut=0.05, stop=0.1))


async def _follow(world: World, kind: str, manner: Manner) -> None:
    async with world.ask(kind) as asked:
        told = asked.client()
        body = {"input": question(asked.name), "background": True, "stream": True}
        connection = await world.first(told, _PATH, body, {})
        reading = ResponseReading(world, asked, told, manner)
        while connection is not None and not await reading.read(connection):
            if not reading.name:
                told.end = "broken"  # the id did not come
                return
            await asyncio.sleep(world.chance.choice([0, 0.05, 0.5]))
            world.done["came back"] += 1
            path = f"{_PATH}/{reading.name}?stream=true&starting_after={reading.number}"
            connection = await world.again(asked, told, "GET", path, {})
        if connection is not None and world.chance.random() < 0.3:
            await _look(world, asked, told, reading.name)


async def _look(world: World, asked: Asked, told: Told, name: str) -> None:
    """The stored response must say what the events have said. Other gateways show it a moment later."""
    deadline = world.now + _LATER
    difference = "nothing"
    while difference and world.now < deadline:
        other = Told()
        connection = await world.again(asked, other, "GET", f"{_PATH}/{name}", {})
        told.faults += other.faults
        if connection is None:
            return
        try:
            difference = _difference(told, await connection.json())
        except (Broken, Silent):
            return
        connection.cut("fin")
        await asyncio.sleep(0.1)
    if difference:
        asked.differences.append(f"the stored response has {difference}")


def _difference(told: Told, stored: dict[str, Any]) -> str:
    text = "".join(part["text"] for item in stored["output"] for part in item.get("content", []))
    if text != told.text:
        return f"{text!r}, its events had {told.text!r}"
    is_right = stored["status"] == _STATUSES.get(told.end, stored["status"])
    return "" if is_right else f"the status {stored['status']}, its events ended as {told.end}"


class ResponseReading(Reading):
    def __init__(self, world: World, asked: Asked, told: Told, manner: Manner) -> None:
        super().__init__(world, asked, told, manner)
        self.name = ""
        self.number = -1

    def stopping(self) -> tuple[str, str]:
        return "POST", f"{_PATH}/{self.name}/cancel"

    def take(self, event: Dispatched) -> None:
        told, value = self._told, json.loads(event.data)
        if event.type == "error":
            told.end, told.code = "failed", value["code"]
            return
        if value["sequence_number"] != self.number + 1:
            told.faults.append(f"event {value['sequence_number']} behind event {self.number}")
        self.number = value["sequence_number"]
        if event.type == "response.created":
            self.name = value["response"]["id"]
        elif event.type == "response.output_text.delta":
            told.text += value["delta"]
        elif event.type in _ENDS:
            told.end = _ENDS[event.type]
            told.code = ((value["response"].get("error") or {}).get("cause")) or ""
