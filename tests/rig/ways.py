"""The two ways in which an upstream is read: its bytes are pushed, or pulled where aiohttp lacks what that needs."""

import pytest

PUSHES = "gateway.upstream.client._PUSHES"


@pytest.fixture(params=["pushed", "pulled"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For modules of tests that are run over each: `pytestmark = pytest.mark.usefixtures("both_ways")`."""
    monkeypatch.setattr(PUSHES, request.param == "pushed")
