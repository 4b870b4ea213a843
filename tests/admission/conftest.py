"""A clock that is set by hand, and a real Redis."""

import time
from collections.abc import AsyncIterator

import pytest

from gateway.admission.memory_limiter import MemoryLimiter
from gateway.admission.redis_limiter import RedisLimiter
from tests.admission.clock import Clock
from tests.rig.redis import RedisServer, redis_server
from tests.rig.redis_clock import ClockedConnection

AnyLimiter = MemoryLimiter | RedisLimiter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock)
    return clock


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def limiter(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[AnyLimiter]:
    if request.param == "memory":
        yield MemoryLimiter()
        return
    async with redis_server() as server:
        connection = ClockedConnection(server.url, clock)
        limiter = RedisLimiter(connection, "gateway:", "a", lease_seconds=1e6)  # nobody renews in the time of the clock
        yield limiter
        await limiter.close()
        await connection.close()
