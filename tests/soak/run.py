"""One soak: a gateway at half load another one that is traced, and what both hold, meanwhile and at the end."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.measure import cpu_ns
from tests.chaos.disturbances import watch_machine
from tests.chaos.gateways import Gateway, upstream_process
from tests.chaos.leftovers import leftovers
from tests.chaos.logs import log_faults
from tests.chaos.run import Plan as Chaos
from tests.chaos.run import Result as Ends
from tests.chaos.run import judge
from tests.chaos.world import Disturbance, World
from tests.rig.accounts import Account
from tests.rig.ports import free_port
from tests.rig.processes import answers
from tests.soak.load import EVENTS, MODEL, RATE, Steady, misbehave
from tests.soak.samples import Sample, faults, growers, rss_slope

_HALF = 0.5  # of a core: one process has one event loop, so one core is all that it can take
_KEEP = 30.0  # seconds that an answer is kept: the clients share a core with the load, and come back late
_TRIAL = 40  # steady streams by which the cost of one is found
_MOST = 500  # steady streams; the load client takes most of a core for them
_TRACED_GROWTH = 4_194_304  # bytes that the places which grew most may have grown by; what runs in a moment differs


@dataclass(frozen=True)
class Plan:
    seed: int
    seconds: float
    warm_up: float
    every: float = 5.0  # seconds between two samples, each of which stops the gateway for a tenth of a second
    chats_per_second: float = 6.0  # that end in every way


@dataclass
class Result:
    plan: Plan
    steady: int = 0  # streams
    core: float = 0.0  # share of one that the gateway took
    steady_answers: int = 0
    samples: list[Sample] = field(default_factory=list)
    types: list[tuple[str, int]] = field(default_factory=list)  # that grew most in number
    places: list[tuple[str, int]] = field(default_factory=list)  # that grew most in bytes
    ends: Ends | None = None
    faults: list[str] = field(default_factory=list)

    @property
    def steady_samples(self) -> list[Sample]:
        return [one for one in self.samples if one.at >= self.plan.warm_up]

    @property
    def slope(self) -> float:
        return rss_slope(self.steady_samples)


async def run(plan: Plan, tell: Callable[[str], None]) -> Result:
    result = Result(plan)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-soak-")))
        upstream = await stack.enter_async_context(upstream_process())
        paced_stack = await stack.enter_async_context(AsyncExitStack())
        paced = await paced_stack.enter_async_context(_paced_upstream())
        gateway = Gateway("gateway", folder, upstream.url, None, _more(paced), keep=_KEEP)
        traced = Gateway("traced", folder, upstream.url, None, keep=_KEEP, PYTHONTRACEMALLOC="1")
        for one in (gateway, traced):
            await one.start()
            stack.push_async_callback(one.stop)
            await one.gauges()
            one.idle = await one.account()
        worlds = [World([one.port], plan.seed + number) for number, one in enumerate((gateway, traced))]
        rates = plan.chats_per_second, plan.chats_per_second / 4  # tracing makes a process a fraction as fast
        machine = asyncio.create_task(watch_machine(worlds[0]))
        stack.callback(machine.cancel)
        loads = [asyncio.create_task(misbehave(*pair)) for pair in zip(worlds, rates, strict=True)]
        for load in loads:
            stack.callback(load.cancel)
        steady = Steady(gateway.port)
        await _to_half_load(gateway, steady, tell)
        await _watch(plan, result, gateway, traced, worlds[1], steady, tell)
        worlds[1].disturbances += worlds[0].disturbances
        steady.stop()
        for world in worlds:
            world.over.set()
        await asyncio.gather(*loads)
        await asyncio.sleep(EVENTS / RATE + 1)  # the steady streams end behind their answers
        steady.check()
        await paced_stack.aclose()  # and with it the connections that wait to be used again
        tell("the load is over; waiting for what it left to end")
        result.steady, result.steady_answers = steady.connections, steady.answers
        calls, _ = await upstream.told()
        result.faults += await leftovers([gateway, traced], upstream, None)
        tickets = worlds[0].tickets | worlds[1].tickets
        for one in (gateway, traced):
            result.faults += [f"{one.name}: {fault}" for fault in log_faults(one.log(), tickets)]
    result.ends = Ends(Chaos(plan.seed, plan.seconds, 0))
    for world in worlds:
        judge(world, calls, result.ends)
    result.faults += result.ends.faults
    return result


async def _to_half_load(gateway: Gateway, steady: Steady, tell: Callable[[str], None]) -> None:
    """Opens as many steady streams as make the process busy for half of the time, beside the clients that misbehave.

    A stream costs what its events cost. That is found by the events that arrived, so a machine that is busy with others
    does not make it look cheap. Events of a small load cost more than those of a large one, hence the second step.
    """
    without, _ = await _busy(gateway, steady)
    await steady.grow(_TRIAL)
    for _ in range(2):
        await asyncio.sleep(2)
        busy, events = await _busy(gateway, steady)
        each = max(busy - without, 0.01) / max(events, 1.0) * RATE
        wanted = int((_HALF - without) / each)
        tell(f"{without:.0%} of a core without steady streams, {each:.2%} for each of them: {wanted} make a half")
        if wanted > _MOST:
            tell(f"the load client can read {_MOST} of them only")
        await steady.grow(min(wanted, _MOST))


async def _busy(gateway: Gateway, steady: Steady, seconds: float = 4.0) -> tuple[float, float]:
    """The share of a core that it takes, and the events of steady streams in a second."""
    loop = asyncio.get_running_loop()
    cpu, events, began = cpu_ns([gateway.pid]), steady.events, loop.time()
    await asyncio.sleep(seconds)
    passed = loop.time() - began
    return (cpu_ns([gateway.pid]) - cpu) / 1e9 / passed, (steady.events - events) / passed


async def _watch(
    plan: Plan,
    result: Result,
    gateway: Gateway,
    traced: Gateway,
    traced_world: World,
    steady: Steady,
    tell: Callable[[str], None],
) -> None:
    """Takes samples until the time is over."""
    loop = asyncio.get_running_loop()
    began, cpu_before = loop.time(), cpu_ns([gateway.pid])
    first: tuple[Account, Account] | None = None
    while (at := loop.time() - began) < plan.seconds:
        now = await gateway.account()
        result.samples.append(_sample(at, now))
        steady.check()
        is_steady = at >= plan.warm_up
        if is_steady and first is None:
            first = now, await _traced_account(traced, traced_world)
        if len(result.samples) % 12 == 1:
            one = result.samples[-1]
            tell(f"{at:.0f} s of {plan.seconds:.0f} s: {one.rss_mib:.1f} MiB, {one.tasks} tasks, {one.objects} objects")
        await asyncio.sleep(max(plan.every - (loop.time() - began - at), 0.1))
    last = await gateway.account(), await _traced_account(traced, traced_world)
    result.core = (cpu_ns([gateway.pid]) - cpu_before) / 1e9 / (loop.time() - began)
    assert first is not None, "the warm-up took all the time"
    result.types = growers(first[0].objects, last[0].objects)
    result.places = growers(first[1].traced, last[1].traced)
    result.faults += faults(result.steady_samples)
    if (grown := sum(size for _, size in result.places)) > _TRACED_GROWTH:
        result.faults.append(f"the places that grew most hold {grown / 1048576:.1f} MiB more: {result.places}")


async def _traced_account(traced: Gateway, world: World) -> Account:
    """Stops the process for some seconds, in which its streams seem to be silent."""
    began = world.now
    account = await traced.account()
    world.disturbances.append(Disturbance("slow machine", began, world.now))
    return account


def _sample(at: float, now: Account) -> Sample:
    descriptors = sum(now.descriptors.values())
    sockets = sum(count for kind, count in now.descriptors.items() if kind.startswith(("client", "connection", "sock")))
    return Sample(at, now.resident_kib / 1024, sum(now.tasks.values()), sockets, descriptors, sum(now.objects.values()))


def _more(paced: str) -> str:
    return (
        f'[[upstreams]]\nname = "paced"\nbase_url = "{paced}/v1"\n'
        f'[[models]]\nname = "{MODEL}"\ntargets = [{{upstream = "paced"}}]\n'
    )


@asynccontextmanager
async def _paced_upstream() -> AsyncIterator[str]:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.upstream", str(port)),
        stdin=asyncio.subprocess.PIPE,
        env=dict(os.environ),
        start_new_session=True,
    )
    try:
        await answers(port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()
