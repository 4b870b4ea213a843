"""`/v1/chat/completions` with an `Idempotency-Key`: asking again gives the same bytes, and the model is asked once."""

import asyncio
import json
from typing import Any

import pytest

from gateway.entries import EndReason
from tests.conftest import Client, MakeGateway
from tests.rig.clients import bearer, error_of, eventually
from tests.rig.completions import COMPLETION, HI, STREAMED, Body, post, read, streamed
from tests.rig.inside import at_rest, streams
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    ScriptedUpstream,
    Stall,
    Step,
    Until,
    answer,
    chunk,
    delta,
    event,
    finish,
    stream,
    usage,
)

KEY = {"Idempotency-Key": "0f8fad5b-d9cb-469f-a165-70867728950e"}
SHORT = "[stream]\ngrace_seconds = 0.1\n"
RICH = [
    event(chunk(role="assistant", content="")),
    event(chunk(reasoning_content="hm")),
    delta("Hé"),
    event(chunk(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}])),
    event(chunk(tool_calls=[{"index": 0, "function": {"arguments": "}"}}])),
    finish("tool_calls"),
    DONE,
]


async def whole(client: Client, body: object = HI, **headers: str) -> bytes:
    async with post(client, body, **headers) as response:
        assert response.status == 200, await response.text()
        data: bytes = await response.read()
        return data


async def refused(client: Client, body: object, **headers: str) -> tuple[int, str]:
    async with post(client, body, **headers) as response:
        return await error_of(response)


async def test_a_stream_is_replayed(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    client = await gateway()
    first = await streamed(client, **KEY)
    assert first == Body(b"".join(RICH), broken=False)
    assert await streamed(client, **KEY) == first
    assert len(upstream.requests) == 1


async def test_a_whole_answer_is_replayed(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, COMPLETION))
    client = await gateway()
    assert [await whole(client, **KEY) for _ in range(2)] == [COMPLETION] * 2
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("asked", [HI, STREAMED], ids=["whole", "streamed"])
async def test_two_at_once_share_an_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, asked: dict[str, Any]
) -> None:
    go_on = asyncio.Event()
    if asked is HI:
        upstream.script([Until(go_on), *answer(200, COMPLETION)])
    else:
        upstream.script(stream(delta("a"), Until(go_on), delta("b"), finish(), DONE))
    client = await gateway()
    asking = [asyncio.ensure_future(whole(client, asked, **KEY)) for _ in range(3)]
    await upstream.until(requests=1)
    await asyncio.sleep(0.05)
    go_on.set()
    assert len(set(await asyncio.gather(*asking))) == 1
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("blocks", range(len(RICH)))
async def test_a_cut_behind_each_event_costs_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, blocks: int
) -> None:
    upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.005))]))
    client = await gateway()
    before = b""
    async with post(client, STREAMED, **KEY) as response:
        while before.count(b"\n\n") < blocks:
            before += await response.content.readany()
        response.close()
    again = await streamed(client, **KEY)
    assert again == Body(b"".join(RICH), broken=False)
    assert again.raw.startswith(before)
    assert len(upstream.requests) == 1


async def test_nobody_comes_back(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The answer is cancelled after `grace_seconds`, and its key is free."""
    upstream.script(stream(delta("a"), Stall()), stream(delta("b"), finish(), DONE))
    client = await gateway(SHORT)
    async with post(client, STREAMED, **KEY) as response:
        await response.content.readany()
        response.close()
    await upstream.until(left=1)
    assert (await streamed(client, **KEY)).raw == delta("b") + finish() + DONE


async def test_a_whole_answer_waits_for_its_client_too(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A client that ran out of patience asks again, and gets the answer to its first question."""
    go_on = asyncio.Event()
    upstream.script([Until(go_on), *answer(200, COMPLETION)])
    client = await gateway()
    asking = asyncio.ensure_future(whole(client, **KEY))
    await upstream.until(requests=1)
    asking.cancel()
    await eventually(lambda: streams(client).viewers == 0)
    again = asyncio.ensure_future(whole(client, **KEY))
    await eventually(lambda: streams(client).viewers == 1)
    go_on.set()
    assert await again == COMPLETION
    assert len(upstream.requests) == 1


async def test_nobody_comes_back_to_a_whole_answer(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script([Stall()], answer(200, COMPLETION))
    client = await gateway(SHORT)
    asking = asyncio.ensure_future(whole(client, **KEY))
    await upstream.until(requests=1)
    asking.cancel()
    await upstream.until(left=1)
    assert await whole(client, **KEY) == COMPLETION


async def test_who_asks_again_before_any_content_waits_for_the_same_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The connection was lost before the header. The answer has until the end of `grace_seconds` to be joined."""
    go_on = asyncio.Event()
    upstream.script(stream(Until(go_on), delta("a"), finish(), DONE))
    client = await gateway()
    asking = asyncio.ensure_future(streamed(client, **KEY))
    await upstream.until(requests=1)
    asking.cancel()
    await eventually(lambda: streams(client).viewers == 0)
    again = asyncio.ensure_future(streamed(client, **KEY))
    await eventually(lambda: streams(client).viewers == 1)
    go_on.set()
    assert await again == Body(delta("a") + finish() + DONE, broken=False)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("asked", [HI, STREAMED], ids=["whole", "streamed"])
async def test_an_answer_that_is_finished_without_its_client_is_there(
    gateway: MakeGateway, upstream: ScriptedUpstream, asked: dict[str, Any]
) -> None:
    go_on = asyncio.Event()
    upstream.script([Until(go_on), *(answer(200, COMPLETION) if asked is HI else stream(*RICH))])
    client = await gateway(SHORT)
    asked = {**asked, "on_disconnect": "drain"}
    asking = asyncio.ensure_future(whole(client, asked, **KEY))
    await upstream.until(requests=1)
    asking.cancel()
    await eventually(lambda: streams(client).viewers == 0)
    go_on.set()
    await at_rest(client)
    assert await whole(client, asked, **KEY) in (COMPLETION, b"".join(RICH))
    assert len(upstream.requests) == 1


async def test_a_key_that_may_only_cancel(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Its answers are cancelled at once, and its idempotency keys are free then."""
    upstream.script(stream(delta("a"), Stall()), stream(delta("b"), finish(), DONE))
    client = await gateway('[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\non_disconnect = ["cancel"]\n')
    caller = {**KEY, **bearer("test-key-of-a-12345")}
    async with post(client, STREAMED, **caller) as response:
        await response.content.readany()
        response.close()
    await upstream.until(left=1, within=1)
    assert (await streamed(client, **caller)).raw == delta("b") + finish() + DONE


async def test_a_policy_of_its_own(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    async with post(client, {**STREAMED, "on_disconnect": "cancel"}, **KEY) as response:
        await response.content.readany()
        response.close()
    await upstream.until(left=1)


@pytest.mark.parametrize(
    "other",
    [
        {**STREAMED, "temperature": 1},
        {**STREAMED, "model": "another"},
        {**STREAMED, "stream_options": {"include_usage": True}},
        HI,
    ],
    ids=["another parameter", "another model", "with usage", "whole, not streamed"],
)
async def test_another_request_is_refused(
    gateway: MakeGateway, upstream: ScriptedUpstream, other: dict[str, Any]
) -> None:
    upstream.script(stream(*RICH))
    client = await gateway()
    await streamed(client, **KEY)
    assert await refused(client, other, **KEY) == (409, "idempotency_conflict")


async def test_each_api_has_answers_of_its_own(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The bodies for the upstream are the same. What a client gets is not."""
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway()
    native = {"model": "m", "messages": HI["messages"]}
    async with client.post("/chat", json=native, headers={**KEY, "Accept": "application/json"}) as response:
        assert response.status == 200
    for body in (STREAMED, {**STREAMED, "stream_options": {"include_usage": True}}):
        assert await refused(client, body, **KEY) == (409, "idempotency_conflict")
    asked = {"model": "m", "input": HI["messages"]}
    async with client.post("/v1/responses", json=asked, headers=KEY) as response:
        assert await error_of(response) == (409, "idempotency_conflict")


async def test_a_recorded_answer_has_no_address(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    key = {"Authorization": "Bearer test-key-of-a-12345"}
    client = await gateway('[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\n')
    await streamed(client, **KEY, **key)
    (held,) = streams(client)
    async with client.get(f"/streams/{held.id}", headers=key) as response:
        assert await error_of(response) == (404, "stream_not_found")
    async with client.get("/chat?q=hi", headers={**key, "Last-Event-ID": f"{held.id}.0"}) as response:
        assert await error_of(response) == (404, "stream_not_found")


async def test_callers_do_not_share_keys(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE), stream(delta("b"), finish(), DONE))
    client = await gateway(
        '[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\n[[keys]]\nname = "b"\nkey = "test-key-of-b-12345"\n'
    )
    a, b = [await streamed(client, **KEY, **bearer(f"test-key-of-{name}-12345")) for name in "ab"]
    assert (delta("a") in a.raw, delta("b") in b.raw) == (True, True)


async def test_a_failure_before_any_content_frees_the_key(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(500, {"error": {"message": "no"}}), stream(delta("a"), finish(), DONE))
    client = await gateway("[retry]\nattempts = 1\n")
    assert (await refused(client, STREAMED, **KEY))[0] == 502
    assert delta("a") in (await streamed(client, **KEY)).raw


NOTHING = {"choices": [{"index": 0, "message": {"role": "assistant", "content": ""}}]}
LARGE = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 2000}}]}


@pytest.mark.parametrize(
    ("failing", "code"),
    [
        (answer(500, {"error": {"message": "no"}}), "upstream_error"),
        (answer(200, NOTHING), "upstream_empty"),
        (answer(200, LARGE), "answer_too_large"),
        (answer(200, COMPLETION[:20]), "upstream_incomplete"),
        (stream(delta("a"), Close()), "upstream_incomplete"),
    ],
    ids=["refused", "empty", "too large", "truncated", "a stream that breaks off"],
)
async def test_a_whole_answer_that_fails_frees_the_key(
    gateway: MakeGateway, upstream: ScriptedUpstream, failing: list[Step], code: str
) -> None:
    """Its client has a status, and nothing of the answer."""
    upstream.script(failing, answer(200, COMPLETION))
    client = await gateway("[stream]\nmax_bytes = 1_024\n")
    assert await refused(client, HI, **KEY) == (502, code)
    assert await whole(client, **KEY) == COMPLETION
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    ("steps", "broken"),
    [
        ([delta("a")], False),
        ([delta("a"), Close()], False),
        ([delta("a"), finish(), event({"error": "x"})], True),
        ([delta("a"), delta("x" * 1024), Stall()], False),
    ],
    ids=["truncated", "closed", "an error behind a finish reason", "too large"],
)
async def test_a_broken_answer_is_broken_again(
    gateway: MakeGateway, upstream: ScriptedUpstream, steps: list[bytes | Step], broken: bool
) -> None:
    """The same error, without `[DONE]`, and the same end of the body."""
    upstream.script(stream(*steps))
    client = await gateway("[stream]\nmax_bytes = 1_024\n")
    first = await streamed(client, **KEY)
    assert first.error
    assert first.broken is broken
    assert await streamed(client, **KEY) == first
    assert len(upstream.requests) == 1


async def test_one_that_was_stopped_breaks_off_again(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """There is no error that a client could read, whether it was there or comes later."""
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    asking = [asyncio.ensure_future(streamed(client, **KEY)) for _ in range(2)]
    await eventually(lambda: streams(client).viewers == 2)
    (held,) = streams(client)
    await eventually(lambda: held.has_content)
    held.generation.interrupt(EndReason.STOPPED)
    assert [*await asyncio.gather(*asking), await streamed(client, **KEY)] == [Body(delta("a"), broken=True)] * 3


async def test_choices_and_calls_of_a_whole_answer(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    choices = [
        {"index": n, "message": {"role": "assistant", "content": None, "tool_calls": [call]}, "finish_reason": "stop"}
        for n in range(3)
    ]
    upstream.script(answer(200, {"choices": choices, "x": 1.0}))
    client = await gateway()
    first = await whole(client, {**HI, "n": 3}, **KEY)
    assert json.loads(first)["choices"] == choices
    assert await whole(client, {**HI, "n": 3}, **KEY) == first
    assert len(upstream.requests) == 1


async def test_choices_of_a_stream(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    parts = [event({"choices": [{"index": n, "delta": {"content": "a"}, "finish_reason": "stop"}]}) for n in range(3)]
    upstream.script(stream(*parts, DONE))
    client = await gateway()
    bodies = [await streamed(client, {**STREAMED, "n": 3}, **KEY) for _ in range(2)]
    assert bodies == [Body(b"".join(parts) + DONE, broken=False)] * 2


@pytest.mark.memory
async def test_a_recorded_answer_is_counted_and_forgotten(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """It takes room until `keep_seconds` after its end. One without a key takes none."""
    upstream.script(answer(200, LARGE))
    client = await gateway("[stream]\nkeep_seconds = 0.3\n")
    await whole(client)
    await at_rest(client)
    await eventually(lambda: streams(client).held_bytes == 0)
    await whole(client, **KEY)
    assert streams(client).held_bytes > 2000
    await eventually(lambda: streams(client).held_bytes == 0)
    await whole(client, **KEY)
    assert len(upstream.requests) == 3


async def test_one_who_asks_again_is_not_limited(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The first request holds the only place that its caller has."""
    go_on = asyncio.Event()
    upstream.script(stream(delta("a"), Until(go_on), finish(), DONE))
    client = await gateway(
        '[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\nmax_streams = 1\nrequests_per_minute = 1\n'
    )
    caller = {**KEY, **bearer("test-key-of-a-12345")}
    asking = [asyncio.ensure_future(streamed(client, **caller)) for _ in range(2)]
    await eventually(lambda: streams(client).viewers == 2)
    go_on.set()
    assert len({body.raw for body in await asyncio.gather(*asking)}) == 1
    assert await streamed(client, **caller) == asking[0].result()
    assert len(upstream.requests) == 1


async def test_usage_is_hidden_again(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), usage(total_tokens=5), DONE))
    client = await gateway()
    for _ in range(2):
        assert b"total_tokens" not in (await streamed(client, **KEY)).raw


async def test_silence_is_filled(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(Pause(0.3), delta("a"), finish(), DONE))
    client = await gateway("[stream]\nheartbeat_seconds = 0.1\n")
    async with post(client, STREAMED, **KEY) as response:
        body = await read(response)
    assert body.raw.startswith(b":")
    assert not body.broken


async def test_the_upstreams_own_store_passes(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, COMPLETION))
    await whole(await gateway(), {**HI, "store": False}, **KEY)
    assert upstream.requests[0].json["store"] is False


@pytest.mark.parametrize("key", ["a", "k" * 256, "é" * 20], ids=["too short", "too long", "not ASCII"])
async def test_a_bad_key(gateway: MakeGateway, upstream: ScriptedUpstream, key: str) -> None:
    client = await gateway()
    async with client.post("/v1/chat/completions", params={"idempotency_key": key}, json=HI) as response:
        assert await error_of(response) == (400, "invalid_request")
    assert not upstream.requests
