"""Chats that end in every way, for as long as `SOAK` says (in seconds): nothing is left of them.

`.ci/long` runs ten minutes of it.
"""

import asyncio
import gc
import os
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from aiohttp import ClientError, ClientSession

from gateway.handlers.services import SERVICES
from gateway.log.memory import MemoryStore
from tests.conftest import MakeGateway
from tests.rig.clients import EVENTS, TEXT, create, eventually, start_of
from tests.rig.overheard import Overheard
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    Reset,
    ScriptedUpstream,
    Stall,
    Step,
    answer,
    delta,
    finish,
    stream,
    usage,
)

SECONDS = float(os.environ.get("SOAK", "7"))
PER_SECOND = 20
GROWTH = 1.02 if SECONDS >= 120 else 1.05  # of objects; a short load is not steady
KEEP = 20 if SECONDS >= 120 else 1  # seconds that a stream is held after its end
WARM_UP = 60 if SECONDS >= 120 else 4

SLOW: list[bytes | Step] = [part for number in range(8) for part in (delta(f"{number} "), Pause(0.05))]
ENDS: list[list[Step]] = [
    stream(*SLOW, finish(), usage(prompt_tokens=5, completion_tokens=8), DONE),
    stream(*SLOW, Reset()),
    stream(*SLOW, finish("abort"), DONE),
    stream(delta("a"), Stall()),
    answer(503, {"error": {"message": "Full."}}),
    stream(*[delta("x" * 10_000)] * 20, finish(), DONE),
]


async def read_whole(client: ClientSession) -> None:
    async with client.get("/chat?q=hi", headers=random.choice([EVENTS, TEXT, {}])) as response:
        await response.read()


async def leave(client: ClientSession) -> None:
    async with client.get("/chat?q=hi", headers=EVENTS) as response:
        await start_of(response)


async def come_back(client: ClientSession) -> None:
    async with client.get("/chat?q=hi", headers=EVENTS) as response:
        start = await start_of(response)
        await response.content.readline()
    headers = {**EVENTS, "Last-Event-ID": f"{start['stream']}.0"}
    async with client.get("/chat", headers=headers) as response:
        await response.read()


async def stop(client: ClientSession) -> None:
    made = await create(client)
    async with client.get(made["url"], headers=EVENTS) as response:
        await start_of(response)
        async with client.delete(made["url"]):
            pass
        await response.read()


async def look(client: ClientSession) -> None:
    made = await create(client)
    for address in (made["url"], made["viewer_url"], made["url"]):
        async with client.get(address, headers={"Accept": "application/json"}) as response:
            await response.read()
        await asyncio.sleep(0.1)  # between two looks


async def use_an_sdk(client: ClientSession) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": random.random() < 0.7}
    async with client.post("/v1/chat/completions", json=body) as response:
        await response.read()


WAYS: list[Callable[[ClientSession], Awaitable[None]]] = [read_whole, leave, come_back, stop, look, use_an_sdk]


@pytest.mark.long
@pytest.mark.memory
async def test_nothing_is_left_of_chats_that_end_in_every_way(
    gateway: MakeGateway, upstream: ScriptedUpstream, overheard: Overheard, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks and descriptors are those of before; objects, those of when the load had begun, within two per cent."""
    caplog.set_level("ERROR")
    keep = f"keep_seconds = {KEEP}\nattach_seconds = 1\ngrace_seconds = 1\n"
    client = await gateway(f"[stream]\n{keep}[timeouts]\nidle = 1\ntotal = 3\n")
    session = ClientSession(client.make_url("/"))  # the test client keeps every response
    tasks, descriptors = len(asyncio.all_tasks()), _descriptors()
    chance = random.Random(7)
    upstream.script(*[chance.choice(ENDS) for _ in range(int(SECONDS * PER_SECOND * 2))])
    loop = asyncio.get_running_loop()
    start, chats, counts = loop.time(), set[asyncio.Task[None]](), list[int]()
    looks = iter([WARM_UP, SECONDS])
    look_at = next(looks)
    for number in range(int(SECONDS * PER_SECOND) + PER_SECOND):
        await asyncio.sleep(start + number / PER_SECOND - loop.time())
        chats.add(task := asyncio.create_task(_chat(chance.choice(WAYS), session)))
        task.add_done_callback(chats.discard)
        if number / PER_SECOND >= look_at:
            upstream.requests.clear()  # and what else the test itself collects
            overheard.said.clear()
            counts.append(_objects())
            look_at = next(looks, SECONDS * 2)
    await asyncio.gather(*chats)
    print(f"objects: {counts}")
    before, after = counts
    assert after <= before * GROWTH
    services = client.app[SERVICES]
    await eventually(lambda: not list(services.streams), within=KEEP + 10)
    await session.close()  # the pools of both sides are no leak
    await services.client.close()
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks, within=10)
    await eventually(lambda: _descriptors() <= descriptors, within=10)
    store = services.streams._store
    assert isinstance(store, MemoryStore)
    assert (store.size, len(store)) == (0, 0)


async def _chat(way: Callable[[ClientSession], Awaitable[None]], client: ClientSession) -> None:
    with suppress(ClientError, asyncio.IncompleteReadError):  # answers break off, as the upstream's did
        await way(client)


def _objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
