"""Clients that leave at any moment, by the hundred: nothing of them stays. `.ci/long` sends ten thousand."""

import asyncio
import gc
import json
import os
import random
from contextlib import suppress

from aiohttp import web

from gateway.admission.memory_limiter import MemoryLimiter
from gateway.admission.redis_limiter import RedisLimiter
from gateway.handlers.services import SERVICES
from tests.conftest import Client, MakeGateway
from tests.rig.clients import eventually
from tests.rig.reset import reset
from tests.rig.scripted_upstream import DONE, Pause, Reset, ScriptedUpstream, Stall, Step, delta, finish, stream

ABORTS = int(os.environ.get("ABORTS", "300"))
AT_ONCE = 40  # connections: sockets for both sides of both hops, under any usual limit of open files
LONGEST = 0.06  # seconds that a client stays: a little longer than the longest script

KEY = "the-key-of-a-team"
CONFIG = f"""
[stream]
heartbeat_seconds = 0.02
grace_seconds = 0.05
keep_seconds = 0.1
[[keys]]
name = "team"
key = "{KEY}"
requests_per_minute = 1_000_000
tokens_per_minute = 1_000_000_000
max_streams = 1000
"""
SCRIPTS: list[list[Step]] = [
    stream(delta("a"), Pause(0.02), delta("b"), Pause(0.02), finish(), DONE),
    stream(Pause(0.03), delta("a"), finish(), DONE),
    stream(delta("a"), finish(), DONE),
    stream(delta("a"), Stall()),
    stream(delta("a"), Pause(0.01), Reset()),
    [Stall()],
]
WAYS = [("/chat", "text/event-stream"), ("/chat", "text/plain"), ("/chat", "application/json")]
WAYS += [("/v1/chat/completions", "stream"), ("/v1/chat/completions", "whole")]


async def test_nothing_stays_of_requests_that_are_aborted(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    chance = random.Random(7)
    upstream.script(*[chance.choice(SCRIPTS) for _ in range(ABORTS)], SCRIPTS[0])
    client = await gateway(CONFIG)
    await leave(client, request("/chat", "application/json"), 1.0)
    app = client.app
    assert isinstance(app, web.Application)
    generations = app[SERVICES].streams
    limiter = generations.limiter
    assert isinstance(limiter, MemoryLimiter | RedisLimiter)
    tasks, files = len(asyncio.all_tasks()), open_files()
    longest = LONGEST if isinstance(limiter, MemoryLimiter) else 5 * LONGEST  # a limit that Redis counts takes longer
    room, most = asyncio.Semaphore(AT_ONCE), 0

    async def one() -> None:
        nonlocal most
        async with room:
            await leave(client, request(*chance.choice(WAYS)), chance.uniform(0, longest), rudely=chance.random() < 0.5)
            most = max(most, limiter.streams)

    await asyncio.gather(*[one() for _ in range(ABORTS)])
    assert most > 1
    assert len(upstream.requests) > ABORTS / 10  # fewer than half on a machine that is busy
    await eventually(lambda: limiter.streams == len(generations) == upstream.playing == 0)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 2 * upstream.open_connections)  # those of its pool
    await app[SERVICES].client.close()
    await eventually(lambda: upstream.open_connections == 0)
    gc.collect()
    assert open_files() <= files


def request(path: str, way: str) -> bytes:
    body: dict[str, object] = {"messages": [{"role": "user", "content": "a question of some length"}]}
    if path != "/chat":
        body["stream"] = way == "stream"
    data = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {KEY}", f"Accept: {way}"]
    head += ["Content-Type: application/json", f"Content-Length: {len(data)}", "", ""]
    return "\r\n".join(head).encode() + data


async def leave(client: Client, data: bytes, after: float, *, rudely: bool = False) -> None:
    """Asks, reads for that long, and goes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    with suppress(ConnectionError):
        writer.write(data)
        with suppress(TimeoutError):
            async with asyncio.timeout(after):
                while await reader.read(65_536):
                    pass
    if rudely:
        reset(writer)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
