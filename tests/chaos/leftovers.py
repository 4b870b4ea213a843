"""What is left in the gateways when all clients are done. It must be what was there before they came."""

import asyncio
from collections.abc import Mapping

from tests.chaos.gateways import Gateway, UpstreamProcess
from tests.rig.accounts import Account

# Answers wait 3 s for a client that comes back, and are kept after that. An orphan of a killed gateway is kept for the
# longest time that it could have taken.
_PATIENCE = 30.0  # seconds beside the time for which answers are kept
_STEP = 0.5
# Of the gateway's own types: series of metrics and what is cached by label. All else has to go.
_OWN_GROWTH = 300
# Of all types. Measured: 6,000 to 9,000, modules and caches that are loaded with the first answers of each surface.
_GROWTH = 20_000

# The pools of redis-py keep what they had to open at once, up to their bounds: see `gateway/shared/connection.py`.
_REDIS_CONNECTIONS = 32 + 1

_GAUGES = (
    "gateway_streams_running",
    "gateway_streams_held",
    "gateway_streams_without_viewers",
    "gateway_viewers",
    "gateway_log_bytes",
    "gateway_streams_followed",
    "gateway_streams_unsent",
    'gateway_target_running{target="up/m"}',
)


async def leftovers(gateways: list[Gateway], upstream: UpstreamProcess, redis_port: int | None) -> list[str]:
    faults: list[str] = []
    for _ in range(int((gateways[0].keep + _PATIENCE) / _STEP)):
        faults = [fault for gateway in gateways for fault in await _gauges_left(gateway)]
        if not faults:
            break
        await asyncio.sleep(_STEP)
    faults += await _upstream_left(upstream)
    await upstream.hang_up()
    for gateway in gateways:
        if gateway.idle is not None and not gateway.restarts:
            faults += await _processes_left(gateway, gateway.idle, redis_port)
    return faults


async def _gauges_left(gateway: Gateway) -> list[str]:
    gauges = await gateway.gauges()
    return [f"{gateway.name}: {name} is {gauges[name]:g}" for name in _GAUGES if gauges.get(name)]


async def _upstream_left(upstream: UpstreamProcess) -> list[str]:
    """Requests that the upstream still answers, although nobody waits for them."""
    _, playing = await upstream.told()
    return [f"{playing} requests to the upstream are left"] if playing else []


async def _processes_left(gateway: Gateway, before: Account, redis_port: int | None) -> list[str]:
    faults: list[str] = []
    for _ in range(20):  # what a connection leaves goes with the next turns of the event loop
        faults = [f"{gateway.name}: {fault}" for fault in differences(before, await gateway.account(), redis_port)]
        if not faults:
            break
        await asyncio.sleep(0.5)
    return faults


def differences(before: Account, after: Account, redis_port: int | None = None) -> list[str]:
    """What has grown beyond its bound."""
    pool = f"connection to {redis_port}"
    open_before = before.descriptors | {pool: max(_REDIS_CONNECTIONS, before.descriptors.get(pool, 0))}
    own = {name: count for name, count in grown(before.objects, after.objects).items() if name.startswith("gateway.")}
    total = sum(after.objects.values()) - sum(before.objects.values())
    faults = [f"{count} tasks {name} are left" for name, count in grown(before.tasks, after.tasks).items()]
    faults += [f"{n} descriptors are left: {name}" for name, n in grown(open_before, after.descriptors).items()]
    faults += [f"{count} objects {name} are left" for name, count in own.items() if count > _OWN_GROWTH]
    if total > _GROWTH:
        most = sorted(grown(before.objects, after.objects).items(), key=lambda one: -one[1])[:12]
        faults.append(f"{total} objects are left: {most}")
    return faults


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
