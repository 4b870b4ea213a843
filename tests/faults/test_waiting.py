"""While attempts follow each other, a client hears that something happens, and whoever leaves or stops ends it all."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.faults.client import STREAMED, SURFACES
from tests.faults.rig import Rig, gateway
from tests.faults.scenario import HELLO, WELL
from tests.rig.clients import create, eventually, remains, watched
from tests.rig.inside import at_rest
from tests.rig.scripted_upstream import Close, Pause, Reset, Script, Stall, answer, delta, stream
from tests.rig.wire import HEARTBEAT

CANCEL = '[stream]\non_disconnect = "cancel"\n'
BACKOFF = "[retry]\nattempts = 3\nbackoff_seconds = 0.2\n"  # 0.1 to 0.2 seconds
LONG_BACKOFF = "[retry]\nattempts = 3\nbackoff_seconds = 0.4\n"
TAKEN_OVER = stream(delta("Hello"), Close())


async def in_a_back_off(rig: Rig) -> None:
    rig.one.script(answer(500, {}), WELL)
    rig.two.script(WELL)


async def in_a_takeover(rig: Rig) -> None:
    rig.one.script(TAKEN_OVER)
    rig.two.script(stream(delta("Hel"), Stall()))


async def begun(rig: Rig, how: Callable[[Rig], Awaitable[None]]) -> None:
    """Returns in the middle of the back-off or of the takeover."""
    await rig.one.until(requests=1)
    if how is in_a_takeover:
        await rig.two.until(requests=1)
    else:
        await eventually(lambda: rig.one.playing == 0)


async def nothing_is_left(rig: Rig) -> None:
    """No stream, no task of one, no connection, and no further request."""
    await at_rest(rig.client)
    requests = rig.requests
    await remains(lambda: rig.requests == requests, seconds=0.25)
    await eventually(lambda: rig.one.playing + rig.two.playing == 0)
    assert not [task for task in asyncio.all_tasks() if "Generation.run" in repr(task)]


# One JSON body has no beginning that another target could go on with.
MOMENTS = [(how, surface) for how in (in_a_back_off, in_a_takeover) for surface in SURFACES]
MOMENTS.remove((in_a_takeover, "v1 whole"))


@pytest.mark.parametrize(("how", "surface"), MOMENTS)
async def test_a_client_that_leaves_ends_it_all(how: Callable[[Rig], Awaitable[None]], surface: str) -> None:
    async with gateway(CANCEL, retry=BACKOFF) as rig:
        await how(rig)
        asking = asyncio.create_task(SURFACES[surface](rig.client))
        await begun(rig, how)
        asking.cancel()
        await nothing_is_left(rig)


@pytest.mark.parametrize("how", [in_a_back_off, in_a_takeover])
async def test_a_stop_ends_it_all(how: Callable[[Rig], Awaitable[None]]) -> None:
    async with gateway(retry=BACKOFF) as rig:
        await how(rig)
        made = await create(rig.client, {"question": "hi", "model": "m"})
        await begun(rig, how)
        async with rig.client.delete(made["url"]) as response:
            assert response.status == 204
        await nothing_is_left(rig)
        seen = await watched(rig.client, made["url"])
        assert seen.end["reason"] == "stopped"
        assert seen.text == ("Hello" if how is in_a_takeover else "")


# Heartbeats

WAITS: dict[str, tuple[Script, ...]] = {
    "a silent target": ([Stall()],),
    "a back-off": (answer(503, {}), WELL),
    "a time that the target named": (answer(429, {}, Retry_After="0.3"), WELL),
    "resets": ([Pause(0.15), Reset()],),
}


@pytest.mark.parametrize("surface", STREAMED)
@pytest.mark.parametrize("case", WAITS)
async def test_a_waiting_client_gets_heartbeats(case: str, surface: str) -> None:
    settings = "[stream]\nheartbeat_seconds = 0.05\n[timeouts]\nfirst_token = 0.3\n"
    alone = "time" in case
    async with gateway(settings, targets=1 if alone else 2, retry=LONG_BACKOFF) as rig:
        rig.one.script(*WAITS[case])
        rig.two.script(WELL)
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == (HELLO, None)
        before, _, _ = seen.raw.partition(b"Hello")
        assert before.count(HEARTBEAT) >= 2


@pytest.mark.parametrize("surface", STREAMED)
async def test_a_client_gets_heartbeats_in_a_takeover(surface: str) -> None:
    async with gateway("[stream]\nheartbeat_seconds = 0.05\n") as rig:
        rig.one.script(TAKEN_OVER)
        rig.two.script([Pause(0.2), *WELL])
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == (HELLO, None)
        assert seen.raw.partition(b"Hello")[2].count(HEARTBEAT) >= 2


# Time


@pytest.mark.parametrize("surface", SURFACES)
async def test_the_total_time_holds_for_all_attempts_together(surface: str) -> None:
    settings = "[timeouts]\nfirst_token = 0.4\ntotal = 0.6\n"
    async with gateway(settings) as rig:
        rig.one.script([Stall()])
        rig.two.script([Stall()])
        began = time.monotonic()
        seen = await SURFACES[surface](rig.client)
        assert seen.code == "total_timeout"
        assert 0.55 < time.monotonic() - began < 1.5
        assert rig.requests == ((1, 0) if surface == "v1 whole" else (1, 1))


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_wait_over_the_bound_is_not_waited_for(surface: str) -> None:
    async with gateway(targets=1) as rig:
        rig.one.script(answer(429, {}, Retry_After="3"))
        began = time.monotonic()
        seen = await SURFACES[surface](rig.client)
        assert seen.code == "upstream_rate_limited"
        assert time.monotonic() - began < 1
        assert len(rig.one.requests) == 1
        assert surface == "chat" or seen.headers["Retry-After"] == "3"
