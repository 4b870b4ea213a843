"""A real Redis for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.rig.redis import RedisServer, redis_server


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server
