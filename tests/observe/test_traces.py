"""Traces, as a collector receives them, and what the upstream and the log hear of them."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from gateway.bounds import Bounds
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, access_records, ask, bearer, create, eventually, start_of, watched
from tests.rig.collector import CLIENT, ERROR, SERVER, Collector, Span
from tests.rig.overheard import Overheard
from tests.rig.ports import refusing
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, answer, delta, finish, stream, usage

OK = stream(delta("Hel"), delta("lo"), finish(), usage(prompt_tokens=7, completion_tokens=2), DONE)
WHOLE = answer(200, {"model": "m-1", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]})
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
QUESTION, KEY = "a question that nobody else may read", "key-of-the-upstream"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")  # milliseconds: the SDK sends what it has after that time
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def settings(collector: Collector) -> str:
    return f'[traces]\nendpoint = "{collector.url}"\n'


def of_kind(spans: list[Span], kind: int) -> list[Span]:
    return [span for span in spans if span.kind == kind]


async def asked(client: Client, path: str, **headers: str) -> None:
    """Asks on one of the surfaces, and reads the answer."""
    body = {"question": QUESTION} if path == "/chat" else {"messages": [{"role": "user", "content": QUESTION}]}
    more = {"stream": True} if path == "/v1/chat/completions" else {}
    async with client.post(path.removesuffix(" whole"), json=body | more, headers={**EVENTS, **headers}) as response:
        assert response.status == 200, await response.text()
        await response.read()


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions", "/v1/chat/completions whole"])
async def test_a_request_and_its_attempt_are_two_spans(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str, path: str
) -> None:
    upstream.script(WHOLE if path.endswith("whole") else OK)
    client = await gateway(settings)
    await asked(client, path)
    spans = await collector.until(2)
    (server,), (attempt,) = of_kind(spans, SERVER), of_kind(spans, CLIENT)
    route = path.removesuffix(" whole")
    assert server.name == f"POST {route}"
    assert server.parent_id == ""
    assert server.attributes.pop("gateway.request.id")
    assert server.attributes.pop("gateway.stream.id")
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": route,
        "url.path": route,
        "http.response.status_code": 200,
        "gen_ai.request.model": "default-model",
    }
    assert attempt.name == "chat default-model"
    assert (attempt.trace_id, attempt.parent_id) == (server.trace_id, server.span_id)
    assert attempt.attributes.pop("gen_ai.response.time_to_first_chunk") >= 0
    tokens = (2, 7) if not path.endswith("whole") else None
    if tokens is None:
        assert attempt.attributes.pop("gateway.usage.estimated") is True
        assert attempt.attributes.pop("gen_ai.usage.input_tokens") > 0
        assert attempt.attributes.pop("gen_ai.usage.output_tokens") > 0
    else:
        counts = [attempt.attributes.pop(f"gen_ai.usage.{kind}_tokens") for kind in ("output", "input")]
        assert tuple(counts) == tokens
    assert attempt.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "up",
        "gen_ai.request.model": "default-model",
        "gen_ai.request.stream": not path.endswith("whole"),
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "server.address": "127.0.0.1",
        "server.port": int(upstream.url.rpartition(":")[2]),
        "gateway.end_reason": "complete",
    }
    assert server.status == attempt.status == 0
    context = upstream.requests[0].headers["traceparent"]
    assert context.startswith(f"00-{attempt.trace_id}-{attempt.span_id}-")
    assert int(context[-2:], 16) & 1  # sampled


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("embeddings", "embeddings"),
        ("completions", "text_completion"),
        ("moderations", "moderation"),
        ("rerank", "rerank"),
    ],
)
async def test_other_operations_have_names_of_their_own(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str, path: str, operation: str
) -> None:
    """Their texts are not sent, even if those of chats are."""
    upstream.script(answer(200, {"choices": [{"text": "a", "finish_reason": "stop"}], "results": []}))
    client = await gateway(f"{settings}content = true\n")
    async with client.post(f"/v1/{path}", json={"model": "m", "input": QUESTION, "prompt": QUESTION}) as response:
        assert response.status == 200
    spans = await collector.until(2)
    (server,), (attempt,) = of_kind(spans, SERVER), of_kind(spans, CLIENT)
    assert server.name == f"POST /v1/{path}"
    assert attempt.name == f"{operation} m"
    assert attempt.attributes["gen_ai.operation.name"] == operation
    assert attempt.attributes["gen_ai.request.stream"] is False
    assert QUESTION not in str([span.attributes for span in spans])


async def test_parts_of_tokens_are_told(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    details: dict[str, Any] = {
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    upstream.script(stream(delta("Hi"), finish(), usage(prompt_tokens=7, completion_tokens=4, **details), DONE))
    await ask(await gateway(settings))
    (attempt,) = of_kind(await collector.until(2), CLIENT)
    assert attempt.attributes["gen_ai.usage.cache_read.input_tokens"] == 5
    assert attempt.attributes["gen_ai.usage.reasoning.output_tokens"] == 3


# The context


async def test_the_trace_of_the_client_goes_on(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    upstream.script(OK)
    client = await gateway(settings)
    await asked(client, "/chat", traceparent=SAMPLED, tracestate="a=b,c=d")
    spans = await collector.until(2)
    (server,), (attempt,) = of_kind(spans, SERVER), of_kind(spans, CLIENT)
    assert (server.trace_id, server.parent_id) == (TRACE, PARENT)
    assert {span.trace_state for span in spans} == {"a=b,c=d"}
    sent = upstream.requests[0].headers
    assert sent["traceparent"] == f"00-{TRACE}-{attempt.span_id}-01"
    assert sent["tracestate"] == "a=b,c=d"


async def test_several_fields_of_a_context(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    """Several `tracestate` are one list. Two `traceparent` are not valid."""
    upstream.script(OK)
    client = await gateway(settings)
    fields = [("Accept", "text/event-stream"), ("traceparent", SAMPLED), ("tracestate", "a=b"), ("tracestate", "c=d")]
    for headers in (fields, [*fields, ("traceparent", SAMPLED)]):
        async with client.get("/chat?q=hi", headers=headers) as response:
            await response.read()
    spans = await collector.until(4)
    assert [span.trace_state for span in spans if span.trace_id == TRACE] == ["a=b,c=d"] * 2
    assert {span.trace_state for span in spans if span.trace_id != TRACE} == {""}


async def test_what_the_client_does_not_sample_is_not_sent(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    """The upstream hears the same decision."""
    upstream.script(OK)
    client = await gateway(settings)
    await asked(client, "/chat", traceparent=UNSAMPLED)
    await asked(client, "/chat", traceparent=SAMPLED)
    assert {span.trace_id for span in await collector.until(2)} == {TRACE}
    assert upstream.requests[0].headers["traceparent"].startswith(f"00-{TRACE}-")
    assert upstream.requests[0].headers["traceparent"].endswith("-00")


@pytest.mark.parametrize(
    "field",
    [
        SAMPLED.upper(),
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}",
        "x" * 10_000,
        "",
    ],
)
async def test_a_context_that_is_not_valid_begins_another_trace(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str, field: str
) -> None:
    upstream.script(OK)
    client = await gateway(settings)
    await asked(client, "/chat", traceparent=field, tracestate="a=b")
    (server,) = of_kind(await collector.until(2), SERVER)
    assert server.trace_id != TRACE
    assert (server.parent_id, server.trace_state) == ("", "")


async def test_a_ratio_decides_on_traces_that_begin_here(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    upstream.script(OK)
    client = await gateway(f"{settings}sample_ratio = 0\n")
    await asked(client, "/chat")
    await asked(client, "/chat", traceparent=SAMPLED)
    assert {span.trace_id for span in await collector.until(2)} == {TRACE}


async def test_without_an_endpoint_the_upstream_hears_of_no_trace(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """A client's fields are passed to nobody."""
    upstream.script(OK)
    client = await gateway()
    for path in ("/chat", "/v1/chat/completions"):
        await asked(client, path, traceparent=SAMPLED, tracestate="a=b")
    for request in upstream.requests:
        assert not {"traceparent", "tracestate"} & set(request.headers)


# Attempts, failures, and other requests


async def test_each_attempt_has_a_span(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    upstream.script(answer(500, {"error": {"message": QUESTION}}), OK)
    targets = '[{upstream = "up", model = "one"}, {upstream = "up", model = "two"}]'
    models = f'[retry]\nattempts = 2\nbackoff_seconds = 0.001\n[[models]]\nname = "m"\ntargets = {targets}\n'
    client = await gateway(settings + models + "[breaker]\nfailures = 1\n")
    await ask(client, model="m")
    spans = await collector.until(3)
    (server,) = of_kind(spans, SERVER)
    failed, good = sorted(of_kind(spans, CLIENT), key=lambda span: span.name)
    assert (failed.name, good.name) == ("chat one", "chat two")
    assert {failed.parent_id, good.parent_id} == {server.span_id}
    assert (failed.status, failed.attributes["error.type"]) == (ERROR, "upstream_error")
    assert (good.status, server.status) == (0, 0)
    sent = [request.headers["traceparent"].split("-")[2] for request in upstream.requests]
    assert sent == [failed.span_id, good.span_id]


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
async def test_a_failure_is_an_error_of_both_spans(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str, path: str
) -> None:
    upstream.script(stream(delta("Hel")))
    client = await gateway(settings)
    await asked(client, path)
    spans = await collector.until(2)
    assert [span.status for span in spans] == [ERROR, ERROR]
    assert {span.attributes["error.type"] for span in spans} == {"upstream_incomplete"}


async def test_an_attempt_that_is_outrun_is_no_error(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    upstream.script(stream(Stall()), OK)
    targets = '[{upstream = "up", model = "one"}, {upstream = "up", model = "two"}]'
    models = f'[retry]\nattempts = 2\n[[models]]\nname = "m"\nhedge_seconds = 0.01\ntargets = {targets}\n'
    client = await gateway(settings + models)
    await ask(client, model="m")
    slow, fast = sorted(of_kind(await collector.until(3), CLIENT), key=lambda span: span.name)
    assert (slow.status, slow.attributes["gateway.cancelled"]) == (0, "outrun")
    assert fast.attributes["gateway.end_reason"] == "complete"


async def test_a_stream_that_is_stopped_and_the_request_that_stops_it(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    client = await gateway(settings)
    async with client.get("/chat?q=hi", headers=EVENTS) as response:
        start = await start_of(response)
        async with client.delete(f"/streams/{start['stream']}?ticket={start['ticket']}") as stopped:
            assert stopped.status == 204
        await response.read()
    spans = await collector.until(3)
    by_name = {span.name: span for span in spans}
    assert by_name["DELETE /streams/{id}"].attributes["gateway.stream.id"] == start["stream"]
    assert by_name["chat default-model"].attributes["gateway.end_reason"] == "stopped"
    assert by_name["chat default-model"].parent_id == by_name["GET /chat"].span_id


async def test_a_stream_with_an_address_and_its_viewer(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    """The attempt belongs to the request that started the stream, which has ended before. No span has the ticket."""
    upstream.script(OK)
    client = await gateway(settings)
    made = await create(client)
    await watched(client, made["url"])
    spans = {span.name: span for span in await collector.until(3)}
    assert spans["chat default-model"].parent_id == spans["POST /streams"].span_id
    assert spans["GET /streams/{id}"].attributes["gateway.stream.id"] == made["id"]
    assert spans["GET /streams/{id}"].links == [spans["POST /streams"].span_id]
    assert spans["GET /streams/{id}"].attributes["url.path"] == f"/streams/{made['id']}"
    assert not any(made["ticket"].encode() in body for body in collector.bodies)


async def test_a_refusal_is_a_span_and_other_requests_are_none(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    client = await gateway(settings)
    for path in ("/healthz", "/metrics", "/", "/no/such/path", "/chat?q="):
        async with client.get(path) as response:
            await response.read()
    (refused,) = await collector.until(1)
    assert (refused.name, refused.attributes["http.response.status_code"]) == ("GET /chat", 400)
    assert refused.status == 0  # by the conventions, a fault of the client is none of a server


async def test_the_log_has_the_trace(
    gateway: MakeGateway,
    upstream: ScriptedUpstream,
    collector: Collector,
    settings: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream.script(OK)
    with caplog.at_level(logging.INFO):
        await asked(await gateway(settings), "/chat", traceparent=SAMPLED)
        await collector.until(2)
    assert [record.trace_id for record in access_records(caplog)] == [TRACE]


# What is sent


async def test_spans_hold_no_content_and_no_key(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str, overheard: Overheard
) -> None:
    """Neither those of callers, nor those of upstreams, nor texts of failures."""
    said = "an answer that nobody else may read"
    upstream.script(stream(delta(said), finish(), DONE), answer(400, {"error": {"message": said}}))
    caller = "a-key-for-this-test-alone"
    client = await gateway(f'{settings}[[keys]]\nname = "team"\nkey = "{caller}"\n')
    await asked(client, "/chat", **bearer(caller))
    async with client.post("/v1/chat/completions", json={"messages": []}, headers=bearer(caller)) as response:
        assert response.status == 400
    await collector.until(4)
    for body in collector.bodies:
        overheard.hear("the collector", body)
        assert said.encode() not in body
        assert QUESTION.encode() not in body
        assert caller.encode() not in body


async def test_content_is_sent_if_it_is_asked_for(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    """Not of traces that are not sampled. Never a key."""
    upstream.script(stream(delta("Hel"), delta("lo " + "x" * 20_000), finish(), DONE))
    client = await gateway(f"{settings}content = true\n")
    parts = [{"type": "text", "text": QUESTION}, {"type": "image_url", "image_url": {"url": "data:a-picture"}}]
    async with client.post("/chat", json={"messages": [{"role": "user", "content": parts}]}) as response:
        assert response.status == 200
        await response.read()
    (attempt,) = of_kind(await collector.until(2), CLIENT)
    assert json.loads(attempt.attributes["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": QUESTION}, {"type": "image_url"}]}
    ]
    assert attempt.attributes["gen_ai.output.messages"].startswith('[{"role":"assistant","parts":[')
    assert '"content":"Hello xxx' in attempt.attributes["gen_ai.output.messages"]
    assert len(attempt.attributes["gen_ai.output.messages"]) == 16_384
    assert not any(KEY.encode() in body for body in collector.bodies)


async def test_the_service_and_the_fields_for_the_collector(
    gateway: MakeGateway, upstream: ScriptedUpstream, collector: Collector, settings: str
) -> None:
    upstream.script(OK)
    client = await gateway(f'{settings}service_name = "chat"\nheaders = {{Authorization = "Bearer otlp-token"}}\n')
    await ask(client)
    spans = await collector.until(2)
    assert {span.resource["service.name"] for span in spans} == {"chat"}
    assert collector.headers[0]["authorization"] == "Bearer otlp-token"


# A collector that is away


async def test_the_log_tells_each_change_of_a_collector_once(
    gateway: MakeGateway,
    upstream: ScriptedUpstream,
    collector: Collector,
    settings: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Streams go on. Nothing else is in the log, and no traceback."""
    upstream.script(OK)
    client = await gateway(settings)
    collector.status = 400
    for number in (1, 2, 3):
        assert (await ask(client)).end["reason"] == "complete"
        await eventually(partial(collector.has_refused, number))
    collector.status = 200
    await ask(client)
    await eventually(lambda: len(warnings(caplog)) == 2)
    await client.close()
    ceased, again = warnings(caplog)
    assert ceased == "the collector of traces does not take them; they are lost until it does"
    assert again.startswith("the collector takes traces again; ")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_collector_that_refuses_connections_is_told_like_any_other(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No traceback, and no address: the endpoint may be a secret of the operator."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    with refusing() as port:
        endpoint = f'[traces]\nendpoint = "http://127.0.0.1:{port}"\n'
        client = await gateway(endpoint, bounds=Bounds(export_seconds=0.1))
        upstream.script(OK)
        await ask(client)
        await eventually(lambda: len(warnings(caplog)) == 1)
        await client.close()
    assert warnings(caplog) == ["the collector of traces does not take them; they are lost until it does"]


async def test_a_stop_waits_only_so_long_for_a_collector(
    gateway: MakeGateway,
    upstream: ScriptedUpstream,
    collector: Collector,
    settings: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upstream.script(OK)
    client = await gateway(settings, bounds=Bounds(traces_seconds=0.1))
    collector.answers.clear()
    await ask(client)
    async with asyncio.timeout(2):
        await client.close()
    assert warnings(caplog) == ["the last traces were not taken in time, and are lost"]


async def test_a_stop_sends_the_last_spans(
    gateway: MakeGateway,
    upstream: ScriptedUpstream,
    collector: Collector,
    settings: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    upstream.script(stream(delta("Hel"), Stall()))
    client = await gateway(settings)
    async with client.get("/chat?q=hi", headers=EVENTS) as response:
        await response.content.readuntil(b"Hel\n")
        await client.server.close()
        await response.read()
    (attempt,) = of_kind(collector.spans, CLIENT)
    assert attempt.attributes["gateway.end_reason"] == "shutting_down"
    assert len(of_kind(collector.spans, SERVER)) == 1


# Without the packages, and without an endpoint


async def test_without_the_packages_the_gateway_serves_and_says_so(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "gateway.observe.traces", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    upstream.script(OK)
    client = await gateway('[traces]\nendpoint = "http://127.0.0.1:9"\n')
    assert (await ask(client)).end["reason"] == "complete"
    (told,) = warnings(caplog)
    assert told.endswith("pip install 'gateway[otel]'")


def test_without_an_endpoint_the_packages_are_not_loaded() -> None:
    code = "import sys, gateway.cli, gateway.app; print([m for m in sys.modules if m.startswith('opentelemetry')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
