"""Who may ask what, and how much: keys, public assistants and limits on both surfaces, and what the log says of it."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from aiohttp import ClientError

from gateway.admission.memory_limiter import MemoryLimiter
from gateway.admission.redis_limiter import RedisLimiter
from gateway.config import Key
from gateway.errors import Unauthorized
from gateway.observe.records import AccessRecord
from tests.conftest import Client, MakeGateway, configured
from tests.rig.clients import EVENTS, Answer, access_records, api_key, bearer, error_of, eventually
from tests.rig.inside import at_rest, streams
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    ScriptedUpstream,
    Stall,
    Step,
    answer,
    chunk,
    delta,
    event,
    finish,
    stream,
    usage,
)

KEY, LIMITED, EXPIRED = "gw-key-of-one-0123456789", "gw-key-of-two-0123456789", "gw-key-of-old-0123456789"
CANCEL = '[stream]\non_disconnect = "cancel"\n'
KEYS = f'[[keys]]\nname = "one"\nkey = "{KEY}"\n'
OLD = f'[[keys]]\nname = "old"\nkey = "{EXPIRED}"\nexpires = 2020-01-01\n'
MODELS = (
    '[[models]]\nname = "small"\ntargets = [{upstream = "up", model = "m-small"}]\n'
    '[[models]]\nname = "large"\ntargets = [{upstream = "up"}]\n'
)
HELPER = '[assistants.helper]\npublic = true\nmodel = "h-1"\nsystem = ["Help."]\nparameters = {temperature = 0.3}\n'
OK = stream(delta("a"), finish(), DONE)
WHOLE = answer(200, {"id": "c", "model": "m-1", "choices": [{"index": 0, "message": {"content": "a"}}]})
ASKED = {"messages": [{"role": "user", "content": "hi"}]}


def limited(**limits: int) -> str:
    return f'[[keys]]\nname = "two"\nkey = "{LIMITED}"\n' + "".join(f"{k} = {v}\n" for k, v in limits.items())


ROUTES: dict[str, tuple[str, str, object]] = {
    "GET /chat": ("GET", "/chat?q=hi", None),
    "POST /chat": ("POST", "/chat", ASKED),
    "completions": ("POST", "/v1/chat/completions", ASKED),
    "streamed completions": ("POST", "/v1/chat/completions", {**ASKED, "stream": True}),
    "models": ("GET", "/v1/models", None),
    "a model": ("GET", "/v1/models/small", None),
}


def call(client: Client, route: str, **headers: str) -> Any:
    method, path, body = ROUTES[route]
    return client.request(method, path, json=body, headers=headers)


# Keys


@pytest.mark.parametrize("route", ROUTES)
async def test_fault_88_without_a_key_that_is_valid_every_route_is_401(
    gateway: MakeGateway, upstream: ScriptedUpstream, route: str
) -> None:
    """The same words for every reason; SDKs raise their authentication error for it."""
    client = await gateway(KEYS + OLD + MODELS)
    bodies = set()
    for headers in ({}, bearer("gw-wrong-0123456789"), bearer(EXPIRED), {"Authorization": f"Basic {KEY}"}, bearer("")):
        async with call(client, route, **headers) as response:
            assert await error_of(response) == (401, "invalid_api_key")
            assert response.headers["WWW-Authenticate"] == "Bearer"
            bodies.add(await response.text())
    assert bodies == {json.dumps(Unauthorized().body(), separators=(",", ":"))}
    assert not upstream.requests


@pytest.mark.parametrize("field", [bearer, api_key])
@pytest.mark.parametrize("route", ROUTES)
async def test_with_its_key_every_route_answers(
    gateway: MakeGateway, upstream: ScriptedUpstream, route: str, field: Callable[[str], dict[str, str]]
) -> None:
    """In either field; neither goes on to the upstream."""
    upstream.script(WHOLE if route == "completions" else OK)
    client = await gateway(KEYS + OLD + MODELS)
    async with call(client, route, **field(KEY)) as response:
        assert response.status == 200, await response.text()
        await response.read()
    for request in upstream.requests:
        assert request.headers["authorization"] == "bearer key-of-the-upstream"
        assert "x-api-key" not in request.headers


@pytest.mark.parametrize("route", ROUTES)
async def test_two_different_keys_are_400_on_every_route(
    gateway: MakeGateway, upstream: ScriptedUpstream, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither is in the answer or in the log."""
    caplog.set_level(logging.DEBUG)
    client = await gateway(KEYS + limited() + MODELS)
    for one, other in ((KEY, LIMITED), (KEY, "made-up-0123456789"), ("made-up-0123456789", KEY)):
        async with call(client, route, **bearer(one), **api_key(other)) as response:
            assert await error_of(response) == (400, "two_api_keys")
            words = await response.text()
            assert not any(key in words for key in (one, other))
    assert not any(key in caplog.text for key in (KEY, LIMITED, "made-up-0123456789"))
    assert not upstream.requests


async def test_one_key_is_one_caller_in_either_field(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, lines: list[dict[str, Any]]
) -> None:
    """Its limits, its name in the log, and its idempotency keys, which may be short."""
    caplog.set_level(logging.DEBUG)
    upstream.script(OK)
    client = await gateway(limited(requests_per_minute=3) + MODELS)
    once, ids = {"Idempotency-Key": "1"}, set()
    for field in (bearer, api_key):
        async with client.post("/streams", json=ASKED, headers={**field(LIMITED), **once}) as response:
            ids.add((await response.json())["id"])
    assert len(ids) == 1
    for route, field, status in (("GET /chat", api_key, 200), ("GET /chat", bearer, 200), ("GET /chat", api_key, 429)):
        async with call(client, route, **field(LIMITED)) as response:
            assert response.status == status
            await response.read()
    assert {line["key"] for line in lines} == {"two"}
    assert LIMITED not in caplog.text


@pytest.mark.parametrize("headers", [api_key(""), bearer(""), {"Authorization": "Basic dTpw"}], ids=str)
async def test_an_empty_key_opens_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    """A configuration with its hash is refused when it is loaded. One that is there all the same lets nobody in."""
    config = msgspec.structs.replace(configured(upstream.url), keys=[Key("k", hash=f"sha256:{sha256().hexdigest()}")])
    client = await gateway(config=config)
    for route in ROUTES:
        async with call(client, route, **headers) as response:
            assert await error_of(response) == (401, "invalid_api_key")
    assert not upstream.requests


async def test_health_needs_no_key(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway(KEYS)
    for path in ("/healthz", "/readyz"):
        async with client.get(path) as response:
            assert response.status == 200


async def test_a_key_in_the_query_is_no_key(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway(KEYS)
    async with client.get("/chat", params={"q": "hi", "key": "x", "api_key": "y"}) as response:
        assert await error_of(response) == (401, "invalid_api_key")


async def test_a_body_is_not_read_for_who_may_not_ask(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """On the OpenAI surface; on the other, the body says whether a public assistant is asked."""
    client = await gateway(KEYS)
    headers = {"Content-Type": "application/json", **bearer("gw-wrong-0123456789")}
    for path in ("/chat", "/v1/chat/completions"):
        async with client.post(path, data=b"{", headers=headers) as response:
            assert await error_of(response) == (401, "invalid_api_key")


async def test_a_key_that_may_ask_some_models(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """On both surfaces; the others are not there for it, and the list says which are."""
    upstream.script(answer(200, {"data": []}), OK)
    client = await gateway(MODELS + limited() + 'models = ["small"]\n')
    for body in ({**ASKED, "model": "large"}, {**ASKED, "model": "unheard of"}):
        for path in ("/chat", "/v1/chat/completions"):
            async with client.post(path, json=body, headers=bearer(LIMITED)) as response:
                words = (await response.json())["error"]["message"]
                assert "small" in words
                assert "large" not in words
                assert await error_of(response) == (404, "model_not_found")
    async with client.get("/v1/models", headers=bearer(LIMITED)) as response:
        assert [model["id"] for model in (await response.json())["data"]] == ["small"]
    async with client.get("/v1/models/large", headers=bearer(LIMITED)) as response:
        assert await error_of(response) == (404, "model_not_found")
    assert [request.path for request in upstream.requests] == ["/v1/models"]
    async with client.post("/chat", json={**ASKED, "model": "small"}, headers=bearer(LIMITED)) as response:
        assert response.status == 200
    assert upstream.requests[1].json["model"] == "m-small"


async def test_an_assistants_model_is_held_to_the_key_too(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway(MODELS + limited() + 'models = ["small"]\n[assistants.big]\nmodel = "large"\n')
    async with client.post("/chat", json={**ASKED, "assistant": "big"}, headers=bearer(LIMITED)) as response:
        assert await error_of(response) == (404, "model_not_found")


async def test_a_keys_models_are_listed_where_none_are_configured(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """With the fields that the upstream lists of them, and none that it lists besides."""
    upstream.script(answer(200, {"data": [{"id": "c"}, {"id": "b", "x": 1}]}))
    client = await gateway(limited() + 'models = ["a", "b"]\n')
    async with client.get("/v1/models", headers=bearer(LIMITED)) as response:
        models = (await response.json())["data"]
    assert [(model["id"], model.get("x")) for model in models] == [("a", None), ("b", 1)]


async def test_with_keys_any_host_and_any_proxy_is_fine(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway(KEYS)
    proxied = {"Host": "chat.example", "X-Forwarded-For": "198.51.100.7", "Via": "1.1 x", "Forwarded": "for=x"}
    async with client.get("/chat?q=x", headers={**proxied, **bearer(KEY)}) as response:
        assert response.status == 200


async def test_where_anonymous_callers_are_allowed_a_key_is_still_looked_at(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    upstream.script(OK)
    client = await gateway(KEYS + "[server]\nallow_anonymous = true\n" + MODELS)
    for route in ("GET /chat", "streamed completions", "models"):
        for headers in ({}, bearer(KEY)):
            async with call(client, route, **headers) as response:
                assert response.status == 200
                await response.read()
        async with call(client, route, **bearer("gw-wrong-0123456789")) as response:
            assert await error_of(response) == (401, "invalid_api_key")
    assert [record.key for record in access_records(caplog)] == [None, "one", None] * 3


async def test_behind_a_proxy_with_a_password_of_its_own(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """What the proxy asks for and passes on is no key, and hides none."""
    upstream.script(OK)
    client = await gateway(KEYS + "[server]\nallow_anonymous = true\n" + MODELS)
    for headers, status in (({}, 200), (api_key(KEY), 200), (api_key("gw-wrong-0123456789"), 401)):
        async with call(client, "streamed completions", Authorization="Basic dTpw", **headers) as response:
            assert response.status == status


# Public assistants


async def test_a_stranger_may_ask_a_public_assistant(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Its model, its prompts and its parameters are the assistant's."""
    upstream.script(OK)
    client = await gateway(KEYS + HELPER + "max_tokens = 77\n")
    async with client.get("/chat?q=hi&assistant=helper&format=json&reasoning=1", headers=EVENTS) as response:
        assert Answer(await response.read()).end["reason"] == "complete"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    async with client.post("/chat", json={"assistant": "helper", "messages": turns, "stream": True}) as response:
        assert response.status == 200
    first, second = (request.json for request in upstream.requests)
    assert first == {
        "model": "h-1",
        "messages": [{"role": "system", "content": "Help."}, {"role": "user", "content": "hi"}],
        "temperature": 0.3,
        "max_tokens": 77,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert second["messages"] == [{"role": "system", "content": "Help."}, *turns]


async def test_a_stranger_may_come_through_a_proxy_with_a_password(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Which the proxy passes on. What needs a key still says so."""
    upstream.script(OK)
    client = await gateway(KEYS + HELPER)
    password = {"Authorization": "Basic dTpw"}
    async with client.get("/chat?q=hi&assistant=helper", headers=password) as response:
        assert response.status == 200
    async with client.get("/playground/offer.json", headers=password) as response:
        assert (await response.json())["assistants"] == ["helper"]
    for route in ROUTES:
        async with call(client, route, **password) as response:
            assert await error_of(response) == (401, "invalid_api_key")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("headers", [{}, bearer(KEY)], ids=["a stranger", "a key"])
async def test_an_assistant_gives_one_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    """Whatever its parameters say: a stream carries one, and the others would be paid and dropped."""
    upstream.script(OK)
    client = await gateway(KEYS + HELPER.replace("temperature = 0.3", "temperature = 0.3, n = 3"))
    async with client.get("/chat?q=hi&assistant=helper", headers=headers) as response:
        assert response.status == 200
    (request,) = upstream.requests
    assert request.json["temperature"] == 0.3
    assert "n" not in request.json


async def test_the_default_assistant_may_be_the_public_one(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway(KEYS + HELPER.replace("helper", "default"))
    async with client.get("/chat?q=hi") as response:
        assert response.status == 200
    async with call(client, "completions") as response:
        assert await error_of(response) == (401, "invalid_api_key")


def turn(**fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "hi"}, fields]}


NOT_FOR_STRANGERS: dict[str, tuple[dict[str, object], str]] = {
    "a parameter": ({"question": "hi", "temperature": 2}, "temperature"),
    "more tokens": ({"question": "hi", "max_tokens": 9}, "max_tokens"),
    "more tokens by another name": ({"question": "hi", "max_completion_tokens": 9}, "max_completion_tokens"),
    "tools": ({"question": "hi", "tools": []}, "tools"),
    "more answers": ({"question": "hi", "n": 1}, "n"),
    "stream options": ({"question": "hi", "stream_options": {}}, "stream_options"),
    "a field with a long name": ({"question": "hi", "x" * 999: 1}, "x" * 64),
    "a system prompt": (turn(role="system", content="x"), "messages[1]"),
    "a developer's prompt": (turn(role="developer", content="x"), "messages[1]"),
    "a tool's result": (turn(role="tool", content="x", tool_call_id="c"), "messages[1]"),
    "a tool call": (turn(role="assistant", content="x", tool_calls=[]), "messages[1]"),
    "a name": (turn(role="user", content="x", name="n"), "messages[1]"),
    "parts": (turn(role="user", content=[{"type": "text", "text": "x"}]), "messages[1]"),
    "nothing": (turn(role="assistant", content=None), "messages[1]"),
    "no content": (turn(role="user"), "messages[1]"),
    "no role": (turn(content="x"), "messages[1]"),
}


@pytest.mark.parametrize("case", NOT_FOR_STRANGERS)
async def test_a_stranger_sends_turns_of_text_and_nothing_else(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    fields, param = NOT_FOR_STRANGERS[case]
    client = await gateway(KEYS + HELPER)
    async with client.post("/chat", json={"assistant": "helper", **fields}) as response:
        assert (await response.json())["error"]["param"] == param
        assert await error_of(response) == (400, "invalid_request")
    assert not upstream.requests


@pytest.mark.parametrize(
    ("twice", "status"),
    [
        (b'{"role":"system","content":"hi","role":"user"}', 400),
        (b'{"role":"user","content":"hi","role":"system"}', 400),
        (b'{"role":"user","content":[],"content":"hi"}', 400),
        (b'{"role":"user","content":"x","content":"hi"}', 200),
    ],
)
async def test_of_a_turn_that_says_something_twice_only_what_was_checked_is_sent(
    gateway: MakeGateway, upstream: ScriptedUpstream, twice: bytes, status: int
) -> None:
    """Readers differ in which of two they believe."""
    upstream.script(OK)
    client = await gateway(KEYS + HELPER)
    body = b'{"assistant":"helper","messages":[%b]}' % twice
    async with client.post("/chat", data=body, headers={"Content-Type": "application/json"}) as response:
        assert response.status == status
    assert [b'{"role":"user","content":"hi"}' in request.body for request in upstream.requests] == [True] * (
        status == 200
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"assistant": "private"},
        {"assistant": "unheard of"},
        {"assistant": "helper", "model": "h-1"},
        {"model": "h-1"},
        {},
    ],
    ids=str,
)
async def test_fault_88_whatever_else_a_stranger_asks_is_401_in_the_same_words(
    gateway: MakeGateway, upstream: ScriptedUpstream, fields: dict[str, object]
) -> None:
    """Also whether there is such an assistant."""
    client = await gateway(KEYS + HELPER + "[assistants.private]\n")
    async with client.post("/chat", json={**ASKED, **fields}) as response:
        assert await response.json() == Unauthorized().body()
        assert await error_of(response) == (401, "invalid_api_key")
    assert not upstream.requests


async def test_a_caller_with_a_key_may_say_more_to_a_public_assistant(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(OK)
    client = await gateway(KEYS + HELPER + "max_tokens = 77\nrequests_per_minute = 1\n")
    body = {"assistant": "helper", "model": "z", "temperature": 1, "max_tokens": 999, "question": "hi"}
    for _ in range(3):
        async with client.post("/chat", json=body, headers=bearer(KEY)) as response:
            assert response.status == 200
    sent = upstream.requests[0].json
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("z", 1, 999)


@pytest.mark.parametrize(
    ("parameters", "posted"),
    [
        ("{max_tokens = 20}", {"max_tokens": 20}),
        ("{max_tokens = 200}", {"max_tokens": 77}),
        ("{max_completion_tokens = 20}", {"max_completion_tokens": 20}),
        ("{max_completion_tokens = 200}", {"max_completion_tokens": 77}),
        ("{}", {"max_tokens": 77}),
    ],
)
async def test_the_shorter_of_two_bounds_is_posted(
    gateway: MakeGateway, upstream: ScriptedUpstream, parameters: str, posted: dict[str, int]
) -> None:
    upstream.script(OK)
    client = await gateway(KEYS + f"[assistants.a]\npublic = true\nmax_tokens = 77\nparameters = {parameters}\n")
    async with client.get("/chat?q=hi&assistant=a") as response:
        assert response.status == 200
    sent = upstream.requests[0].json
    assert {name: value for name, value in sent.items() if name.startswith("max_")} == posted


async def test_fault_89_strangers_are_limited_by_address(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """That which the proxy on this machine tells; what a client invents before it counts for nothing."""
    upstream.script(OK)
    client = await gateway(KEYS + HELPER + "requests_per_minute = 1\n")
    statuses = []
    for forwarded in (
        "198.51.100.7",
        "198.51.100.7",
        "203.0.113.1, 198.51.100.7",
        "198.51.100.8",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:0:1::1",
    ):
        headers = {"X-Forwarded-For": forwarded}
        async with client.get("/chat?q=hi&assistant=helper", headers=headers) as response:
            statuses.append(response.status)
    assert statuses == [200, 429, 429, 200, 200, 429, 200]


async def test_fault_89_who_is_no_trusted_proxy_is_not_believed(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(OK)
    client = await gateway(KEYS + "[server]\ntrusted_proxies = []\n" + HELPER + "requests_per_minute = 1\n")
    for n, status in ((1, 200), (2, 429)):
        headers = {"X-Forwarded-For": f"198.51.100.{n}"}
        async with client.get("/chat?q=hi&assistant=helper", headers=headers) as response:
            assert response.status == status


# Limits, on both surfaces

ASKING = ["POST /chat", "streamed completions", "completions"]


def script_for(route: str) -> Sequence[Step]:
    return WHOLE if route == "completions" else OK


@pytest.mark.parametrize("route", ASKING)
async def test_what_a_response_says_of_the_limits(gateway: MakeGateway, upstream: ScriptedUpstream, route: str) -> None:
    upstream.script(script_for(route))
    client = await gateway(limited(requests_per_minute=1, tokens_per_minute=100_000))
    async with call(client, route, **bearer(LIMITED)) as response:
        assert response.status == 200
        told = {name.lower(): value for name, value in response.headers.items() if "ratelimit" in name.lower()}
        await response.read()
    assert set(told) == {
        f"x-ratelimit-{a}-{b}" for a in ("limit", "remaining", "reset") for b in ("requests", "tokens")
    }
    assert (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("1", "0")
    assert told["x-ratelimit-limit-tokens"] == "100000"
    assert 99_000 < int(told["x-ratelimit-remaining-tokens"]) < 100_000
    async with call(client, route, **bearer(LIMITED)) as response:
        assert await error_of(response) == (429, "rate_limit_exceeded")
        assert 0 < int(response.headers["Retry-After"]) <= 60
        assert response.headers["x-ratelimit-remaining-requests"] == "0"
        assert response.headers["x-ratelimit-reset-requests"] == f"{response.headers['Retry-After']}s"
    assert len(upstream.requests) == 1


async def test_both_surfaces_are_charged_to_one_account(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway(limited(requests_per_minute=2))
    for route, status in (("POST /chat", 200), ("streamed completions", 200), ("GET /chat", 429)):
        async with call(client, route, **bearer(LIMITED)) as response:
            assert response.status == status
            await response.read()


async def test_what_is_refused_at_admission_is_not_charged(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway(limited(requests_per_minute=1))
    for body in ({"n": 2, **ASKED}, {"format": "xml", **ASKED}, {}):
        async with client.post("/chat", json=body, headers=bearer(LIMITED)) as response:
            assert response.status == 400
    async with call(client, "POST /chat", **bearer(LIMITED)) as response:
        assert response.status == 200


async def test_tokens_are_settled_with_what_it_took(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), usage(prompt_tokens=300, completion_tokens=500), DONE), OK, OK)
    client = await gateway(limited(tokens_per_minute=1000))
    async with call(client, "streamed completions", **bearer(LIMITED)) as response:
        assert response.headers["x-ratelimit-remaining-tokens"] == str(1000 - 257)
        await response.read()
    await at_rest(client)
    async with call(client, "POST /chat", **bearer(LIMITED)) as response:
        assert await error_of(response) == (429, "rate_limit_exceeded")
        assert response.headers["x-ratelimit-remaining-tokens"] == "200"


WAYS_OUT: dict[str, tuple[Sequence[Step], str]] = {
    "complete": (OK, ""),
    "an error before the first token": (answer(500, b"{}"), ""),
    "an error in the middle": (stream(delta("a"), event({"error": {"message": "boom"}})), ""),
    "broken off": (stream(delta("a"), Close()), ""),
    "a timeout before the first token": ([Stall()], "[timeouts]\nfirst_token = 0.1\ntotal = 0.2\n"),
    "a timeout in the middle": (stream(delta("a"), Stall()), "[timeouts]\nidle = 0.1\ntotal = 0.2\n"),
    "the upstream is away": ([Close()], ""),
    "an upstream that does not hang up": (stream(delta("a"), finish(), DONE, Stall()), "[timeouts]\ntotal = 0.3\n"),
}


@pytest.mark.parametrize("route", ASKING)
@pytest.mark.parametrize("case", WAYS_OUT)
async def test_on_every_way_out_the_place_is_free_again(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str, route: str
) -> None:
    script, limits = WAYS_OUT[case]
    upstream.script(script)
    client = await gateway(limited(max_streams=1) + limits)
    for _ in range(2):
        async with call(client, route, **bearer(LIMITED)) as response:
            assert response.status != 429
            await drained(response)
        await at_rest(client)
    assert taken(client) == 0


@pytest.mark.parametrize("route", ["POST /chat", "streamed completions"])
async def test_who_has_read_the_end_may_ask_again_at_once(
    gateway: MakeGateway, upstream: ScriptedUpstream, route: str
) -> None:
    """How long the gateway takes to put the upstream's connection away is not the caller's trouble."""
    upstream.script(stream(delta("a"), finish(), DONE, Stall()))
    client = await gateway(limited(max_streams=1))
    for _ in range(3):
        async with call(client, route, **bearer(LIMITED), **EVENTS) as response:
            assert response.status == 200
            await response.read()


@pytest.mark.parametrize("route", ["POST /chat", "streamed completions"])
@pytest.mark.parametrize("script", [[Stall()], stream(delta("a"), Stall())], ids=["before", "in the middle"])
async def test_fault_54_a_client_that_leaves_frees_its_place(
    gateway: MakeGateway, upstream: ScriptedUpstream, script: Sequence[Step], route: str
) -> None:
    upstream.script(script, OK)
    client = await gateway(limited(max_streams=1) + CANCEL)
    asking = asyncio.create_task(whole(client, route))
    await upstream.until(requests=1)
    async with call(client, route, **bearer(LIMITED)) as response:
        assert await error_of(response) == (429, "too_many_streams")
        assert response.headers["Retry-After"] == "5"
    asking.cancel()
    await asyncio.wait([asking])
    await at_rest(client)
    async with call(client, route, **bearer(LIMITED)) as response:
        assert response.status == 200
        await response.read()
    assert len(upstream.requests) == 2


async def test_who_is_refused_for_want_of_room_is_charged_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), Stall()), OK)
    client = await gateway(KEYS + limited(max_streams=1, requests_per_minute=1) + f"{CANCEL}[store]\nmax_streams = 1\n")
    async with client.get("/chat?q=x", headers={**EVENTS, **bearer(KEY)}) as response:
        await response.content.readuntil(b"data: a")
        for route in ("POST /chat", "streamed completions"):
            async with call(client, route, **bearer(LIMITED)) as refused:
                assert refused.status == 503
                assert refused.headers["Retry-After"]
        assert taken(client) == 1
    await at_rest(client)
    async with call(client, "POST /chat", **bearer(LIMITED)) as response:
        assert response.status == 200


async def test_fault_65_a_shutdown_frees_every_place(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway(limited(max_streams=2))
    asking = [asyncio.create_task(whole(client, route)) for route in ("POST /chat", "streamed completions")]
    await upstream.until(requests=2)
    await eventually(lambda: taken(client) == 2)
    await streams(client).close()
    assert taken(client) == 0
    await asyncio.wait(asking)
    async with call(client, "streamed completions", **bearer(LIMITED)) as response:
        assert await error_of(response) == (503, "shutting_down")


# What the log says of it


PRICED = (
    '[[models]]\nname = "small"\ntargets = [{upstream = "up", model = "m-small"}]\n'
    "prices = {input = 2.0, output = 10.0, cached = 1.0}\n"
)
COUNTED = {
    "prompt_tokens": 1000,
    "completion_tokens": 200,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 150},
}


@pytest.mark.parametrize("route", ["GET /chat", *ASKING])
async def test_a_line_tells_who_asked_and_what_it_took(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, route: str
) -> None:
    counted = event(chunk() | {"choices": [], "usage": COUNTED})
    body = {"model": "m-1", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": COUNTED}
    upstream.script(answer(200, body) if route == "completions" else stream(delta("a"), finish(), counted, DONE))
    record = await logged(await gateway(KEYS + PRICED), route, caplog)
    assert (record.key, record.status, record.client) == ("one", 200, "127.0.0.1")
    assert record.bytes > 100
    told = record.stream
    assert told is not None
    assert (told.target, told.model_asked, told.model) == ("up/m-small", "small", "m-1")
    assert (told.input_tokens, told.cached_tokens, told.output_tokens, told.reasoning_tokens) == (1000, 400, 200, 150)
    assert not told.tokens_estimated
    assert told.cost == pytest.approx((600 * 2.0 + 400 * 1.0 + 200 * 10.0) / 1_000_000)
    assert (told.end, told.error, told.finish_reason, told.attempts) == ("complete", None, "stop", 1)
    assert told.first_token is not None


@pytest.mark.parametrize("route", ["GET /chat", *ASKING])
async def test_tokens_are_guessed_where_the_upstream_says_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, route: str
) -> None:
    body = {"choices": [{"message": {"content": "x" * 400}, "finish_reason": "stop"}]}
    upstream.script(answer(200, body) if route == "completions" else stream(delta("x" * 400), finish(), DONE))
    told = (await logged(await gateway(KEYS), route, caplog)).stream
    assert told is not None
    assert (told.input_tokens, told.output_tokens, told.tokens_estimated) == (1, 100, True)
    assert told.cost is None


FAILED: dict[str, tuple[Sequence[Step], str, int]] = {
    "refused by the upstream": (answer(400, b"{}"), "upstream_rejected", 0),
    "away": ([Close()], "upstream_unreachable", 0),
    "an error at first": (answer(200, {"error": {"message": "boom"}}), "upstream_error", 0),
    "broken in the middle": (stream(delta("x" * 400), Close()), "upstream_incomplete", 100),
    "silent in the middle": (stream(delta("x" * 400), Stall()), "idle_timeout", 100),
}


@pytest.mark.parametrize("route", ["POST /chat", "streamed completions"])
@pytest.mark.parametrize("case", FAILED)
async def test_what_failed_took_what_was_said(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, case: str, route: str
) -> None:
    """An upstream that refused charges nothing; one that broke off charges as far as it came."""
    script, code, output = FAILED[case]
    upstream.script(script)
    told = (await logged(await gateway(KEYS + PRICED + "[timeouts]\nidle = 0.2\n"), route, caplog)).stream
    assert told is not None
    assert (told.error, told.output_tokens, told.tokens_estimated) == (code, output, output > 0)
    assert told.input_tokens == (1 if output else 0)
    assert told.cost == pytest.approx((told.input_tokens * 2.0 + output * 10.0) / 1_000_000)


async def test_a_line_of_who_was_refused_names_no_stream(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.access")
    client = await gateway(KEYS)
    async with call(client, "completions", **{"X-Forwarded-For": "203.0.113.1, 198.51.100.7"}) as response:
        assert response.status == 401
    (record,) = access_records(caplog)
    assert (record.key, record.status, record.client, record.stream) == (None, 401, "198.51.100.7", None)


async def test_fault_38_a_count_that_no_float_holds_ends_the_stream_all_the_same(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), finish(), usage(prompt_tokens=10**400), DONE))
    client = await gateway(PRICED)
    async with asyncio.timeout(3), client.get("/chat?q=x", headers=EVENTS) as response:
        assert Answer(await response.read()).end["reason"] == "complete"


# What the tests are made of


async def drained(response: Any) -> None:
    """Reads what comes, and minds no break."""
    with contextlib.suppress(ClientError):
        await response.read()


async def whole(client: Client, route: str) -> None:
    async with call(client, route, **bearer(LIMITED), **EVENTS) as response:
        await drained(response)


async def logged(client: Client, route: str, caplog: pytest.LogCaptureFixture) -> AccessRecord:
    """The one line of a request that is read to its end."""
    caplog.set_level(logging.INFO, "gateway.access")
    async with call(client, route, **bearer(KEY)) as response:
        await drained(response)
    await eventually(lambda: bool(access_records(caplog)))
    (record,) = access_records(caplog)
    return record


def taken(client: Client) -> int:
    """Places of all callers together."""
    limiter = streams(client).limiter
    assert isinstance(limiter, MemoryLimiter | RedisLimiter)
    return limiter.streams


@pytest.mark.memory
@pytest.mark.parametrize("route", ["whole completions", "streamed completions", "POST /chat"])
async def test_fault_89_hanging_up_before_the_answer_is_no_way_around_the_limit(
    gateway: MakeGateway, upstream: ScriptedUpstream, route: str
) -> None:
    """Whoever leaves while the upstream is silent has had it read the prompt, and maybe write the answer."""
    upstream.script([Stall()])
    client = await gateway(limited(tokens_per_minute=1_000_000) + CANCEL)
    path, body = PATHS[route]
    prompt = {"messages": [{"role": "user", "content": "x" * 40_000}]}
    asking = asyncio.create_task(client.post(path, json=body | prompt, headers=bearer(LIMITED)).__aenter__())
    await upstream.until(requests=1)
    asking.cancel()
    await at_rest(client)
    limiter = streams(client).limiter
    assert isinstance(limiter, MemoryLimiter)
    (caller,) = limiter._callers.values()
    assert await caller.counts.get("tokens") >= 10_000


PATHS: dict[str, tuple[str, dict[str, object]]] = {
    "whole completions": ("/v1/chat/completions", {"model": "m"}),
    "streamed completions": ("/v1/chat/completions", {"model": "m", "stream": True}),
    "POST /chat": ("/chat", {}),
}
