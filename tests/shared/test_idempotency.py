"""One idempotency key at two gateways: one answer, whichever gateway it comes to, and when."""

import asyncio
import copy

import pytest

from gateway.shared.keys import Keys
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, error_of, eventually
from tests.rig.inside import held, streams
from tests.rig.redis import RedisServer
from tests.rig.scripted_upstream import (
    DONE,
    Reset,
    ScriptedUpstream,
    Stall,
    Until,
    answer,
    delta,
    finish,
    stream,
    usage,
)

KEY = {"Idempotency-Key": "0b9d8c5e-7a54-4ad0-9f7e-3f6a5cf41c0d"}
ANSWER = stream(delta("one "), delta("two"), finish("stop"), usage(), DONE)


@pytest.fixture
async def two(gateway: MakeGateway, redis: RedisServer) -> list[Client]:
    return [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]


async def ask(client: Client, question: str = "hi", **fields: str) -> tuple[int, bytes]:
    async with client.post("/chat", json={"question": question}, headers={**EVENTS, **KEY, **fields}) as response:
        return response.status, await response.read()


def without_start(body: bytes) -> bytes:
    return body.partition(b"\n\n")[2]


async def test_a_retry_elsewhere_joins_the_answer(two: list[Client], upstream: ScriptedUpstream) -> None:
    here, there = two
    gate = asyncio.Event()
    upstream.script(stream(delta("one "), Until(gate), delta("two"), finish("stop"), DONE))
    asking = asyncio.create_task(ask(here))
    await upstream.until(requests=1)
    again = asyncio.create_task(ask(there))
    await asyncio.sleep(0.2)
    gate.set()
    (_, first), (code, second) = await asyncio.gather(asking, again)
    assert code == 200
    assert without_start(second) == without_start(first)
    assert len(upstream.requests) == 1


async def test_many_at_the_same_moment_start_one_answer(two: list[Client], upstream: ScriptedUpstream) -> None:
    upstream.script(ANSWER)
    answers = await asyncio.gather(*[ask(two[number % 2]) for number in range(20)])
    assert len({without_start(body) for _, body in answers}) == 1
    assert len(upstream.requests) == 1


async def test_another_question_with_the_same_key_is_a_conflict(two: list[Client], upstream: ScriptedUpstream) -> None:
    here, there = two
    upstream.script(ANSWER)
    await ask(here)
    async with there.post("/chat", json={"question": "other"}, headers={**EVENTS, **KEY}) as response:
        assert (await error_of(response))[1] == "idempotency_conflict"


async def test_a_retry_elsewhere_gets_json_and_tickets(two: list[Client], upstream: ScriptedUpstream) -> None:
    here, there = two
    upstream.script(ANSWER)
    texts = []
    for client in (here, there):
        async with client.post("/chat", json={"question": "hi"}, headers=KEY) as response:
            body = await response.json()
            texts.append((body["choices"][0]["message"]["content"], body["usage"]))
    assert texts[0] == texts[1]
    async with there.post("/streams", json={"question": "hi"}, headers=KEY) as response:
        assert response.status == 201
        url = (await response.json())["url"]
    for client in (here, there):
        async with client.delete(url) as response:
            assert response.status == 204


async def test_a_refused_answer_frees_the_key(two: list[Client], upstream: ScriptedUpstream) -> None:
    here, there = two
    upstream.script(answer(500, {}), ANSWER)
    assert b"upstream_error" in (await ask(here))[1]
    await asyncio.sleep(0.3)  # until the other gateway knows it; before that, it shows the same failure
    assert b"data: two" in (await ask(there))[1]
    assert b"data: two" in (await ask(here))[1]
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("at", ["elsewhere", "where it was forgotten"])
async def test_a_refused_answer_frees_the_key_for_another_question(
    two: list[Client], upstream: ScriptedUpstream, at: str
) -> None:
    here, there = two
    upstream.script(answer(500, {}), ANSWER)
    assert b"upstream_error" in (await ask(here))[1]
    await asyncio.sleep(0.3)
    if at != "elsewhere":
        (stream_,) = streams(here)
        streams(here)._holding.forget(stream_)
    code, body = await ask(there if at == "elsewhere" else here, "other")
    assert code == 200
    assert b"data: two" in body


async def test_an_answer_that_failed_as_json_is_asked_anew_elsewhere(
    two: list[Client], upstream: ScriptedUpstream
) -> None:
    """Its client saw nothing of it."""
    here, there = two
    upstream.script(stream(delta("one "), Reset()), ANSWER)
    async with here.post("/chat", json={"question": "hi"}, headers=KEY) as response:
        assert (await error_of(response))[1] == "upstream_incomplete"
    await asyncio.sleep(0.3)
    async with there.post("/chat", json={"question": "hi"}, headers=KEY) as response:
        assert (await response.json())["choices"][0]["message"]["content"] == "one two"


async def test_an_answer_that_failed_before_the_eyes_of_its_client_keeps_its_key(
    two: list[Client], upstream: ScriptedUpstream
) -> None:
    here, there = two
    upstream.script(stream(delta("one "), Reset()))
    _, first = await ask(here)
    assert b"upstream_incomplete" in first
    await asyncio.sleep(0.3)
    assert without_start((await ask(there))[1]) == without_start(first)
    for client in two:
        assert (await ask(client, "other"))[0] == 409
    assert len(upstream.requests) == 1


async def test_a_key_of_a_forgotten_answer_finds_it_in_redis(two: list[Client], upstream: ScriptedUpstream) -> None:
    here, _ = two
    upstream.script(ANSWER)
    _, first = await ask(here)
    (stream_,) = list(streams(here))
    await asyncio.sleep(0.3)
    streams(here)._holding.forget(held(here, stream_.id))
    _, second = await ask(here)
    assert without_start(second) == without_start(first)
    assert len(upstream.requests) == 1


async def response_of(client: Client, **fields: object) -> str:
    """The id of a response for the key, and so of its stream."""
    body = {"model": "m", "input": "hi", **fields}
    async with client.post("/v1/responses", json=body, headers=KEY) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["id"])


async def delete(client: Client, name: str) -> None:
    async with client.delete(f"/v1/responses/{name}") as response:
        assert response.status == 200


async def text_of(client: Client, name: str) -> str:
    async with client.get(f"/v1/responses/{name}") as response:
        assert response.status == 200
        return str((await response.json())["output"][0]["content"][0]["text"])


NEW = stream(delta("new"), finish("stop"), DONE)


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("again", [0, 1])
async def test_a_key_of_a_deleted_answer_starts_another_one(
    two: list[Client], upstream: ScriptedUpstream, at: int, again: int
) -> None:
    upstream.script(ANSWER, NEW)
    old = await response_of(two[0])
    assert await text_of(two[1], old) == "one two"
    await delete(two[at], old)
    await eventually(lambda: streams(two[0]).held == 0)
    new = await response_of(two[again])
    assert new != old
    for client in two:
        assert await text_of(client, new) == "new"
    assert len(upstream.requests) == 2


async def test_a_deleted_answer_frees_its_key_in_redis_and_no_other_key(
    two: list[Client], upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    upstream.script(ANSWER)
    old = await response_of(two[0])
    assert b"gateway:i:" in await redis.say("KEYS", "*")
    sharing = streams(two[0]).sharing
    assert sharing is not None
    (stream_,) = streams(two[0])
    assert stream_.idempotency_key is not None
    await sharing._claims.release(stream_.idempotency_key, stream_.id[:-1])
    assert b"gateway:i:" in await redis.say("KEYS", "*")
    await delete(two[0], old)
    assert b"gateway:i:" not in await redis.say("KEYS", "*")


async def test_a_deleted_answer_that_is_still_watched_does_not_end_the_next_one(
    two: list[Client], upstream: ScriptedUpstream
) -> None:
    """It is forgotten when its last viewer leaves, and takes nothing with it."""
    here, _ = two
    gate = asyncio.Event()
    upstream.script(stream(delta("old"), Stall()), stream(delta("new"), Until(gate), finish("stop"), DONE))
    old = await response_of(here, background=True)
    (deleted,) = streams(here)
    deleted.attach(cut := lambda: None)
    await delete(here, old)
    new = await response_of(here, background=True)
    assert new != old
    await eventually(lambda: deleted.is_done)
    deleted.detach(cut)
    assert [stream.generation is deleted.generation for stream in streams(here)] == [False]
    gate.set()
    await eventually(lambda: len(streams(here)) == 0)
    assert await text_of(here, new) == "new"


async def test_a_stream_that_is_forgotten_takes_no_other_one_with_it(
    two: list[Client], upstream: ScriptedUpstream
) -> None:
    """Also if both had the same id."""
    here, _ = two
    upstream.script(ANSWER)
    name = await response_of(here)
    (kept,) = streams(here)
    holding = streams(here)._holding
    other = copy.copy(kept)
    holding.forget(other)
    assert list(streams(here)) == [kept]
    assert await text_of(here, name) == "one two"
    assert kept.id in holding._idle


async def test_without_redis_each_gateway_knows_its_own_keys(
    two: list[Client], upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    here, there = two
    await redis.stop()
    upstream.script(ANSWER)
    assert without_start((await ask(here))[1]) == without_start((await ask(here))[1])
    assert len(upstream.requests) == 1
    assert (await ask(there))[0] == 200
    assert len(upstream.requests) == 2


async def test_what_may_not_be_stored_is_nowhere_else(
    two: list[Client], upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    here, there = two
    upstream.script(stream(delta("secret"), Stall()))
    async with here.post("/streams", json={"question": "hi", "store": False}, headers=KEY) as response:
        url = (await response.json())["url"]
    async with here.get(url, headers=EVENTS) as response:
        assert b"secret" in await response.content.readuntil(b"secret")
        await asyncio.sleep(0.3)
        keys = await redis.say("KEYS", "*")
        assert b"gateway:s:" not in keys
        assert b"gateway:i:" not in keys
        async with there.get(url, headers=EVENTS) as other:
            assert await error_of(other) == (404, "stream_not_found")
    async with here.post("/chat", json={"question": "hi", "store": "no"}) as response:
        assert await error_of(response) == (400, "invalid_request")


def test_keys_of_one_stream_share_a_slot_and_say_nothing() -> None:
    keys = Keys("x:")
    assert keys.log("ID") == "x:s:{ID}:log"
    assert keys.meta("ID") == "x:s:{ID}:meta"
    name = keys.idempotency("key:ann", "secret")
    assert "ann" not in name
    assert "secret" not in name
    assert name != keys.idempotency("key:an", "nsecret")
