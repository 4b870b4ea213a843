"""At each limit new work gets a 503, the running answers go on, and the process lives. `.ci/long` has the figures."""

import asyncio
from pathlib import Path

import pytest

from tests.overload.__main__ import faults, text
from tests.overload.knocking import BODIES
from tests.overload.run import run, upstream
from tests.overload.scenes import SCENES

LONGEST_GAP_MS = 3_000  # a process that stands still for as long is broken on any machine; events come every 50 ms
MOST_CPU = 0.6  # of a core: one that spins takes all of it, and the answers take a tenth

pytestmark = pytest.mark.usefixtures("empty_folder")


async def test_fault_69_running_answers_do_not_notice(tmp_path: Path) -> None:
    """All at the same time, which is a test of this machine, too."""
    folders = {name: tmp_path / name for name in SCENES}
    for folder in folders.values():
        folder.mkdir()
    with upstream(tmp_path) as port:
        each = [run(SCENES[name], folder, port, seconds=1.0, clients=5) for name, folder in folders.items()]
        all_figures = await asyncio.gather(*each)
    for figures in all_figures:
        print(text(figures))
        assert list(faults(figures)) == []
        assert figures.flood.gaps[2] < LONGEST_GAP_MS
        if figures.scene.silent:
            assert figures.flood.cpu < MOST_CPU
        else:
            assert set(figures.refused) == set(BODIES)
