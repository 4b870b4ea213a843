"""What goes wrong around the clients: Redis freezes and dies, gateways are killed and drained, the machine is slow."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.chaos.gateways import Gateway
from tests.chaos.world import Disturbance, World
from tests.rig.redis import RedisServer

_QUIET = (1.5, 4.0)  # seconds between two disturbances of one kind of process
_LAG = 0.25  # seconds: with less, nothing in the gateway comes near a bound of its own (0.8 s for Redis)


async def disturb(world: World, gateways: list[Gateway], redis: RedisServer | None) -> None:
    """Goes on until the clients are over, and leaves all processes running. Redis and gateways overlap by chance."""
    troubles = [_disturb_gateways(world, gateways)]
    if redis is not None:
        troubles.append(_disturb_redis(world, redis))
    await asyncio.gather(*troubles)


async def _disturb_gateways(world: World, gateways: list[Gateway]) -> None:
    """Never the first one: its process has to show at the end that nothing is left in it."""
    others = gateways[1:] or gateways
    while await _quiet(world):
        gateway = world.chance.choice(others)
        if world.chance.random() < 0.6:
            async with _trouble(world, "gateway killed"):
                await gateway.kill()
                await asyncio.sleep(world.chance.uniform(0, 1))
                await gateway.start()
        else:
            async with _trouble(world, "gateway drained"):
                status = await gateway.drain()
                if status != 0:
                    world.faults.append(f"{gateway.name} drained with status {status}")
                await gateway.start()


async def _disturb_redis(world: World, redis: RedisServer) -> None:
    while await _quiet(world):
        seconds = world.chance.uniform(0.2, 3)
        if world.chance.random() < 0.5:
            async with _trouble(world, "redis frozen"):
                redis.freeze()
                await asyncio.sleep(seconds)
                redis.thaw()
        else:
            async with _trouble(world, "redis killed"):
                await redis.stop()
                await asyncio.sleep(seconds)
                await redis.start()  # empty


async def watch_machine(world: World) -> None:
    """Records when this process was not run in time: then others were not either, and their bounds may have passed."""
    while True:
        before = world.now
        await asyncio.sleep(0.05)
        if (lag := world.now - before - 0.05) > _LAG:
            world.disturbances.append(Disturbance("slow machine", before, world.now + lag))


async def _quiet(world: World) -> bool:
    """Whether there is to be another one."""
    with suppress(TimeoutError):
        await asyncio.wait_for(world.over.wait(), world.chance.uniform(*_QUIET))
    return not world.over.is_set()


@asynccontextmanager
async def _trouble(world: World, kind: str) -> AsyncIterator[None]:
    began = world.now
    world.current = [*world.current, Disturbance(kind, began, math.inf)]
    yield
    world.current = [one for one in world.current if one.began != began]
    world.disturbances.append(Disturbance(kind, began, world.now))
