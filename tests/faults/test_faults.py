"""Each fault with one target and with two, on each surface: the text once, an honest end, and no request too many."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.faults.client import STREAMED
from tests.faults.run import run
from tests.faults.scenario import Scenario
from tests.faults.table import SCENARIOS


def surfaces(scenario: Scenario) -> Iterator[str]:
    """Both streamed surfaces, and the whole answers where they differ from these."""
    yield from STREAMED
    if scenario.alone.code is not None:
        yield "chat JSON"
    if scenario.whole is not None:
        yield "v1 whole"


@pytest.mark.parametrize("targets", ["one target", "two targets"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
async def test_the_client_sees(scenario: Scenario, targets: str) -> None:
    names = [*surfaces(scenario)]
    runs = await asyncio.gather(*[run(scenario, name, paired=targets == "two targets") for name in names])
    assert {name: done.differences for name, done in zip(names, runs, strict=True) if done.differences} == {}


def test_every_row_has_a_scenario() -> None:
    assert {scenario.number for scenario in SCENARIOS} == set(range(1, 54))
