"""The models that misbehave on request, each just as it says."""

import asyncio
import json
import time

import pytest
from aiohttp import ClientError

from gateway.demo import create_demo
from gateway.demo.server import Demo

from .conversation import PATH, ask, asking, deltas, payloads, read_to_the_break, stream, streaming, text


@pytest.fixture
async def client(aiohttp_client):
    return await aiohttp_client(create_demo(interval=0))


async def half_of(client) -> str:
    whole = [delta["content"] for delta in deltas(await stream(client))[1:-1]]
    return "".join(whole[: len(whole) // 2])


async def test_demo_cut_breaks_the_connection_half_way(client, caplog):
    async with client.post(PATH, json=streaming("demo-cut")) as response:
        body = await read_to_the_break(response)
    assert text(payloads(body)) == await half_of(client)
    assert not caplog.records


async def test_demo_cut_breaks_a_whole_answer_too(client, caplog):
    async with client.post(PATH, json=asking(model="demo-cut")) as response:
        body = await read_to_the_break(response)
    assert body.startswith(b'{"id":"chatcmpl-')
    assert not caplog.records


async def test_demo_error_sends_an_error_half_way_and_then_nothing(client):
    events = await stream(client, "demo-error")
    assert text(events) == await half_of(client)
    assert list(json.loads(events[-1])) == ["error"]
    assert json.loads(events[-1])["error"]["type"] == "server_error"
    assert "[DONE]" not in events


async def test_demo_error_whole_is_a_500(client):
    async with client.post(PATH, json=asking(model="demo-error")) as response:
        assert response.status == 500
        assert (await response.json())["error"]["type"] == "server_error"


@pytest.mark.parametrize("streamed", [True, False])
async def test_demo_flaky_fails_twice_and_then_answers_and_so_on(client, streamed):
    """Requests to other models, and to other demos, do not count."""
    statuses = []
    for _ in range(6):
        await ask(client, model="demo")
        async with client.post(PATH, json=asking(model="demo-flaky", stream=streamed)) as response:
            statuses.append(response.status)
            if response.status == 503:
                assert (await response.json())["error"]["code"] == "overloaded"
    assert statuses == [503, 503, 200, 503, 503, 200]


async def test_demo_rescued_breaks_off_where_demo_backup_goes_on(client):
    """The text of demo-backup begins with all that came from demo-rescued, and is longer."""
    async with client.post(PATH, json=streaming("demo-rescued")) as response:
        begun = text(payloads(await read_to_the_break(response)))
    whole = text(await stream(client, "demo-backup"))
    assert begun
    assert whole.startswith(begun)
    assert whole != begun


@pytest.mark.parametrize("streamed", [True, False])
async def test_demo_429_refuses_before_anything_is_sent(client, streamed):
    async with client.post(PATH, json=asking(model="demo-429", stream=streamed)) as response:
        assert response.status == 429
        assert response.headers["retry-after"] == "1"
        assert response.headers["x-ratelimit-remaining-requests"] == "0"
        assert (await response.json())["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("streamed", [True, False])
async def test_demo_stall_goes_silent_half_way(client, streamed):
    half = await half_of(client) if streamed else ""
    received = bytearray()

    async def read() -> None:
        async with client.post(PATH, json=asking(model="demo-stall", stream=streamed)) as response:
            while part := await response.content.readany():
                received.extend(part)

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.2)
    assert text(payloads(bytes(received))) == half


@pytest.mark.parametrize("streamed", [True, False])
async def test_no_answer_lasts_for_ever(aiohttp_client, streamed, caplog):
    client = await aiohttp_client(Demo(None, 0, longest=0.2).app())
    with pytest.raises(ClientError):
        await (await client.post(PATH, json=asking(model="demo-stall", stream=streamed))).read()
    assert not caplog.records


async def test_demo_slow_is_silent_but_for_comments_and_then_slow(aiohttp_client):
    client = await aiohttp_client(create_demo(tokens=3, interval=0.001))
    async with client.post(PATH, json=streaming("demo-slow")) as response:
        arrived = [(time.monotonic(), part) async for part in response.content.iter_any()]
    body = b"".join(part for _, part in arrived)
    assert body.count(b": keep-alive\n\n") == 8
    assert len(deltas(payloads(body))) == 1 + 3 + 1
    assert next(at for at, part in arrived if b'"content":"Hello"' in part) - arrived[0][0] > 8 * 0.025 - 0.01
    assert arrived[-1][0] - arrived[0][0] > 8 * 0.025 + 2 * 0.008


# demo-clock


async def test_demo_clock_sends_numbered_messages_until_it_is_stopped(aiohttp_client):
    client = await aiohttp_client(create_demo(interval=0.0005))
    received = b""
    async with client.post(PATH, json=streaming("demo-clock")) as response:
        while received.count(b"This is an SSE message.") < 5:
            received += await response.content.readany()
    assert text(payloads(received)).splitlines()[:3] == [f"{number}: This is an SSE message." for number in (1, 2, 3)]


async def test_demo_clock_whole_is_one_message(client):
    answer = await ask(client, model="demo-clock")
    assert answer["choices"][0]["message"]["content"] == "1: This is an SSE message.\n"


async def test_demo_clock_stops_at_a_fixed_length_or_limit(aiohttp_client, client):
    assert text(await stream(client, "demo-clock", max_tokens=3)).count("\n") == 3
    fixed = await aiohttp_client(create_demo(tokens=4, interval=0))
    assert text(await stream(fixed, "demo-clock")).count("\n") == 4
