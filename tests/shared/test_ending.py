"""Tasks that use Redis end, although redis-py loses some cancellations."""

import asyncio
import random

from gateway.shared.connection import RedisConnection
from gateway.shared.ending import end
from tests.rig.redis import RedisServer


async def test_a_task_ends_at_any_moment_of_a_connection(redis: RedisServer) -> None:
    """Without `end`, a few of these would go on."""
    chance = random.Random(1)

    async def keep_asking(connection: RedisConnection) -> None:
        while True:
            await connection.run("SET", "a", "b")
            await asyncio.sleep(0.01)

    for _ in range(100):
        connection = RedisConnection(redis.url)
        task = asyncio.create_task(keep_asking(connection))
        await asyncio.sleep(chance.random() * 0.004)
        await end([task])
        assert task.done()
        await connection.close()
