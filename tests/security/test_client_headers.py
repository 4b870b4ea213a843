"""Attacker: a client whose header fields are meant for the upstream.

It wants to send its own credentials or another account, to choose features that the operator pays for, to be billed to
someone else, or to lead the request elsewhere. The gateway passes none of its fields on: what the upstream gets is a
list of seven, and what the operator configures.
"""

from collections.abc import Iterator, Mapping

import pytest

from tests.conftest import MakeGateway
from tests.rig.clients import bearer
from tests.rig.scripted_upstream import ScriptedUpstream

from .field_names import ALL
from .routes import ANSWERS, ASKING, KEYS, ONE, Route

MARK = "a-word-of-the-client"

# What these say decides how the request itself is read, so they have a value with which it is served.
VALUES: Mapping[str, str | None] = {
    "Accept": None,
    "Authorization": f"Bearer {ONE}",
    "Connection": None,
    "Content-Encoding": None,  # the body has none
    "Content-Length": None,  # the client of the test sets it
    "Content-Type": "application/json; charset=utf-8",
    "Expect": None,
    "Host": None,
    "Idempotency-Key": None,  # read, and sent on its own below
    "Keep-Alive": None,
    "Last-Event-ID": None,  # comes back to an answer that is there
    "Origin": None,
    "Sec-Fetch-Site": "none",
    "Sec-Purpose": f"{MARK}",
    "Sec-WebSocket-Key": None,
    "Transfer-Encoding": None,
    "Upgrade": None,
    "X-API-Key": ONE,
    "HTTP2-Settings": None,
}
SENT = {name: value for name in ALL if (value := VALUES.get(name, f"{MARK} {name}")) is not None}


def batched(fields: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """As many at a time as a server takes."""
    names = list(fields)
    for start in range(0, len(names), 100):
        yield {name: fields[name] for name in names[start : start + 100]}


UPSTREAM_GETS = {
    "host",
    "accept",
    "accept-encoding",
    "authorization",
    "content-length",
    "content-type",
    "user-agent",
}


@pytest.mark.parametrize("route", [route for route in ASKING if "count_tokens" not in route.path], ids=str)
async def test_the_upstream_gets_the_gateways_fields_and_no_others(
    gateway: MakeGateway, upstream: ScriptedUpstream, route: Route
) -> None:
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    for fields in batched(SENT):
        headers = {"Accept": "application/json", **bearer(ONE), **fields}
        async with client.request(route.method, route.path + route.query, json=route.body, headers=headers) as response:
            assert response.status in (200, 201), await response.text()
            await response.read()
    await upstream.until(requests=len(list(batched(SENT))))
    for request in upstream.requests:
        assert set(request.headers) == UPSTREAM_GETS
        assert MARK not in str(request.headers)
        assert request.headers["authorization"] == "bearer key-of-the-upstream"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["user-agent"].startswith("gateway/")
        assert request.headers["host"] == upstream.url.removeprefix("http://")


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-Request-ID", "Keep-Alive"])
async def test_a_field_that_the_gateway_reads_goes_no_further(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    for path in ("/chat", "/v1/chat/completions", "/v1/responses"):
        body = {"messages": [{"role": "user", "content": "hi"}]} if "responses" not in path else {"input": "hi"}
        async with client.post(path, json=body, headers={name: f"{MARK}{path[1:5]}", **bearer(ONE)}) as response:
            assert response.status == 200
    assert [set(request.headers) for request in upstream.requests] == [UPSTREAM_GETS] * 3
    assert MARK not in str([(request.headers, request.path) for request in upstream.requests])


async def test_a_client_does_not_replace_what_the_operator_configures(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(ANSWERS)
    own = f'[[upstreams]]\nname = "own"\nbase_url = "{upstream.url}/v1"\nheaders = {{OpenAI-Project = "ours"}}\n'
    client = await gateway(KEYS + own)
    headers = {**bearer(ONE), "OpenAI-Project": MARK, "OpenAI-Organization": MARK}
    async with client.get("/chat?q=hi", headers=headers) as response:
        assert response.status == 200
    (request,) = upstream.requests
    assert request.headers["openai-project"] == "ours"
    assert set(request.headers) == UPSTREAM_GETS - {"authorization"} | {"openai-project"}


async def test_the_query_goes_no_further(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Except behind the id of a response that an upstream made, whose API has fields there: see `test_other_key`."""
    upstream.script(ANSWERS)
    client = await gateway(KEYS)
    for route in ASKING:
        path = (
            f"{route.path}?q=hi&api-version={MARK}&key={MARK}" if route.method == "GET" else f"{route.path}?key={MARK}"
        )
        async with client.request(route.method, path, json=route.body, headers=bearer(ONE)) as response:
            assert response.status in (200, 201), str(route)
            await response.read()
    assert {request.path.partition("?")[2] for request in upstream.requests} == {""}
