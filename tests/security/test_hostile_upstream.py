"""Attacker: an upstream, or someone on the way to it, whose header fields and errors are meant for the clients.

It wants to set cookies at the gateway's origin, to open it to other pages, to send browsers or nginx elsewhere, or to
learn from one request what it may see of the next. A careless one quotes the gateway's key and address in its errors.
"""

import json
from collections.abc import Sequence

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, bearer, exchange
from tests.rig.scripted_upstream import (
    DONE,
    Received,
    ScriptedUpstream,
    Send,
    Step,
    answer,
    delta,
    event,
    finish,
    stream,
)

from .field_names import ALL
from .routes import ANSWERS, ASKING, KEYS, ONE, Route, answers

MARK = "a-word-of-the-upstream"

# What decides how its response is read has a value with which it is.
FRAMING = {"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Keep-Alive", "Transfer-Encoding"}
FRAMING |= {"Upgrade", "Proxy-Connection", "Trailer", "TE"}
HOSTILE = {name: f"{MARK} {name}" for name in ALL if name not in FRAMING} | {
    "Set-Cookie": f"{MARK}=1; Domain=localhost; Path=/",
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Credentials": "true",
    "X-Should-Retry": "true",
    "Server": MARK,
}

CLIENTS_GET = {
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "location",  # of `POST /streams`, with the gateway's own address
    "request-id",  # the gateway's, on /v1/messages
    "retry-after",  # of a 429, if it is a number or a date
    "server",
    "transfer-encoding",
    "x-accel-buffering",
    "x-content-type-options",
    "x-gateway-attempts",
    "x-request-id",
    "x-should-retry",
}


PATIENT = f"{KEYS}[breaker]\nfailures = 1000\n"


def hostile(steps: Sequence[Step]) -> list[Step]:
    """The same response with all of these fields."""
    first = steps[0]
    assert isinstance(first, Send)
    line, rest = first.data.split(b"\r\n", 1)
    fields = "".join([f"{name}: {value}\r\n" for name, value in HOSTILE.items()]).encode()
    return [Send(line + b"\r\n" + fields + rest), *steps[1:]]


async def raw_answer(client: Client, route: Route, body: object) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{route.method} {route.path}{route.query} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        "Accept: application/json",
        f"Authorization: Bearer {ONE}",
        *(["Content-Type: application/json", f"Content-Length: {len(data)}"] if data else []),
    ]
    return await exchange(client, "\r\n".join([*lines, "", ""]).encode() + data)


def fields_of(raw: bytes) -> dict[str, str]:
    lines = raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return dict(line.lower().split(": ", 1) for line in lines)


STATUSES = [200, 302, 400, 401, 404, 429, 500, 503]


@pytest.mark.parametrize("status", STATUSES)
async def test_of_its_fields_clients_get_none(gateway: MakeGateway, upstream: ScriptedUpstream, status: int) -> None:
    """On every route that asks, streamed and whole, whether it answers or fails."""

    def script(request: Received) -> Sequence[Step]:
        refusal = answer(status, {"error": {"message": "no", "code": "c"}})
        return hostile(answers(request) if status == 200 else refusal)

    upstream.script(script)
    client = await gateway(PATIENT)
    for route in ASKING:
        for more in ({}, {"stream": True}):
            body = {**route.body, **more} if isinstance(route.body, dict) else route.body
            raw = await raw_answer(client, route, body)
            fields = fields_of(raw)
            assert fields.keys() <= CLIENTS_GET, str(route)
            assert fields["server"] == "gateway"
            assert not fields["x-request-id"].startswith("a-word")
            assert MARK not in str(fields), str(route)
    assert len(upstream.requests) >= len(ASKING) - 1


async def test_it_is_told_nothing_that_it_has_set_before(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """No cookie is kept, and no other field comes back, so it cannot tell which requests are of one client."""
    upstream.script(lambda request: hostile(answers(request)))
    client = await gateway(KEYS)
    for _ in range(3):
        async with client.get("/chat?q=hi", headers=bearer(ONE)) as response:
            assert response.status == 200
    assert len({str(sorted(request.headers.items())) for request in upstream.requests}) == 1
    assert MARK not in str([request.headers for request in upstream.requests])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_it_sends_nobody_elsewhere(gateway: MakeGateway, upstream: ScriptedUpstream, status: int) -> None:
    """Neither the gateway, whose request has the key and the prompt, nor the client."""
    upstream.script(answer(status, {}, Location=f"{upstream.url}/elsewhere", Refresh="0; url=http://evil.example"))
    client = await gateway(KEYS)
    for path in ("/chat", "/v1/chat/completions"):
        body = {"messages": [{"role": "user", "content": "hi"}]}
        async with client.post(path, json=body, headers=bearer(ONE), allow_redirects=False) as response:
            assert response.status == 502
            assert "Location" not in response.headers
    assert {request.path for request in upstream.requests} == {"/v1/chat/completions"}


@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=utf-7", "image/svg+xml", "multipart/mixed"])
async def test_it_does_not_choose_what_its_answer_is(
    gateway: MakeGateway, upstream: ScriptedUpstream, content_type: str
) -> None:
    """A browser that opens the address takes it for JSON, and does not look for something else in it."""
    page = {"choices": [{"index": 0, "message": {"content": "<script>alert(1)</script>"}, "finish_reason": "stop"}]}
    upstream.script(answer(200, json.dumps(page).encode(), content_type))
    client = await gateway(KEYS)
    body = {"messages": [{"role": "user", "content": "hi"}]}
    for path in ("/chat", "/v1/chat/completions"):
        async with client.post(path, json=body, headers=bearer(ONE)) as response:
            assert response.headers["Content-Type"] == "application/json"
            assert response.headers["X-Content-Type-Options"] == "nosniff"


# Errors that quote what the gateway sent

SECRETS = {
    "the key": "key-of-the-upstream",
    "the key in capitals": "KEY-OF-THE-UPSTREAM",
    "the field of the key": "Authorization: Bearer key-of-the-upstream",
    "a field of the operator": "word-of-the-operator",
    "the address": "http://models.internal.example:8443/v1",
    "the host": "Models.Internal.Example",
    "the proxy's password": "pass-for-the-proxy",
}
SHAPES = {
    "in a message": lambda secret: {"error": {"message": f"no: {secret}.", "code": "c"}},
    "as a code": lambda secret: {"error": {"message": "no", "code": secret}},
    "as a type": lambda secret: {"error": {"message": "no", "type": secret}},
    "as a param": lambda secret: {"error": {"message": "no", "param": secret, "code": "c"}},
    "as a detail": lambda secret: {"detail": [{"loc": ["body", secret], "msg": secret}]},
    "as a text": lambda secret: {"error": secret},
    "among others": lambda secret: {"errors": [{"message": "a"}, {"message": secret}]},
    "by a field": lambda secret: {"errors": {secret: [secret]}},
}


def careless(url: str) -> str:
    """An upstream at an internal name. Requests reach the scripted one, which stands in for its proxy."""
    proxy = url.replace("http://", "http://operator:pass-for-the-proxy@")
    return (
        f'{PATIENT}[retry]\nattempts = 1\n[[upstreams]]\nname = "careless"\nproxy = "{proxy}"\n'
        'base_url = "http://models.internal.example:8443/v1"\napi_key = "key-of-the-upstream"\n'
        'headers = {X-Operator = "word-of-the-operator"}\n'
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("status", [200, 400, 429, 500])
async def test_its_errors_give_nothing_away(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, shape: str, status: int
) -> None:
    """In the answer to any client, and in the log: as a status, and in the middle of a stream."""
    client = await gateway(careless(upstream.url))
    for number, (case, secret) in enumerate(SECRETS.items()):
        error = SHAPES[shape](secret)
        upstream.script(stream(delta("a"), event(error), finish(), DONE) if status == 200 else answer(status, error))
        for route in ASKING[number % 3 :: 3]:  # each shape meets all of them, with one secret or another
            body = {**route.body, "stream": True} if isinstance(route.body, dict) else route.body
            raw = await raw_answer(client, route, body)
            assert secret.lower() not in raw.decode().lower(), (case, str(route))
        async with client.get("/chat?q=hi", headers={**EVENTS, **bearer(ONE)}) as response:
            assert secret.lower() not in (await response.text()).lower(), case
        assert secret.lower() not in caplog.text.lower(), case


async def test_a_well_meaning_upstream_answers(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Through the same proxy, so that what the test before shows is not only that nothing came."""
    upstream.script(ANSWERS)
    client = await gateway(careless(upstream.url))
    async with client.get("/chat?q=hi", headers=bearer(ONE)) as response:
        assert response.status == 200
    (request,) = upstream.requests
    assert request.path == "http://models.internal.example:8443/v1/chat/completions"
