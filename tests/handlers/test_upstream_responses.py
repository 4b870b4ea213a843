"""Responses that the upstream makes itself, over real sockets: the bytes pass, and ids reach their owner only."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.handlers.services import SERVICES
from tests.conftest import Client, MakeGateway
from tests.handlers.test_responses import KEYS, RICH, Object, refused
from tests.responses.judge import Judge, read
from tests.rig.clients import bearer, error_of, eventually, leave, remains, send
from tests.rig.inside import at_rest, streams
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    Received,
    Reset,
    ScriptedUpstream,
    Send,
    Stall,
    Step,
    Until,
    answer,
    delta,
    finish,
    head,
    stream,
)

A, B = bearer("test-key-of-a-12345"), bearer("test-key-of-b-12345")
HI = {"model": "m", "input": "hi"}
STREAMED = {**HI, "stream": True}
USAGE = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 12,
}


def told(upstream: ScriptedUpstream, more: str = "", *, keys: str = "") -> str:
    """A configuration whose first upstream makes responses."""
    key = 'api_key = "key-of-the-maker"'
    return f'{keys}{more}[[upstreams]]\nname = "maker"\napi = "responses"\nbase_url = "{upstream.url}/v1"\n{key}\n'


def response(status: str, name: str = "resp_1", **fields: object) -> Object:
    own = {"object": "response", "created_at": 7, "model": "m-1", "output": [], "usage": None, "error": None}
    return {"id": name, **own, "status": status, **fields}


def event(kind: str, number: int, **fields: object) -> bytes:
    """With spaces and an escape, as no encoder of ours would write it."""
    data = json.dumps({"type": kind, **fields, "sequence_number": number})
    return f'event: {kind}\ndata: {data[:-1]}, "x": "\\u00e9" }}\n\n'.encode()


def begun(name: str = "resp_1", **fields: object) -> list[bytes]:
    value = response("in_progress", name, **fields)
    return [event("response.created", 0, response=value), event("response.in_progress", 1, response=value)]


ITEM = event("response.output_item.added", 2, output_index=0, item={"type": "web_search_call", "id": "ws_1"})
TEXT = event("response.output_text.delta", 3, output_index=0, content_index=0, delta="Hé")
COMPLETED = event("response.completed", 4, response=response("completed", usage=USAGE))
WHOLE = [*begun(), ITEM, TEXT, COMPLETED]
BODY = json.dumps(response("completed", usage=USAGE), indent=2).replace('"m-1"', '"m-\\u0031"').encode()


async def posted(client: Client, body: Object, **headers: str) -> bytes:
    async with client.post("/v1/responses", json=body, headers=headers) as got:
        assert got.status == 200, await got.text()
        return await got.read()


# Bytes


async def test_events_pass_byte_for_byte(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    upstream.script(stream(b": ping\n\n", *WHOLE[:2], b": ping\n\n", *WHOLE[2:], b"event: late\ndata: {}\n\n"))
    client = await gateway(told(upstream))
    assert await posted(client, STREAMED) == b"".join(WHOLE)
    await at_rest(client)
    (request,) = upstream.requests
    assert (request.path, request.headers["authorization"]) == ("/v1/responses", "bearer key-of-the-maker")
    record = lines[-1]["stream"]
    assert (record["end"], record["finish_reason"], record["model"]) == ("complete", "completed", "m-1")
    assert (record["input_tokens"], record["cached_tokens"]) == (7, 2)
    assert (record["output_tokens"], record["reasoning_tokens"]) == (5, 3)
    assert not record.get("tokens_estimated")
    assert not record.get("done_missing")
    assert not record.get("finish_missing")


async def test_a_whole_body_passes_byte_for_byte(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    upstream.script(answer(200, BODY))
    client = await gateway(told(upstream))
    assert await posted(client, HI) == BODY
    await at_rest(client)
    assert lines[-1]["stream"]["input_tokens"] == 7
    assert lines[-1]["stream"]["end"] == "complete"


async def test_what_a_chat_has_no_place_for_passes(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The body is that of the client, but for the model and the gateway's own field."""
    upstream.script(answer(200, BODY))
    model = '[[models]]\nname = "ours"\ntargets = [{upstream = "maker", model = "theirs"}]\n'
    client = await gateway(told(upstream, model))
    asked = (
        b'{"tools":[{"type":"web_search"},{"type":"code_interpreter","container":{"type":"auto"}}],"model":"ours",'
        b'"input":[{"role":"user","content":[{"type":"input_file","file_id":"file-1"}]},'
        b'{"type":"reasoning","id":"rs_1","encrypted_content":"gAA=","summary":[]}], "n": 1e0,'
        b'"include":["reasoning.encrypted_content"],"truncation":"auto","conversation":"conv_1","prompt":{"id":"p"},'
        b'"stream_options":{"include_obfuscation":false},"stream":false,"on_disconnect":"cancel"}'
    )
    async with client.post("/v1/responses", data=asked, headers={"Content-Type": "application/json"}) as got:
        assert await got.read() == BODY
    (request,) = upstream.requests
    expected = json.loads(asked) | {"model": "theirs"}
    del expected["on_disconnect"]
    assert request.json == expected
    assert b'"n":1e0' in request.body


async def test_chats_go_to_the_chats_of_the_same_upstream(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway(told(upstream))
    for path, body in {
        "/chat": {"question": "hi"},
        "/v1/chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True},
        "/v1/messages": {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
    }.items():
        async with client.post(path, json=body) as got:
            assert got.status == 200, await got.text()
            await got.read()
    assert {request.path for request in upstream.requests} == {"/v1/chat/completions"}


# Ends


CUTS = range(len(WHOLE) - 1)


@pytest.mark.parametrize("end", [None, Close(), Reset()], ids=["clean", "closed", "reset"])
@pytest.mark.parametrize("after", CUTS)
async def test_a_cut_behind_every_event_is_told(
    gateway: MakeGateway, upstream: ScriptedUpstream, after: int, end: Step | None
) -> None:
    """Before there is content it is a status. Behind it, it is an `error` event, which is the last one."""
    parts = [part for one in WHOLE[: after + 1] for part in (one, Pause(0.005))]
    upstream.script(stream(*parts, *([] if end is None else [end])))
    client = await gateway(told(upstream))
    async with client.post("/v1/responses", json=STREAMED) as got:
        if after < 2:
            assert await error_of(got) == (502, "upstream_incomplete")
            return
        assert got.status == 200
        body = await got.read()
    before = b"".join(WHOLE[: after + 1])
    assert body.startswith(before)
    (error,) = read(body[len(before) :])
    assert error["type"] == "error"
    assert error["code"] == error["error"]["code"] == "upstream_incomplete"
    assert error["sequence_number"] == after + 1
    assert set(error) == {"type", "code", "message", "param", "sequence_number", "error"}


async def test_an_incomplete_response_is_an_end(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    details = {"reason": "max_output_tokens"}
    last = event("response.incomplete", 4, response=response("incomplete", incomplete_details=details, usage=USAGE))
    upstream.script(stream(*WHOLE[:4], last))
    client = await gateway(told(upstream))
    assert await posted(client, STREAMED) == b"".join([*WHOLE[:4], last])
    await at_rest(client)
    assert (lines[-1]["stream"]["end"], lines[-1]["stream"]["finish_reason"]) == ("complete", "max_output_tokens")


FAULT = {"code": "server_error", "message": "Ask key-of-the-maker at http://10.0.0.1/ later."}


async def test_a_failure_behind_content_is_the_upstreams_event_without_its_secrets(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    failed = event("response.failed", 4, response=response("failed", error={**FAULT, "message": "Too bad."}))
    spoken = failed.replace(b"Too bad.", FAULT["message"].encode())
    upstream.script(stream(*WHOLE[:4], failed), stream(*WHOLE[:4], spoken))
    client = await gateway(told(upstream))
    assert await posted(client, STREAMED) == b"".join([*WHOLE[:4], failed])
    await at_rest(client)
    assert (lines[-1]["stream"]["end"], lines[-1]["stream"]["error"]) == ("upstream_error", "server_error")
    last = read(await posted(client, STREAMED))[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["message"] == "Ask [redacted] at [address] later."


async def test_an_error_event_is_cleaned(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*WHOLE[:4], event("error", 4, **FAULT, param=None)))
    client = await gateway(told(upstream))
    last = read(await posted(client, STREAMED))[-1]
    assert (last["type"], last["code"], last["sequence_number"]) == ("error", "server_error", 4)
    assert last["message"] == last["error"]["message"] == "Ask [redacted] at [address] later."


LIMIT = event("response.failed", 2, response=response("failed", error={"code": "rate_limit_exceeded"}))

EARLY: dict[str, tuple[list[Step], tuple[int, str]]] = {
    "an error event": (stream(*begun(), event("error", 2, **FAULT)), (502, "server_error")),
    "a failed response": (
        stream(*begun(), event("response.failed", 2, response=response("failed", error=FAULT))),
        (502, "server_error"),
    ),
    "a limit": (
        stream(*begun(), LIMIT),
        (429, "upstream_rate_limited"),
    ),
    "a status": (answer(429, {"error": {"message": "slow down"}}), (429, "upstream_rate_limited")),
    "a refusal": (answer(400, {"error": {"message": "no", "code": "bad", "param": "input"}}), (400, "bad")),
    "no path": (answer(404, {"detail": "Not Found"}), (502, "upstream_misconfigured")),
    "a body for events": (answer(200, BODY), (502, "upstream_error")),
    "nothing": (stream(), (502, "upstream_incomplete")),
}


@pytest.mark.parametrize("name", EARLY)
async def test_an_early_failure_is_a_status(gateway: MakeGateway, upstream: ScriptedUpstream, name: str) -> None:
    script, expected = EARLY[name]
    upstream.script(script)
    client = await gateway(told(upstream))
    assert await refused(client, "POST", "/v1/responses", STREAMED) == expected


BODIES: dict[str, tuple[list[Step], tuple[int, str]]] = {
    "a failed response": (answer(200, response("failed", error=FAULT)), (502, "server_error")),
    "an error": (answer(200, {"error": {"message": "no"}}), (502, "upstream_error")),
    "something else": (answer(200, {"object": "list"}), (502, "upstream_error")),
    "no object": (answer(200, b"[1]"), (502, "upstream_error")),
    "part of one": (answer(200, b'{"id":'), (502, "upstream_incomplete")),
    "events": (stream(*WHOLE), (502, "upstream_error")),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_is_no_response_is_a_status(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str
) -> None:
    script, expected = BODIES[name]
    upstream.script(script)
    client = await gateway(told(upstream))
    assert await refused(client, "POST", "/v1/responses", HI) == expected


async def test_another_target_answers_before_the_first_content(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Of the first one, whose limit comes behind its first events, the client sees nothing."""
    upstream.script(stream(*begun("resp_0"), LIMIT), stream(*WHOLE))
    models = '[[models]]\nname = "m"\ntargets = [{upstream = "maker"}, {upstream = "maker", model = "b"}]\n'
    client = await gateway(told(upstream, f"[retry]\nattempts = 2\n{models}"))
    assert await posted(client, STREAMED) == b"".join(WHOLE)
    assert [request.json["model"] for request in upstream.requests] == ["m", "b"]


async def test_heartbeats_fill_the_silence(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*WHOLE[:2], Pause(0.25), *WHOLE[2:]))
    client = await gateway(told(upstream, "[stream]\nheartbeat_seconds = 0.1\n"))
    body = await posted(client, STREAMED)
    assert body.startswith(b":\n\n")
    assert body.replace(b":\n\n", b"") == b"".join(WHOLE)


async def test_a_client_that_leaves_ends_the_request(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*WHOLE[:3], Stall()))
    client = await gateway(told(upstream))
    async with client.post("/v1/responses", json=STREAMED) as got:
        await got.content.readuntil(ITEM)
        got.close()
    await eventually(lambda: upstream.left == 1)
    await at_rest(client)


async def test_an_idempotency_key_gives_the_same_bytes(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*WHOLE))
    client = await gateway(told(upstream))
    key = {"Idempotency-Key": "k" * 16}
    assert await posted(client, STREAMED, **key) == await posted(client, STREAMED, **key) == b"".join(WHOLE)
    assert len(upstream.requests) == 1


async def test_tokens_count_against_the_limit(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*WHOLE))
    keys = '[[keys]]\nname = "a"\nkey = "test-key-of-a-12345"\ntokens_per_minute = 100\n'
    client = await gateway(told(upstream, keys=keys))
    few, many = {**STREAMED, "max_output_tokens": 80}, {**STREAMED, "max_output_tokens": 95}
    for _ in range(2):  # each reserves 80, and takes 12
        assert await posted(client, few, **A) == b"".join(WHOLE)
        await at_rest(client)
    assert await refused(client, "POST", "/v1/responses", many, **A) == (429, "rate_limit_exceeded")


# By id


def by_path(scripts: dict[str, Sequence[Step]]) -> Callable[[Received], Sequence[Step]]:
    return lambda request: scripts[f"{request.method} {request.path}"]


async def test_an_id_reaches_its_owner_only(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    cancelled = json.dumps(response("cancelled"), indent=1).encode()
    query = "include%5B%5D=a&include%5B%5D=b"
    deleted = b'{"id": "resp_1", "object":"response","deleted":true}'
    script = by_path(
        {
            "POST /v1/responses": stream(*WHOLE),
            "GET /v1/responses/resp_1": answer(200, BODY),
            f"GET /v1/responses/resp_1?{query}": answer(200, BODY),
            "GET /v1/responses/resp_1?stream=true&starting_after=2": stream(*WHOLE[3:]),
            "POST /v1/responses/resp_1/cancel": answer(200, cancelled),
            "DELETE /v1/responses/resp_1": answer(200, deleted),
        }
    )
    upstream.script(script)
    client = await gateway(told(upstream, keys=KEYS))
    await posted(client, STREAMED, **A)
    path = "/v1/responses/resp_1"
    calls = [
        ("GET", path, BODY),
        ("GET", f"{path}?{query}", BODY),
        ("GET", f"{path}?stream=true&starting_after=2", b"".join(WHOLE[3:])),
        ("POST", f"{path}/cancel", cancelled),
        ("DELETE", path, deleted),
    ]
    asked = len(upstream.requests)
    for method, place, _ in calls:
        assert await refused(client, method, place, **B) == (404, "response_not_found")
        assert (await refused(client, method, place))[0] == 401
    assert len(upstream.requests) == asked
    for method, place, body in calls:
        async with client.request(method, place, headers=A) as got:
            assert (got.status, await got.read()) == (200, body)
    assert upstream.requests[-1].headers["authorization"] == "bearer key-of-the-maker"
    assert await refused(client, "GET", path, **A) == (404, "response_not_found")


async def test_what_the_upstream_says_of_an_id(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(
        answer(200, BODY),
        answer(404, {"error": {"message": "Response with id 'resp_1' not found.", "code": None}}),
        answer(200, response("failed", error=FAULT)),
        answer(401, {"error": {"message": "key-of-the-maker is wrong"}}),
        answer(200, {"error": FAULT}),
        [Close()],
        answer(200, b'{"id"'),
    )
    client = await gateway(told(upstream))
    await posted(client, HI)
    path = "/v1/responses/resp_1"
    assert (await refused(client, "GET", path))[0] == 404
    async with client.get(path) as got:
        assert (await got.json())["error"]["message"] == "Ask [redacted] at [address] later."
    assert await refused(client, "GET", path) == (502, "upstream_misconfigured")
    assert await refused(client, "POST", f"{path}/cancel") == (502, "server_error")
    assert (await refused(client, "POST", f"{path}/cancel"))[0] == 502
    assert await refused(client, "GET", path) == (502, "upstream_incomplete")


ROOM = "[server]\nmax_bodies_bytes = 200_000\n"


@pytest.mark.inside
@pytest.mark.parametrize("way", [("GET", ""), ("POST", "/cancel")], ids=["retrieved", "cancelled"])
async def test_a_body_of_an_upstream_takes_room_while_it_is_read(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: tuple[str, str]
) -> None:
    """Where there is none, the answer is 503, and none is taken by a body that breaks off."""
    large = json.dumps(response("completed", output=["x" * 50_000])).encode()
    cut: list[Step] = [Send(head(200, "application/json", Content_Length=str(len(large))) + large[:-1]), Close()]
    upstream.script(answer(200, BODY), answer(200, large), cut, answer(200, large))
    client = await gateway(told(upstream, ROOM))
    await posted(client, HI)
    bodies = client.app[SERVICES].bodies
    method, path = way[0], f"/v1/responses/resp_1{way[1]}"
    with bodies.reading("another") as count, bodies.reading("one more") as count_more:
        count(100_000)
        count_more(60_000)
        async with client.request(method, path) as got:
            assert await error_of(got) == (503, "busy")
            assert got.headers["Retry-After"] == "1"
    assert await refused(client, method, path) == (502, "upstream_incomplete")
    assert not bodies._all
    async with client.request(method, path) as got:
        assert (got.status, await got.read()) == (200, large)
    await eventually(lambda: not bodies._all)


async def test_a_body_of_an_upstream_that_never_has_room(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A caller may have half of the room."""
    large = json.dumps(response("completed", output=["x" * 150_000])).encode()
    upstream.script(answer(200, BODY), answer(200, large))
    client = await gateway(told(upstream, ROOM))
    await posted(client, HI)
    assert await refused(client, "GET", "/v1/responses/resp_1") == (502, "answer_too_large")


@pytest.mark.inside
async def test_a_body_of_an_upstream_takes_room_until_its_client_has_it(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    large = json.dumps(response("completed", output=["x" * 20_000_000])).encode()
    upstream.script(answer(200, BODY), answer(200, large))
    client = await gateway(told(upstream))
    await posted(client, HI)
    bodies = client.app[SERVICES].bodies
    request = "GET /v1/responses/resp_1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    writer = await send(client, request, receive_buffer=4096)  # and takes nothing
    try:
        await eventually(lambda: bodies._all == len(large), within=20)
        await remains(lambda: bodies._all == len(large))
    finally:
        leave(writer, "rst")
    await eventually(lambda: not bodies._all)


async def test_a_response_in_the_background(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Its client has the id at once, may leave, and follows it later."""
    queued = begun(background=True)
    upstream.script(stream(*queued, Stall()), stream(*WHOLE[1:3], Pause(0.01), *WHOLE[3:]))
    client = await gateway(told(upstream))
    async with client.post("/v1/responses", json={**STREAMED, "background": True}) as got:
        start = await got.content.readuntil(queued[0])
        got.close()
    name = read(start)[0]["response"]["id"]
    async with client.get(f"/v1/responses/{name}?stream=true&starting_after=0") as got:
        assert await got.read() == b"".join(WHOLE[1:])
    await eventually(lambda: upstream.left == 1)


@pytest.mark.parametrize("after", range(1, len(WHOLE) - 1))
async def test_a_resumed_stream_ends_honestly(gateway: MakeGateway, upstream: ScriptedUpstream, after: int) -> None:
    upstream.script(answer(200, BODY), stream(*WHOLE[1 : after + 1], Pause(0.01), Close()))
    client = await gateway(told(upstream))
    await posted(client, HI)
    async with client.get("/v1/responses/resp_1?stream=true&starting_after=0") as got:
        body = await got.read()
    before = b"".join(WHOLE[1 : after + 1])
    assert body.startswith(before)
    (error,) = read(body[len(before) :])
    assert (error["type"], error["sequence_number"]) == ("error", after + 1)


async def test_a_resumed_stream_of_a_failed_response_is_whole(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    failed = event("response.failed", 2, response=response("failed", error={"code": "server_error", "message": "No."}))
    upstream.script(answer(200, BODY), stream(*WHOLE[:2], failed), stream(failed), answer(404, {"error": "gone"}))
    client = await gateway(told(upstream))
    await posted(client, HI)
    async with client.get("/v1/responses/resp_1?stream=true") as got:
        assert await got.read() == b"".join([*WHOLE[:2], failed])
    async with client.get("/v1/responses/resp_1?stream=true&starting_after=1") as got:
        assert await got.read() == failed
    assert (await refused(client, "GET", "/v1/responses/resp_1?stream=true"))[0] == 404


async def test_there_is_nothing_behind_the_last_event(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, BODY), stream())
    client = await gateway(told(upstream))
    await posted(client, HI)
    async with client.get("/v1/responses/resp_1?stream=true&starting_after=4") as got:
        assert (got.status, await got.read()) == (200, b"")


async def test_a_resumed_stream_ends_at_a_shutdown(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, BODY), stream(WHOLE[0], Stall()))
    client = await gateway(told(upstream))
    await posted(client, HI)
    async with client.get("/v1/responses/resp_1?stream=true") as got:
        assert await got.content.readuntil(WHOLE[0])
        await streams(client).close()
        (error,) = read(await got.read())
    assert (error["type"], error["code"]) == ("error", "shutting_down")
    assert await refused(client, "GET", "/v1/responses/resp_1?stream=true") == (503, "shutting_down")


async def test_a_model_without_the_upstream_of_the_previous_response(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(answer(200, BODY))
    names = ("other", "maker")
    models = "".join([f'[[models]]\nname = "{name}"\ntargets = [{{upstream = "{name}"}}]\n' for name in names])
    other = f'[[upstreams]]\nname = "other"\napi = "responses"\nbase_url = "{upstream.url}/v1"\n'
    client = await gateway(told(upstream, models + other))
    await posted(client, {**HI, "model": "maker"})
    following = {**HI, "model": "other", "previous_response_id": "resp_1"}
    expected = (400, "previous_response_not_found")
    assert await refused(client, "POST", "/v1/responses", following) == expected


async def test_a_resumed_stream_is_one_of_those_that_may_run(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    go_on = asyncio.Event()
    upstream.script(answer(200, BODY), stream(WHOLE[0], Until(go_on), *WHOLE[1:]))
    client = await gateway(told(upstream, "[server]\nmax_running = 1\n"))
    await posted(client, HI)
    path = "/v1/responses/resp_1?stream=true"
    async with client.get(path) as got:
        assert await got.content.readuntil(WHOLE[0])
        assert await refused(client, "GET", path) == (503, "too_many_running")
        assert await refused(client, "POST", "/v1/responses", HI) == (503, "too_many_running")
        go_on.set()
        assert await got.read() == b"".join(WHOLE[1:])
    async with client.get(path) as got:
        assert got.status == 200
        await got.read()


async def test_a_client_that_leaves_a_resumed_stream(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, BODY), stream(WHOLE[0], Stall()))
    client = await gateway(told(upstream))
    await posted(client, HI)
    async with client.get("/v1/responses/resp_1?stream=true") as got:
        await got.content.readuntil(WHOLE[0])
        got.close()
    await eventually(lambda: upstream.left == 1)


async def test_a_response_that_is_not_stored_has_no_place(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, response("completed", store=False)))
    client = await gateway(told(upstream))
    await posted(client, {**HI, "store": False})
    assert await refused(client, "GET", "/v1/responses/resp_1") == (404, "response_not_found")


async def test_a_previous_response_is_the_callers_and_at_its_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Of two targets, the one that has the previous response is asked."""
    second = ScriptedUpstream()
    await second.start()
    models = '[[models]]\nname = "m"\ntargets = [{upstream = "maker"}, {upstream = "second"}]\n'
    also = f'[[upstreams]]\nname = "second"\napi = "responses"\nbase_url = "{second.url}/v1"\n'
    try:
        upstream.script(answer(401, {"error": "away"}), answer(200, response("completed", "resp_of_first")))
        second.script(answer(200, response("completed", "resp_of_second")))
        client = await gateway(told(upstream, f"[retry]\nattempts = 2\n{models}{also}", keys=KEYS))
        await posted(client, HI, **A)
        following = {**HI, "previous_response_id": "resp_of_second"}
        assert json.loads(await posted(client, following, **A))["id"] == "resp_of_second"
        assert second.requests[-1].json["previous_response_id"] == "resp_of_second"
        assert len(upstream.requests) == 1
        expected = (400, "previous_response_not_found")
        assert await refused(client, "POST", "/v1/responses", following, **B) == expected
    finally:
        await second.stop()


@pytest.mark.memory  # with a shared store, the test client deletes at another gateway, which does not know the id
async def test_a_gateway_over_a_gateway(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A gateway over chats makes responses, so it is an upstream that makes them."""
    go_on = asyncio.Event()
    upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.002))]), stream(delta("a"), Until(go_on)))
    inner = await gateway()
    outer = await gateway(
        f'[[upstreams]]\nname = "maker"\napi = "responses"\nbase_url = "{inner.make_url("/v1")}"\n', None
    )
    whole = await posted(outer, STREAMED)
    events = read(whole)
    made = Judge().judge(events)
    blocks = [block + b"\n\n" for block in whole.split(b"\n\n")[:-1]]
    for after in range(len(events) - 1):
        async with outer.get(f"/v1/responses/{made['id']}?stream=true&starting_after={after}") as got:
            assert await got.read() == b"".join(blocks[after + 1 :])
    async with outer.get(f"/v1/responses/{made['id']}") as got:
        assert await got.json() == made
    async with outer.post("/v1/responses", json={**HI, "background": True}) as got:
        name = (await got.json())["id"]
    async with outer.post(f"/v1/responses/{name}/cancel") as got:
        assert (await got.json())["status"] == "cancelled"
    async with outer.delete(f"/v1/responses/{name}") as got:
        assert (await got.json())["deleted"] is True
