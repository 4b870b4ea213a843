"""A target that is down for a while is left alone, tried with single requests, and used again when it is back."""

import asyncio
import time

import pytest

from tests.faults.client import SURFACES, events
from tests.faults.rig import gateway
from tests.faults.sixty import TEXT, WELL
from tests.rig.scripted_upstream import Script, Stall, answer

OPEN_SECONDS = 0.3
BREAKER = f"[breaker]\nfailures = 4\nopen_seconds = {OPEN_SECONDS}\n[timeouts]\nfirst_token = 0.15\n"

DOWN: dict[str, Script] = {"503": answer(503, {}), "silence": [Stall()], "a refused key": answer(401, {})}


@pytest.mark.parametrize("case", DOWN)
async def test_it_is_probed_rarely_and_used_again_at_once(case: str) -> None:
    async with gateway(BREAKER) as rig:
        rig.one.script(DOWN[case])
        rig.two.script(WELL)
        for _ in range(4):
            assert (await events(rig.client)).text == TEXT
        before, end = len(rig.one.requests), time.monotonic() + 3 * OPEN_SECONDS
        assert before <= 4
        while time.monotonic() < end:
            assert (await events(rig.client)).text == TEXT
            await asyncio.sleep(0.01)
        assert 1 <= len(rig.one.requests) - before <= 3  # one probe for each time that the breaker was open
        rig.one.script(WELL)
        back, others = time.monotonic(), len(rig.two.requests)
        while (seen := await events(rig.client)).told != 1 or len(rig.two.requests) > others:
            others = len(rig.two.requests)
            assert time.monotonic() < back + 1.5 * OPEN_SECONDS
            await asyncio.sleep(0.01)
        assert seen.text == TEXT
        assert (await events(rig.client)).text == TEXT
        assert len(rig.two.requests) == others


async def test_a_provider_that_names_a_time_is_left_alone_until_then() -> None:
    async with gateway() as rig:
        rig.one.script(answer(429, {}, Retry_After="0.3"), WELL)
        rig.two.script(WELL)
        began = time.monotonic()
        for _ in range(5):
            assert (await events(rig.client)).text == TEXT
        assert time.monotonic() < began + 0.3, "the machine is too slow for this test"
        assert len(rig.one.requests) == 1
        await asyncio.sleep(began + 0.35 - time.monotonic())
        assert (await events(rig.client)).text == TEXT
        assert (len(rig.one.requests), len(rig.two.requests)) == (2, 5)


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_callers_mistakes_do_not_count(surface: str) -> None:
    async with gateway("[breaker]\nfailures = 1\n") as rig:
        rig.one.script(answer(400, {"error": {"message": "no"}}))
        for _ in range(3):
            assert (await SURFACES[surface](rig.client)).code == "upstream_rejected"
        rig.one.script(WELL)
        assert (await SURFACES[surface](rig.client)).text == TEXT
        assert rig.requests == (4, 0)
