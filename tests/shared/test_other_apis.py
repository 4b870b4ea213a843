"""Answers of the OpenAI APIs at two gateways on one Redis: whichever a client comes back to has all of them."""

import asyncio
import io
import json
import re

import pytest

from tests.conftest import Client, MakeGateway
from tests.handlers.test_messages import HI as MESSAGE
from tests.handlers.test_responses import BACKGROUND, HI, RICH, STREAMED, got, made, refused, rest, told
from tests.handlers.test_upstream_responses import response as whole_response
from tests.responses.judge import Judge
from tests.rig.clients import bearer, eventually
from tests.rig.completions import COMPLETION, post, streamed
from tests.rig.completions import HI as CHAT
from tests.rig.completions import STREAMED as CHAT_STREAMED
from tests.rig.inside import streams
from tests.rig.redis import RedisServer
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    ScriptedUpstream,
    Stall,
    Until,
    answer,
    chunk,
    delta,
    event,
    finish,
    stream,
)

KEY = {"Idempotency-Key": "0b9d8c5e-7a54-4ad0-9f7e-3f6a5cf41c0d"}


@pytest.fixture
async def two(gateway: MakeGateway, redis: RedisServer) -> list[Client]:
    return [await gateway(f'[store]\nurl = "{redis.url}"\n') for _ in range(2)]


async def message(client: Client, asked: dict[str, object]) -> bytes:
    async with client.post("/v1/messages", json=asked, headers=KEY) as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def test_a_response_is_everywhere(two: list[Client], upstream: ScriptedUpstream) -> None:
    here, there = two
    upstream.script(stream(*RICH), stream(delta("done"), finish(), DONE))
    events = await told(here, STREAMED)
    response = Judge().judge(events)
    name = response["id"]
    assert await rest(there, name) == events
    assert await got(there, name) == response
    for after in (0, len(events) // 2, len(events) - 1):
        assert await rest(there, name, after) == events[after + 1 :]
    assert len(upstream.requests) == 1
    second = await made(there, {**HI, "previous_response_id": name})
    assert second["previous_response_id"] == name
    assert [message["role"] for message in upstream.requests[1].json["messages"]] == ["user", "assistant", "user"]  # type: ignore[attr-defined] # JSON


async def test_one_in_the_background_is_followed_and_cancelled_elsewhere(
    two: list[Client], upstream: ScriptedUpstream
) -> None:
    here, there = two
    upstream.script(stream(delta("a"), Stall()))
    name = (await made(here, BACKGROUND))["id"]
    following = asyncio.ensure_future(rest(there, name))
    await upstream.until(requests=1)
    await asyncio.sleep(0.2)
    async with there.post(f"/v1/responses/{name}/cancel") as response:
        assert (await response.json())["status"] == "cancelled"
    assert Judge().judge(await following)["status"] == "cancelled"
    await upstream.until(left=1)


@pytest.mark.parametrize("at", [0, 1])
async def test_a_deleted_response_is_nowhere(two: list[Client], upstream: ScriptedUpstream, at: int) -> None:
    upstream.script(stream(*RICH))
    name = (await told(two[0], STREAMED))[0]["response"]["id"]
    await got(two[1], name)
    async with two[at].delete(f"/v1/responses/{name}") as response:
        assert response.status == 200
    await asyncio.sleep(0.2)
    for client in two:
        assert await refused(client, "GET", f"/v1/responses/{name}") == (404, "response_not_found")


async def test_a_deleted_one_that_was_too_large_to_share_is_nowhere(
    two: list[Client], upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """Redis is told nothing of it: neither what it was, nor that it is gone."""
    upstream.script(stream(*RICH))
    body = io.BytesIO(json.dumps({**HI, "input": "x" * 1_100_000}).encode())
    async with two[0].post("/v1/responses", data=body, headers={"Content-Type": "application/json"}) as answered:
        name = (await answered.json())["id"]
    async with two[0].delete(f"/v1/responses/{name}") as response:
        assert response.status == 200
    assert b"gateway:s:" not in await redis.say("KEYS", "*")
    for client in two:
        assert await refused(client, "GET", f"/v1/responses/{name}") == (404, "response_not_found")


async def test_a_deleted_one_is_nowhere_although_redis_had_lost_the_inbox_of_its_producer(
    two: list[Client], upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """Which it makes again within two seconds, and is told then."""
    here, there = two
    upstream.script(stream(*RICH))
    name = (await told(here, STREAMED))[0]["response"]["id"]
    await got(there, name)
    await redis.say("EVAL", "for _, key in ipairs(redis.call('KEYS', '*:inbox')) do redis.call('DEL', key) end", "0")
    async with there.delete(f"/v1/responses/{name}") as response:
        assert response.status == 200
    await eventually(lambda: streams(here).held == 0)  # it was told
    for client in two:
        assert await refused(client, "GET", f"/v1/responses/{name}") == (404, "response_not_found")


async def test_a_response_whose_producer_cannot_be_told_is_not_said_to_be_deleted(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """It lives, and has no inbox: it would go on with the response."""
    there = await gateway(f'[store]\nurl = "{redis.url}"\n')
    may = ("~gateway:s:*", "~gateway:i:*", "~gateway:probe", "~gateway:p:*:lease")
    await redis.say("ACL", "SETUSER", "deaf", "on", ">sesame", *may, "+@all")
    here = await gateway(f'[store]\nurl = "{redis.url.replace("redis://", "redis://deaf:sesame@")}"\n')
    upstream.script(stream(*RICH))
    name = (await told(here, STREAMED))[0]["response"]["id"]
    await got(there, name)
    assert await refused(there, "DELETE", f"/v1/responses/{name}") == (503, "store_unavailable")
    await got(there, name)


async def test_a_deleted_one_of_a_gateway_that_is_gone_is_nowhere(
    two: list[Client], upstream: ScriptedUpstream
) -> None:
    """It cannot be told, and need not be."""
    here, there = two
    upstream.script(stream(*RICH))
    name = (await told(here, STREAMED))[0]["response"]["id"]
    await got(there, name)
    await here.close()
    async with there.delete(f"/v1/responses/{name}") as response:
        assert response.status == 200
    assert await refused(there, "GET", f"/v1/responses/{name}") == (404, "response_not_found")


async def test_a_deleted_one_that_redis_had_lost_is_nowhere(
    two: list[Client], upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    upstream.script(stream(*RICH))
    name = (await told(two[0], STREAMED))[0]["response"]["id"]
    await asyncio.sleep(0.2)
    await redis.say("EVAL", "for _, key in ipairs(redis.call('KEYS', '*:s:*')) do redis.call('DEL', key) end", "0")
    async with two[0].delete(f"/v1/responses/{name}") as response:
        assert response.status == 200
    for client in two:
        assert await refused(client, "GET", f"/v1/responses/{name}") == (404, "response_not_found")


async def test_what_is_not_stored_stays_here(two: list[Client], upstream: ScriptedUpstream, redis: RedisServer) -> None:
    upstream.script(stream(delta("secret of a caller"), finish(), DONE))
    await made(two[0], {**HI, "store": False})
    await asyncio.sleep(0.2)
    assert b":log" not in await redis.say("KEYS", "*")


async def test_a_whole_response_that_failed_elsewhere_frees_its_key(
    two: list[Client], upstream: ScriptedUpstream
) -> None:
    """Nobody has anything of it, at whichever gateway it is asked for again."""
    upstream.script(stream(delta("a"), Close()), stream(delta("b"), finish(), DONE))
    here, there = two
    assert await refused(here, "POST", "/v1/responses", HI, **KEY) == (502, "upstream_incomplete")
    sharing = streams(here).sharing
    assert sharing is not None
    await eventually(lambda: sharing.unsent == 0)  # who asks before Redis has its end waits for the same answer
    again = await made(there, HI, **KEY)
    assert again["output"][0]["content"][0]["text"] == "b"
    assert await made(here, HI, **KEY) == again
    assert len(upstream.requests) == 2


async def test_a_whole_response_is_waited_for_elsewhere(two: list[Client], upstream: ScriptedUpstream) -> None:
    here, there = two
    gate = asyncio.Event()
    upstream.script(stream(Until(gate), delta("a"), finish(), DONE))
    asking = asyncio.create_task(made(here, HI, **KEY))
    await upstream.until(requests=1)
    asking.cancel()
    again = asyncio.create_task(made(there, HI, **KEY))
    await asyncio.sleep(0.2)
    gate.set()
    assert (await again)["output"][0]["content"][0]["text"] == "a"
    assert len(upstream.requests) == 1


async def test_items_of_unknown_responses_are_refused_soon(two: list[Client]) -> None:
    """Redis may get an unknown stream in the next moment, so each is waited for. One of them is enough."""
    named = [{"type": "item_reference", "id": f"msg_{number:022}_0"} for number in range(100)]
    async with asyncio.timeout(20):  # each takes half a second, and longer in the first seconds of a process
        assert await refused(two[0], "POST", "/v1/responses", {**HI, "input": named}) == (400, "unsupported_value")


async def test_a_chat_completion_is_joined_elsewhere(two: list[Client], upstream: ScriptedUpstream) -> None:
    here, there = two
    gate = asyncio.Event()
    upstream.script(stream(delta("one "), Until(gate), delta("two"), finish(), DONE))
    asking = asyncio.create_task(streamed(here, CHAT_STREAMED, **KEY))
    await upstream.until(requests=1)
    again = asyncio.create_task(streamed(there, CHAT_STREAMED, **KEY))
    await asyncio.sleep(0.2)
    gate.set()
    first, second = await asyncio.gather(asking, again)
    assert first == second
    assert first.raw.endswith(DONE)
    assert len(upstream.requests) == 1


async def test_a_whole_one_is_given_again_elsewhere(two: list[Client], upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, COMPLETION))
    for client in two:
        async with post(client, CHAT, **KEY) as response:
            assert await response.read() == COMPLETION
    assert len(upstream.requests) == 1


async def test_a_broken_one_is_broken_elsewhere(two: list[Client], upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), event({"error": "x"})))
    first, second = [await streamed(client, CHAT_STREAMED, **KEY) for client in two]
    assert first == second
    assert first.broken


@pytest.mark.parametrize("asked", [MESSAGE, {**MESSAGE, "stream": True}], ids=["whole", "streamed"])
async def test_a_message_is_joined_and_given_again_elsewhere(
    two: list[Client], upstream: ScriptedUpstream, asked: dict[str, object]
) -> None:
    here, there = two
    gate = asyncio.Event()
    upstream.script(stream(delta("one "), Until(gate), delta("two"), finish(), DONE))
    asking = asyncio.create_task(message(here, asked))
    await upstream.until(requests=1)
    again = asyncio.create_task(message(there, asked))
    await asyncio.sleep(0.2)
    gate.set()
    first, second = await asyncio.gather(asking, again)
    assert first == second == await message(there, asked)
    assert len(upstream.requests) == 1
    for other in ({**asked, "thinking": {"type": "disabled"}}, {**asked, "temperature": 1}):
        async with there.post("/v1/messages", json=other, headers=KEY) as response:
            assert (response.status, (await response.json())["error"]["code"]) == (409, "idempotency_conflict")


async def test_a_message_with_a_call_that_cannot_be_made(two: list[Client], upstream: ScriptedUpstream) -> None:
    """Streamed, it is the same everywhere. Whole, it is a status, and the key is free for the next request."""
    half = event(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}]))
    upstream.script(stream(half, finish("tool_calls"), DONE), stream(delta("a"), finish(), DONE))
    async with two[0].post("/v1/messages", json=MESSAGE, headers=KEY) as response:
        assert response.status == 502
    assert b'"a"' in await message(two[1], MESSAGE)
    assert len(upstream.requests) == 2


# Responses that an upstream makes


def maker(redis: RedisServer, upstream: ScriptedUpstream) -> str:
    keys = "".join([f'[[keys]]\nname = "{name}"\nkey = "test-key-of-{name}-12345"\n' for name in "ab"])
    up = f'[[upstreams]]\nname = "maker"\napi = "responses"\nbase_url = "{upstream.url}/v1"\n'
    return f'[store]\nurl = "{redis.url}"\n{keys}{up}'


@pytest.fixture
async def makers(gateway: MakeGateway, redis: RedisServer, upstream: ScriptedUpstream) -> list[Client]:
    """Gateways over an upstream that makes responses."""
    return [await gateway(maker(redis, upstream)) for _ in range(2)]


def made_by(upstream: ScriptedUpstream) -> bytes:
    """Has the upstream answer everything with a response. Returns that."""
    body = json.dumps(whole_response("completed", NAME)).encode()
    upstream.script(*[answer(200, body)] * 6)
    return body


NAME = "resp_68af4030592c81938ec0a5fbab4a3e9f05438e46b5f69a3b"  # of the form of OpenAI's
A, B = bearer("test-key-of-a-12345"), bearer("test-key-of-b-12345")


async def asked_at(client: Client, method: str, path: str, **headers: str) -> tuple[int, bytes]:
    body = HI if path == "/v1/responses" else None
    async with client.request(method, path, headers=headers, json=body) as response:
        return response.status, await response.read()


async def test_a_response_of_an_upstream_is_found_elsewhere(makers: list[Client], upstream: ScriptedUpstream) -> None:
    body = made_by(upstream)
    here, there = makers
    assert await asked_at(here, "POST", "/v1/responses", **A) == (200, body)
    assert await asked_at(there, "GET", f"/v1/responses/{NAME}", **A) == (200, body)
    assert await asked_at(there, "POST", f"/v1/responses/{NAME}/cancel", **A) == (200, body)
    async with there.post("/v1/responses", json={**HI, "previous_response_id": NAME}, headers=A) as response:
        assert response.status == 200
    for method, path in (("GET", ""), ("POST", "/cancel"), ("DELETE", "")):
        assert (await asked_at(there, method, f"/v1/responses/{NAME}{path}", **B))[0] == 404
    asked = [(request.method, request.path) for request in upstream.requests]
    at = f"/v1/responses/{NAME}"
    assert asked == [("POST", "/v1/responses"), ("GET", at), ("POST", f"{at}/cancel"), ("POST", "/v1/responses")]


async def test_a_response_of_an_upstream_that_was_deleted_elsewhere(
    makers: list[Client], upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    made_by(upstream)
    here, there = makers
    await asked_at(here, "POST", "/v1/responses", **A)
    (key,) = re.findall(rb"gateway:r:[0-9a-f]{64}", await redis.say("KEYS", "*"))
    assert 0 < int((await redis.say("PTTL", key)).strip(b":\r\n")) <= 86_400_000
    assert (await asked_at(there, "DELETE", f"/v1/responses/{NAME}", **A))[0] == 200
    assert b"gateway:r:" not in await redis.say("KEYS", "*")
    assert (await asked_at(there, "GET", f"/v1/responses/{NAME}", **A))[0] == 404


async def test_ids_of_an_upstream_while_redis_is_away(
    makers: list[Client], upstream: ScriptedUpstream, redis: RedisServer
) -> None:
    """The process that passed one on knows it. Another one cannot tell, and says so."""
    body = made_by(upstream)
    here, there = makers
    await asked_at(here, "POST", "/v1/responses", **A)
    await redis.stop()
    assert await asked_at(here, "GET", f"/v1/responses/{NAME}", **A) == (200, body)
    status, words = await asked_at(there, "GET", f"/v1/responses/{NAME}", **A)
    assert (status, json.loads(words)["error"]["code"]) == (503, "store_unavailable")
    assert (await asked_at(here, "DELETE", f"/v1/responses/{NAME}", **A))[0] == 200
