"""Sixteen failures of a provider: the caller gets all sixty words, once, as a success. Only a refusal is an error."""

import asyncio
import time

import pytest

from tests.faults.client import SURFACES
from tests.faults.rig import SAME, Rig, gateway
from tests.faults.sixty import TEXT, WAYS, WELL, Way
from tests.rig.scripted_upstream import Stall, answer

SHORT = "[timeouts]\nfirst_token = 0.3\nidle = 0.3\ntotal = 3\n"
# One JSON body may come late for good reasons, so only a hedge notices a target that is silent.
HEDGED = SAME + "hedge_seconds = 0.3\n"


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("case", WAYS)
async def test_the_caller_gets_all_words_once(case: str, surface: str) -> None:
    way = WAYS[case]
    async with gateway(SHORT, model=HEDGED if surface == "v1 whole" else SAME) as rig:
        seen = await asked(rig, way, surface)
        assert (seen, len(rig.one.requests) <= way.most) == (("" if way.code else TEXT, way.code), True)
        assert len(rig.two.requests) <= 1
        assert await asked(rig, Way([WELL]), surface) == (TEXT, None)  # healthy again right after it


async def asked(rig: Rig, way: Way, surface: str) -> tuple[str, str | None]:
    rig.one.script(*way.first)
    rig.two.script(way.second)
    async with asyncio.timeout(5):
        seen = await SURFACES[surface](rig.client)
    return seen.text, seen.code


# One target alone: the bounds on requests to it


async def test_a_429_is_asked_again_when_it_said() -> None:
    async with gateway(targets=1, retry="[retry]\nbackoff_seconds = 0.05\n") as rig:
        began = time.monotonic()
        assert await asked(rig, Way([answer(429, {}, Retry_After="2"), WELL]), "chat") == (TEXT, None)
        assert 2 <= time.monotonic() - began < 3
        assert len(rig.one.requests) == 2


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_target_that_fails_for_ever_is_asked_twice(surface: str, status: int) -> None:
    async with gateway(targets=1) as rig:
        _, code = await asked(rig, Way([answer(status, {})]), surface)
        assert code == ("upstream_rate_limited" if status == 429 else "upstream_error")
        assert len(rig.one.requests) == 2


@pytest.mark.parametrize("surface", ["chat", "v1", "chat JSON"])
async def test_a_silent_target_is_asked_once(surface: str) -> None:
    async with gateway(SHORT, targets=1) as rig:
        assert await asked(rig, Way([[Stall()]]), surface) == ("", "first_token_timeout")
        assert len(rig.one.requests) == 1
