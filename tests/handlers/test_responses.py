"""The Responses API over real sockets: created, followed, resumed behind every event, cancelled and deleted."""

import asyncio
from typing import Any

import pytest

from gateway.streams.watched import Watched
from tests.conftest import Client, MakeGateway
from tests.responses.judge import Judge, read
from tests.rig.clients import bearer, error_of, eventually
from tests.rig.inside import streams
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

Object = dict[str, Any]
HI = {"model": "m", "input": "hi"}
STREAMED = {**HI, "stream": True}
BACKGROUND = {**HI, "background": True}
KEYS = '[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\n[[keys]]\nname = "b"\nkey = "test-key-of-b-12345"\n'


def fragment(index: int, **fields: str) -> bytes:
    function = {name: fields[name] for name in ("name", "arguments") if name in fields}
    ids = {"id": fields["id"]} if "id" in fields else {}
    return event(chunk(tool_calls=[{"index": index, **ids, "function": function}]))


RICH = [
    event(chunk(role="assistant", content="")),
    event(chunk(reasoning_content="I think")),
    event(chunk(reasoning_content=" twice.\n")),
    delta("Hé"),
    delta("llo\r\n👍"),
    fragment(0, id="c0", name="f", arguments='{"a"'),
    fragment(1, id="c1", name="g", arguments="{"),
    fragment(0, arguments=":1}"),
    fragment(1, arguments="}"),
    finish("tool_calls"),
    usage(prompt_tokens=3, completion_tokens=4, total_tokens=7),
    DONE,
]


async def made(client: Client, body: Object, **headers: str) -> Object:
    async with client.post("/v1/responses", json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        value: Object = await response.json()
        return value


async def told(client: Client, body: Object = STREAMED, **headers: str) -> list[Object]:
    async with client.post("/v1/responses", json=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        return read(await response.read())


async def got(client: Client, name: str, **query: str) -> Object:
    async with client.get(f"/v1/responses/{name}", params=query) as response:
        assert response.status == 200, await response.text()
        value: Object = await response.json()
        return value


async def rest(client: Client, name: str, after: int | None = None) -> list[Object]:
    query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
    async with client.get(f"/v1/responses/{name}", params=query) as response:
        assert response.status == 200, await response.text()
        return read(await response.read())


async def refused(client: Client, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    async with client.request(method, path, json=body, headers=headers) as response:
        return await error_of(response)


# Whole and streamed


async def test_a_whole_response(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    client = await gateway()
    response = await made(client, {**HI, "instructions": "Be kind.", "metadata": {"a": "b"}, "max_output_tokens": 9})
    assert response["status"] == "completed"
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert response["output"][1]["content"][0]["text"] == "Héllo\r\n👍"
    assert response["usage"]["input_tokens"] == 3
    assert (response["model"], response["metadata"], response["instructions"]) == ("m", {"a": "b"}, "Be kind.")
    (request,) = upstream.requests
    assert request.json == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert await got(client, response["id"]) == response


async def test_a_streamed_response_is_that_which_is_stored(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    client = await gateway()
    events = await told(client)
    response = Judge().judge(events)
    assert await got(client, response["id"]) == response
    assert await rest(client, response["id"]) == events


async def test_a_cut_behind_every_event_is_resumed(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The same bytes, and one request to the model."""
    upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.002))]))
    client = await gateway()
    async with client.post("/v1/responses", json=STREAMED) as response:
        whole = await response.read()
    events = read(whole)
    name = events[0]["response"]["id"]
    blocks = [block + b"\n\n" for block in whole.split(b"\n\n")[:-1]]
    for after in range(len(events)):
        async with client.get(
            f"/v1/responses/{name}", params={"stream": "true", "starting_after": str(after)}
        ) as response:
            assert await response.read() == b"".join(blocks[after + 1 :])
    assert len(upstream.requests) == 1


async def test_a_dropped_stream_is_followed_while_it_runs(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    go_on = asyncio.Event()
    upstream.script(stream(delta("a"), Until(go_on), delta("b"), finish(), DONE))
    client = await gateway()
    async with client.post("/v1/responses", json=STREAMED) as response:
        before = b""
        while b"output_text.delta" not in before:
            before += await response.content.readany()
        response.close()
    events = read(before)
    following = asyncio.ensure_future(rest(client, events[0]["response"]["id"], after=len(events) - 1))
    await asyncio.sleep(0.05)
    go_on.set()
    Judge().judge(events + await following)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("steps", "last", "status"),
    [
        ([delta("a"), finish("length"), DONE], "response.incomplete", "incomplete"),
        ([delta("a"), finish("content_filter"), DONE], "response.incomplete", "incomplete"),
        ([delta("a")], "response.failed", "failed"),
        ([delta("a"), Close()], "response.failed", "failed"),
        (
            [delta("a"), event({"error": {"message": "overloaded"}})],
            "response.failed",
            "failed",
        ),
        ([fragment(0, id="c", name="f", arguments='{"a')], "response.failed", "failed"),
    ],
)
async def test_ends(
    gateway: MakeGateway, upstream: ScriptedUpstream, steps: list[bytes | Step], last: str, status: str
) -> None:
    upstream.script(stream(*steps))
    client = await gateway()
    events = await told(client)
    response = Judge().judge(events)
    assert (events[-1]["type"], response["status"]) == (last, status)
    assert (await got(client, response["id"]))["status"] == status


async def test_a_failure_before_any_content_is_a_status(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(400, {"error": {"message": "no such parameter", "type": "invalid_request_error"}}))
    client = await gateway("[retry]\nattempts = 1\n")
    for body in (HI, STREAMED):
        assert (await refused(client, "POST", "/v1/responses", body))[0] == 400


async def test_a_truncated_answer_is_never_a_whole_response(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a")))
    assert await refused(await gateway(), "POST", "/v1/responses", HI) == (502, "upstream_incomplete")


async def test_a_call_that_cannot_be_made_fails_the_response(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Though the model's server says that it is complete, to whoever asks for it and whenever."""
    late = fragment(0, arguments="{}")
    upstream.script(stream(fragment(0, id="c", name="f", arguments="{}"), delta("b"), late, finish("tool_calls"), DONE))
    client = await gateway()
    events = await told(client)
    response = Judge().judge(events)
    assert (response["status"], response["error"]["cause"]) == ("failed", "upstream_error")
    assert await got(client, response["id"]) == response
    assert await rest(client, response["id"], after=3) == events[4:]


async def test_silence_is_filled(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(Pause(0.3), delta("a"), finish(), DONE))
    client = await gateway("[stream]\nheartbeat_seconds = 0.1\n")
    async with client.post("/v1/responses", json=STREAMED) as response:
        body = await response.read()
    assert body.startswith(b":")
    Judge().judge(read(body))


# In the background


async def test_in_the_background(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    go_on = asyncio.Event()
    upstream.script(stream(delta("a"), Until(go_on), delta("b"), finish(), DONE))
    client = await gateway("[stream]\nattach_seconds = 0.05\ngrace_seconds = 0.05\n")
    response = await made(client, BACKGROUND)
    assert response["status"] in ("queued", "in_progress")
    await upstream.until(requests=1)
    await asyncio.sleep(0.2)  # longer than a stream waits for a viewer
    assert (await got(client, response["id"]))["status"] == "in_progress"
    following = asyncio.ensure_future(rest(client, response["id"]))
    await asyncio.sleep(0.05)
    go_on.set()
    last = Judge().judge(await following)
    assert last["output"][0]["content"][0]["text"] == "ab"
    assert await got(client, response["id"]) == last


async def test_a_stream_in_the_background_goes_on_without_its_client(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()
    upstream.script(stream(Until(go_on), delta("a"), finish(), DONE))
    client = await gateway("[stream]\nattach_seconds = 0.05\ngrace_seconds = 0.05\n")
    async with client.post("/v1/responses", json={**BACKGROUND, "stream": True}) as response:
        start = await response.content.readany()
        response.close()
    name = read(start)[0]["response"]["id"]
    await asyncio.sleep(0.2)
    go_on.set()
    assert Judge().judge(await rest(client, name))["status"] == "completed"
    assert len(upstream.requests) == 1


async def test_a_failed_one_in_the_background(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(400, {"error": {"message": "no such parameter", "type": "invalid_request_error"}}))
    client = await gateway("[retry]\nattempts = 1\n")
    response = await made(client, BACKGROUND)
    last = Judge().judge(await rest(client, response["id"]))
    assert last["status"] == "failed"
    assert last["error"]["message"]


async def test_a_key_that_may_not_drain_asks_nothing_in_the_background(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    client = await gateway('[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\non_disconnect = ["cancel"]\n')
    status, _ = await refused(client, "POST", "/v1/responses", BACKGROUND, **bearer("test-key-of-a-12345"))
    assert status == 403
    assert not upstream.requests


# Cancelled, deleted, not stored


@pytest.mark.parametrize("body", [BACKGROUND, {**BACKGROUND, "stream": True}])
async def test_cancel(gateway: MakeGateway, upstream: ScriptedUpstream, body: Object) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    name = (await made(client, BACKGROUND))["id"]
    following = asyncio.ensure_future(rest(client, name))
    await upstream.until(requests=1)
    await eventually(lambda: any(stream.log.last for stream in streams(client)))
    for _ in range(2):
        async with client.post(f"/v1/responses/{name}/cancel") as response:
            assert (await response.json())["status"] == "cancelled"
    assert Judge().judge(await following)["status"] == "cancelled"
    await upstream.until(left=1)


async def test_delete(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE), stream(delta("a"), Stall()))
    client = await gateway()
    ended, running = (await made(client, HI))["id"], (await made(client, BACKGROUND))["id"]
    await upstream.until(requests=2)
    for name in (ended, running):
        async with client.delete(f"/v1/responses/{name}") as response:
            assert await response.json() == {"id": name, "object": "response", "deleted": True}
    await upstream.until(left=1)
    for name in (ended, running):
        assert await refused(client, "GET", f"/v1/responses/{name}") == (404, "response_not_found")


async def test_what_is_not_stored_is_not_found(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway()
    whole = await made(client, {**HI, "store": False})
    streamed = (await told(client, {**STREAMED, "store": False}))[-1]["response"]
    for name in (whole["id"], streamed["id"]):
        assert await refused(client, "GET", f"/v1/responses/{name}") == (404, "response_not_found")


async def test_a_client_that_waits_for_the_whole_and_leaves_stops_it(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    asking = asyncio.ensure_future(made(client, HI))
    await upstream.until(requests=1)
    asking.cancel()
    await upstream.until(left=1)


@pytest.mark.parametrize(("method", "more"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel")])
async def test_only_the_callers_own(gateway: MakeGateway, upstream: ScriptedUpstream, method: str, more: str) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway(KEYS)
    name = (await made(client, HI, **bearer("test-key-of-a-12345")))["id"]
    for other in (name, "resp_" + "x" * 22, "resp_", "msg_1", "resp_é"):
        path = f"/v1/responses/{other}{more}"
        assert await refused(client, method, path, **bearer("test-key-of-b-12345")) == (404, "response_not_found")
        assert await refused(client, method, path) == (401, "invalid_api_key")


async def test_a_stream_of_another_surface_is_no_response(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway()
    async with client.post("/streams", json={"question": "hi"}) as response:
        other = (await response.json())["id"]
    assert await refused(client, "GET", f"/v1/responses/resp_{other}") == (404, "response_not_found")


@pytest.mark.parametrize("after", ["-1", "x", "1" * 13, "1.0", "²"])
async def test_a_bad_number(gateway: MakeGateway, upstream: ScriptedUpstream, after: str) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway()
    name = (await made(client, HI))["id"]
    async with client.get(f"/v1/responses/{name}", params={"stream": "true", "starting_after": after}) as response:
        assert await error_of(response) == (400, "invalid_request")


# The conversation goes on


async def test_previous_response_id(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH), stream(delta("done"), finish(), DONE))
    client = await gateway()
    first = await made(client, {**HI, "instructions": "Only once."})
    outputs = [
        {"type": "function_call_output", "call_id": "c0", "output": "1"},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
    ]
    second = await made(client, {"model": "m", "input": outputs, "previous_response_id": first["id"]})
    assert second["previous_response_id"] == first["id"]
    calls = [
        {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "c1", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    so_far = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Héllo\r\n👍", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c0", "content": "1"},
        {"role": "tool", "tool_call_id": "c1", "content": "2"},
    ]
    assert upstream.requests[1].json["messages"] == so_far
    await made(client, {"model": "m", "input": "more", "previous_response_id": second["id"]})
    last = [{"role": "assistant", "content": "done"}, {"role": "user", "content": "more"}]
    assert upstream.requests[2].json["messages"] == [*so_far, *last]


async def test_a_previous_response_that_is_not_there(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway()
    unknown = {**HI, "previous_response_id": "resp_" + "x" * 22}
    assert await refused(client, "POST", "/v1/responses", unknown) == (400, "previous_response_not_found")
    running = (await made(client, BACKGROUND))["id"]
    body = {**HI, "previous_response_id": running}
    assert await refused(client, "POST", "/v1/responses", body) == (400, "previous_response_running")


# Idempotent


async def test_a_retry_gets_the_response_that_was_begun(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    client = await gateway()
    first = await told(client, STREAMED, **{"Idempotency-Key": "k" * 16})
    assert await told(client, STREAMED, **{"Idempotency-Key": "k" * 16}) == first
    assert await made(client, HI, **{"Idempotency-Key": "k" * 16}) == first[-1]["response"]
    assert len(upstream.requests) == 1
    other = await refused(client, "POST", "/v1/responses", {**HI, "input": "x"}, **{"Idempotency-Key": "k" * 16})
    assert other == (409, "idempotency_conflict")


KEY = {"Idempotency-Key": "0d4b4b52-5f0a-4d3e-9d0c-7a3c0f7b6a11"}
OK = stream(delta("b"), finish(), DONE)


def text_in(response: Object) -> str:
    text: str = response["output"][0]["content"][0]["text"]
    return text


@pytest.mark.parametrize("fields", [{}, {"store": False}], ids=["stored", "not stored"])
@pytest.mark.parametrize(
    "failing",
    [
        answer(500, {"error": {"message": "no"}}),
        stream(delta("a"), Close()),
        stream(delta("a"), event({"error": {"message": "boom"}})),
        stream(delta("a"), delta("x" * 2000), Stall()),
    ],
    ids=["refused", "cut", "an error", "too large"],
)
async def test_a_whole_response_that_fails_frees_the_key(
    gateway: MakeGateway, upstream: ScriptedUpstream, failing: list[Step], fields: Object
) -> None:
    """Its client has a status, and nothing of the response."""
    upstream.script(failing, OK)
    client = await gateway("[stream]\nmax_bytes = 1_024\n[retry]\nattempts = 1\n")
    assert (await refused(client, "POST", "/v1/responses", {**HI, **fields}, **KEY))[0] == 502
    assert text_in(await made(client, {**HI, **fields}, **KEY)) == "b"
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("fields", [{}, {"store": False}], ids=["stored", "not stored"])
async def test_a_streamed_response_that_failed_is_given_again(
    gateway: MakeGateway, upstream: ScriptedUpstream, fields: Object
) -> None:
    upstream.script(stream(delta("a"), Close()), OK)
    client = await gateway()
    first, again = [await told(client, {**STREAMED, **fields}, **KEY) for _ in range(2)]
    assert first == again
    assert first[-1]["type"] == "response.failed"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("fields", [{}, {"store": False}], ids=["stored", "not stored"])
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_who_has_a_key_and_leaves_is_waited_for(
    gateway: MakeGateway, upstream: ScriptedUpstream, fields: Object, is_streamed: bool
) -> None:
    """A client whose time limit is shorter than the answer asks again, and the model is asked once."""
    go_on = asyncio.Event()
    upstream.script(stream(Until(go_on), delta("a"), finish(), DONE))
    client = await gateway()
    asked = {**HI, **fields, "stream": is_streamed}
    asking = asyncio.ensure_future((told if is_streamed else made)(client, asked, **KEY))
    await upstream.until(requests=1)
    asking.cancel()
    await eventually(lambda: streams(client).viewers == 0)
    again = asyncio.ensure_future(made(client, {**asked, "stream": False}, **KEY))
    await eventually(lambda: streams(client).viewers == 1)
    go_on.set()
    assert text_in(await again) == "a"
    assert len(upstream.requests) == 1


async def test_nobody_comes_back_to_a_whole_response(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """It is cancelled after `grace_seconds`, and its key is free."""
    upstream.script(stream(delta("a"), Stall()), OK)
    client = await gateway("[stream]\ngrace_seconds = 0.1\n")
    asking = asyncio.ensure_future(made(client, HI, **KEY))
    await upstream.until(requests=1)
    asking.cancel()
    await upstream.until(left=1)
    assert text_in(await made(client, HI, **KEY)) == "b"


async def test_a_key_that_may_only_cancel(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Stall()), OK)
    client = await gateway('[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\non_disconnect = ["cancel"]\n')
    caller = {**KEY, **bearer("test-key-of-a-12345")}
    asking = asyncio.ensure_future(made(client, HI, **caller))
    await upstream.until(requests=1)
    asking.cancel()
    await upstream.until(left=1)
    assert text_in(await made(client, HI, **caller)) == "b"


async def test_a_body_that_breaks_off_ends_nothing(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A viewer that is cut, and comes back behind its last event, has one whole sequence."""
    upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.01))]))
    client = await gateway()
    events: list[Object] = []
    async with client.post("/v1/responses", json=STREAMED) as response:
        buffer = b""
        while len(events) < 6:
            buffer += await response.content.readany()
            whole, _, _ = buffer.rpartition(b"\n\n")
            events = read(whole + b"\n\n")
        response.close()
    with pytest.raises(AssertionError):
        Judge().judge(events)
    Judge().judge(events + await rest(client, events[0]["response"]["id"], after=events[-1]["sequence_number"]))


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k" * 16}], ids=["", "with a key"])
async def test_those_in_the_background_are_not_given_up_for_others(
    gateway: MakeGateway, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    """They are no orphans, of which a gateway has a bounded number."""
    go_on = asyncio.Event()
    upstream.script(stream(Until(go_on), delta("a"), finish(), DONE))
    client = await gateway("[stream]\nmax_orphans = 1\nattach_seconds = 0.1\ngrace_seconds = 0.1\n")
    names = [(await made(client, {**BACKGROUND, "user": str(n)}, **headers))["id"] for n in range(1 if headers else 3)]
    async with client.post("/streams", json={"question": "hi"}) as response:
        assert response.status == 201
    await asyncio.sleep(0.3)
    go_on.set()
    for name in names:
        assert Judge().judge(await rest(client, name))["status"] == "completed"


async def test_a_query_of_the_sdks(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway()
    name = (await made(client, HI))["id"]
    async with client.get(f"/v1/responses/{name}?include[]=a&include[]=b") as response:
        assert response.status == 200


async def test_items_are_named_by_their_ids(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """As the AI SDK does for what is stored."""
    upstream.script(stream(*RICH), stream(delta("done"), finish(), DONE))
    client = await gateway(KEYS)
    own, other = bearer("test-key-of-a-12345"), bearer("test-key-of-b-12345")
    first = await made(client, HI, **own)
    named = [{"type": "item_reference", "id": item["id"]} for item in first["output"]]
    outputs = [{"type": "function_call_output", "call_id": name, "output": "1"} for name in ("c0", "c1")]
    asked = {"model": "m", "input": [{"role": "user", "content": "hi"}, *named, *outputs]}
    second = await made(client, asked, **own)
    assert second["notes"]
    by_id = {"model": "m", "input": outputs, "previous_response_id": first["id"]}
    await made(client, by_id, **own)
    assert upstream.requests[1].json["messages"] == upstream.requests[2].json["messages"]
    assert await refused(client, "POST", "/v1/responses", asked, **other) == (400, "unsupported_value")
    await made(client, {**asked, "input": named[1:2]}, **own)
    for name in ("msg_x", "msg_" + "x" * 22 + "_0"):
        body = {**asked, "input": [{"type": "item_reference", "id": name}]}
        assert await refused(client, "POST", "/v1/responses", body, **own) == (400, "unsupported_value")
    odd = {**asked, "input": [{"type": ["item_reference"], "id": "msg_x"}]}
    assert await refused(client, "POST", "/v1/responses", odd, **own) == (400, "invalid_request")


def reference(name: str) -> Object:
    return {"type": "item_reference", "id": name}


def lookups(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The streams that are looked up from now on."""
    seek, sought = streams(client).seek, list[str]()

    async def seeking(stream_id: str, *, number: int = 0) -> Watched | None:
        sought.append(stream_id)
        return await seek(stream_id, number=number)

    monkeypatch.setattr(streams(client), "seek", seeking)
    return sought


@pytest.mark.inside
async def test_a_response_is_looked_up_once_for_all_its_items(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for those that it does not have: at the first one the request is refused."""
    upstream.script(stream(*RICH), stream(delta("done"), finish(), DONE))
    client = await gateway()
    names = [item["id"] for item in (await made(client, HI))["output"]]
    sought = lookups(client, monkeypatch)
    await made(client, {"model": "m", "input": [reference(name) for name in names[:2] * 20]})
    assert len(sought) == 1
    missing = [reference(f"{names[1].rpartition('_')[0]}_{number}") for number in range(50, 90)]
    asked = {"model": "m", "input": [reference(names[1]), *missing]}
    async with client.post("/v1/responses", json=asked) as response:
        assert (await response.json())["error"]["param"] == "input[1]"
        assert await error_of(response) == (400, "unsupported_value")
    assert len(sought) == 2


@pytest.mark.inside
async def test_the_first_response_that_is_not_there_is_the_last_one_that_is_looked_up(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script(stream(*RICH))
    client = await gateway()
    known = (await made(client, HI))["output"][1]["id"]
    sought = lookups(client, monkeypatch)
    unknown = [reference(f"msg_{number:022}_0") for number in range(20)]
    asked = {"model": "m", "input": [reference(known), *unknown]}
    assert await refused(client, "POST", "/v1/responses", asked) == (400, "unsupported_value")
    assert len(sought) == 2
    malformed = {"model": "m", "input": [reference("msg_x"), *unknown]}
    assert await refused(client, "POST", "/v1/responses", malformed) == (400, "unsupported_value")
    assert len(sought) == 2


@pytest.mark.inside
async def test_items_of_too_many_responses_are_refused_before_any_is_looked_up(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await gateway()
    sought = lookups(client, monkeypatch)
    named = [reference(f"msg_{number:022}_0") for number in range(1_001)]
    async with client.post("/v1/responses", json={"model": "m", "input": named}) as response:
        assert "over 1000 responses" in (await response.json())["error"]["message"]
        assert await error_of(response) == (400, "invalid_request")
    assert not sought
    several = [reference(f"msg_{number:022}_{place}") for number in range(1_000) for place in range(2)]
    asked = {"model": "m", "input": several}
    assert await refused(client, "POST", "/v1/responses", asked) == (400, "unsupported_value")
    assert len(sought) == 1


async def test_calls_without_an_id_have_the_same_one_later(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(fragment(0, name="f", arguments="{}"), finish("tool_calls"), DONE), stream(*RICH))
    client = await gateway()
    first = await made(client, HI)
    (call,) = first["output"]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "1"}
    await made(client, {"model": "m", "input": [output], "previous_response_id": first["id"]})
    messages: Any = upstream.requests[1].json["messages"]
    _, asked, result = messages
    assert asked["tool_calls"][0]["id"] == result["tool_call_id"] == call["call_id"]
