"""A target that is silent for `hedge_seconds` gets a rival. The first content wins, and the slower one is let go."""

import asyncio
from typing import Any

import pytest

from tests.faults.client import STREAMED, SURFACES
from tests.faults.rig import RETRY, SAME, gateway
from tests.faults.scenario import HELLO, WELL
from tests.faults.sixty import TEXT, USED
from tests.faults.sixty import WELL as SIXTY
from tests.rig.clients import create, eventually
from tests.rig.inside import at_rest
from tests.rig.scripted_upstream import DONE, Pause, Stall, Until, answer, delta, event, finish, stream

HEDGED = SAME + "hedge_seconds = 0.05\nprices = {input = 1.0, output = 2.0}\n"
ERROR = {"error": {"message": "no", "type": "server_error"}}

Lines = list[dict[str, Any]]


@pytest.mark.parametrize("surface", SURFACES)
async def test_the_first_content_wins_and_the_slower_one_is_accounted_for(surface: str, lines: Lines) -> None:
    async with gateway(model=HEDGED) as rig:
        rig.one.script([Stall()])
        rig.two.script(SIXTY)
        seen = await SURFACES[surface](rig.client)
        assert (seen.text, seen.code) == (TEXT, None)
        assert rig.requests == (1, 1)
        await rig.one.until(left=1, within=1)
        (record,) = [line["stream"] for line in lines]
        (failed,) = record["failed"]
        assert (failed["target"], failed["error"]) == ("one/m-one", "outrun")
        assert failed["input_tokens"] > 0
        assert failed["cost"] > 0
        assert (record["target"], record["attempts"]) == ("two/m-two", 2)
        assert (record["input_tokens"], record["output_tokens"]) == (USED["prompt_tokens"], USED["completion_tokens"])


@pytest.mark.parametrize("surface", STREAMED)
async def test_the_first_target_may_still_win(surface: str) -> None:
    async with gateway(model=HEDGED) as rig:
        rig.one.script([Pause(0.15), *stream(delta("one"), finish(), DONE)])
        rig.two.script([Stall()])
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == ("one", None)
        assert rig.requests == (1, 1)
        await rig.two.until(left=1, within=1)


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_target_that_answers_in_time_gets_no_rival(surface: str) -> None:
    async with gateway(model=SAME + "hedge_seconds = 2\n") as rig:
        rig.one.script(SIXTY)
        assert (await SURFACES[surface](rig.client)).text == TEXT
        assert rig.requests == (1, 0)


LOSERS = {
    "a status": answer(500, ERROR),
    "an error in the stream": stream(event(ERROR)),
    "an empty stream": stream(DONE),
    "a role": stream(event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}), Stall()),
}


@pytest.mark.parametrize("surface", STREAMED)
@pytest.mark.parametrize("case", LOSERS)
async def test_nothing_but_content_wins(case: str, surface: str) -> None:
    async with gateway(model=HEDGED) as rig:
        rig.one.script([Pause(0.15), *stream(delta(HELLO), finish(), DONE)])
        rig.two.script(LOSERS[case])
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == (HELLO, None)
        assert rig.requests == (1, 1)


@pytest.mark.parametrize("surface", SURFACES)
async def test_if_both_fail_the_rules_for_retries_hold(surface: str) -> None:
    """The target that failed last is asked once more."""
    async with gateway(model=HEDGED) as rig:
        rig.one.script([Pause(0.15), *answer(500, ERROR)], SIXTY)
        rig.two.script(answer(500, ERROR))
        seen = await SURFACES[surface](rig.client)
        assert (seen.text, seen.code, rig.requests) == (TEXT, None, (2, 1))


@pytest.mark.parametrize("surface", SURFACES)
async def test_rivals_count_as_attempts(surface: str) -> None:
    async with gateway(model=HEDGED) as rig:
        rig.one.script([Pause(0.15), *answer(500, ERROR)])
        rig.two.script(answer(500, ERROR))
        seen = await SURFACES[surface](rig.client)
        assert (seen.text, seen.code, seen.told) == ("", "upstream_error", 3)
        assert rig.requests == (2, 1)


async def test_a_stop_ends_both() -> None:
    async with gateway(model=HEDGED) as rig:
        rig.one.script([Stall()])
        rig.two.script([Stall()])
        made = await create(rig.client, {"question": "hi", "model": "m"})
        await rig.two.until(requests=1)
        async with rig.client.delete(made["url"]) as response:
            assert response.status == 204
        await rig.one.until(left=1, within=1)
        await rig.two.until(left=1, within=1)
        await at_rest(rig.client)
        assert rig.requests == (1, 1)


@pytest.mark.parametrize("surface", STREAMED)
async def test_a_client_that_leaves_ends_both(surface: str) -> None:
    async with gateway('[stream]\non_disconnect = "cancel"\n', model=HEDGED) as rig:
        rig.one.script([Stall()])
        rig.two.script([Stall()])
        asking = asyncio.create_task(STREAMED[surface](rig.client))
        await rig.two.until(requests=1)
        asking.cancel()
        await rig.one.until(left=1, within=1)
        await rig.two.until(left=1, within=1)
        await at_rest(rig.client)
        await eventually(lambda: rig.one.open_connections + rig.two.open_connections == 0)


@pytest.mark.parametrize("surface", STREAMED)
async def test_the_winner_may_break_off_and_be_taken_over(surface: str) -> None:
    """By the slower target, too: it has not failed."""
    lost = asyncio.Event()
    async with gateway(model=HEDGED) as rig:
        rig.one.script([Stall()], WELL)
        rig.two.script(stream(delta("Hello"), Until(lost), event(ERROR)))
        asking = asyncio.create_task(STREAMED[surface](rig.client))
        await rig.one.until(left=1, within=1)
        lost.set()
        seen = await asking
        assert (seen.text, seen.code) == (HELLO, None)
        assert rig.requests == (2, 1)


@pytest.mark.parametrize("surface", STREAMED)
async def test_the_slower_one_counts_among_the_attempts(surface: str) -> None:
    """It has not failed, but it was asked. So with two attempts in all, nobody is asked to take over."""
    async with gateway(model=HEDGED, retry=RETRY.replace("attempts = 3", "attempts = 2")) as rig:
        rig.one.script([Stall()], WELL)
        rig.two.script(stream(delta("Hello"), Pause(0.1), event(ERROR)))
        seen = await STREAMED[surface](rig.client)
        assert (seen.text, seen.code) == ("Hello", "upstream_error")
        assert rig.requests == (1, 1)
