"""Limits that two gateways share, and which each counts by itself while Redis is away."""

import asyncio

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, bearer, error_of, eventually
from tests.rig.redis import RedisServer
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, delta, finish, stream, usage
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


MODEL = '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\nprices = {input = 10.0, output = 100.0}\n'
PAID = stream(delta("a"), finish("stop"), usage(prompt_tokens=100, completion_tokens=50), DONE)  # 6,000 millionths


def with_budget(redis: RedisServer, amount: float) -> str:
    return MODEL + limited(redis, f'budget = {{amount = {amount}, per = "month", max_tokens = 50}}')


async def test_a_budget_is_spent_by_all_gateways_together_and_outlives_them(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """Each answer costs 0.006, so the fourth finds too little for 16 tokens."""
    upstream.script(PAID)
    clients = [await gateway(with_budget(redis, 0.019)) for _ in range(2)]
    assert [await code(clients[number % 2]) for number in range(3)] == ["ok"] * 3
    for client in clients:
        await client.close()
    restarted = await gateway(with_budget(redis, 0.019))
    assert await code(restarted) == "insufficient_quota"


async def test_what_is_spent_while_redis_is_away_is_charged_on_its_return(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway goes on from what it last heard. This Redis has lost everything by its return."""
    upstream.script(PAID)
    client = await gateway(with_budget(redis, 0.019))
    assert await code(client) == "ok"
    await redis.stop()
    assert [await code(client) for _ in range(3)] == ["ok", "ok", "insufficient_quota"]
    await redis.start()
    await eventually(lambda: any("Redis is back" in record.getMessage() for record in caplog.records))
    other = await gateway(with_budget(redis, 0.019))
    assert [await code(other) for _ in range(2)] == ["ok", "insufficient_quota"]
