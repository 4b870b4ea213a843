"""What goes wrong reaches the official Python client as the exception that it has for it, and never as an answer."""

import asyncio
import time
from typing import Any

import pytest

from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    ScriptedUpstream,
    Send,
    Stall,
    answer,
    chunk,
    delta,
    event,
    finish,
    head,
    stream,
)
from tests.sdk.answers import CUTS, HELLO, QUESTION, completion, refusal
from tests.sdk.conftest import KEY, Connect

openai = pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")

TEAM = f'[[keys]]\nname = "team"\nkey = "{KEY}"\n'
ONE_MODEL = '[[models]]\nname = "small"\ntargets = [{upstream = "up", model = "m-1"}]\n'


# What the upstream refuses

STATUSES = {
    # the caller's own trouble, in the upstream's words
    400: ("BadRequestError", 400),
    404: ("NotFoundError", 404),
    413: ("APIStatusError", 413),
    422: ("UnprocessableEntityError", 422),
    429: ("RateLimitError", 429),
    # the gateway's trouble
    401: ("InternalServerError", 502),
    403: ("InternalServerError", 502),
    500: ("InternalServerError", 502),
    503: ("InternalServerError", 502),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_of_the_upstream(
    connect: Connect, upstream: ScriptedUpstream, status: int, streamed: bool
) -> None:
    kind, expected = STATUSES[status]
    upstream.script(refusal(status))
    sdk = await connect()
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.call("chat.completions.create", **QUESTION, stream=streamed)
    assert type(caught.value).__name__ == kind
    assert caught.value.status_code == expected
    assert caught.value.request_id
    assert caught.value.code
    assert ("Words of the upstream" in caught.value.message) == (expected < 500)


async def test_the_upstreams_rate_limit_says_when_to_come_back(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(refusal(429, Retry_After="7"))
    sdk = await connect()
    with pytest.raises(openai.RateLimitError) as caught:
        await sdk.call("chat.completions.create", **QUESTION)
    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_an_upstream_that_is_away(connect: Connect, upstream: ScriptedUpstream, streamed: bool) -> None:
    sdk = await connect()
    await upstream.refuse()
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk.call("chat.completions.create", **QUESTION, stream=streamed)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")
    assert upstream.url.removeprefix("http://") not in caught.value.message


async def test_an_upstream_that_says_nothing(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script([Stall()])
    sdk = await connect("[timeouts]\nfirst_token = 0.2")
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk.call("chat.completions.create", **QUESTION, stream=True)
    assert (caught.value.status_code, caught.value.code) == (504, "first_token_timeout")


async def test_a_whole_answer_that_takes_too_long(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script([Stall()])
    sdk = await connect("[timeouts]\ntotal = 0.2")
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk.call("chat.completions.create", **QUESTION)
    assert (caught.value.status_code, caught.value.code) == (504, "total_timeout")


async def test_a_whole_answer_that_is_cut(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script([Send(head(200, "application/json", Content_Length="1000") + b'{"id": "chatcmpl-1", '), Close()])
    sdk = await connect()
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk.call("chat.completions.create", **QUESTION)
    assert caught.value.status_code == 502


# What the gateway refuses


WRONG_KEY = "wrong-key-1234567890abcd"
KEYS: dict[str, tuple[str, dict[str, Any]]] = {
    "a wrong key": (TEAM, {"Authorization": f"Bearer {WRONG_KEY}"}),
    "no key": (TEAM, {"Authorization": openai.Omit()}),
    "an expired key": (f"{TEAM}expires = 2020-01-01\n", {}),
}


@pytest.mark.parametrize("case", KEYS)
async def test_a_key_that_does_not_open(connect: Connect, upstream: ScriptedUpstream, case: str) -> None:
    toml, headers = KEYS[case]
    sdk = await connect(toml)
    for method, fields in {"chat.completions.create": QUESTION, "models.list": {}}.items():
        with pytest.raises(openai.AuthenticationError) as caught:
            await sdk.call(method, **fields, extra_headers=headers)
        assert caught.value.code
        assert KEY not in str(caught.value)
        assert WRONG_KEY not in str(caught.value)
    assert not upstream.requests


async def test_a_foreign_page_is_not_permitted(connect: Connect, upstream: ScriptedUpstream) -> None:
    sdk = await connect(default_headers={"Origin": "https://evil.example"})
    for method, fields in {"chat.completions.create": QUESTION, "models.list": {}}.items():
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await sdk.call(method, **fields)
        assert caught.value.code == "origin_not_allowed"
    assert not upstream.requests


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_model_that_is_not_there(connect: Connect, upstream: ScriptedUpstream, streamed: bool) -> None:
    sdk = await connect(ONE_MODEL)
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.call("chat.completions.create", **QUESTION, stream=streamed)
    assert caught.value.code == "model_not_found"
    assert "small" in caught.value.message
    assert not upstream.requests


async def test_a_model_that_the_key_may_not_use_is_not_there(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, {"data": []}))
    large = ONE_MODEL.replace("small", "large")
    sdk = await connect(f'{TEAM}models = ["small"]\n{ONE_MODEL}{large}')
    assert [model.id for model in (await sdk.call("models.list")).data] == ["small"]
    for method, fields in {"chat.completions.create": QUESTION, "models.retrieve": {}}.items():
        with pytest.raises(openai.NotFoundError) as caught:
            await sdk.call(method, **fields | {"model": "large"})
        assert caught.value.code == "model_not_found"
    assert [request.path for request in upstream.requests] == ["/v1/models"]


async def test_a_call_that_the_gateway_does_not_have(connect: Connect, upstream: ScriptedUpstream) -> None:
    sdk = await connect()
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.call("images.generate", model="m-1", prompt="Hi")
    assert caught.value.code == "not_found"


async def test_a_request_that_makes_no_sense(connect: Connect, upstream: ScriptedUpstream) -> None:
    sdk = await connect()
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.call("chat.completions.create", **QUESTION | {"model": "m" * 1000})
    assert caught.value.param == "model"
    assert not upstream.requests


async def test_a_request_that_is_too_large(connect: Connect, upstream: ScriptedUpstream) -> None:
    sdk = await connect()
    messages = [{"role": "user", "content": "x" * 34_000_000}]
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.call("chat.completions.create", model="m-1", messages=messages)
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
    assert not upstream.requests


async def test_the_gateways_own_rate_limit_says_when_to_come_back(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(completion())
    sdk = await connect(f"{TEAM}requests_per_minute = 1")
    await sdk.call("chat.completions.create", **QUESTION)
    with pytest.raises(openai.RateLimitError) as caught:
        await sdk.call("chat.completions.create", **QUESTION)
    headers = caught.value.response.headers
    assert 0 < int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"]
    assert len(upstream.requests) == 1


async def test_every_answer_says_what_the_limit_leaves(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(completion())
    sdk = await connect(f"{TEAM}requests_per_minute = 2")
    raw = await sdk.call("chat.completions.with_raw_response.create", **QUESTION)
    assert raw.headers["x-ratelimit-limit-requests"] == "2"
    assert raw.headers["x-ratelimit-remaining-requests"] == "1"


async def test_a_token_limit(connect: Connect, upstream: ScriptedUpstream) -> None:
    """What the last answers used counts."""
    upstream.script(HELLO)
    sdk = await connect(f"{TEAM}tokens_per_minute = 3")
    await sdk.read([])
    with pytest.raises(openai.RateLimitError) as caught:
        await sdk.read([])
    headers = caught.value.response.headers
    assert 0 < int(headers["retry-after"]) <= 60
    assert headers["x-ratelimit-limit-tokens"] == "3"
    assert headers["x-ratelimit-remaining-tokens"] == "0"


async def test_a_limit_of_streams_at_once(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), Pause(0.2), delta("lo"), finish(), DONE))
    sdk = await connect(f"{TEAM}max_streams = 1")
    first = asyncio.create_task(sdk.assemble())
    await upstream.until(requests=1)
    with pytest.raises(openai.RateLimitError) as caught:
        await sdk.read([])
    assert int(caught.value.response.headers["retry-after"]) > 0
    _, answer = await first
    assert answer.choices[0].message.content == "Hello"
    await sdk.assemble()
    assert len(upstream.requests) == 2


# What breaks in the middle


@pytest.mark.parametrize("case", CUTS)
async def test_a_cut_stream_raises(connect: Connect, upstream: ScriptedUpstream, case: str) -> None:
    script, code = CUTS[case]
    upstream.script(script)
    sdk = await connect()
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        await sdk.read(chunks)
    assert caught.value.code == code
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["Hel"]


async def test_after_a_cut_stream_the_same_client_asks_again(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(CUTS["an error object"][0], HELLO)
    sdk = await connect()
    with pytest.raises(openai.APIError):
        await sdk.read([])
    _, answer = await sdk.assemble()
    assert answer.choices[0].message.content == "Hello"


async def test_the_clients_own_helper_raises_too(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), Pause(0.1), Close()))
    sdk = await connect()
    with pytest.raises(openai.APIError):
        await sdk.assemble()


async def test_a_choice_that_is_cut_while_another_is_whole_raises(connect: Connect, upstream: ScriptedUpstream) -> None:
    def of(index: int, reason: str | None = None) -> bytes:
        return event(chunk() | {"choices": [{"index": index, "delta": {"content": "a"}, "finish_reason": reason}]})

    upstream.script(stream(of(0), of(1), Pause(0.1), of(0, "stop")))
    sdk = await connect()
    with pytest.raises(openai.APIError) as caught:
        await sdk.read([], n=2)
    assert caught.value.code == "upstream_incomplete"


async def test_a_stream_that_falls_silent_raises(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    sdk = await connect("[timeouts]\nidle = 0.2\n[stream]\nheartbeat_seconds = 0.05")
    with pytest.raises(openai.APIError) as caught:
        await sdk.read([])
    assert caught.value.code == "idle_timeout"


@pytest.mark.parametrize("status", [400, 500])
async def test_an_error_after_the_first_heartbeat_raises(
    connect: Connect, upstream: ScriptedUpstream, status: int
) -> None:
    """It is too late for a status then."""
    upstream.script([Pause(0.2), *refusal(status)])
    sdk = await connect("[stream]\nheartbeat_seconds = 0.05")
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        await sdk.read(chunks)
    assert not isinstance(caught.value, openai.APIStatusError)
    assert caught.value.code
    assert not chunks


# Trying again


async def test_the_clients_retry_recovers_from_an_early_failure(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(refusal(503), HELLO)
    sdk = await connect(max_retries=2)
    _, answer = await sdk.assemble()
    assert answer.choices[0].message.content == "Hello"
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_the_client_does_not_retry_what_only_the_operator_can_fix(
    connect: Connect, upstream: ScriptedUpstream, streamed: bool
) -> None:
    """It would, at any status from 500 on, without `x-should-retry: false`."""
    upstream.script(refusal(401))
    sdk = await connect(max_retries=2)
    with pytest.raises(openai.InternalServerError) as caught:
        await sdk.call("chat.completions.create", **QUESTION, stream=streamed)
    assert caught.value.code == "upstream_misconfigured"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("connect", ["blocking"], indirect=True)
async def test_the_clients_retry_waits_as_long_as_it_is_told(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(refusal(429, Retry_After="1"), completion())
    sdk = await connect(max_retries=1)
    asked = time.monotonic()
    answer = await sdk.call("chat.completions.create", **QUESTION)
    assert answer.choices[0].message.content == "Hello"
    assert len(upstream.requests) == 2
    assert time.monotonic() - asked > 0.9  # of itself it waits half a second
