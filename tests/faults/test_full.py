"""An upstream that runs as many requests as `max_streams` allows gets no more: the next target is asked."""

import asyncio
from contextlib import suppress

import pytest

from tests.faults.client import SURFACES
from tests.faults.rig import gateway
from tests.faults.scenario import HELLO, WELL
from tests.rig.inside import at_rest
from tests.rig.scripted_upstream import Until

ONE = "max_streams = 1"


@pytest.mark.parametrize("surface", SURFACES)
async def test_if_all_targets_are_full_the_answer_is_a_status(surface: str) -> None:
    go = asyncio.Event()
    async with gateway(targets=1, upstream=ONE) as rig:
        rig.one.script([Until(go), *WELL])
        first = asyncio.create_task(SURFACES["chat JSON"](rig.client))
        await rig.one.until(requests=1)
        seen = await SURFACES[surface](rig.client)
        assert (seen.status, seen.code) == (503, "targets_full")
        assert seen.headers["Retry-After"] == "5"
        go.set()
        assert (await first).text == HELLO
        await at_rest(rig.client)
        assert (await SURFACES[surface](rig.client)).text == HELLO
        assert len(rig.one.requests) == 2


@pytest.mark.parametrize("surface", SURFACES)
async def test_if_the_first_target_is_full_the_next_one_answers(surface: str) -> None:
    go = asyncio.Event()
    async with gateway(upstream=ONE) as rig:
        rig.one.script([Until(go), *WELL])
        rig.two.script(WELL)
        first = asyncio.create_task(SURFACES["chat JSON"](rig.client))
        await rig.one.until(requests=1)
        seen = await SURFACES[surface](rig.client)
        assert (seen.text, rig.requests) == (HELLO, (1, 1))
        go.set()
        await first


async def test_an_answer_that_was_stopped_frees_its_place() -> None:
    async with gateway('[stream]\non_disconnect = "cancel"\n', targets=1, upstream=ONE) as rig:
        rig.one.script([Until(asyncio.Event())], WELL)
        first = asyncio.create_task(SURFACES["v1"](rig.client))
        await rig.one.until(requests=1)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        await at_rest(rig.client)
        assert (await SURFACES["v1"](rig.client)).text == HELLO
