"""Budgets over real sockets: what the upstream is told to write at most, and who is refused."""

import asyncio
from typing import Any

import pytest

from gateway.config import load
from tests.conftest import Client, MakeGateway
from tests.rig import anthropic as sends
from tests.rig.clients import EVENTS, bearer, remains
from tests.rig.scripted_upstream import (
    DONE,
    Received,
    ScriptedUpstream,
    Stall,
    Until,
    answer,
    delta,
    finish,
    stream,
    usage,
)

KEY = "gw-key-of-one-0123456789"
HI: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
# With 10 for a million tokens of prompts, and 100 of answers, a token of an answer costs 100 millionths.
PRICES = "prices = {input = 10.0, output = 100.0}\n"
MODEL = f'[[models]]\nname = "m"\ntargets = [{{upstream = "up"}}]\n{PRICES}'
PROMPT = 10  # millionths for a token of a prompt
OK = stream(delta("a"), finish(), usage(prompt_tokens=1, completion_tokens=2), DONE)
VALUES = answer(200, {"object": "list", "data": [], "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}})
TEXT = {"object": "text_completion", "choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}


def paid(amount: float, more: str = "", model: str = MODEL) -> str:
    budget = f'budget = {{amount = {amount}, per = "month"{more}}}\n'
    return f'{model}[[keys]]\nname = "one"\nkey = "{KEY}"\n{budget}'


async def ask(client: Client, path: str = "/chat", **fields: object) -> dict[str, Any]:
    async with client.post(path, json={"model": "m", **fields}, headers=bearer(KEY)) as response:
        value: dict[str, Any] = await response.json()
        return {**value, "status": response.status, "headers": response.headers}


async def streamed(client: Client, body: dict[str, object]) -> None:
    async with client.post("/v1/chat/completions", json={**body, "stream": True}, headers=bearer(KEY)) as response:
        assert response.status == 200, await response.text()
        await response.read()


def told(upstream: ScriptedUpstream, name: str = "max_tokens") -> list[object]:
    return [request.json.get(name) for request in upstream.requests]


ASKED: dict[str, tuple[str, dict[str, object], str]] = {
    # path, fields, the field of a bound
    "chat": ("/chat", HI, "max_tokens"),
    "completions": ("/v1/chat/completions", {**HI, "stream": True}, "max_tokens"),
    "responses": ("/v1/responses", {"input": "hi"}, "max_output_tokens"),
    "messages": ("/v1/messages", HI, "max_tokens"),
}


@pytest.mark.parametrize("surface", ASKED)
async def test_the_upstream_is_told_what_the_rest_of_the_budget_buys(
    gateway: MakeGateway, upstream: ScriptedUpstream, surface: str
) -> None:
    """A budget of 0.01 buys some 100 tokens at this price."""
    upstream.script(OK)
    path, fields, bound = ASKED[surface]
    client = await gateway(paid(0.01))
    async with client.post(path, json={"model": "m", **fields, bound: 5000}, headers=bearer(KEY)) as response:
        assert response.status == 200
        await response.read()
    (most,) = told(upstream)
    assert isinstance(most, int)
    assert 80 < most <= 100


@pytest.mark.parametrize("surface", ASKED)
async def test_a_bound_that_the_budget_buys_passes(
    gateway: MakeGateway, upstream: ScriptedUpstream, surface: str
) -> None:
    upstream.script(OK)
    path, fields, bound = ASKED[surface]
    client = await gateway(paid(1.0))
    async with client.post(path, json={"model": "m", **fields, bound: 50}, headers=bearer(KEY)) as response:
        await response.read()
    assert told(upstream) == [50]


@pytest.mark.parametrize("none", [0, 0.5, False, "0", -1], ids=repr)
async def test_a_bound_below_one_is_none(gateway: MakeGateway, upstream: ScriptedUpstream, none: object) -> None:
    """For some servers it is no bound at all. So the budget's own one is sent, and reserved."""
    upstream.script(OK)
    client = await gateway(paid(1.0, ", max_tokens = 1000"))
    first = await ask(client, max_tokens=none, **HI)
    assert 0.89 < float(first["headers"]["x-ratelimit-remaining-budget"]) <= 0.9
    await ask(client, max_completion_tokens=none, **HI)
    await ask(client, n_predict=none, **HI)
    assert told(upstream) == [1000] * 3
    assert told(upstream, "max_completion_tokens") == told(upstream, "n_predict") == [None] * 3


async def test_a_response_without_a_bound_of_one_has_that_of_the_budget(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(OK)
    client = await gateway(paid(1.0, ", max_tokens = 1000"))
    assert (await ask(client, "/v1/responses", input="hi", max_output_tokens=0))["status"] == 200
    assert told(upstream) == [1000]


async def test_a_text_completion_may_have_its_prompt_scored(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, TEXT))
    client = await gateway(paid(1.0))
    assert (await ask(client, "/v1/completions", prompt="a", max_tokens=0, echo=True))["status"] == 200
    assert told(upstream) == [0]


@pytest.mark.parametrize("surface", ASKED)
async def test_a_request_is_refused_when_the_budget_is_spent(
    gateway: MakeGateway, upstream: ScriptedUpstream, surface: str
) -> None:
    """The upstream is not asked. SDKs are told not to try again before the month is over."""
    upstream.script(stream(delta("a"), finish(), usage(prompt_tokens=100, completion_tokens=90), DONE))
    path, fields, bound = ASKED[surface]
    client = await gateway(paid(0.01))
    await ask(client, **HI)
    refused = await ask(client, path, **fields, **{bound: 16})
    assert refused["status"] == 429
    assert refused["headers"]["X-Should-Retry"] == "false"
    assert int(refused["headers"]["Retry-After"]) <= 31 * 86_400
    assert refused["headers"]["x-ratelimit-remaining-budget"] == "0"
    assert "rest of your budget of 0.01 a month" in refused["error"]["message"]
    if surface != "messages":  # whose errors have Anthropic's form
        assert (refused["error"]["code"], refused["error"]["type"]) == ("insufficient_quota", "insufficient_quota")
    assert len(upstream.requests) == 1


async def test_the_answer_is_charged_by_its_usage(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """And the header says what is left while the answer runs, with all that it may cost."""
    upstream.script(OK)
    client = await gateway(paid(1.0, ", max_tokens = 1000"))
    first = await ask(client, **HI)
    assert told(upstream) == [1000]
    assert 0.89 < float(first["headers"]["x-ratelimit-remaining-budget"]) <= 0.9
    cost = 0.000001 * (PROMPT + 200)
    second = await ask(client, **HI)
    rest = float(first["headers"]["x-ratelimit-remaining-budget"]) - float(
        second["headers"]["x-ratelimit-remaining-budget"]
    )
    assert rest == pytest.approx(cost)


async def test_input_that_is_written_to_a_cache_is_charged_by_its_own_price(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Of 12 tokens, 4 come from the cache and 5 go to it. The prompt is reserved by the highest of the prices."""
    upstream.script(sends.answered(sends.HELLO))
    prices = "prices = {input = 10.0, output = 100.0, cached = 1.0, written = 20.0}\n"
    model = f'[[models]]\nname = "m"\ntargets = [{{upstream = "claude"}}]\n{prices}'
    client = await gateway(config=load(sends.configured(upstream.url) + paid(1.0, model=model), {}))
    left = []
    for _ in range(2):
        value = await ask(client, max_tokens=1000, messages=[{"role": "user", "content": "x" * 4000}])
        left.append(float(value["headers"]["x-ratelimit-remaining-budget"]))
    assert left[0] == pytest.approx(1.0 - 0.000001 * (1000 * 20 + 1000 * 100), abs=1e-9)
    assert left[0] - left[1] == pytest.approx(0.000001 * (3 * 10 + 4 * 1 + 5 * 20 + 7 * 100))


async def test_the_bound_goes_once_under_the_name_that_the_upstream_knows(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Whatever the caller called it: a server may not know the other name, and then obey no bound."""
    upstream.script(OK)
    upstreams = (
        f'[[upstreams]]\nname = "older"\nbase_url = "{upstream.url}/v1"\n'
        f'[[upstreams]]\nname = "newer"\nbase_url = "{upstream.url}/v1"\nmax_tokens_field = "max_completion_tokens"\n'
    )
    models = "".join(
        f'[[models]]\nname = "{name}"\ntargets = [{{upstream = "{name}"}}]\n{PRICES}' for name in ("older", "newer")
    )
    client = await gateway(config=load(upstreams + paid(100.0, model=models), {}))
    bounds: dict[str, object] = {"max_tokens": 60, "max_completion_tokens": 50, "n_predict": -1}
    for model in ("older", "newer"):
        for names in (["max_tokens"], ["max_completion_tokens"], list(bounds), []):
            body = {**HI, "model": model, **{name: bounds[name] for name in names}}
            await streamed(client, body)
    assert [
        {name: value for name, value in request.json.items() if name in bounds} for request in upstream.requests
    ] == [{name: most} for name in ("max_tokens", "max_completion_tokens") for most in (60, 50, 50, 16_384)]


async def test_text_completions_keep_the_older_name(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """It is the only one there. Several prompts and choices share the sum."""
    upstream.script(answer(200, TEXT))
    newer = f'[[upstreams]]\nname = "newer"\nbase_url = "{upstream.url}/v1"\n'
    newer += 'max_tokens_field = "max_completion_tokens"\n'
    model = f'[[models]]\nname = "m"\ntargets = [{{upstream = "newer"}}]\n{PRICES}'
    client = await gateway(config=load(newer + paid(0.05, model=model), {}))
    assert (await ask(client, "/v1/completions", prompt="a", max_tokens=30))["status"] == 200
    assert (await ask(client, "/v1/completions", prompt="a"))["status"] == 200
    assert (await ask(client, "/v1/completions", prompt=["a", "b"], n=2, max_tokens=500))["status"] == 200
    one, other, several = told(upstream)
    assert (one, other) == (30, 16)
    assert isinstance(several, int)
    assert 100 < several <= (500 - 30 - 16) // 4


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/moderations", "/v1/rerank"])
async def test_values_get_no_bound_and_cost_their_prompt(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str
) -> None:
    upstream.script(VALUES)
    client = await gateway(paid(0.001))
    assert (await ask(client, path, input="hi " * 20))["status"] == 200
    assert "max_tokens" not in upstream.requests[0].json
    large = await ask(client, path, input="x" * 4000)
    assert (large["status"], large["error"]["code"]) == (429, "insufficient_quota")


async def test_anthropics_server_is_told_too(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(sends.HELLO))
    model = f'[[models]]\nname = "m"\ntargets = [{{upstream = "claude"}}]\n{PRICES}'
    claude = f'[[upstreams]]\nname = "claude"\nbase_url = "{upstream.url}/v1"\ndialect = "anthropic"\n'
    client = await gateway(config=load(claude + paid(0.01, model=model), {}))
    await streamed(client, {**HI, "model": "m", "max_completion_tokens": 5000})
    (most,) = told(upstream)
    assert isinstance(most, int)
    assert 80 < most <= 100


async def test_responses_of_the_upstream_have_a_bound_of_their_own_name(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(answer(200, {"id": "resp_1", "object": "response", "status": "completed", "output": []}))
    model = f'[[models]]\nname = "m"\ntargets = [{{upstream = "maker"}}]\n{PRICES}'
    maker = f'[[upstreams]]\nname = "maker"\nbase_url = "{upstream.url}/v1"\napi = "responses"\n'
    client = await gateway(config=load(maker + paid(100.0, model=model), {}))
    for bound in ({"max_output_tokens": 50}, {}):
        assert (await ask(client, "/v1/responses", input="hi", **bound))["status"] == 200
    assert told(upstream, "max_output_tokens") == [50, 16_384]
    assert told(upstream) == [None, None]


# While answers run, and when they are cut


async def test_running_answers_reserve_what_they_may_cost(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    goes_on = asyncio.Event()
    upstream.script([*stream(delta("a"), Until(goes_on), finish(), usage(prompt_tokens=1, completion_tokens=2), DONE)])
    client = await gateway(paid(0.01))
    async with client.post("/chat", json={**HI, "model": "m"}, headers={**EVENTS, **bearer(KEY)}) as response:
        await upstream.until(requests=1)
        refused = await ask(client, **HI)
        assert (refused["status"], refused["error"]["code"]) == (429, "budget_reserved")
        assert refused["headers"]["Retry-After"] == "5"
        assert "X-Should-Retry" not in refused["headers"]
        goes_on.set()
        await response.read()
    assert (await ask(client, **HI))["status"] == 200


async def test_an_answer_that_is_cut_costs_all_that_it_might(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Nobody knows what the upstream charges for it."""
    upstream.script(stream(delta("a"), Stall()), OK)
    client = await gateway('[stream]\non_disconnect = "cancel"\n' + paid(0.01))
    async with client.post("/chat", json={**HI, "model": "m"}, headers={**EVENTS, **bearer(KEY)}) as response:
        await response.content.readuntil(b"data: a\n")
    await upstream.until(left=1)
    async with asyncio.timeout(5):
        while (refused := await ask(client, **HI))["error"]["code"] == "budget_reserved":
            pass
    assert refused["error"]["code"] == "insufficient_quota"
    assert len(upstream.requests) == 1


async def test_one_body_that_breaks_off_costs_all_that_it_might(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Its upstream streams although one body is asked for. What had come by the error was not free."""
    cut = [*sends.HELLO[:-2], sends.error("overloaded_error")]
    upstream.script(sends.answered(cut), sends.answered(sends.HELLO))
    model = f'[[models]]\nname = "m"\ntargets = [{{upstream = "claude"}}]\n{PRICES}'
    retry = "[retry]\nattempts = 1\n"
    client = await gateway(config=load(retry + sends.configured(upstream.url) + paid(0.01, model=model), {}))
    assert (await ask(client, "/v1/chat/completions", **HI))["status"] == 502
    assert (await ask(client, "/v1/chat/completions", **HI))["error"]["code"] == "insufficient_quota"
    assert len(upstream.requests) == 1


async def test_a_request_that_the_upstream_refuses_costs_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(answer(400, {"error": {"message": "no"}}), OK)
    client = await gateway(paid(0.01))
    assert (await ask(client, **HI))["status"] == 400
    assert (await ask(client, **HI))["status"] == 200
    one, other = told(upstream)
    assert one == other


async def test_a_refusal_in_a_choice_costs_nothing(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """As OpenRouter sends it, in one body and as the only event."""
    choice = {"index": 0, "message": {"content": ""}, "finish_reason": "error", "error": {"code": 429, "message": "no"}}
    upstream.script(answer(200, {"choices": [choice]}), stream(finish("error"), DONE), OK)
    client = await gateway("[retry]\nattempts = 1\n" + paid(0.01))
    assert (await ask(client, "/v1/chat/completions", **HI))["status"] == 429
    async with client.post(
        "/v1/chat/completions", json={**HI, "model": "m", "stream": True}, headers=bearer(KEY)
    ) as got:
        assert got.status == 502
    assert (await ask(client, **HI))["status"] == 200
    first, _, last = told(upstream)
    assert first == last


async def test_without_usage_the_reservation_is_charged(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway(paid(0.01))
    assert (await ask(client, max_tokens=50, **HI))["status"] == 200
    assert (await ask(client, max_tokens=50, **HI))["status"] == 200
    one, other = told(upstream)
    assert one == 50
    assert isinstance(other, int)
    assert 30 < other <= 50


# Several attempts


async def test_an_attempt_that_broke_is_paid_beside_the_next(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The silent cut may have cost all of its bound, so there is money for two attempts, and not for three."""
    silent = stream()
    upstream.script(silent, silent, OK)
    retry = "[retry]\nattempts = 3\nbackoff_seconds = 0.01\n"
    other = MODEL.replace('{upstream = "up"}', '{upstream = "up"}, {upstream = "up", model = "m2"}')
    client = await gateway(retry + paid(0.011, model=other))
    failed = await ask(client, max_tokens=50, **HI)
    assert failed["status"] == 502
    assert len(upstream.requests) == 2
    assert (await ask(client, max_tokens=50, **HI))["error"]["code"] == "insufficient_quota"


async def test_two_targets_that_race_are_both_paid(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Without money for a second one, the first is waited for."""
    goes_on = asyncio.Event()
    first = stream(Until(goes_on), delta("a"), finish(), usage(prompt_tokens=1, completion_tokens=2), DONE)

    def script(received: Received) -> Any:
        return first if received.json["model"] == "m" else OK

    upstream.script(script)
    two = MODEL.replace('{upstream = "up"}', '{upstream = "up"}, {upstream = "up", model = "m2"}')
    hedged = "[retry]\nattempts = 2\n" + paid(0.012, model=two + "hedge_seconds = 0.05\n")
    client = await gateway(hedged)
    assert (await ask(client, max_tokens=50, **HI))["status"] == 200
    assert [request.json["model"] for request in upstream.requests] == ["m", "m2"]
    asking = asyncio.create_task(ask(client, max_tokens=50, **HI))
    await upstream.until(requests=3)
    await remains(lambda: len(upstream.requests) == 3, seconds=0.15)  # three times `hedge_seconds`
    goes_on.set()
    assert (await asking)["status"] == 200


# What is seen of it


@pytest.mark.memory  # with a shared store, another gateway is asked for its metrics
async def test_the_rest_of_a_budget_is_a_gauge(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway(paid(1.0))
    await ask(client, **HI)
    async with client.get("/metrics") as response:
        assert 'gateway_budget_remaining{key="one"} 0.99979\n' in await response.text()


async def test_a_key_without_a_budget_is_sent_as_it_asked(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway(f'{MODEL}[[keys]]\nname = "one"\nkey = "{KEY}"\n')
    headers = (await ask(client, max_completion_tokens=9, **HI))["headers"]
    await ask(client, **HI)
    assert told(upstream) == [None, None]
    assert told(upstream, "max_completion_tokens") == [9, None]
    assert not any("budget" in name.lower() for name in headers)


async def test_with_an_idempotency_key_an_answer_is_paid_once(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Its body is compared as it was asked, whatever bound it got."""
    upstream.script(OK)
    client = await gateway(paid(0.01))
    for _ in range(3):
        headers = {**bearer(KEY), "Idempotency-Key": "k"}
        async with client.post("/chat", json={**HI, "model": "m"}, headers=headers) as response:
            assert response.status == 200, await response.text()
    assert len(upstream.requests) == 1
