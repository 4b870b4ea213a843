"""A plugin by which any test runs with its upstream's bytes pulled: `pytest -p tests.rig.pulled tests/streams`."""

import pytest

from tests.rig.ways import PUSHES


@pytest.fixture(autouse=True)
def pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PUSHES, False)
