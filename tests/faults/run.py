"""Runs one scenario on one surface. The tests and the table for people use the same run."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.faults.client import SURFACES, Seen
from tests.faults.rig import Rig, gateway
from tests.faults.scenario import WELL, WELL_WHOLE, Outcome, Scenario
from tests.rig.wire import HEARTBEAT

_LONGEST = 8.0  # seconds; the slowest scenario takes one, and a machine may be busy


@dataclass(frozen=True)
class Run:
    """`requests` counts those to each target. `differences` says in words what is not as it must be."""

    seen: Seen
    requests: tuple[int, int]
    seconds: float
    differences: list[str]


async def run(scenario: Scenario, surface: str, *, paired: bool) -> Run:
    """Raises TimeoutError if the answer does not end."""
    async with _rig(scenario, paired=paired) as rig:
        is_whole = surface == "v1 whole"
        rig.one.script(*(scenario.whole or scenario.first if is_whole else scenario.first))
        rig.two.script(WELL_WHOLE if is_whole else WELL)
        for _ in range(scenario.before):
            await SURFACES[surface](rig.client)
        began = time.monotonic()
        async with asyncio.timeout(_LONGEST):
            seen = await SURFACES[surface](rig.client)
        seconds = time.monotonic() - began
        requests = rig.requests[0] - scenario.before, rig.requests[1]
        return Run(seen, requests, seconds, [*_differences(scenario, surface, seen, requests, paired=paired)])


@asynccontextmanager
async def _rig(scenario: Scenario, *, paired: bool) -> AsyncIterator[Rig]:
    targets = 2 if paired else 1
    if scenario.elsewhere is None:
        async with gateway(scenario.settings, targets=targets) as rig:
            yield rig
        return
    async with scenario.elsewhere() as url, gateway(scenario.settings, targets=targets, first_url=url) as rig:
        yield rig


def _differences(
    scenario: Scenario, surface: str, seen: Seen, requests: tuple[int, int], *, paired: bool
) -> Iterator[str]:
    right = scenario.paired if paired else scenario.alone
    text = right.text if right.code is None or surface in ("chat", "v1") else ""
    if (seen.text, seen.code) != (text, right.code):
        yield f"the client got {seen.text!r} and {seen.code or 'success'}, not {text!r} and {right.code or 'success'}"
    if b"SECRET" in seen.raw:
        yield "the client got what only the operator may see"
    is_status = right.code is not None and not text and surface != "chat"
    if (seen.status != 200) != is_status:
        yield f"the status is {seen.status}"
    counted = (0 if scenario.elsewhere else right.requests[0], right.requests[1])
    if requests != counted:
        yield f"the targets got {requests} requests, not {counted}"
    if surface != "v1" or not seen.raw.startswith(HEARTBEAT):
        yield from _told_wrongly(seen.told, surface, right, scenario.resent)


def _told_wrongly(told: int | None, surface: str, right: Outcome, resent: int) -> Iterator[str]:
    """On `/v1`, the header comes with the first content, so it tells of the attempts up to there."""
    attempts = sum(right.requests) - resent
    if told is None or told > attempts or (told < attempts and surface != "v1"):
        yield f"the gateway told of {told} attempts, not of {attempts}"
