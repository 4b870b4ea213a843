"""One run of the chaos: it starts everything, lets the clients and the disturbances loose, and judges what is left."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import native, responses, sdk
from tests.chaos.answers import answer_of
from tests.chaos.disturbances import disturb, watch_machine
from tests.chaos.gateways import Gateway, UpstreamProcess, upstream_process
from tests.chaos.judge import Judge
from tests.chaos.leftovers import leftovers
from tests.chaos.logs import log_faults
from tests.chaos.told import Asked
from tests.chaos.world import World
from tests.rig.redis import redis_server

Client = Callable[[World], Coroutine[Any, Any, None]]

CLIENTS: dict[Client, int] = {
    native.reader: 10,
    native.cut: 20,
    native.slow: 10,
    native.stops: 8,
    native.vanishes: 8,
    native.keyed: 8,
    native.watchers: 12,
    native.text: 4,
    native.whole: 4,
    native.holds: 3,
    sdk.streamed: 8,
    sdk.slow: 4,
    sdk.vanishes: 5,
    sdk.keyed: 8,
    sdk.whole: 5,
    responses.background: 8,
    responses.cancelled: 4,
}


@dataclass(frozen=True)
class Plan:
    seed: int
    seconds: float
    clients: int
    gateways: int = 2  # with one, there is no Redis
    pause: float = 0.3  # seconds, on average, between two questions of a client


@dataclass
class Result:
    plan: Plan
    answers: int = 0
    calls: int = 0
    done: Counter[str] = field(default_factory=Counter)  # by kind of client
    disturbed: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


async def run(plan: Plan, tell: Callable[[str], None]) -> Result:
    result = Result(plan)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-chaos-")))
        upstream = await stack.enter_async_context(upstream_process())
        redis = await stack.enter_async_context(redis_server()) if plan.gateways > 1 else None
        url = redis.url if redis else None
        gateways = [Gateway(f"gateway{number}", folder, upstream.url, url) for number in range(plan.gateways)]
        for gateway in gateways:
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            await gateway.gauges()  # what is loaded at the first request is loaded by now
            gateway.idle = await gateway.account()
        world = World([gateway.port for gateway in gateways], plan.seed)
        machine = asyncio.create_task(watch_machine(world))
        stack.callback(machine.cancel)
        disturbing = asyncio.create_task(disturb(world, gateways, redis))
        stack.callback(disturbing.cancel)
        progress = asyncio.create_task(_progress(world, plan, tell))
        stack.callback(progress.cancel)
        clients = [asyncio.create_task(_client(world, plan)) for _ in range(plan.clients)]
        await asyncio.wait([disturbing], timeout=plan.seconds)
        world.over.set()
        await disturbing
        await asyncio.gather(*clients)
        progress.cancel()
        tell("all clients are done; waiting for what they left to end")
        calls, result.faults = await _settled(gateways, upstream, redis.port if redis else None)
        for gateway in gateways:
            result.faults += [f"{gateway.name}: {fault}" for fault in log_faults(gateway.log(), world.tickets)]
    judge(world, calls, result)
    return result


async def _client(world: World, plan: Plan) -> None:
    await asyncio.sleep(world.chance.uniform(0, plan.pause * 2))
    while not world.over.is_set():
        (one,) = world.chance.choices(list(CLIENTS), list(CLIENTS.values()))
        await one(world)
        await asyncio.sleep(world.chance.uniform(0, plan.pause * 2))


async def _progress(world: World, plan: Plan, tell: Callable[[str], None]) -> None:
    began = world.now
    while True:
        await asyncio.sleep(5)
        troubles = ", ".join(one.kind for one in world.current) or "all well"
        tell(f"{world.now - began:.0f} s of {plan.seconds:.0f} s: {len(world.asked)} answers; {troubles}")


async def _settled(
    gateways: list[Gateway], upstream: UpstreamProcess, redis_port: int | None
) -> tuple[dict[str, int], list[str]]:
    calls, _ = await upstream.told()
    faults = await leftovers(gateways, upstream, redis_port)
    return calls, faults


def judge(world: World, calls: dict[str, int], result: Result) -> None:
    """Adds what the clients of this world did and were told."""
    law = Judge(world.disturbances)
    result.answers += len(world.asked)
    result.calls = sum(calls.values())
    result.done += world.done
    result.disturbed += Counter(one.kind for one in world.disturbances)
    result.faults += world.faults
    for asked in world.asked:
        result.fates[answer_of(asked.name).fate_name] += 1
        for told in asked.clients:
            name = f"{told.status} {told.code}" if told.end in ("refused", "lost") else told.code
            result.ends[f"{told.end} {name}".strip()] += 1
        result.waits.update(f"{status} {code}" if status else "no connection" for _, status, code in asked.waits)
        result.waits["cut by the gateway"] += len(asked.cut_by_gateway)
        for fault in dict.fromkeys(law.faults(asked, calls.get(asked.name, 0))):
            fate = answer_of(asked.name).fate_name
            times = f"{asked.began - world.began:.1f}-{asked.ended - world.began:.1f} s"
            result.faults.append(f"{asked.kind}, {asked.name} ({fate}), at {times}: {fault}{_before(world, asked)}")


def _before(world: World, asked: Asked) -> str:
    """The last disturbances before its end, for whoever looks for the cause."""
    last = sorted((one for one in world.disturbances if one.began <= asked.ended), key=lambda one: one.ended)[-3:]
    times = [f"{one.kind} {one.began - world.began:.1f}-{one.ended - world.began:.1f} s" for one in last]
    return f" ({', '.join(times)})" if times else ""
