"""Two gateways on one Redis: a stream of one is watched, resumed and stopped at the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import ClientPayloadError

from gateway.log.memory import MemoryStore
from gateway.shared.reader import Take
from gateway.streams.elsewhere import Elsewhere
from gateway.streams.followed import FollowedStream
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, Answer, bearer, error_of, eventually
from tests.rig.inside import held, streams
from tests.rig.receipts import sum_of
from tests.rig.redis import RedisServer
from tests.rig.scripted_upstream import DONE, Reset, ScriptedUpstream, Stall, Until, delta, finish, stream, usage
from tests.rig.wire import Wire, close_all, get, last_event_id, whole_blocks

Two = tuple[Client, Client]


@pytest.fixture(autouse=True)
async def nothing_left_open() -> AsyncIterator[None]:
    yield
    close_all()
    await asyncio.sleep(0)


@pytest.fixture
def two(gateway: MakeGateway, redis: RedisServer) -> Callable[..., Awaitable[Two]]:
    async def make(toml: str = "") -> Two:
        toml = f'[store]\nurl = "{redis.url}"\n{toml}'
        return await gateway(toml), await gateway(toml)

    return make


MakeTwo = Callable[..., Awaitable[Two]]


async def created(client: Client) -> dict[str, str]:
    async with client.post("/streams", json={"question": "hi"}) as response:
        assert response.status == 201
        body: dict[str, str] = await response.json()
        return body


async def read(client: Client, url: str, **headers: str) -> bytes:
    async with client.get(url, headers={**EVENTS, **headers}) as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def test_a_stream_is_watched_at_the_other_gateway(two: MakeTwo, upstream: ScriptedUpstream) -> None:
    here, there = await two()
    gate = asyncio.Event()
    upstream.script(stream(delta("one "), delta("two "), Until(gate), delta("three"), finish("stop"), usage(), DONE))
    stream_ = await created(here)
    reads = [asyncio.create_task(read(client, stream_["url"])) for client in (here, there, there)]
    await asyncio.sleep(0.3)
    gate.set()
    first, *others = await asyncio.gather(*reads)
    assert b"three" in first
    assert others == [first, first]
    assert await read(there, stream_["url"]) == first  # after the end
    assert Answer(first).end["receipt"] == sum_of("one two three")
    assert len(upstream.requests) == 1


async def test_a_client_of_chat_resumes_at_the_other_gateway(two: MakeTwo, upstream: ScriptedUpstream) -> None:
    here, there = await two()
    gate = asyncio.Event()
    upstream.script(stream(delta("one "), delta("two "), Until(gate), delta("three"), finish("stop"), DONE))
    wire = await Wire.open(here, get("/chat?q=hi", **EVENTS))
    start = await wire.blocks(3)
    wire.cut("rst")
    rest = asyncio.create_task(read(there, "/chat", **{"Last-Event-ID": last_event_id(start)}))
    await eventually(lambda: streams(there).viewers == 1)
    gate.set()
    whole = whole_blocks(start) + await rest
    assert whole.count(b"data: three") == 1
    identifier = last_event_id(start).partition(".")[0]
    assert whole == whole_blocks(start)[: whole.index(b"data: one")] + await read(
        here, "/chat", **{"Last-Event-ID": f"{identifier}.0"}
    )
    assert len(upstream.requests) == 1
    async with there.get("/chat", headers={**EVENTS, "Last-Event-ID": last_event_id(whole)}) as response:
        assert response.status == 204


async def test_a_stream_is_found_elsewhere_from_its_first_byte_on(two: MakeTwo, upstream: ScriptedUpstream) -> None:
    """The client of `/chat` has the id before anything is in Redis."""
    here, there = await two()
    upstream.script(stream(Stall()))
    wire = await Wire.open(here, get("/chat?q=hi", **EVENTS))
    start = await wire.blocks(1)
    other = await Wire.open(there, get("/chat", **EVENTS, **{"Last-Event-ID": last_event_id(start)}))
    assert (await other.head()).status == 200


async def test_a_ticket_stops_it_from_elsewhere_and_all_viewers_read_the_end(
    two: MakeTwo, upstream: ScriptedUpstream
) -> None:
    here, there = await two()
    upstream.script(stream(delta("a"), Stall()))
    one = await created(here)
    reads = [asyncio.create_task(read(client, one["viewer_url"])) for client in (here, there)]
    await eventually(lambda: held(here, one["id"]).viewers == 2)  # the one here, and one for those there
    async with there.delete(one["viewer_url"]) as response:
        assert await error_of(response) == (404, "stream_not_found")
    async with there.delete(one["url"]) as response:
        assert response.status == 204
    first, second = await asyncio.gather(*reads)
    assert b'"reason":"stopped"' in first
    assert second == first
    await upstream.until(left=1)
    async with there.delete(one["url"]) as response:
        assert response.status == 204  # nothing changes


async def test_keys_open_their_own_streams_only(two: MakeTwo, upstream: ScriptedUpstream) -> None:
    keys = "".join(f'[[keys]]\nname = "{name}"\nkey = "{name}-0123456789abcdef"\n' for name in ("ann", "bob"))
    here, there = await two(keys)
    upstream.script(stream(delta("a"), finish("stop"), DONE))
    ann, bob = bearer("ann-0123456789abcdef"), bearer("bob-0123456789abcdef")
    async with here.post("/streams", json={"question": "hi"}, headers=ann) as response:
        body = await response.json()
    path = body["url"].partition("?")[0]
    async with there.get(path, headers={**EVENTS, **bob}) as response:
        assert await error_of(response) == (404, "stream_not_found")
    async with there.get(path, headers={**EVENTS, **ann}) as response:
        assert response.status == 200
    async with there.get(path + "?ticket=AAAAAAAAAAAAAAAAAAAAAA", headers=EVENTS) as response:
        assert await error_of(response) == (404, "stream_not_found")
    async with there.get("/streams/AAAAAAAAAAAAAAAAAAAAAA", headers={**EVENTS, **ann}) as response:
        assert await error_of(response) == (404, "stream_not_found")


async def test_a_viewer_elsewhere_keeps_an_answer_running(two: MakeTwo, upstream: ScriptedUpstream) -> None:
    """The one who asked leaves. The answer goes on for as long as somebody watches it, wherever that is."""
    here, there = await two("[stream]\ngrace_seconds = 0.3\n")
    gate = asyncio.Event()
    upstream.script(stream(delta("a"), Until(gate), delta("b"), finish("stop"), DONE))
    wire = await Wire.open(here, get("/chat?q=hi", **EVENTS))
    start = await wire.blocks(2)
    watching = asyncio.create_task(read(there, "/chat", **{"Last-Event-ID": last_event_id(start)}))
    await eventually(lambda: streams(there).viewers > 0)
    await eventually(lambda: held(here, last_event_id(start).partition(".")[0]).viewers == 2)
    wire.cut("rst")
    await asyncio.sleep(0.6)
    gate.set()
    assert b'"reason":"complete"' in await watching


async def test_the_last_viewer_elsewhere_leaves_and_the_policy_decides(
    two: MakeTwo, upstream: ScriptedUpstream
) -> None:
    here, there = await two('[stream]\non_disconnect = "cancel"\n')
    upstream.script(stream(delta("a"), Stall()))
    one = await created(here)
    wire = await Wire.open(there, get(one["url"], **EVENTS))
    await wire.blocks(2)
    await eventually(lambda: streams(here).viewers + streams(there).viewers == 1)
    wire.cut("fin")
    await upstream.until(left=1)


async def test_polling_and_text_elsewhere(two: MakeTwo, upstream: ScriptedUpstream) -> None:
    here, there = await two()
    upstream.script(stream(delta("a"), delta("b"), finish("stop"), usage(), DONE))
    one = await created(here)
    await read(here, one["url"])
    await asyncio.sleep(0.2)
    for accept in ("application/json", "text/plain"):
        answers = []
        for client in (here, there):
            async with client.get(one["url"], headers={"Accept": accept}) as response:
                answers.append((response.status, response.content_type, await response.read()))
        assert answers[0] == answers[1]
        assert answers[0][0] == 200


async def test_a_failure_elsewhere_is_the_same_failure(two: MakeTwo, upstream: ScriptedUpstream) -> None:
    here, there = await two()
    upstream.script(stream(delta("a"), Reset()))
    one = await created(here)
    assert b"upstream_incomplete" in await read(here, one["url"])
    assert await read(there, one["url"]) == await read(here, one["url"])
    async with there.get(one["url"], headers={"Accept": "text/plain"}) as response:
        with pytest.raises(ClientPayloadError):  # broken off, as it is at the gateway that produced it
            await response.read()


async def test_what_a_gateway_has_forgotten_is_read_from_redis(two: MakeTwo, upstream: ScriptedUpstream) -> None:
    here, _ = await two()
    upstream.script(stream(delta("a"), finish("stop"), DONE))
    one = await created(here)
    whole = await read(here, one["url"])
    await asyncio.sleep(0.3)
    streams(here)._holding.forget(held(here, one["id"]))
    assert await read(here, one["url"]) == whole


async def test_streams_expire_in_redis(two: MakeTwo, upstream: ScriptedUpstream, redis: RedisServer) -> None:
    here, there = await two("[stream]\nkeep_seconds = 100\n")
    upstream.script(stream(delta("a"), finish("stop"), DONE))
    one = await created(here)
    await read(there, one["url"])
    await asyncio.sleep(0.2)
    assert await redis.say("TTL", f"gateway:s:{{{one['id']}}}:log") in (b":99\r\n", b":100\r\n")
    assert await redis.say("TTL", f"gateway:s:{{{one['id']}}}:meta") in (b":99\r\n", b":100\r\n")


async def test_a_stream_that_is_forgotten_at_its_end_has_an_end_in_redis(
    two: MakeTwo, upstream: ScriptedUpstream
) -> None:
    here, there = await two()
    gate = asyncio.Event()
    upstream.script(stream(delta("a"), Until(gate), finish("stop"), DONE))
    one = await created(here)
    watching = asyncio.create_task(read(there, one["url"]))
    await eventually(lambda: streams(there).viewers == 1)
    gate.set()
    await eventually(lambda: held(here, one["id"]).is_done)
    streams(here)._holding.forget(held(here, one["id"]))
    async with asyncio.timeout(2):
        assert b'"reason":"complete"' in await watching


def elsewhere_of(client: Client) -> Elsewhere:
    """What the gateway knows of the streams of others."""
    sharing = streams(client).sharing
    assert sharing is not None
    return sharing.elsewhere


def relieve(elsewhere: Elsewhere) -> None:
    """As when other copies take more than their bound."""
    store = elsewhere._store
    assert isinstance(store, MemoryStore)
    bound, store.bound = store.bound, 0
    elsewhere._relieve()
    store.bound = bound


async def test_a_copy_that_a_request_waits_for_is_not_dropped(two: MakeTwo, upstream: ScriptedUpstream) -> None:
    """A client comes back with an entry that is not in Redis yet, while copies without viewers make room."""
    here, there = await two()
    gate = asyncio.Event()
    upstream.script(stream(delta("a"), Until(gate), delta("b"), finish("stop"), DONE))
    one = await created(here)
    elsewhere = elsewhere_of(there)
    finding = asyncio.create_task(elsewhere.find(one["id"], number=3))
    await eventually(lambda: len(elsewhere) == 1)
    relieve(elsewhere)
    gate.set()
    found = await finding
    assert found is not None
    await eventually(lambda: found.log.ended)
    relieve(elsewhere)
    assert len(elsewhere) == 0


async def test_a_viewer_of_a_copy_that_was_dropped_before_it_came_is_cut(
    two: MakeTwo, upstream: ScriptedUpstream
) -> None:
    """It comes back, and gets another copy. It would wait for ever for what the first one does not get."""
    here, there = await two()
    upstream.script(stream(delta("a"), Stall()))
    one = await created(here)
    elsewhere = elsewhere_of(there)
    found = await elsewhere.find(one["id"])
    assert found is not None
    relieve(elsewhere)
    was_cut = asyncio.Event()
    found.attach(was_cut.set)
    async with asyncio.timeout(1):
        await was_cut.wait()
    found.detach(was_cut.set)
    assert len(elsewhere) == 0


async def test_a_copy_whose_only_client_left_while_it_was_read_is_dropped(
    two: MakeTwo, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the same time as any other without viewers."""
    here, there = await two()
    upstream.script(stream(delta("a"), Stall()))
    one = await created(here)
    elsewhere = elsewhere_of(there)
    load, begun, gate = elsewhere._reader.load, asyncio.Event(), asyncio.Event()

    async def slowly(stream_id: str, take: Take) -> None:
        begun.set()
        await gate.wait()
        await load(stream_id, take)

    monkeypatch.setattr(elsewhere._reader, "load", slowly)
    finding = asyncio.create_task(elsewhere.find(one["id"]))
    await begun.wait()
    finding.cancel()
    gate.set()
    await eventually(lambda: len(elsewhere) == 1)
    assert elsewhere._streams[one["id"]].timer is not None


async def copied(two: MakeTwo, upstream: ScriptedUpstream) -> tuple[Client, Client, dict[str, str], FollowedStream]:
    """Both gateways, a stream that the first one has produced, and the copy of it that the second one has."""
    here, there = await two()
    upstream.script(stream(delta("a"), finish("stop"), DONE))
    one = await created(here)
    await read(there, one["url"])
    found = await elsewhere_of(there).find(one["id"])
    assert found is not None
    return here, there, one, found


async def test_a_ticket_of_a_stream_whose_time_is_over_in_redis_makes_no_new_one(
    two: MakeTwo, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """It would have no producer, and nobody could read it. The next one who looks for it finds nothing."""
    here, _, one, found = await copied(two, upstream)
    key = f"gateway:s:{{{one['id']}}}:meta"
    before = int((await redis.say("HLEN", key)).strip(b":\r\n"))
    found.tickets.issue(may_stop=True)
    await found.publish()
    assert int((await redis.say("HLEN", key)).strip(b":\r\n")) == before + 1
    streams(here)._holding.forget(held(here, one["id"]))
    await redis.say("DEL", key)
    await found.publish()
    assert await redis.say("EXISTS", key) == b":0\r\n"


async def test_a_ticket_that_is_about_to_be_published_is_not_lost_to_another_request(
    two: MakeTwo, upstream: ScriptedUpstream
) -> None:
    """Which finds the same stream, in Redis without it."""
    here, there = await two()
    upstream.script(stream(delta("a"), finish("stop"), DONE))
    one = await created(here)
    found = await elsewhere_of(there).find(one["id"])
    assert found is not None
    ticket = found.tickets.issue(may_stop=True)
    await read(there, one["url"])
    await found.publish()
    assert b"data: a" in await read(here, f"/streams/{one['id']}?ticket={ticket}")


async def tickets_of(redis: RedisServer, stream_id: str) -> int:
    """How many Redis has."""
    return (await redis.say("HKEYS", f"gateway:s:{{{stream_id}}}:meta")).count(b"\r\nt:")


async def test_tickets_without_end_take_no_room_without_end_in_redis(
    two: MakeTwo, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """Wherever they are issued. The first ones open the stream everywhere, and so do the newest of its producer."""
    here, there, one, found = await copied(two, upstream)
    own = held(here, one["id"])
    for _ in range(100):
        found.tickets.issue(may_stop=True)
        await found.publish()
    assert await tickets_of(redis, one["id"]) == 32
    for _ in range(100):
        newest = own.tickets.issue(may_stop=True)
        await own.publish()
        assert await tickets_of(redis, one["id"]) <= 64
    assert int((await redis.say("PTTL", f"gateway:s:{{{one['id']}}}:meta")).strip(b":\r\n")) > 0
    for client in (here, there):
        for url in (one["url"], one["viewer_url"], f"/streams/{one['id']}?ticket={newest}"):
            assert b"data: a" in await read(client, url)


async def test_what_is_left_of_a_stream_in_redis_is_none(
    two: MakeTwo, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """As an older version could leave it behind: a ticket without a producer."""
    here, there = await two()
    upstream.script(stream(delta("a"), finish("stop"), DONE))
    one = await created(here)
    await read(here, one["url"])
    name = f"{one['id'][:-1]}{'A' if one['id'][-1] != 'A' else 'Q'}"
    await redis.say("HSET", f"gateway:s:{{{name}}}:meta", "t:" + "00" * 32, "1")
    async with there.get(f"/streams/{name}?ticket={'A' * 22}", headers=EVENTS) as response:
        assert await error_of(response) == (404, "stream_not_found")
    await redis.say("DEL", f"gateway:s:{{{one['id']}}}:meta")
    await redis.say("HSET", f"gateway:s:{{{one['id']}}}:meta", "t:" + "00" * 32, "1")
    async with here.get(one["url"].replace("ticket=", "ticket=x"), headers=EVENTS) as response:
        assert await error_of(response) == (404, "stream_not_found")
