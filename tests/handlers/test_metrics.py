"""`GET /metrics`: who may read it, and that its figures add up after a known load."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.handlers.services import SERVICES
from gateway.observe.lag import LagMeter
from gateway.observe.metrics import Metrics
from gateway.observe.records import FailedAttempt, StreamRecord
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, Answer, ask, bearer, create, error_of, eventually, start_of, watched
from tests.rig.inside import at_rest
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, Until, answer, delta, finish, stream, usage

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

TOKEN = '[metrics]\ntoken = "a-token-for-prometheus"\n'
OK = stream(delta("Hel"), delta("lo"), finish(), usage(prompt_tokens=7, completion_tokens=2), DONE)
ASKED = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "up",
    "gen_ai_request_model": "default-model",
    "gen_ai_response_model": "m-1",
}


def samples_in(text: str) -> Samples:
    """All samples by name and labels. Raises ValueError for text that is not in Prometheus' format.

    Stricter than the library's parser: each family has one HELP and one TYPE, and the buckets of a histogram add up.
    """
    assert text.endswith("\n")
    for kind in ("# HELP ", "# TYPE "):
        named = [line.split()[2] for line in text.splitlines() if line.startswith(kind)]
        assert len(named) == len(set(named))
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        if family.type == "histogram":
            assert_buckets_add_up(family)
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def assert_buckets_add_up(family: Metric) -> None:
    series: dict[frozenset[tuple[str, str]], dict[str, float]] = {}
    for sample in family.samples:
        labels = frozenset(pair for pair in sample.labels.items() if pair[0] != "le")
        part = sample.labels["le"] if sample.name.endswith("_bucket") else sample.name.removeprefix(family.name)
        series.setdefault(labels, {})[part] = sample.value
    for parts in series.values():
        count, _ = parts.pop("_count"), parts.pop("_sum")
        bounds = sorted(parts, key=float)
        assert bounds[-1] == "+Inf"
        assert [parts[bound] for bound in bounds] == sorted(parts.values())
        assert parts["+Inf"] == count


async def samples(client: Client) -> Samples:
    async with client.get("/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        return samples_in(await response.text())


def total(found: Samples, name: str) -> float:
    return sum([number for (named, _), number in found.items() if named == name])


def value(found: Samples, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


async def test_the_figures_add_up(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK, OK, OK, answer(500, {"error": {"message": "no"}}))
    client = await gateway()
    for _ in range(2):
        async with client.get("/chat?q=hi", headers=EVENTS) as response:
            assert Answer(await response.read()).end["reason"] == "complete"
    for status in (200, 502):
        async with client.post("/v1/chat/completions", json={"messages": [], "stream": True}) as response:
            assert response.status == status
            await response.read()
    async with client.get("/chat?q=", headers=EVENTS) as response:
        assert response.status == 400
    await at_rest(client)
    found = await samples(client)
    assert value(found, "gateway_streams_ended_total", reason="complete") == 3
    assert value(found, "gateway_streams_ended_total", reason="upstream_error") == 1
    assert value(found, "gateway_attempts_total", target="up/default-model", outcome="") == 3
    assert value(found, "gateway_attempts_total", target="up/default-model", outcome="upstream_error") == 1
    assert value(found, "gateway_refusals_total", code="invalid_request") == 1
    assert value(found, "gen_ai_client_operation_duration_seconds_count", **ASKED, error_type="") == 3
    assert value(found, "gen_ai_client_operation_time_to_first_chunk_seconds_count", **ASKED) == 3
    assert value(found, "gen_ai_client_inference_usage_input_tokens_total", **ASKED) == 21
    assert value(found, "gen_ai_client_inference_usage_output_tokens_total", **ASKED) == 6
    assert value(found, "gen_ai_client_token_usage_sum", **ASKED, gen_ai_token_type="input") == 21
    assert value(found, "gateway_streams_running") == 0
    assert value(found, "gateway_streams_held") == 2
    assert value(found, "gateway_log_bytes") > 0
    assert value(found, "gateway_target_available", target="up") == 1


TWO = """
[retry]
attempts = 2
backoff_seconds = 0.001
[breaker]
failures = 1
[stream]
heartbeat_seconds = 0.05
[[models]]
name = "both"
targets = [{upstream = "up", model = "one"}, {upstream = "up", model = "two"}]
[[models]]
name = "hedged"
targets = [{upstream = "up", model = "three"}, {upstream = "up", model = "four"}]
hedge_seconds = 0.01
"""


async def test_attempts_and_breakers_add_up(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """One target fails, and the other one answers. The sum of all attempts is the number of requests upstream."""
    upstream.script(answer(500, {}), OK, OK)
    client = await gateway(TWO)
    for _ in range(2):  # the second one asks `two` at once, because the breaker of `one` is open
        assert (await ask(client, model="both")).end["reason"] == "complete"
    await at_rest(client)
    found = await samples(client)
    assert value(found, "gateway_attempts_total", target="up/one", outcome="upstream_error") == 1
    assert value(found, "gateway_attempts_total", target="up/two", outcome="") == 2
    assert total(found, "gateway_attempts_total") == len(upstream.requests) == 3
    assert value(found, "gateway_target_breaker_open", target="up/one") == 1
    assert value(found, "gateway_target_available", target="up/one") == 0
    assert value(found, "gateway_target_breaker_open", target="up/two") == 0
    assert total(found, "gateway_cancels_total") == 0


async def test_cancels_are_counted_by_their_reason(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """One answer is stopped, one loses its client, and one attempt is outrun by another."""
    upstream.script(stream(delta("Hel"), Stall()), stream(delta("Hel"), Stall()), stream(Stall()), OK)
    client = await gateway(TWO)
    async with client.get("/chat?q=hi&on_disconnect=cancel&model=both", headers=EVENTS) as response:
        ticket = await start_of(response)
        await response.content.readuntil(b"Hel\n")
        async with client.delete(f"/streams/{ticket['stream']}?ticket={ticket['ticket']}") as stopped:
            assert stopped.status == 204
        await response.read()
    async with client.get("/chat?q=hi&on_disconnect=cancel&model=both", headers=EVENTS) as response:
        await response.content.readuntil(b"Hel\n")
        response.close()
    await upstream.until(left=2)
    assert (await ask(client, model="hedged")).end["reason"] == "complete"
    await at_rest(client)
    found = await samples(client)
    assert value(found, "gateway_cancels_total", reason="stopped") == 1
    assert value(found, "gateway_cancels_total", reason="client_gone") == 1
    assert value(found, "gateway_cancels_total", reason="outrun") == 1
    assert total(found, "gateway_cancels_total") == upstream.left == 3
    assert value(found, "gateway_attempts_total", target="up/one", outcome="stopped") == 1
    assert value(found, "gateway_attempts_total", target="up/one", outcome="client_gone") == 1
    assert total(found, "gateway_attempts_total") == len(upstream.requests) == 4


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
async def test_heartbeats_are_counted(gateway: MakeGateway, upstream: ScriptedUpstream, path: str) -> None:
    go_on = asyncio.Event()
    upstream.script(stream(Until(go_on), delta("Hello"), finish(), DONE))
    client = await gateway(TWO)
    body = {"question": "hi"} if path == "/chat" else {"messages": [], "stream": True}
    async with client.post(path, json=body, headers=EVENTS) as response:
        for _ in range(2):
            await response.content.readuntil(b":\n\n")
        go_on.set()
        raw = await response.read()
        sent = 2 + sum([line == b":" for line in raw.split(b"\n")])
    await at_rest(client)
    assert value(await samples(client), "gateway_heartbeats_total") == sent


async def test_the_time_before_the_upstream_is_asked_counts_once_for_each_stream(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Also where the request ends before its stream has asked: after `POST /streams`. A refusal does not count."""
    upstream.script(OK)
    client = await gateway()
    await ask(client)
    stream_of = await create(client)
    await watched(client, stream_of["url"])
    async with client.post("/v1/chat/completions", json={"messages": []}) as response:
        await response.read()
    async with client.get("/chat?q=", headers=EVENTS) as response:
        assert response.status == 400
    count = "gateway_time_before_upstream_seconds_count"
    text = client.app[SERVICES].metrics.text
    await eventually(lambda: value(samples_in(text().decode()), count) == 3)  # a request ends after its last byte
    found = await samples(client)
    assert value(found, count) == len(upstream.requests) == 3
    assert 0 < value(found, "gateway_time_before_upstream_seconds_sum") < 3


async def test_parts_of_tokens_are_counted(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    details: dict[str, Any] = {
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    upstream.script(stream(delta("Hi"), finish(), usage(prompt_tokens=7, completion_tokens=4, **details), DONE))
    client = await gateway()
    await ask(client)
    await at_rest(client)
    found = await samples(client)
    assert value(found, "gen_ai_client_inference_usage_cache_read_input_tokens_total", **ASKED) == 5
    assert value(found, "gen_ai_client_inference_usage_reasoning_output_tokens_total", **ASKED) == 3


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("requests_per_minute = 1", "rate_limit_exceeded"),
        ("tokens_per_minute = 1", "rate_limit_exceeded"),
        ("max_streams = 1", "too_many_streams"),
    ],
)
async def test_refusals_by_limits_are_counted(
    gateway: MakeGateway, upstream: ScriptedUpstream, limit: str, code: str
) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    client = await gateway(f'[[keys]]\nname = "team"\nkey = "a-key-for-this-test"\n{limit}\n')
    key = bearer("a-key-for-this-test")
    async with client.get("/chat?q=hi&on_disconnect=cancel", headers={**EVENTS, **key}) as response:
        await response.content.readuntil(b"Hel\n")
        for path in ("/chat", "/v1/chat/completions"):
            async with client.post(path, json={"question": "hi", "messages": []}, headers=key) as refused:
                assert await error_of(refused) == (429, code)
    assert value(await samples(client), "gateway_refusals_total", code=code) == 2


@pytest.mark.memory
async def test_gauges_tell_what_runs(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway()
    go_on = asyncio.Event()
    upstream.script(stream(delta("Hel"), Until(go_on), finish(), DONE))
    async with client.get("/chat?q=hi", headers=EVENTS) as response:
        await response.content.readuntil(b"Hel\n")
        found = await samples(client)
        assert value(found, "gateway_viewers") == 1
        assert value(found, "gateway_streams_running") == 1
        assert value(found, "gateway_target_running", target="up") == 1
        async with client.get("/readyz") as ready:
            assert await ready.json() == {"status": "ready", "running": 1, "viewers": 1}
        go_on.set()
        await response.read()
    await at_rest(client)


async def test_the_loop_is_measured() -> None:
    delays: asyncio.Queue[float] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    meter = LagMeter(loop, delays.put_nowait)
    loop.call_later(0.45, time.sleep, 0.15)
    async with asyncio.timeout(5):
        assert await delays.get() >= 0.05
    meter.stop()


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
@pytest.mark.parametrize(
    ("headers", "may_look"),
    [
        ({}, True),
        ({"X-Forwarded-For": "127.0.0.1"}, False),
        ({"Via": "1.1 proxy"}, False),
        ({"Via": "1.1 proxy", "Authorization": "Bearer a-token-for-prometheus"}, True),
        ({"Via": "1.1 proxy", "Authorization": "Bearer a-token-for-prometheuS"}, False),
        ({"Via": "1.1 proxy", "Authorization": "Bearer é"}, False),
    ],
)
async def test_who_may_look(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str, headers: dict[str, str], may_look: bool
) -> None:
    """Direct requests from this machine, and those with the token."""
    client = await gateway(TOKEN + "[server]\nallow_anonymous = true\n")
    async with client.get(path, headers=headers) as response:
        if path == "/readyz":
            assert ("running" in await response.json()) == may_look
        else:
            assert response.status == (200 if may_look else 403)
            assert may_look or (await response.json())["error"]["code"] == "metrics_not_allowed"


def test_callers_and_upstreams_cannot_add_any_number_of_series() -> None:
    metrics = Metrics(lambda: [])
    for number in range(1000):
        metrics.stream_ended(
            StreamRecord(
                stream="s",
                target=f"up/{number}",
                model_asked=f"m{number}",
                model=f"r{number}",
                error=f"e{number}",
                failed=[FailedAttempt(target=f"up/{number}", error=f"e{number}", seconds=0.1)],
                seconds=1.0,
            )
        )
    found = samples_in(metrics.text().decode())
    for label in ("gen_ai_request_model", "gen_ai_response_model", "error_type", "target", "outcome"):
        values = set(values_of(found, label))
        assert len(values) == 201
        assert "_OTHER" in values
    assert sum([number for (name, _), number in found.items() if name == "gateway_attempts_total"]) == 2000


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a{b}", "模型", "a b", ""])
def test_any_name_of_a_model_is_printed_and_read_as_it_is(name: str) -> None:
    metrics = Metrics(lambda: [])
    record = StreamRecord(stream="s", target=f"up/{name}", model_asked=name or None, model=name, seconds=1.0)
    metrics.stream_ended(record)
    found = samples_in(metrics.text().decode())
    assert set(values_of(found, "gen_ai_request_model")) == {name}
    assert set(values_of(found, "gen_ai_response_model")) == {name}
    assert set(values_of(found, "target")) == {f"up/{name}"}


def values_of(found: Samples, label: str) -> Iterator[str]:
    for _, labels in found:
        yield from [value for name, value in labels if name == label]


async def test_every_metric_is_in_the_documents(gateway: MakeGateway) -> None:
    """And every name in the documents exists."""
    documents = (Path(__file__).parents[2] / ".github/docs/operating.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`((?:gateway|gen_ai_client)_\w+)`", documents))
    client = await gateway('[store]\nurl = "redis://127.0.0.1:1/0"')  # some are there with Redis only, or without one
    async with client.get("/metrics") as response:
        names = {family.name for family in text_string_to_metric_families(await response.text())}
    assert {name.removesuffix("_total") for name in told} == names
