"""Attacker: the holder of a valid key, who wants what belongs to another key: its answers, its models, its limits.

All callers share the gateway's key at an upstream. So only the gateway knows whose an answer is.
"""

import json
from typing import Any

import pytest

from tests.conftest import Client, MakeGateway
from tests.handlers.test_upstream_responses import BODY, WHOLE, told
from tests.rig.clients import EVENTS, bearer, create, start_of
from tests.rig.scripted_upstream import Received, ScriptedUpstream, Stall, answer, delta, stream

from .routes import ANSWERS, ASKING, BY_ID, KEYS, ONE, OTHER, Names, begun, is_running, send

UNKNOWN = Names("A" * 22, "resp_" + "A" * 22, "", "")


async def test_an_answer_of_another_key_is_not_there(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """To the byte the same as one that is not there: it is neither read nor stopped, nor known to exist."""
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    names = await begun(client, upstream, ONE)
    for route in BY_ID:
        answers = set()
        for asked in (names, UNKNOWN):
            for query in ("", "stream=true", "stream=true&starting_after=0"):
                response = await send(client, route, asked, query=query, **bearer(OTHER))
                answers.add((response.status, await response.text()))
        assert len(answers) == 1, str(route)
        assert answers.pop()[0] == 404
    assert await is_running(client, names, ONE)


@pytest.mark.parametrize("path", ["/chat", "/chat?q=hi"])
async def test_an_event_of_another_key_leads_nowhere(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str
) -> None:
    """Whether it was asked for at /chat or at /streams. And nothing new is asked."""
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway(KEYS)
    made = await create(client, **bearer(ONE))
    async with client.get("/chat?q=hi", headers={**EVENTS, **bearer(ONE)}) as asked:
        await upstream.until(requests=2)
        for name in (made["id"], (await start_of(asked))["stream"]):
            headers = {**EVENTS, **bearer(OTHER), "Last-Event-ID": f"{name}.0"}
            async with client.get(path, headers=headers) as response:
                assert response.status == 404
    assert len(upstream.requests) == 2


async def response_of(client: Client, key: str, **fields: object) -> dict[str, Any]:
    async with client.post("/v1/responses", json={"input": "hi", **fields}, headers=bearer(key)) as response:
        assert response.status == 200, await response.text()
        value: dict[str, Any] = await response.json()
        return value


async def test_a_conversation_of_another_key_is_not_gone_on_with(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Neither by the id of its response, nor by that of one of its items."""
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    made = await response_of(client, ONE)
    (item,) = made["output"]
    for fields in (
        {"previous_response_id": made["id"]},
        {"input": [{"type": "item_reference", "id": item["id"]}, {"role": "user", "content": "go on"}]},
        {"input": [{"id": item["id"]}, {"role": "user", "content": "go on"}]},
    ):
        async with client.post("/v1/responses", json={"input": "go on", **fields}, headers=bearer(OTHER)) as response:
            assert response.status == 400, fields
    assert len(upstream.requests) == 1
    await response_of(client, ONE, previous_response_id=made["id"])


async def test_a_response_that_an_upstream_holds_is_its_owners(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The upstream would give it to anyone who comes through the gateway."""

    def script(request: Received) -> Any:
        return stream(*WHOLE) if json.loads(request.body or b"{}").get("stream") else answer(200, BODY)

    upstream.script(script)
    client = await gateway(told(upstream, keys=KEYS))
    async with client.post("/v1/responses", json={"model": "m", "input": "hi"}, headers=bearer(ONE)) as response:
        assert (await response.json())["id"] == "resp_1"
    names = Names("", "resp_1", "", "")
    for route in BY_ID:
        if route.path.startswith("/v1/"):
            for query in ("", "stream=true"):
                response = await send(client, route, names, query=query, **bearer(OTHER))
                assert response.status == 404, str(route)
    asked = {"model": "m", "input": "hi", "previous_response_id": "resp_1"}
    async with client.post("/v1/responses", json=asked, headers=bearer(OTHER)) as response:
        assert response.status == 400
    assert len(upstream.requests) == 1
    async with client.get("/v1/responses/resp_1", headers=bearer(ONE)) as response:
        assert response.status == 200


IDEMPOTENT = ["/chat", "/streams", "/v1/chat/completions", "/v1/responses"]


@pytest.mark.parametrize("path", IDEMPOTENT)
async def test_an_idempotency_key_of_another_key_starts_anew(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str
) -> None:
    """Even a simple one: each API key has idempotency keys of its own. A conflict would tell that it is in use."""
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    (route,) = (route for route in ASKING if (route.method, route.path) == ("POST", path))
    for key in (ONE, OTHER):
        for _ in range(2):
            headers = {**bearer(key), "Idempotency-Key": "1", "Accept": "text/event-stream"}
            async with client.post(path, json={**dict(route.body or {}), "stream": True}, headers=headers) as response:  # type: ignore[call-overload]  # all of these are objects
                assert response.status in (200, 201), await response.text()
                await response.read() if path != "/streams" else None
    await upstream.until(requests=2)
    assert len(upstream.requests) == 2


# A key that may ask only some models

SMALL = KEYS.replace(f'key = "{OTHER}"\n', f'key = "{OTHER}"\nmodels = ["small"]\n') + (
    '[[models]]\nname = "small"\ntargets = [{upstream = "up", model = "m-small"}]\n'
    '[[models]]\nname = "large"\ntargets = [{upstream = "up", model = "m-large"}]\n'
)

SPELLINGS: dict[str, tuple[str, int]] = {
    "its name": ('"model":"large"', 404),
    "the upstream's name": ('"model":"m-large"', 404),
    "behind an allowed one": ('"model":"small","model":"large"', 404),
    "with an escape": ('"model":"small","\\u006dodel":"large"', 404),
    "in capitals": ('"model":"small","MODEL":"large"', 400),
    "with a capital": ('"Model":"large","model":"small"', 400),
    "with a capital and an escape": ('"model":"small","\\u004dodel":"large"', 400),
    "with a space": ('"model":"large "', 404),
    "with a NUL": ('"model":"small\\u0000large"', 400),
    "as a list": ('"model":["large"]', 400),
    "as an object": ('"model":{"name":"large"}', 400),
}


@pytest.mark.parametrize("case", SPELLINGS)
async def test_no_spelling_asks_a_model_of_another_key(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """On every route that asks. Servers in Go and .NET read `Model` as `model`, and take the last of both."""
    upstream.script(ANSWERS)
    client = await gateway(SMALL)
    spelling, status = SPELLINGS[case]
    for route in ASKING:
        if route.method == "POST":
            data = json.dumps(route.body)[:-1] + f",{spelling}}}"
            headers = {**bearer(OTHER), "Content-Type": "application/json", "Accept": "application/json"}
            async with client.post(route.path, data=data.encode(), headers=headers) as response:
                assert response.status == status, (str(route), await response.text())
    assert not upstream.requests


async def test_neither_the_query_nor_the_header_names_another_model(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(ANSWERS)
    client = await gateway(SMALL)
    for route in ASKING:
        if route.method == "POST" and isinstance(route.body, dict):
            headers = {**bearer(OTHER), "X-Model": "large", "Accept": "application/json"}
            body = {**route.body, "model": "small"}
            async with client.post(f"{route.path}?model=large", json=body, headers=headers) as response:
                assert response.status in (200, 201), (str(route), await response.text())
                await response.read()
    assert {request.json["model"] for request in upstream.requests} == {"m-small"}


OTHERS = ["Stream", "N", "MAX_TOKENS", "Max_Completion_Tokens", "max_output_toKens", "Stream_Options", "\u017ftream"]


@pytest.mark.parametrize("name", OTHERS)
async def test_no_other_spelling_goes_around_what_the_gateway_decides(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    for route in ASKING:
        if route.method == "POST" and isinstance(route.body, dict):
            body = json.dumps({**route.body, name: 9})
            headers = {**bearer(ONE), "Content-Type": "application/json"}
            async with client.post(route.path, data=body.encode(), headers=headers) as response:
                assert response.status == 400, str(route)
    assert not upstream.requests
