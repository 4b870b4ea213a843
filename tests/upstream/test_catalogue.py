"""`/v1/models` where the configuration names the models: the fields that upstreams list of them, and no dependence."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from gateway.config import Config, Key, Model, Secret, TargetName, Upstream
from gateway.endpoints import Endpoint
from gateway.upstream.catalogue import Catalogue
from gateway.upstream.client import UpstreamClient
from gateway.upstream.redaction import gives_away
from tests.conftest import Client, MakeGateway
from tests.rig.scripted_upstream import Close, ScriptedUpstream, Send, Stall, Step, Until, answer, head

EVERY = {"endpoints": list(Endpoint)}
BASIC = {"object": "model", "created": 0, "owned_by": "gateway", **EVERY}
MODELS = (
    '[[models]]\nname = "fast"\ntargets = [{upstream = "up", model = "org/m-1:free"}]\n'
    '[[models]]\nname = "m-2"\ntargets = [{upstream = "up"}]\n'
    '[[models]]\nname = "far"\ntargets = [{upstream = "other", model = "m-3"}]\n'
)
M_1 = {
    "id": "org/m-1:free",
    "object": "something",
    "created": 1_750_000_000,
    "owned_by": "org",
    "context_length": 131_072,
    "pricing": {"prompt": "0.000001", "steps": [1.0, 1e-7, None, True]},
    "große": "é 😀",
    "count": 123_456_789_012_345_678_901_234_567_890,
}


def other(url: str) -> str:
    return f'{MODELS}[[upstreams]]\nname = "other"\nbase_url = "{url}/v1"\napi_key = "key-of-the-other"\n'


@pytest.fixture
async def second() -> AsyncIterator[ScriptedUpstream]:
    server = ScriptedUpstream()
    await server.start()
    yield server
    await server.stop()


async def listed(client: Client) -> list[dict[str, Any]]:
    async with client.get("/v1/models") as response:
        assert response.status == 200
        value: dict[str, Any] = await response.json()
    assert value["object"] == "list"
    return list(value["data"])


# What is kept


async def test_the_fields_that_an_upstream_lists_are_kept(
    gateway: MakeGateway, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """As they were written, under the name that is configured; in the list and for one model."""
    upstream.script(answer(200, {"object": "list", "data": [{"id": "fast", "x": 1}, M_1, {"id": "not offered"}]}))
    second.script(answer(200, {"data": [{"id": "m-3", "max_model_len": 4096}, {"id": "m-3", "max_model_len": 1}]}))
    client = await gateway(other(second.url))
    models = await listed(client)
    assert models == [
        {**M_1, **EVERY, "id": "fast", "object": "model"},
        {**BASIC, "id": "m-2"},
        {**BASIC, "id": "far", "max_model_len": 4096},
    ]
    for model in models:
        async with client.get(f"/v1/models/{model['id']}") as response:
            assert await response.json() == model
    async with client.get("/v1/models/org/m-1:free") as response:
        assert response.status == 404
    for server, key in ((upstream, "key-of-the-upstream"), (second, "key-of-the-other")):
        (request,) = server.requests
        assert (request.method, request.path) == ("GET", "/v1/models")
        assert request.headers["authorization"] == f"bearer {key}"


async def test_one_model_is_asked_of_its_own_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    second.script(answer(200, {"data": [{"id": "m-3", "x": 1}]}))
    client = await gateway(other(second.url))
    async with client.get("/v1/models/far") as response:
        assert await response.json() == {**BASIC, "id": "far", "x": 1}
    assert not upstream.requests


async def test_upstreams_are_asked_at_the_same_time(
    gateway: MakeGateway, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """Each answers only once the other has been asked, too."""
    both = asyncio.Event()
    upstream.script([Until(both), *answer(200, {"data": [M_1]})])
    second.script([Until(both), *answer(200, {"data": [{"id": "m-3", "x": 1}]})])
    client = await gateway(other(second.url))
    asking = asyncio.ensure_future(listed(client))
    await upstream.until(requests=1)
    await second.until(requests=1)
    both.set()
    assert [len(model) > len(BASIC) + 1 for model in await asking] == [True, False, True]


async def test_callers_that_come_together_ask_once(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """One of them leaves before the answer is there."""
    asked = asyncio.Event()
    upstream.script([Until(asked), *answer(200, {"data": [M_1]})])
    client = await gateway(MODELS.replace('"other"', '"up"'))
    callers = [asyncio.ensure_future(listed(client)) for _ in range(10)]
    await upstream.until(requests=1)
    callers.pop(0).cancel()
    asked.set()
    for models in await asyncio.gather(*callers):
        assert models[0]["context_length"] == 131_072
    assert len(upstream.requests) == 1


# What does not matter

FAILURES: dict[str, Sequence[Step]] = {
    "a refusal": answer(401, {"error": {"message": "no"}}),
    "an error": answer(500, b"oops", "text/plain"),
    "no such path": answer(404, {"detail": "Not Found"}),
    "a page": answer(200, b"<html>", "text/html"),
    "nothing": answer(200, b""),
    "another object": answer(200, {"models": []}),
    "a list of texts": answer(200, {"data": ["m-1", "m-2"]}),
    "no list": answer(200, {"data": {"id": "m-2"}}),
    "nested deeply": answer(200, b'{"data":[' + b"[" * 100_000),
    "not UTF-8": answer(200, b'{"data":[{"id":"m-2","x":"\xff"}]}'),
    "half of a surrogate pair": answer(200, b'{"data":[{"id":"m-2","x":"\\ud83d"}]}'),
    "NaN": answer(200, b'{"data":[{"id":"m-2","x":NaN}]}'),
    "cut": [Send(head(200, "application/json", Content_Length="100") + b'{"data":[{"id":"m-2","x":1}'), Close()],
    "no HTTP": [Send(b"hello\r\n\r\n"), Close()],
    "a close": [Close()],
    "too much": answer(200, b'{"data":[{"id":"m-2","x":"' + b"x" * 5_000_000 + b'"}]}'),
    "an answer in another coding": answer(200, b"\x8b\x02\x80", Content_Encoding="br"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_an_upstream_that_fails_changes_nothing_for_the_others(
    gateway: MakeGateway, upstream: ScriptedUpstream, second: ScriptedUpstream, case: str
) -> None:
    """Its models stand with the fields that every model has, and the log says why."""
    upstream.script(FAILURES[case])
    second.script(answer(200, {"data": [{"id": "m-3", "x": 1}]}))
    client = await gateway(other(second.url))
    assert await listed(client) == [
        {**BASIC, "id": "fast"},
        {**BASIC, "id": "m-2"},
        {**BASIC, "id": "far", "x": 1},
    ]


async def test_an_upstream_that_is_silent_is_not_waited_for(
    gateway: MakeGateway, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """The first caller waits for a moment, the next one does not wait at all."""
    upstream.script([Stall()])
    second.script(answer(200, {"data": [{"id": "m-3", "x": 1}]}))
    client = await gateway(other(second.url))
    async with asyncio.timeout(5):
        assert (await listed(client))[2]["x"] == 1
    async with asyncio.timeout(1):
        assert (await listed(client))[2]["x"] == 1
    assert (len(upstream.requests), len(second.requests)) == (1, 1)


ODD: dict[str, tuple[Any, dict[str, Any]]] = {
    "a bare list, as Together has it": ([{"id": "m-2", "x": 1}], {"x": 1}),
    "rubbish between": ({"data": [7, None, "m-2", [], {}, {"id": 7}, {"id": None}, {"id": "m-2", "x": 1}]}, {"x": 1}),
    "no further field": ({"data": [{"id": "m-2"}]}, {}),
    "other types than SDKs expect": ({"data": [{"id": "m-2", "created": None, "owned_by": ["x"], "x": 1}]}, {"x": 1}),
    "a time with a fraction": ({"data": [{"id": "m-2", "created": 1.5}]}, {}),
    "our names": (
        {"data": [{"id": "m-2", "object": {"x": 1}, "endpoints": ["chat"], "created": 5}]},
        {"created": 5},
    ),
    "a large field beside others": ({"data": [{"id": "m-2", "a": 1, "b": "x" * 20_000, "c": 3}]}, {"a": 1, "c": 3}),
    "nulls": ({"data": [{"id": "m-2", "x": None}]}, {"x": None}),
}


@pytest.mark.parametrize("case", ODD)
async def test_odd_lists(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    value, fields = ODD[case]
    upstream.script(answer(200, value))
    client = await gateway(MODELS.replace('"other"', '"up"'))
    assert (await listed(client))[1] == {**BASIC, "id": "m-2", **fields}


async def test_the_endpoints_of_a_model_are_listed_in_one_order(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Those that are configured, whatever the upstream says."""
    upstream.script(answer(200, {"data": [{"id": "m-2", "endpoints": ["rerank", "chat"], "x": 1}]}))
    rows = '[[models]]\nname = "m-2"\ntargets = [{upstream = "up"}]\nendpoints = ["rerank", "embeddings", "rerank"]\n'
    client = await gateway(rows + '[[models]]\nname = "all"\ntargets = [{upstream = "up"}]\n')
    few, every = await listed(client)
    assert few == {**BASIC, "id": "m-2", "x": 1, "endpoints": ["embeddings", "rerank"]}
    assert every["endpoints"] == list(Endpoint)
    async with client.get("/v1/models/m-2") as response:
        assert await response.json() == few


async def test_the_answer_is_bounded(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Many models with many fields: the first ones have them, and all of them are there."""
    names = [f"model-{number}" for number in range(150)]
    upstream.script(answer(200, {"data": [{"id": name, "x": "x" * 16_000} for name in names]}))
    client = await gateway("".join(f'[[models]]\nname = "{name}"\ntargets = [{{upstream = "up"}}]\n' for name in names))
    models = await listed(client)
    assert [model["id"] for model in models] == names
    assert len(json.dumps(models)) < 1_100_000
    assert [name for name, model in zip(names, models, strict=True) if "x" in model] == names[:65]


# What does not leave


async def test_fault_77_no_field_gives_away_the_upstream(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither its key nor its address, in no depth; whether its models are configured or not."""
    caplog.set_level(logging.DEBUG)
    telling = {
        "key": "key-of-the-upstream",
        "deep": [{"x": "Bearer key-of-the-upstream!"}],
        "key-of-the-upstream": 1,
        "address": f"{upstream.url}/v1/models",
        "host": "at 127.0.0.1",
        "escaped": f"{upstream.url}/v1".replace("/", "\\/"),
    }
    upstream.script(answer(200, {"data": [{"id": "m-2", **telling, "x": 1}]}))
    client = await gateway(MODELS.replace('"other"', '"up"'))
    assert (await listed(client))[1] == {**BASIC, "id": "m-2", "x": 1}
    assert await listed(await gateway()) == [{"id": "m-2", "x": 1, **EVERY}]
    assert "key-of-the-upstream" not in caplog.text


WORDS = [
    # the upstream's address, what a field says, whether that gives it away
    ("http://vllm:8000/v1", '{"owned_by":"vllm"}', False),
    ("http://vllm:8000/v1", '{"x":"http://vllm/"}', True),
    ("http://vllm:8000/v1", '{"x":"http:\\/\\/VLLM\\/"}', True),
    ("http://vllm:8000/v1", '{"x":"vllm:8000"}', True),
    ("http://vllm/v1", '{"x":"vllm:8000"}', False),
    ("https://API.example.com/v1", '{"x":"See api.example.com."}', True),
    ("https://api.example.com/v1", '{"x":"https://example.com/"}', False),
    ("http://[fd00::7]:80/v1", '{"x":"fd00::7"}', True),
    ("http://h/v1", '{"x":"ah:1 // h"}', False),
    ("http://h/v1", '{"x":"a \\"secret\\" value\\\\"}', True),
    ("http://h/v1", '{"x":"a secret value"}', False),
    ("http://h/v1", '{"x":"a-key-of-ours"}', True),
]


@pytest.mark.parametrize(("address", "text", "expected"), WORDS)
def test_fault_77_what_gives_an_upstream_away(address: str, text: str, expected: bool) -> None:
    upstream = Upstream("up", address, Secret("a-key-of-ours"), {"x-custom": Secret('a "secret" value\\')})
    assert gives_away(text, upstream) == expected


# When it is asked again


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
async def catalogue(upstream: ScriptedUpstream, clock: Clock) -> AsyncIterator[Catalogue]:
    config = Config(
        upstreams=[Upstream("up", f"{upstream.url}/v1")],
        models=[Model("m", [TargetName("up", "m-1")])],
        keys=[Key("k", key=Secret("a-key-of-somebody"), models=["m"])],
    )
    client = UpstreamClient(config.upstreams)
    catalogue = Catalogue(client.models, config, clock)
    yield catalogue
    await catalogue.close()
    await client.close()


async def field(catalogue: Catalogue) -> int | None:
    (model,) = await catalogue.models(["m"])
    return json.loads(bytes(model["x"])) if "x" in model else None


async def test_a_list_is_kept_for_a_minute(catalogue: Catalogue, upstream: ScriptedUpstream, clock: Clock) -> None:
    upstream.script(*[answer(200, {"data": [{"id": "m-1", "x": x}]}) for x in (1, 2)], answer(200, {"data": []}))
    for clock.time, x in ((0, 1), (59, 1), (60, 2), (119, 2), (120, None)):
        assert await field(catalogue) == x
    assert len(upstream.requests) == 3


async def test_after_a_failure_the_last_list_holds_and_the_next_try_is_soon(
    catalogue: Catalogue, upstream: ScriptedUpstream, clock: Clock
) -> None:
    known, failed = answer(200, {"data": [{"id": "m-1", "x": 1}]}), answer(500, b"")
    upstream.script(failed, known, failed, answer(200, {"data": [{"id": "m-1", "x": 2}]}))
    for clock.time, x in ((0, None), (9, None), (10, 1), (69, 1), (70, 1), (79, 1), (80, 2)):
        assert await field(catalogue) == x, clock.time
    assert len(upstream.requests) == 4


async def test_a_list_that_comes_too_late_is_there_for_the_next_caller(
    catalogue: Catalogue, upstream: ScriptedUpstream, clock: Clock
) -> None:
    late = asyncio.Event()
    upstream.script([Until(late), *answer(200, {"data": [{"id": "m-1", "x": 1}]})])
    waiting = asyncio.ensure_future(field(catalogue))
    await upstream.until(requests=1)
    clock.time = 2
    assert await field(catalogue) is None
    late.set()
    assert await waiting == 1
    assert await field(catalogue) == 1
    assert len(upstream.requests) == 1
