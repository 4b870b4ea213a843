"""Redis stopped, restarted, flushed, slowed, and incomplete, in the middle of streams."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, ask, eventually
from tests.rig.inside import streams
from tests.rig.redis import RedisServer, SlowProxy
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Until, delta, finish, stream
from tests.rig.wire import Wire, close_all, get
from tests.shared.test_two_gateways import created, read

WHOLE = [delta("one "), delta("two ")]
REST = [delta("three"), finish("stop"), DONE]


@pytest.fixture(autouse=True)
async def nothing_left_open() -> AsyncIterator[None]:
    yield
    close_all()
    await asyncio.sleep(0)


async def status_of(client: Client, url: str) -> int:
    async with client.get(url, headers={"Accept": "application/json"}) as response:
        if response.status == 503:
            assert response.headers["Retry-After"] == "2"
            assert (await response.json())["error"]["code"] == "store_unavailable"
        return response.status


async def becomes(client: Client, url: str, status: int) -> None:
    async with asyncio.timeout(10):
        while await status_of(client, url) != status:  # noqa: ASYNC110 - the state of another system
            await asyncio.sleep(0.05)


async def told_of_redis(client: Client) -> tuple[str, float, float]:
    """By `/readyz`, and by the gauges: whether it is there, and how many streams it does not have to their ends."""
    async with client.get("/readyz") as response:
        told = (await response.json())["redis"]
    async with client.get("/metrics") as response:
        lines = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines() if not line.startswith("#"))
    return told, float(lines["gateway_redis_up"]), float(lines["gateway_streams_unsent"])


async def test_fault_70_redis_away_and_back(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """A client that is attached where the answer is produced loses nothing. Elsewhere it waits until Redis is back."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    gate = asyncio.Event()
    upstream.script(stream(*WHOLE, Until(gate), *REST))
    one = await created(here)
    reading = asyncio.create_task(read(here, one["url"]))
    await becomes(there, one["url"], 200)
    following = asyncio.create_task(read(there, one["url"]))
    assert await told_of_redis(here) == ("up", 1, 1)
    await redis.stop()
    await becomes(there, one["url"], 503)
    assert await status_of(here, one["url"]) == 200  # a resume where the stream is needs no Redis
    gate.set()
    whole = await reading
    assert b"data: three" in whole
    assert b'"reason":"complete"' in whole
    assert await status_of(there, one["url"]) == 503
    assert await told_of_redis(here) == ("away", 0, 1)
    await redis.start()  # empty
    await becomes(there, one["url"], 200)
    assert await read(there, one["url"]) == whole == await following
    assert await told_of_redis(here) == ("up", 1, 0)
    assert len(upstream.requests) == 1


async def test_fault_70_new_answers_while_redis_is_away(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    await redis.stop()
    upstream.script(stream(*WHOLE, *REST))
    one = await created(here)
    whole = await read(here, one["url"])
    assert b'"reason":"complete"' in whole
    await redis.start()
    await becomes(there, one["url"], 200)
    assert await read(there, one["url"]) == whole


async def test_fault_70_a_redis_that_takes_no_writes(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """As after the loss of its replicas: it answers and refuses. Nothing is lost, and nobody is called dead."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    gate = asyncio.Event()
    upstream.script(stream(*WHOLE, Until(gate), *REST), stream(*WHOLE, *REST))
    one = await created(here)
    await becomes(there, one["url"], 200)
    following = asyncio.create_task(read(there, one["url"]))
    await redis.say("CONFIG", "SET", "min-replicas-to-write", "1")
    await becomes(there, one["url"], 503)
    gate.set()
    whole = await read(here, one["url"])
    assert b'"reason":"complete"' in whole
    other = await created(here)
    assert await status_of(there, other["url"]) == 503
    await asyncio.sleep(1.2)  # one check whether it is back
    assert await status_of(there, other["url"]) == 503
    await redis.say("CONFIG", "SET", "min-replicas-to-write", "0")
    assert await following == whole
    await becomes(there, other["url"], 200)
    assert await read(there, other["url"]) == await read(here, other["url"])
    lines = [record.getMessage().partition(":")[0] for record in caplog.records if "Redis" in record.getMessage()]
    assert sorted(lines) == ["Redis is away"] * 2 + ["Redis is back"] * 2


async def test_fault_70_an_entry_that_redis_withholds_is_not_unknown(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """Redis falls silent while another gateway waits for an entry that the client has."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    upstream.script(stream(*WHOLE, Until(asyncio.Event())))
    one = await created(here)
    await becomes(there, one["url"], 200)
    ahead = {**EVENTS, "Last-Event-ID": f"{one['id']}.3"}
    asking = asyncio.create_task(there.get(one["url"], headers=ahead))
    await asyncio.sleep(0.3)
    redis.freeze()
    try:
        assert (await asking).status == 503
    finally:
        redis.thaw()
    await becomes(there, one["url"], 200)
    async with there.get(one["url"], headers=ahead) as response:
        assert response.status == 404  # nobody has it


async def test_fault_70_no_stream_is_unknown_before_its_producer_knows_that_redis_is_back(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, proxy: SlowProxy
) -> None:
    """A browser takes 404 for the end. So until streams are written again, the answer is 503 with `retry-after`."""
    here, there = [await gateway(f'[store]\nurl = "{url}"\n') for url in (proxy.url, redis.url)]
    upstream.script(stream(*WHOLE, *REST))
    known = await created(here)
    await becomes(there, known["url"], 200)
    await redis.stop()
    await becomes(there, known["url"], 503)
    one = await created(here)
    assert b'"reason":"complete"' in await read(here, one["url"])
    proxy.delay = 0.15  # so its process knows later than the other one that Redis is back
    await redis.start()
    statuses = []
    async with asyncio.timeout(10):
        while 200 not in statuses:
            statuses.append(await status_of(there, one["url"]))
    assert set(statuses) <= {503, 200}
    await becomes(there, one["url"].replace(one["id"], "x" * 22), 404)


async def test_fault_70_a_gateway_that_starts_when_redis_is_back_waits_for_the_producers(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, proxy: SlowProxy
) -> None:
    """It has not seen that Redis was away. A producer may not yet know that Redis is back."""
    here = await gateway(f'[store]\nurl = "{proxy.url}"\n')
    upstream.script(stream(*WHOLE, *REST))
    await redis.stop()
    one = await created(here)
    whole = await read(here, one["url"])
    assert (await told_of_redis(here))[0] == "away"
    proxy.delay = 0.05
    await redis.start()
    there = await gateway(f'[store]\nurl = "{redis.url}"\n')
    assert await read(there, one["url"]) == whole


async def test_fault_72_redis_is_flushed(gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer) -> None:
    """Running and ended streams are written again. A client that follows elsewhere notices nothing."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    gate = asyncio.Event()
    upstream.script(stream(*WHOLE, *REST), stream(*WHOLE, Until(gate), *REST))
    ended = await created(here)
    whole = await read(here, ended["url"])
    running = await created(here)
    reading = asyncio.create_task(read(there, running["url"]))
    await becomes(there, ended["url"], 200)
    await becomes(there, running["url"], 200)
    await redis.say("FLUSHALL")
    gate.set()
    assert b"data: three" in await reading
    assert await read(there, running["url"]) == await read(here, running["url"])
    other = await gateway(f'[store]\nurl = "{redis.url}"\n')
    await becomes(other, ended["url"], 200)
    assert await read(other, ended["url"]) == whole


async def test_fault_72_a_key_that_redis_has_evicted_is_written_again(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """A gateway with viewers misses it, and tells the one that produces the stream."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    gate = asyncio.Event()
    upstream.script(stream(*WHOLE, Until(gate), *REST))
    one = await created(here)
    await becomes(there, one["url"], 200)
    following = asyncio.create_task(read(there, one["url"]))
    await asyncio.sleep(0.2)  # all that was said is there
    meta = f"gateway:s:{{{one['id']}}}:meta"
    assert await redis.say("DEL", meta) == b":1\r\n"
    async with asyncio.timeout(8):
        while await redis.say("EXISTS", meta) != b":1\r\n":  # noqa: ASYNC110 - the state of another system
            await asyncio.sleep(0.1)
    gate.set()
    assert await following == await read(here, one["url"])


async def test_fault_71_a_slow_redis_delays_nobody_who_is_attached(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, proxy: SlowProxy
) -> None:
    here, there = [await gateway(f'[store]\nurl = "{proxy.url}"\n') for _ in range(2)]
    gate = asyncio.Event()
    upstream.script(stream(*WHOLE, Until(gate), *REST))
    one = await created(here)
    wire = await Wire.open(here, get(one["url"], **EVENTS))
    await wire.blocks(3)
    proxy.delay = 1.0
    await becomes(there, one["url"], 503)
    gate.set()
    async with asyncio.timeout(0.5):
        whole = (await wire.whole()).body
    assert b'"reason":"complete"' in whole
    proxy.delay = 0.0
    await becomes(there, one["url"], 200)
    assert await read(there, one["url"]) == whole


async def test_fault_72_a_gap_is_told(gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer) -> None:
    """As behind a failover of Redis that lost what it had acknowledged."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    first, second = asyncio.Event(), asyncio.Event()
    upstream.script(stream(delta("one "), Until(first), delta("two "), Until(second), *REST))
    one = await created(here)
    reading = asyncio.create_task(read(here, one["url"]))
    log = f"gateway:s:{{{one['id']}}}:log"
    await settled(redis, log, b"1-0")
    first.set()
    await settled(redis, log, b"2-0")
    await redis.say("XDEL", log, "2-0")
    second.set()
    assert b'"reason":"complete"' in await reading
    await settled(redis, log, b"4-0")
    async with there.get(one["url"], headers=EVENTS) as response:
        assert response.status == 410
        assert (await response.json())["error"]["code"] == "recording_lost"


async def test_fault_72_a_gap_is_told_to_those_who_follow(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    gate = asyncio.Event()
    upstream.script(stream(delta("one "), Until(gate), *REST))
    one = await created(here)
    wire = await Wire.open(there, get(one["url"], **EVENTS))
    await wire.blocks(2)
    await redis.say("XADD", f"gateway:s:{{{one['id']}}}:log", "7-0", "b", b"\x92\x07\x90")  # number 7, and no entries
    body = (await wire.whole()).body
    assert b"recording_lost" in body
    assert b'"reason":"incomplete"' in body
    gate.set()


@pytest.mark.long
async def test_fault_72_what_ended_while_a_gateway_was_cut_off_from_redis_is_lost_to_its_viewers(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, proxy: SlowProxy
) -> None:
    """The stream has expired in Redis, and its producer lives and has forgotten it. The viewer is told within 10 s."""
    short = "[stream]\nkeep_seconds = 1\n"
    here, there = [await gateway(f'{short}[store]\nurl = "{url}"\n') for url in (redis.url, proxy.url)]
    gate = asyncio.Event()
    upstream.script(stream(*WHOLE, Until(gate), *REST))
    one = await created(here)
    reading = asyncio.create_task(read(here, one["url"]))
    following = asyncio.create_task(read(there, one["url"]))
    await eventually(lambda: streams(there).viewers == 1)
    proxy.delay = 60.0  # no reply arrives
    await becomes(there, one["url"], 503)
    gate.set()
    assert b'"reason":"complete"' in await reading
    async with asyncio.timeout(30):  # viewers of a gateway that is silent count for 15 s more
        while await status_of(here, one["url"]) != 404:  # noqa: ASYNC110 - the state of another system
            await asyncio.sleep(0.5)
    proxy.delay = 0.0
    async with asyncio.timeout(20):
        body = await following
    assert b"recording_lost" in body
    assert b'"reason":"incomplete"' in body


async def settled(redis: RedisServer, log: str, number: bytes) -> None:
    """Waits until the log has the batch."""
    async with asyncio.timeout(5):
        while number not in await redis.say("XRANGE", log, "-", "+"):  # noqa: ASYNC110 - the state of another system
            await asyncio.sleep(0.02)


KEY = {"Idempotency-Key": "3d0b6f52-6a09-4f0f-8c68-5a2c1d8f7e11"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
CUTS = 2  # each takes a second, until Redis is asked again


@pytest.mark.parametrize("surface", ["/streams", "/v1/chat/completions"])
async def test_fault_73_a_reader_that_redis_cuts_reads_on_where_it_was(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, surface: str
) -> None:
    """As Redis does to a client whose output buffer is over its limit. No entry is lost, and none comes twice."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]
    gates = [asyncio.Event() for _ in range(CUTS)]
    parts = [part for number, gate in enumerate(gates) for part in (delta(f"{number} "), Until(gate), delta("then "))]
    upstream.script(stream(*parts, *REST))
    if surface == "/streams":
        one = await created(here)
        reads = [asyncio.create_task(read(client, one["url"])) for client in (here, there)]
    else:
        reads = [asyncio.create_task(joined(here))]
        await upstream.until(requests=1)
        reads.append(asyncio.create_task(joined(there)))
    await eventually(lambda: streams(there).viewers == 1)
    sharing = streams(there).sharing
    assert sharing is not None
    for gate in gates:
        async with asyncio.timeout(5):
            while sharing.connection.is_up:  # until it has a connection to be cut
                await redis.say("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                await asyncio.sleep(0.05)
        gate.set()
        await eventually(lambda: sharing.connection.is_up)
    own, followed = await asyncio.gather(*reads)
    assert followed == own
    assert own.count(b"then ") == CUTS
    assert own.count(b"three") == 1
    assert len(upstream.requests) == 1


async def joined(client: Client) -> bytes:
    async with client.post("/v1/chat/completions", json=CHAT, headers=KEY) as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def test_fault_74_a_stream_whose_time_has_passed_is_as_an_unknown_one(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """Also for who resumes it, at the gateway that had it and at the other one."""
    here, there = [await gateway(f'[store]\nurl = "{redis.url}"\n[stream]\nkeep_seconds = 1\n') for _ in range(2)]
    upstream.script(stream(*WHOLE, *REST))
    one = await created(here)
    await read(here, one["url"])
    for client in (here, there):
        await becomes(client, one["url"], 404)
        async with client.get(one["url"], headers={**EVENTS, "Last-Event-ID": f"{one['id']}.1"}) as response:
            assert response.status == 404
        async with client.get("/chat", headers={**EVENTS, "Last-Event-ID": f"{one['id']}.1"}) as response:
            assert response.status == 404
    assert len(upstream.requests) == 1


async def test_a_redis_that_is_never_there_stops_nobody(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway('[store]\nurl = "redis://127.0.0.1:1/0"\n')
    upstream.script(stream(*WHOLE, *REST))
    assert (await ask(client)).text == "one two three"


async def test_a_user_without_a_right_is_told_of_in_the_log_and_stops_nobody(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await redis.say("ACL", "SETUSER", "poor", "on", ">sesame", "~*", "+@all", "-hgetall", "-xread")
    url = redis.url.replace("redis://", "redis://poor:sesame@")
    here, there = [await gateway(f'[store]\nurl = "{url}"\n') for _ in range(2)]
    upstream.script(stream(*WHOLE, *REST))
    one = await created(here)
    assert b'"reason":"complete"' in await read(here, one["url"])
    for _ in range(2):
        assert await status_of(there, one["url"]) == 503
    refused = [record.getMessage() for record in caplog.records if record.getMessage().startswith("Redis refuses")]
    assert sorted(line.split()[2] for line in refused) == ["HGETALL:", "XREAD:", "XREAD:"]  # one of each gateway
