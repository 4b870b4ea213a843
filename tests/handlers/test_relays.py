"""The other endpoints of upstreams over real sockets: embeddings, text completions, moderations and ranks."""

import json
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import pytest

from gateway.endpoints import Endpoint
from tests.conftest import Client, MakeGateway
from tests.rig.clients import bearer, error_of, eventually, leave, send
from tests.rig.completions import HI, JSON, Body, read
from tests.rig.inside import at_rest
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
    answer,
    event,
    head,
    stream,
)

# For each endpoint: a request, an answer to the byte, and the tokens that it tells
RELAYED: dict[str, tuple[dict[str, Any], bytes, tuple[int, int]]] = {
    "embeddings": (
        {"input": ["a", "é"], "encoding_format": "float", "dimensions": 2},
        b'{ "object":"list","data":[{"object":"embedding","index":0,"embedding":[0.10,-1e-7]}],\n'
        b'"model":"m-1","usage":{"prompt_tokens":8,"total_tokens":8}, "x":"\xc3\xa9" }',
        (8, 0),
    ),
    "completions": (
        {"prompt": "Once", "max_tokens": 5},
        b'{"id":"cmpl-1","object":"text_completion","created":7,"model":"m-1",'
        b'"choices":[{"text":" upon \\u00e9","index":0,"logprobs":null,"finish_reason":"length"}],\n'
        b'"usage":{"prompt_tokens":1,"completion_tokens":5,"total_tokens":6}}',
        (1, 5),
    ),
    "moderations": (
        {"input": "x" * 40},
        b'{"id":"modr-1","model":"m-1","results":[{"flagged": false,"category_scores":{"hate":1.0e-5}}]}',
        (0, 0),
    ),
    "rerank": (
        {"query": "a", "documents": ["b", "c"], "top_n": 1},
        b'{"id":"r-1","model":"m-1","results":[{"index":1,"relevance_score":0.90}],"usage":{"total_tokens":15}}',
        (15, 0),
    ),
}
VALUES = [name for name in RELAYED if name != "completions"]

every = pytest.mark.parametrize("name", RELAYED)
values = pytest.mark.parametrize("name", VALUES)


def post(client: Client, name: str, body: object = None, **headers: str) -> Any:
    body = {"model": "m", **RELAYED[name][0]} if body is None else body
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(f"/v1/{name}", data=BytesIO(data), headers={**JSON, **headers})


def model(name: str, more: str = "") -> str:
    return f'[[models]]\nname = "{name}"\ntargets = [{{upstream = "up", model = "m-{name}"}}]\n{more}\n'


# What passes


@every
async def test_an_answer_passes_to_the_byte(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str, lines: list[dict[str, Any]]
) -> None:
    fields, whole, (taken, said) = RELAYED[name]
    upstream.script(answer(200, whole))
    async with post(await gateway(), name) as response:
        assert await response.read() == whole
        assert response.status == 200
        assert response.content_type == "application/json"
        assert response.headers["Content-Length"] == str(len(whole))
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Request-ID"]
        assert response.headers["X-Gateway-Attempts"] == "1"
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", f"/v1/{name}")
    assert request.json == {"model": "m", **fields}
    assert request.headers["authorization"] == "bearer key-of-the-upstream"
    assert request.headers["accept"] == "application/json"
    (line,) = lines
    record = line["stream"]
    assert (record["end"], record["operation"]) == ("complete", Endpoint(name).operation)
    assert (record["target"], record["model_asked"], record["model"]) == ("up/m", "m", "m-1")
    if taken:
        assert (record["input_tokens"], record.get("output_tokens", 0)) == (taken, said)
    assert record.get("tokens_estimated", False) is (not taken)
    assert "finish_missing" not in record
    assert "skipped" not in record


@every
async def test_the_model_is_the_targets_and_the_rest_is_what_came(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(answer(200, RELAYED[name][1]))
    client = await gateway(model("small"))
    sent = b'{"model":"small","input":[1, 2],"x":{"y": 1e400 },"seed":123456789012345678901234567890,"input":"\\u00e9"}'
    async with post(client, name, sent) as response:
        assert response.status == 200
    assert upstream.requests[0].body == (
        b'{"model":"m-small","input":"\\u00e9","x":{"y": 1e400 },"seed":123456789012345678901234567890}'
    )


@values
async def test_values_are_whole_whatever_is_asked_for(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str
) -> None:
    fields, whole, _ = RELAYED[name]
    upstream.script(answer(200, whole))
    asked = {"model": "m", **fields, "stream": True, "stream_options": {"x": 1}}
    async with post(await gateway(), name, asked) as response:
        assert await response.read() == whole
    assert upstream.requests[0].json == asked


ODD_VALUES: dict[str, tuple[bytes, bytes]] = {
    "a bare list": (b'[{"index": 0, "score": 0.5}, {"index": 1}]', b'[{"index": 0, "score": 0.5}, {"index": 1}]'),
    "a list of one": (b'[ {"index":0}]', b'[ {"index":0}]'),
    "an empty list": (b"[]", b"[]"),
    "no values": (b'{"data": [] }', b'{"data": [] }'),
    "unknown fields": (b'{"rankings": [1.0]}', b'{"rankings": [1.0]}'),
    "a null error": (b'{"error": null, "data": [1] }', b'{"error": null, "data": [1] }'),
    "fields of other types": (b'{"model": 7, "usage": [], "data": [1] }', b'{"model": 7, "usage": [], "data": [1] }'),
    "a mark": (b'\xef\xbb\xbf\n{"data": [1] }', b'{"data": [1] }'),
    "NaN": (b'{"data": [NaN, 1.5]}', b'{"data":[null,1.5]}'),
    "bytes that are not UTF-8": (b'{"data": ["\xff"] }', b'{"data": ["\xef\xbf\xbd"] }'),
    "a lone surrogate": (b'{"data": ["\\ud800"]}', b'{"data":["\xef\xbf\xbd"]}'),
}


@pytest.mark.parametrize("case", ODD_VALUES)
async def test_odd_values_pass_as_long_as_they_are_json(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    said, passed = ODD_VALUES[case]
    upstream.script(answer(200, said))
    async with post(await gateway(), "rerank") as response:
        assert response.status == 200
        assert await response.read() == passed


USAGES: dict[str, tuple[dict[str, Any], int]] = {
    "all tokens alone": ({"usage": {"total_tokens": 9}}, 9),
    "Cohere's": ({"meta": {"billed_units": {"search_units": 1, "input_tokens": 7}}}, 7),
    "two counts of Cohere's": ({"meta": {"tokens": {"input_tokens": 6}, "billed_units": {"input_tokens": 7}}}, 6),
    "zeros": ({"usage": {"prompt_tokens": 0, "total_tokens": 4}}, 4),
}


@pytest.mark.parametrize("case", USAGES)
async def test_usage_is_counted_where_it_is_told(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str, lines: list[dict[str, Any]]
) -> None:
    told, tokens = USAGES[case]
    upstream.script(answer(200, {"results": [], **told}))
    async with post(await gateway(), "rerank") as response:
        assert response.status == 200
    (line,) = lines
    assert line["stream"]["input_tokens"] == tokens
    assert "tokens_estimated" not in line["stream"]


async def test_an_answer_of_megabytes_passes(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """More than `stream.max_bytes`, which bounds what is recorded."""
    whole = b'{"data":[' + b"0.12345678901," * 700_000 + b"1]}"
    upstream.script(answer(200, whole))
    async with post(await gateway(), "embeddings") as response:
        assert await response.read() == whole


# Which model


async def test_the_default_is_the_first_model_with_the_endpoint(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """An assistant is for chats and decides on no other endpoint."""
    upstream.script(answer(200, RELAYED["embeddings"][1]))
    client = await gateway(
        model("talks", 'endpoints = ["chat/completions"]')
        + model("embeds", 'endpoints = ["embeddings"]')
        + '[assistants.default]\nmodel = "talks"\n'
    )
    async with post(client, "embeddings", {"input": "a"}) as response:
        assert response.status == 200
    assert upstream.requests[0].json["model"] == "m-embeds"


async def test_without_models_the_default_is_that_of_the_environment(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(answer(200, RELAYED["embeddings"][1]))
    async with post(await gateway(), "embeddings", {"input": "a"}) as response:
        assert response.status == 200
    assert upstream.requests[0].json["model"] == "default-model"


async def test_a_moderation_needs_no_model(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    """OpenAI's clients name none, and its server has a default."""
    upstream.script(answer(200, RELAYED["moderations"][1]))
    client = await gateway()
    for body in ({"input": "a"}, {}):
        async with post(client, "moderations", body) as response:
            assert response.status == 200
        assert upstream.requests[-1].json == body
    assert "model_asked" not in lines[0]["stream"]
    async with client.get("/metrics") as response:
        assert response.status == 200


# Who may ask

KEYS = '[[keys]]\nname = "one"\nkey = "gw-key-of-one-0123456789"\n'
KEY = bearer("gw-key-of-one-0123456789")


@every
async def test_a_key_is_needed_and_its_models_hold(gateway: MakeGateway, upstream: ScriptedUpstream, name: str) -> None:
    upstream.script(answer(200, RELAYED[name][1]))
    client = await gateway(model("a") + model("b") + KEYS + 'models = ["b"]\n')
    async with post(client, name, {"model": "b"}) as response:
        assert await error_of(response) == (401, "invalid_api_key")
    for body in ({"model": "a"}, {}):
        async with post(client, name, body, **KEY) as response:
            assert await error_of(response) == (404, "model_not_found")
    assert not upstream.requests
    async with post(client, name, {"model": "b"}, **KEY) as response:
        assert response.status == 200


async def test_a_key_with_models_asks_no_model_that_the_upstream_chooses(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    client = await gateway(KEYS + 'models = ["b"]\n')
    async with post(client, "moderations", {"input": "a"}, **KEY) as response:
        assert await error_of(response) == (404, "model_not_found")


@every
async def test_requests_are_limited(gateway: MakeGateway, upstream: ScriptedUpstream, name: str) -> None:
    upstream.script(answer(200, RELAYED[name][1]))
    client = await gateway(KEYS + "requests_per_minute = 1\n")
    async with post(client, name, **KEY) as response:
        assert response.status == 200
        assert response.headers["x-ratelimit-remaining-requests"] == "0"
    async with post(client, name, **KEY) as response:
        assert await error_of(response) == (429, "rate_limit_exceeded")
        assert int(response.headers["Retry-After"]) <= 60
    assert len(upstream.requests) == 1


@every
async def test_tokens_are_reserved_and_settled_by_usage(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str
) -> None:
    """The reservation is of the prompt's size, and for an answer only where a model writes one."""
    fields, whole, (taken, said) = RELAYED[name]
    upstream.script(answer(200, whole))
    client = await gateway(KEYS + "tokens_per_minute = 10_000\n")
    text = {"moderations": "input", "rerank": "query", "embeddings": "input", "completions": "prompt"}[name]
    async with post(client, name, {**fields, text: "x" * 8000}, **KEY) as response:
        assert response.status == 200
        reserved = 10_000 - int(response.headers["x-ratelimit-remaining-tokens"])
        assert 2000 <= reserved < 2050
    await at_rest(client)
    async with post(client, name, {"model": "m", text: ""}, **KEY) as response:
        left = int(response.headers["x-ratelimit-remaining-tokens"])
    spent = taken + said or reserved  # no usage: the estimate stays
    assert 10_000 - spent - 270 <= left <= 10_000 - spent


async def test_each_prompt_reserves_answers_of_its_own(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, RELAYED["completions"][1]))
    client = await gateway(KEYS + "tokens_per_minute = 10_000\n")
    asked = {"model": "m", "prompt": ["a", "b"], "max_tokens": 100, "n": 2, "best_of": 3}
    async with post(client, "completions", asked, **KEY) as response:
        assert 10_000 - 620 < int(response.headers["x-ratelimit-remaining-tokens"]) <= 10_000 - 600


# Which endpoints a model has

FEW = model("talks", 'endpoints = ["chat/completions", "responses"]') + model("embeds", 'endpoints = ["embeddings"]')


@every
async def test_a_model_without_the_endpoint_is_not_asked(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str
) -> None:
    client = await gateway(FEW)
    async with post(client, name, {"model": "talks"}) as response:
        words = (await response.json())["error"]["message"]
        assert words == f"talks has no {name}. It can be asked at: chat/completions, responses."
        assert (await response.json())["error"]["param"] == "model"
        assert await error_of(response) == (400, "endpoint_not_supported")
    assert not upstream.requests


async def test_a_model_may_have_chats_and_no_responses(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway(model("talks", 'endpoints = ["chat/completions"]'))
    async with client.post("/v1/responses", json={"model": "talks", "input": "hi"}) as response:
        assert "talks has no responses" in (await response.json())["error"]["message"]
        assert await error_of(response) == (400, "endpoint_not_supported")
    assert not upstream.requests


async def test_a_key_of_idempotency_is_for_chats(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Values are not recorded: each request is one."""
    upstream.script(answer(200, RELAYED["embeddings"][1]))
    client = await gateway()
    for _ in range(2):
        async with post(client, "embeddings", **{"Idempotency-Key": "a-key-of-this-test"}) as response:
            assert response.status == 200
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat", "/streams"])
async def test_a_model_without_chats_is_not_asked_there(
    gateway: MakeGateway, upstream: ScriptedUpstream, path: str
) -> None:
    client = await gateway(FEW)
    async with client.post(path, json={**HI, "model": "embeds"}) as response:
        assert "embeds has no chat/completions" in (await response.json())["error"]["message"]
        assert await error_of(response) == (400, "endpoint_not_supported")
    async with client.get("/playground/offer.json") as response:
        assert (await response.json())["models"] == ["talks"]
    assert not upstream.requests


@every
@pytest.mark.parametrize(
    "said",
    [answer(404, b"404 page not found", "text/plain"), answer(404, {"detail": "Not Found"}), answer(405, b"")],
    ids=["text", "json", "method"],
)
async def test_an_upstream_without_the_path_is_the_operators_trouble(
    gateway: MakeGateway,
    upstream: ScriptedUpstream,
    name: str,
    said: Sequence[Step],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And it does not keep the target from those who chat with it."""

    def script(request: Received) -> Sequence[Step]:
        return said if request.path == f"/v1/{name}" else answer(200, {"choices": [{"message": {"content": "a"}}]})

    upstream.script(script)
    client = await gateway("[breaker]\nfailures = 1\n" + model("m"))
    for _ in range(2):
        async with post(client, name) as response:
            assert await error_of(response) == (502, "upstream_misconfigured")
            assert response.headers["X-Should-Retry"] == "false"
    assert (f"it has no `/{name}`: leave that out of the `endpoints`" in caplog.text) is ("405" not in str(said))
    async with client.post("/v1/chat/completions", json=HI) as response:
        assert response.status == 200
    async with client.get("/metrics") as response:
        text = await response.text()
    assert 'gateway_target_available{target="up/m-m"} 1.0' in text
    assert f'gateway_target_available{{target="up/m-m ({name})"}} 0.0' in text


# What fails

WORDS = {"error": {"message": "Too long by 7 tokens.", "code": "too_long", "param": "input"}}
STATUSES: dict[str, tuple[Sequence[Step], int, str]] = {
    **{f"{n}": (answer(n, WORDS), n, "too_long") for n in (400, 404, 413, 422)},
    **{f"{n}": (answer(n, WORDS), 502, "upstream_misconfigured") for n in (401, 403)},
    "429": (answer(429, WORDS, Retry_After="7"), 429, "upstream_rate_limited"),
    "500": (answer(500, {"error": {"message": "key-of-the-upstream at http://10.0.0.1/v1"}}), 502, "upstream_error"),
    "an error in a 200": (answer(200, {"error": {"message": "boom"}}), 502, "upstream_error"),
    "an error in a list": (answer(200, [{"error": {"message": "boom"}}]), 502, "upstream_error"),
    "FastAPI's": (answer(200, {"detail": "boom"}), 502, "upstream_error"),
    "words alone": (answer(200, {"object": "error", "message": "boom"}), 502, "upstream_error"),
    "a web page": ([Send(head(200, "text/html", Content_Length="6") + b"<html>")], 502, "upstream_misconfigured"),
    "nothing": (answer(200, b""), 502, "upstream_incomplete"),
    "an empty object": (answer(200, {}), 502, "upstream_empty"),
    "prose": (answer(200, b"Hello"), 502, "upstream_error"),
    "a stream": (stream(event({"choices": [{"text": "a"}]}), DONE), 502, "upstream_error"),
    "a body that breaks off": (
        [Send(head(200, "application/json", Content_Length="99") + b'{"data":[{"x":1}]}'), Close()],
        502,
        "upstream_incomplete",
    ),
    "a body that ends too early": (answer(200, b'{"data":[{"x":1}'), 502, "upstream_incomplete"),
    "a reset": ([Send(head(200, "application/json", Content_Length="99") + b'{"data":'), Reset()], 502, ""),
}


@every
@pytest.mark.parametrize("case", STATUSES)
async def test_what_fails_is_a_status(gateway: MakeGateway, upstream: ScriptedUpstream, name: str, case: str) -> None:
    script, status, code = STATUSES[case]
    upstream.script(script)
    async with post(await gateway(), name) as response:
        told = await response.text()
        found, said = await error_of(response)
        assert found == status
        assert said == (code or said)
        assert response.headers.get("Retry-After") == ("7" if status == 429 else None)
    assert ("Too long by 7 tokens." in told) is (status in (400, 404, 413, 422, 429))
    assert "key-of-the-upstream" not in told
    assert "10.0.0.1" not in told
    assert len(upstream.requests) == 1


@every
async def test_only_the_total_time_holds(gateway: MakeGateway, upstream: ScriptedUpstream, name: str) -> None:
    upstream.script([Pause(0.3), *answer(200, RELAYED[name][1])], [Stall()])
    client = await gateway("[timeouts]\nfirst_token = 0.1\nidle = 0.1\ntotal = 0.6")
    async with post(client, name) as response:
        assert response.status == 200
    async with post(client, name) as response:
        assert await error_of(response) == (504, "total_timeout")
    await upstream.until(left=1, within=1)


@every
async def test_a_client_that_leaves_stops_the_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str, lines: list[dict[str, Any]]
) -> None:
    upstream.script([Send(head(200, "application/json", Content_Length="99") + b'{"data":'), Stall()])
    client = await gateway()
    header = f"POST /v1/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer = await send(client, f'{header}Content-Length: 13\r\n\r\n{{"model":"m"}}')
    await upstream.until(requests=1)
    leave(writer, "fin")
    await upstream.until(left=1, within=1)
    await at_rest(client)
    await eventually(lambda: bool(lines))
    assert (lines[0]["status"], lines[0]["stream"]["end"]) == (499, "client_gone")


TWO = """
[retry]
attempts = 3
backoff_seconds = 0.001
[[models]]
name = "m"
targets = [{upstream = "up", model = "one"}, {upstream = "up", model = "two"}]
"""


@every
async def test_another_target_answers_in_place_of_one_that_fails(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str, lines: list[dict[str, Any]]
) -> None:
    whole = RELAYED[name][1]
    broken: list[Step] = [Send(head(200, "application/json", Content_Length="99") + b'{"data":'), Close()]
    upstream.script(answer(500, {}), broken, answer(200, whole))
    async with post(await gateway(TWO), name) as response:
        assert await response.read() == whole
        assert response.headers["X-Gateway-Attempts"] == "3"
    assert [request.json["model"] for request in upstream.requests] == ["one", "one", "two"]
    assert {request.path for request in upstream.requests} == {f"/v1/{name}"}
    (line,) = lines
    assert line["stream"]["target"] == "up/two"
    assert [failed["error"] for failed in line["stream"]["failed"]] == ["upstream_error", "upstream_incomplete"]


@every
async def test_a_mistake_of_the_caller_is_not_repeated(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str
) -> None:
    upstream.script(answer(422, WORDS))
    async with post(await gateway(TWO), name) as response:
        assert await error_of(response) == (422, "too_long")
    assert len(upstream.requests) == 1


@every
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_other_methods_are_405(gateway: MakeGateway, name: str, method: str) -> None:
    async with (await gateway()).request(method, f"/v1/{name}") as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"


@every
async def test_what_makes_no_request_asks_nobody(gateway: MakeGateway, upstream: ScriptedUpstream, name: str) -> None:
    client = await gateway()
    for body, status in ((b"{", 400), (b"[]", 400), ({"model": 7}, 400)):
        async with post(client, name, body) as response:
            assert (await error_of(response))[0] == status
    async with post(client, name, **{"Content-Type": "text/plain"}) as response:
        assert await error_of(response) == (415, "media_type_not_supported")
    async with post(client, name, Origin="https://evil.example") as response:
        assert await error_of(response) == (403, "origin_not_allowed")
    assert not upstream.requests


async def test_the_metrics_tell_the_operations_apart(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway()
    for name in RELAYED:
        upstream.script(answer(200, RELAYED[name][1]))
        async with post(client, name) as response:
            assert response.status == 200
    await at_rest(client)
    async with client.get("/metrics") as response:
        text = await response.text()
    for operation in ("embeddings", "text_completion", "moderation", "rerank"):
        labels = f'gen_ai_operation_name="{operation}",gen_ai_provider_name="up",gen_ai_request_model="m"'
        assert f'gen_ai_client_operation_duration_seconds_count{{error_type="",{labels}' in text


# Streamed text completions

PROMPT = {"model": "m", "prompt": "Once", "stream": True}


def part(text: str, finish_reason: str | None = None, **more: Any) -> bytes:
    choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}
    return event(
        {"id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m-1", "choices": [choice], **more}
    )


def usage(**counts: int) -> bytes:
    return event({"id": "cmpl-1", "object": "text_completion", "choices": [], "usage": counts})


WHOLE = [part(" upon"), part(" é👍"), part("", "stop")]


async def streamed(client: Client, body: object = PROMPT, **headers: str) -> Body:
    async with post(client, "completions", body, **headers) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        return await read(response)


async def test_a_stream_passes_to_the_byte(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    parts = [
        b'data: {"choices" : [{"text":"\\u00e9", "index":0,"logprobs":{"tokens":["\\u00e9"]}}], "y":1.0 }\n\n',
        *WHOLE,
        usage(prompt_tokens=3, completion_tokens=4, total_tokens=7),
    ]
    upstream.script(stream(*parts, DONE))
    body = await streamed(await gateway(), {**PROMPT, "stream_options": {"include_usage": True}})
    assert body == Body(b"".join([*parts, DONE]), broken=False)
    (request,) = upstream.requests
    assert request.path == "/v1/completions"
    assert request.headers["accept"] == "text/event-stream"
    record = lines[0]["stream"]
    assert (record["operation"], record["finish_reason"]) == ("text_completion", "stop")
    assert (record["input_tokens"], record["output_tokens"]) == (3, 4)
    assert record["first_token"] >= 0


async def test_usage_is_asked_for_and_hidden(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    upstream.script(stream(*WHOLE, usage(prompt_tokens=3, completion_tokens=4), DONE))
    assert (await streamed(await gateway())).raw == b"".join([*WHOLE, DONE])
    assert upstream.requests[0].json == {**PROMPT, "stream_options": {"include_usage": True}}
    assert lines[0]["stream"]["output_tokens"] == 4


async def test_without_usage_the_text_is_measured(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    upstream.script(stream(part("x" * 40), part("", "stop"), DONE))
    await streamed(await gateway())
    assert (lines[0]["stream"]["output_tokens"], lines[0]["stream"]["tokens_estimated"]) == (10, True)


async def test_done_is_said_where_the_upstream_forgot_it(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*WHOLE))
    assert await streamed(await gateway()) == Body(b"".join([*WHOLE, DONE]), broken=False)


def several(*finished: int) -> list[bytes]:
    """Four choices: two prompts with two each."""
    parts = [event({"choices": [{"text": f"{index}", "index": index, "finish_reason": None}]}) for index in range(4)]
    return parts + [event({"choices": [{"text": "", "index": index, "finish_reason": "stop"}]}) for index in finished]


async def test_each_choice_of_each_prompt_has_to_end(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    asked = {**PROMPT, "prompt": ["a", "b"], "n": 2}
    client = await gateway()
    upstream.script(stream(*several(0, 1, 2, 3)))
    assert await streamed(client, asked) == Body(b"".join([*several(0, 1, 2, 3), DONE]), broken=False)
    upstream.script(stream(*several(0, 1, 2), Reset()))
    body = await streamed(client, asked)
    assert body.error["code"] == "upstream_incomplete"
    assert b"[DONE]" not in body.raw


async def test_json_where_a_stream_was_asked_for_is_one_chunk(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(
        answer(200, {"object": "text_completion", "choices": [{"text": "é"}], "usage": {"total_tokens": 5}})
    )
    chunk, done = (await streamed(await gateway())).blocks
    assert json.loads(chunk.removeprefix(b"data: ")) == {
        "object": "text_completion",
        "choices": [{"text": "é", "finish_reason": "stop"}],
    }
    assert done == b"data: [DONE]"


async def test_heartbeats_fill_the_silence(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script([Pause(0.25), *stream(part("a"), Pause(0.25), part("", "stop"), DONE)])
    body = await streamed(await gateway("[stream]\nheartbeat_seconds = 0.1"))
    assert body.raw.startswith(b":\n\n:\n\n" + part("a") + b":\n\n")
    assert body.raw.replace(b":\n\n", b"") == part("a") + part("", "stop") + DONE


async def test_what_fails_before_any_text_is_a_status(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    empty = part("")
    upstream.script(
        stream(empty, Pause(0.05), event({"error": {"message": "boom"}})),
        stream(empty, Pause(0.05), Reset()),
        stream(DONE),
        stream(empty, Stall()),
    )
    client = await gateway("[timeouts]\nfirst_token = 0.3")
    for status, code in (
        (502, "upstream_error"),
        (502, "upstream_incomplete"),
        (502, "upstream_empty"),
        (504, "first_token_timeout"),
    ):
        async with post(client, "completions", PROMPT) as response:
            assert await error_of(response) == (status, code)


FAILURES: dict[str, tuple[Sequence[bytes | Step], str]] = {
    "an error": ([event({"error": {"message": "boom"}})], "upstream_error"),
    "an error and [DONE]": ([event({"error": {"message": "boom"}}), DONE], "upstream_error"),
    "an end without a reason": ([], "upstream_incomplete"),
    "a reset": ([Pause(0.05), Reset()], "upstream_incomplete"),
    "a body that breaks off": ([Close()], "upstream_incomplete"),
    "silence": ([Stall()], "idle_timeout"),
    "a reason that means given up": ([part("", "abort"), DONE], "upstream_error"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_what_fails_behind_some_text_is_an_event_and_no_done(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    parts, code = FAILURES[case]
    upstream.script(stream(part("a"), *parts))
    body = await streamed(await gateway("[timeouts]\nidle = 0.3"))
    assert body.error["code"] == code
    assert not body.broken
    assert body.blocks[0] + b"\n\n" == part("a")
    assert b"[DONE]" not in body.raw


async def test_a_failure_behind_a_finish_reason_breaks_the_body_off(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(*WHOLE, event({"error": {"message": "boom"}})))
    body = await streamed(await gateway())
    assert body.raw.startswith(b"".join(WHOLE))
    assert body.error["message"] == "boom"
    assert body.broken


async def test_another_target_answers_before_the_first_text_and_never_after_it(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(part(""), Close()), stream(part(""), Close()), stream(*WHOLE, DONE))
    client = await gateway(TWO)
    assert (await streamed(client, {**PROMPT, "temperature": 0})).raw == b"".join([*WHOLE, DONE])
    upstream.script(stream(part(" upon"), Close()))
    assert (await streamed(client, {**PROMPT, "temperature": 0})).error["code"] == "upstream_incomplete"
    assert len(upstream.requests) == 4


async def test_a_reader_of_a_stream_that_leaves_stops_the_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(part("a"), Stall()))
    client = await gateway()
    async with post(client, "completions", PROMPT) as response:
        assert await response.content.readuntil(b"\n\n") == part("a")
        response.close()
    await upstream.until(left=1, within=1)
    await at_rest(client)


async def test_cut_at_every_byte_nothing_that_is_broken_looks_whole(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The upstream's body breaks off behind each of its bytes. Only what has a finish reason is complete."""
    raw = b"".join([part("a"), part("é👍"), part("", "stop"), DONE])
    finished = len(part("a") + part("é👍") + part("", "stop")) - 1  # with the first of the two line ends
    client = await gateway()
    for cut in range(len(raw)):
        upstream.script(stream(*[raw[:cut]][: bool(cut)], Close()))
        async with post(client, "completions", PROMPT) as response:
            if response.status == 502:
                assert await error_of(response) == (502, "upstream_incomplete")
                assert cut < len(part("a"))
                continue
            body = await read(response)
        if body.raw.endswith(DONE):
            assert cut >= finished
            assert body == Body(raw, broken=False)
        else:
            assert body.error["code"] == "upstream_incomplete"
            assert cut <= finished
            assert b"[DONE]" not in body.raw


async def test_any_cut_between_two_reads_gives_the_same_bytes(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    raw = b"".join([part("a"), part("é👍"), part("", "stop"), DONE])
    client = await gateway()
    for cut in range(1, len(raw), 7):
        upstream.script(stream(raw[:cut], Pause(0.001), raw[cut:]))
        assert (await streamed(client)).raw == raw
