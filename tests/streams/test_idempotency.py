"""A client that cannot know whether its request arrived asks again with the same key, and the model is asked once."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import ClientResponse

from gateway.admission.limits import Allowance, Wish
from gateway.admission.memory_limiter import MemoryLimiter
from gateway.admission.redis_limiter import RedisLimiter
from gateway.observe.report import account
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, TEXT, Answer, create, error_of, eventually, remains, watched
from tests.rig.inside import streams
from tests.rig.scripted_upstream import DONE, Pause, ScriptedUpstream, Stall, delta, finish, stream, usage

Lines = list[dict[str, Any]]

TEAM, OTHERS = "the-key-of-a-team", "the-key-of-others"
KEYS = f"""
[[keys]]
name = "team"
key = "{TEAM}"
requests_per_minute = 100
tokens_per_minute = 10_000
[[keys]]
name = "others"
key = "{OTHERS}"
"""
AUTH = {"Authorization": f"Bearer {TEAM}"}
ONCE = {"Idempotency-Key": "0192f0c1-7bd0-7000-8000-000000000001"}
AGAIN = {"Idempotency-Key": "0192f0c1-7bd0-7000-8000-000000000002"}

OK = stream(delta("Hello"), finish(), usage(prompt_tokens=3, completion_tokens=4), DONE)
SLOW = stream(delta("Hel"), Pause(0.2), delta("lo"), finish(), usage(prompt_tokens=3, completion_tokens=4), DONE)
ENDLESS = stream(delta("a"), Stall())


def charged(client: Client) -> int:
    """Requests that the team's limit has counted."""
    limiter = streams(client).limiter
    if isinstance(limiter, RedisLimiter):  # what it told the last request that it admitted
        told = [stream.generation.reservation.headers for stream in streams(client)]
        limit, left = "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"
        return max(int(headers[limit]) - int(headers[left]) for headers in told)
    assert isinstance(limiter, MemoryLimiter)
    return sum(int(count) for name, count in limiter._callers["key:team"].counts.storage.items() if "requests" in name)


# One retry in each way of asking


async def events(client: Client, query: str = "", **headers: str) -> str:
    async with client.get(f"/chat?q=hi{query}", headers={**EVENTS, **AUTH, **headers}) as response:
        assert response.status == 200, await response.text()
        return Answer(await response.read()).text


async def text(client: Client, query: str = "", **headers: str) -> str:
    async with client.get(f"/chat?q=hi{query}", headers={**TEXT, **AUTH, **headers}) as response:
        assert response.status == 200, await response.text()
        return await response.text()


async def whole(client: Client, query: str = "", **headers: str) -> str:
    body = {"question": "hi"}
    async with client.post(f"/chat?{query.removeprefix('&')}", json=body, headers={**AUTH, **headers}) as response:
        assert response.status == 200, await response.text()
        return str((await response.json())["choices"][0]["message"]["content"])


async def created(client: Client, query: str = "", **headers: str) -> str:
    made = await create(client, query=query.replace("&", "?", 1), **AUTH, **headers)
    return (await watched(client, made["url"])).text


Way = Callable[..., Coroutine[Any, Any, str]]
WAYS: dict[str, Way] = {"events": events, "text": text, "json": whole, "streams": created}
SENT = {"by the field": ("", ONCE), "by the query": (f"&idempotency_key={ONCE['Idempotency-Key']}", {})}


@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("way", WAYS)
async def test_a_retry_gets_the_answer_of_the_first(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: Lines, way: str, sent: str
) -> None:
    """While it is made, and after its end: the model is asked once, and once is charged and counted."""
    upstream.script(SLOW)
    client = await gateway(KEYS)
    query, headers = SENT[sent]
    first = asyncio.create_task(WAYS[way](client, query, **headers))
    await upstream.until(requests=1)
    assert await WAYS[way](client, query, **headers) == "Hello"
    assert await first == "Hello"
    await eventually(lambda: len(streams(client)) == 0)
    assert await WAYS[way](client, query, **headers) == "Hello"
    assert len(upstream.requests) == 1
    assert charged(client) == 1
    told = account([json.dumps(line).encode() for line in lines], ["key"])
    assert [(group, sums.streams, sums.output_tokens) for group, sums in told.rows] == [(("team",), 1, 4)]


@pytest.mark.parametrize("way", WAYS)
async def test_without_a_key_each_request_is_its_own(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: str
) -> None:
    """An empty one counts as none; other keys are other requests."""
    upstream.script(OK)
    client = await gateway(KEYS)
    for headers in ({}, {}, {"Idempotency-Key": ""}, ONCE, AGAIN):
        assert await WAYS[way](client, **headers) == "Hello"
    assert len(upstream.requests) == 5


async def test_the_ways_of_asking_share_their_keys(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The field outranks the query."""
    upstream.script(SLOW)
    client = await gateway(KEYS)
    for ask_it in WAYS.values():
        assert await ask_it(client, "&idempotency_key=another", **ONCE) == "Hello"
    assert len(upstream.requests) == 1


async def test_events_are_repeated_from_the_start(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """With the same ids, in whichever view, and with a ticket, since this is the one who asked."""
    upstream.script(OK)
    client = await gateway()
    answers = []
    for view in ("", "", "&format=json"):
        async with client.get(f"/chat?q=hi{view}", headers={**EVENTS, **ONCE}) as response:
            answers.append(Answer(await response.read()))
    first, second, as_json = answers
    assert first.events[1:] == second.events[1:]
    assert as_json.data("message") == ['{"content":"Hello"}']
    tickets = {json.loads(answer.data("start")[0])["ticket"] for answer in answers}
    assert len(tickets) == 3
    for ticket in tickets:
        async with client.delete(f"/streams/{first.end['stream']}?ticket={ticket}") as response:
            assert response.status == 204


async def test_a_stream_that_is_created_twice_is_one(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """With new tickets each time; those of before go on opening it."""
    upstream.script(ENDLESS)
    client = await gateway(KEYS)
    first = await create(client, **AUTH, **ONCE)
    second = await create(client, **AUTH, **ONCE)
    assert first["id"] == second["id"]
    assert len({first["url"], first["viewer_url"], second["url"], second["viewer_url"]}) == 4
    for url in (first["url"], first["viewer_url"], second["viewer_url"]):
        async with client.get(url) as response:
            assert response.status == 200
    assert len(streams(client)) == 1
    await upstream.until(requests=1)


# At the same moment


def slow_limiter(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    """As one that asks another machine first. Returns the tokens that it is asked for."""
    asked: list[int] = []

    def slowed(charge: Any) -> Any:
        async def slow(self: Any, allowance: Allowance, tokens: int, wish: Wish | None) -> Any:
            asked.append(tokens)
            await asyncio.sleep(seconds)  # the way there and back
            return await charge(self, allowance, tokens, wish)

        return slow

    for kind in (MemoryLimiter, RedisLimiter):
        monkeypatch.setattr(kind, "reserve", slowed(kind.reserve))
    return asked


@pytest.mark.parametrize("delay", [0.0, 0.1])
@pytest.mark.parametrize("way", WAYS)
async def test_requests_at_the_same_moment_are_one(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, way: str, delay: float
) -> None:
    """Even where the first is still being admitted."""
    slow_limiter(monkeypatch, delay)
    upstream.script(SLOW)
    client = await gateway(KEYS)
    assert await asyncio.gather(*[WAYS[way](client, **ONCE) for _ in range(5)]) == ["Hello"] * 5
    assert len(upstream.requests) == 1
    assert charged(client) == 1


async def leaves(client: Client, way: str, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await WAYS[way](client, **ONCE)


@pytest.mark.parametrize("way", WAYS)
async def test_a_retry_after_the_first_left_while_it_was_admitted(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, lines: Lines, way: str
) -> None:
    """Who comes second does not depend on the first one's staying; its line is the one that the stream is on."""
    slow_limiter(monkeypatch, 0.2)
    upstream.script(OK)
    client = await gateway(KEYS)
    await leaves(client, way, 0.1)
    assert await WAYS[way](client, **ONCE) == "Hello"
    await eventually(lambda: len(streams(client)) == 0)
    assert len(upstream.requests) == 1
    assert charged(client) == 1
    told = account([json.dumps(line).encode() for line in lines], [])
    assert [sums.streams for _, sums in told.rows] == [1]


async def test_an_answer_whose_only_client_left_while_it_was_admitted_is_on_record(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    """It is paid for, so the log says whose it was, though nobody came back. It is treated as one unattended."""
    slow_limiter(monkeypatch, 0.2)
    upstream.script(ENDLESS)
    client = await gateway(f"{KEYS}[stream]\nattach_seconds = 0.2\ngrace_seconds = 0.1")
    await leaves(client, "events", 0.1)
    await upstream.until(left=1)
    await eventually(lambda: any("end" in line.get("stream", {}) for line in lines))
    told = account([json.dumps(line).encode() for line in lines], ["key"])
    assert [(group, sums.streams) for group, sums in told.rows] == [(("team",), 1)]


async def test_what_is_still_admitted_when_the_gateway_goes_down_does_not_begin(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would wait for it: its client is told to ask again, and the model is not asked."""
    asked = slow_limiter(monkeypatch, 0.2)
    upstream.script(OK)
    client = await gateway(KEYS)
    asking = [
        asyncio.create_task(client.get("/chat?q=hi", headers={**EVENTS, **AUTH, **headers})) for headers in ({}, ONCE)
    ]
    await eventually(lambda: len(asked) == 2)
    await streams(client).close()
    for response in await asyncio.gather(*asking):
        assert response.status == 503, await response.text()
        assert await error_of(response) == (503, "shutting_down")
    assert not upstream.requests
    assert len(streams(client)) == 0


async def test_a_retry_after_the_first_left_before_its_first_byte(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """As an `EventSource` that never saw an id asks again."""
    upstream.script([Pause(0.2), *OK])
    client = await gateway(KEYS)
    _, writer = await asyncio.open_connection("127.0.0.1", client.port)
    fields = "".join(f"{name}: {value}\r\n" for name, value in (EVENTS | AUTH | ONCE).items())
    writer.write(f"GET /chat?q=hi HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
    await upstream.until(requests=1)
    writer.transport.abort()
    assert await events(client, **ONCE) == "Hello"
    assert len(upstream.requests) == 1


# What is not a retry


@pytest.mark.parametrize(
    "other",
    [
        {"question": "something else"},
        {"question": "hi", "temperature": 1},
        {"question": "hi", "model": "another-model"},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}]},
    ],
    ids=str,
)
async def test_another_request_with_the_same_key_is_refused(
    gateway: MakeGateway, upstream: ScriptedUpstream, other: dict[str, Any]
) -> None:
    """While the first one runs and after it, and it asks nobody. How an answer is shown is no difference."""
    upstream.script(SLOW)
    client = await gateway()
    first = asyncio.create_task(create(client, {"question": "hi"}, **ONCE))
    await upstream.until(requests=1)
    made = await first
    for _ in range(2):
        for path, accept in (("/chat", EVENTS), ("/chat", {}), ("/streams", {})):
            async with client.post(path, json=other, headers={**accept, **ONCE}) as response:
                assert await error_of(response) == (409, "idempotency_conflict")
        await watched(client, made["url"])
    shown = {"question": "hi", "format": "json", "reasoning": True}
    async with client.post("/chat", json=shown, headers={**EVENTS, **ONCE}) as response:
        assert response.status == 200
    assert len(upstream.requests) == 1


async def test_the_same_key_of_another_caller_is_another_stream(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Whose key it is counts: nobody reads another's answer, nor learns that there is one."""
    upstream.script(OK)
    client = await gateway(f"{KEYS}[assistants.guest]\npublic = true\n")
    ids, callers = set(), [AUTH, {"Authorization": f"Bearer {OTHERS}"}, {}]
    for caller in callers:
        body = {"question": "hi" if caller else "hello", "assistant": "guest"}
        ids.add((await create(client, body, **caller, **ONCE))["id"])
    assert len(ids) == 3
    await upstream.until(requests=3)
    for caller in callers[:2]:
        ids.add((await create(client, {"question": "hi", "assistant": "guest"}, **caller, **ONCE))["id"])
    assert len(ids) == 3
    assert len(upstream.requests) == 3


ODD = {
    "too long": "k" * 256,
    "not ASCII": "é" * 20,
    "a tab": "k" * 10 + "\t" + "k" * 10,
    "a line end": "k" * 20 + "\n",
    "a NUL": "k" * 20 + "\0",
    "a control character": "k" * 20 + "\x7f",
}
IN_A_FIELD = ["too long", "not ASCII", "a tab"]  # what an HTTP client sends in one


@pytest.mark.parametrize("path", ["/chat", "/streams"])
@pytest.mark.parametrize("case", ODD)
async def test_an_odd_key_is_400(gateway: MakeGateway, upstream: ScriptedUpstream, path: str, case: str) -> None:
    """By field or by query, and nobody is asked."""
    client = await gateway(KEYS)
    body = {"question": "hi"}
    async with client.post(path, params={"idempotency_key": ODD[case]}, json=body, headers=AUTH) as response:
        assert await error_of(response) == (400, "invalid_request")
        assert (await response.json())["error"]["param"] == "idempotency_key"
    if case in IN_A_FIELD:
        async with client.post(path, json=body, headers={**AUTH, "Idempotency-Key": ODD[case]}) as response:
            assert await error_of(response) == (400, "invalid_request")
    assert not upstream.requests


async def test_a_key_may_be_short_where_the_caller_has_a_key_of_its_own(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Where all callers are nobody in particular, it is all that tells one's answer from another's."""
    upstream.script(OK)
    client = await gateway(f"{KEYS}[assistants.guest]\npublic = true\n")
    for key in ("1", "k" * 255):
        assert await events(client, **{"Idempotency-Key": key}) == "Hello"
    for key, status in (("k" * 15, 400), ("k" * 16, 200)):
        headers = {**EVENTS, "Idempotency-Key": key}
        async with client.get("/chat?q=hi&assistant=guest", headers=headers) as response:
            assert response.status == status
            if status == 400:
                assert await error_of(response) == (400, "invalid_request")
    assert len(upstream.requests) == 3


# What a key is not used up by


async def test_a_request_that_was_refused_does_not_use_up_its_key(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Neither for what it said (400, 401), nor for the limits (429), nor for want of room (503)."""
    upstream.script(ENDLESS, ENDLESS, OK)
    client = await gateway(KEYS.replace("requests_per_minute = 100", "max_streams = 1") + "[store]\nmax_streams = 2\n")
    for body, headers, status in [
        ({"question": ""}, AUTH, 400),
        ({"question": "hi", "n": 2}, AUTH, 400),
        ({"question": "hi"}, {"Authorization": "Bearer wrong"}, 401),
    ]:
        async with client.post("/chat", json=body, headers={**headers, **ONCE}) as response:
            assert response.status == status
    running = await create(client, {"question": "other"}, **AUTH)
    for _ in range(2):
        async with client.post("/chat", json={"question": "hi"}, headers={**AUTH, **ONCE}) as response:
            assert await error_of(response) == (429, "too_many_streams")
    await create(client, {"question": "other"}, Authorization=f"Bearer {OTHERS}")
    async with client.post("/chat", json={"question": "hi"}, headers={**AUTH, **ONCE}) as response:
        assert await error_of(response) == (503, "busy")
    await upstream.until(requests=2)  # the third script is for the next one
    await stopped(client, running)
    assert await whole(client, **ONCE) == "Hello"


async def stopped(client: Client, made: dict[str, Any]) -> None:
    one = streams(client).find(made["id"])
    assert one is not None
    async with client.delete(made["url"]) as response:
        assert response.status == 204
    await eventually(lambda: one.is_done)


async def test_many_that_are_refused_at_once_are_all_told_so(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the key is free afterwards."""
    slow_limiter(monkeypatch, 0.05)
    upstream.script(ENDLESS, OK)
    client = await gateway(KEYS.replace("requests_per_minute = 100", "max_streams = 1"))
    running = await create(client, {"question": "other"}, **AUTH)
    await upstream.until(requests=1)  # the other script is for the last one

    async def refused() -> tuple[int, str]:
        async with client.get("/chat?q=hi", headers={**EVENTS, **AUTH, **ONCE}) as response:
            return await error_of(response)

    assert await asyncio.gather(*[refused() for _ in range(4)]) == [(429, "too_many_streams")] * 4
    await stopped(client, running)
    assert await events(client, **ONCE) == "Hello"


@pytest.mark.parametrize("way", ["json", "text"])
async def test_what_was_cancelled_because_its_client_left_is_asked_anew(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: str
) -> None:
    """Nobody has read anything of it, and there is no more of it to come. From then on the new one is what counts."""
    upstream.script([Stall()], OK)
    client = await gateway(KEYS)
    asking = asyncio.create_task(WAYS[way](client, **ONCE))
    await upstream.until(requests=1)
    asking.cancel()
    await upstream.until(left=1, within=1)
    for _ in range(2):
        assert await WAYS[way](client, **ONCE) == "Hello"
    assert len(upstream.requests) == 2


async def test_one_that_is_asked_anew_and_refused_leaves_nothing_behind(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The stream that was cancelled is let go in its time, and makes room, whatever became of its key."""
    upstream.script([Stall()], ENDLESS, OK)
    client = await gateway(KEYS.replace("requests_per_minute = 100", "max_streams = 1") + "[store]\nmax_streams = 2\n")
    asking = asyncio.create_task(whole(client, **ONCE))
    await upstream.until(requests=1)
    asking.cancel()
    await upstream.until(left=1, within=1)
    await eventually(lambda: len(streams(client)) == 0)
    running = await create(client, {"question": "other"}, **AUTH)
    await upstream.until(requests=2)  # the last script is for the others
    async with client.get("/chat?q=hi", headers={**AUTH, **ONCE}) as response:
        assert await error_of(response) == (429, "too_many_streams")
    async with client.post("/streams", json={"question": "hi"}, headers={"Authorization": f"Bearer {OTHERS}"}) as made:
        assert made.status == 201  # what was cancelled made room
    await stopped(client, running)
    assert await whole(client, **ONCE) == "Hello"


# How long it is remembered


@pytest.mark.memory
@pytest.mark.parametrize("way", WAYS)
async def test_a_key_is_remembered_as_long_as_its_stream(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: str
) -> None:
    """Also where the answer was asked for in a form that cannot be resumed. Afterwards nothing is left of it."""
    upstream.script(OK)
    client = await gateway(f"{KEYS}[stream]\nkeep_seconds = 0.3\n")
    for asked in (1, 2):
        for _ in range(2):
            assert await WAYS[way](client, **ONCE) == "Hello"
            await eventually(lambda: len(streams(client)) == 0)
            assert len(upstream.requests) == asked
        await eventually(lambda: not list(streams(client)), within=2)
        assert not streams(client)._recorder._once


@pytest.mark.memory
async def test_a_stream_that_made_room_takes_its_key_along(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway(f"{KEYS}[store]\nmax_streams = 1\n")
    for asked, key in [(1, ONCE), (1, ONCE), (2, AGAIN), (2, AGAIN), (3, ONCE)]:
        assert await events(client, **key) == "Hello"
        await eventually(lambda: len(streams(client)) == 0)
        assert len(upstream.requests) == asked
    assert len(streams(client)._recorder._once) == 1


@pytest.mark.memory
async def test_a_key_holds_no_room_of_its_own(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Hundreds of keys are as many streams and no more, and all are gone with them."""
    upstream.script(OK)
    client = await gateway("[stream]\nkeep_seconds = 0.2\n[store]\nmax_streams = 20\n")
    for number in range(60):
        response: ClientResponse = await client.get("/chat?q=hi", headers={"Idempotency-Key": f"{number:020}"})
        assert response.status == 200
        response.release()
        assert len(streams(client)._recorder._once) <= 20
    await eventually(lambda: not streams(client)._recorder._once and not list(streams(client)), within=2)


async def test_a_failure_of_which_nobody_saw_a_byte_is_asked_anew(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """As JSON, a broken answer is a status that says to try again; so trying again does."""
    upstream.script(stream(delta("Hel")), OK)
    client = await gateway(KEYS)
    async with client.post("/chat", json={"question": "hi"}, headers={**AUTH, **ONCE}) as response:
        assert await error_of(response) == (502, "upstream_incomplete")
    assert await whole(client, **ONCE) == "Hello"
    assert len(upstream.requests) == 2


async def test_who_joins_and_can_come_back_keeps_the_answer_alive(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The first one asked for JSON, which ends when it leaves; the second one is given an address to watch."""
    upstream.script(ENDLESS)
    client = await gateway(KEYS)
    first = asyncio.create_task(whole(client, **ONCE))
    await upstream.until(requests=1)
    made = await create(client, **AUTH, **ONCE)
    first.cancel()
    await asyncio.wait([first])
    await remains(lambda: len(streams(client)) == 1)
    async with client.get(made["url"]) as response:
        assert (await response.json())["state"] == "running"
