"""A pytest plugin: all tests run with pulled upstream bytes. Usage: `pytest -p tests.rig.pulled tests/streams`."""

import pytest

from tests.rig.ways import PUSHES


@pytest.fixture(autouse=True)
def pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PUSHES, False)
