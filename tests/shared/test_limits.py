"""Limits that two gateways share, and which each counts by itself while Redis is away."""

import asyncio

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, bearer, error_of, eventually
from tests.rig.redis import RedisServer
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, delta, finish, stream
from tests.rig.wire import Wire, close_all, post

KEY = "ann-0123456789abcdef"


def limited(redis: RedisServer, limit: str) -> str:
    return f'[store]\nurl = "{redis.url}"\n[[keys]]\nname = "ann"\nkey = "{KEY}"\n{limit}\n'


async def code(client: Client) -> str:
    async with client.post("/chat", json={"question": "hi"}, headers=bearer(KEY)) as response:
        return "ok" if response.status == 200 else (await error_of(response))[1]


async def test_requests_count_at_all_gateways_together(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    clients = [await gateway(limited(redis, "requests_per_minute = 3")) for _ in range(2)]
    upstream.script(stream(delta("a"), finish("stop"), DONE))
    assert [await code(clients[number % 2]) for number in range(4)] == ["ok", "ok", "ok", "rate_limit_exceeded"]


async def test_an_open_stream_takes_its_place_at_all_gateways(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    here, there = [await gateway(limited(redis, "max_streams = 1")) for _ in range(2)]
    upstream.script(stream(delta("a"), Stall()), stream(delta("b"), finish("stop"), DONE))
    body = {"question": "hi", "on_disconnect": "cancel"}
    wire = await Wire.open(here, post("/chat", body, **EVENTS, **bearer(KEY)))
    await wire.blocks(2)
    assert await code(there) == "too_many_streams"
    wire.cut("rst")
    await upstream.until(left=1)
    async with asyncio.timeout(5):
        while await code(there) == "too_many_streams":  # noqa: ASYNC110 - until another process has freed the place
            await asyncio.sleep(0.02)
    close_all()
    await asyncio.sleep(0)


async def test_fault_70_each_gateway_counts_by_itself_while_redis_is_away(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    clients = [await gateway(limited(redis, "requests_per_minute = 1")) for _ in range(2)]
    upstream.script(stream(delta("a"), finish("stop"), DONE))
    await redis.stop()
    assert [await code(client) for client in clients * 2] == ["ok", "ok"] + ["rate_limit_exceeded"] * 2
    lines = [record.getMessage() for record in caplog.records if "Redis is away" in record.getMessage()]
    assert len(lines) == 2  # one for each gateway
    await redis.start()
    await eventually(lambda: sum("Redis is back" in record.getMessage() for record in caplog.records) == 2)
    assert [await code(client) for client in clients] == ["ok", "rate_limit_exceeded"]
