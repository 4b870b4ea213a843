"""The two ways to serve. Tests of the process run over both."""

import pytest

Mode = tuple[str, ...]


@pytest.fixture(params=[(), ("--workers", "2")], ids=["alone", "workers"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """Options of `gateway serve`."""
    options: Mode = request.param
    return options
