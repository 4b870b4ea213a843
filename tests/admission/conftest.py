"""A clock that is set by hand, and a real Redis."""

import time
from collections.abc import AsyncIterator

import pytest

from tests.admission.clock import Clock
from tests.rig.redis import RedisServer, redis_server


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server
