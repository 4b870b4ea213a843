"""The table for people says what was seen, and fails where that is not what the table of faults says."""

from dataclasses import replace

import pytest

from tests.faults.__main__ import show
from tests.faults.scenario import fails
from tests.faults.table import SCENARIOS

(PAGE,) = [scenario for scenario in SCENARIOS if scenario.number == 2]


async def test_a_row_for_each_number_of_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert await show([PAGE]) == 0
    _, alone, paired, _, result, *_ = capsys.readouterr().out.split("\n")
    assert alone.split()[:8] == ["02", "a", "web", "page", "one", "upstream_misconfigured", "1", "+"]
    assert "two         'Hello, world' " in paired
    assert result == "all as the table says"


async def test_a_difference_is_told_and_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert await show([replace(PAGE, alone=fails("upstream_empty", requests=2))]) == 1
    told = capsys.readouterr().out
    assert "DIFFERS" in told
    assert "2 a web page, one, chat: the client got '' and upstream_misconfigured, not '' and upstream_empty" in told
    assert "the targets got (1, 0) requests, not (2, 0)" in told
