"""The two ways to read an upstream: its bytes are pushed, or are pulled if aiohttp does not support that."""

import pytest

PUSHES = "gateway.upstream.client.response._PUSHES"


@pytest.fixture(params=["pushed", "pulled"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For modules about the reading itself: `pytestmark = pytest.mark.usefixtures("both_ways")`.

    All others about upstreams are pulled in `.ci/long`, by the plugin `tests.rig.pulled`.
    """
    monkeypatch.setattr(PUSHES, request.param == "pushed")


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a test of the push itself, which the plugin `tests.rig.pulled` leaves as it is."""
    monkeypatch.setattr(PUSHES, True)
