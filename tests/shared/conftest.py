"""A real Redis for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.conftest import MakeGateway
from tests.rig.redis import RedisServer, SlowProxy, redis_server


@pytest.fixture
def gateway(redis: RedisServer, gateway: MakeGateway) -> MakeGateway:
    """The gateways end before Redis does."""
    return gateway


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture
async def proxy(redis: RedisServer) -> AsyncIterator[SlowProxy]:
    proxy = SlowProxy(redis.port)
    await proxy.start()
    yield proxy
    await proxy.stop()
