"""The official Python client gets embeddings, text completions and moderations of the demo through the gateway."""

import json
import math
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from gateway.demo import create_demo
from gateway.demo.values import vector
from tests.conftest import MakeGateway
from tests.rig.scripted_upstream import DONE, Close, Pause, ScriptedUpstream, Step, answer, event, stream
from tests.sdk.conftest import KEY, Connect, Sdk

openai = pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")

TEXT = {"model": "m-1", "prompt": "Once"}


@pytest.fixture
async def demo() -> AsyncIterator[str]:
    """The configuration of a gateway that asks the demo."""
    server = TestServer(create_demo(interval=0))
    await server.start_server()
    yield (
        f'[[upstreams]]\nname = "demo"\nbase_url = "{server.make_url("/v1")}"\n'
        '[[models]]\nname = "all"\ntargets = [{upstream = "demo", model = "demo"}]\n'
        '[[models]]\nname = "few"\ntargets = [{upstream = "demo", model = "demo"}]\nendpoints = ["embeddings"]\n'
        f'[[keys]]\nname = "team"\nkey = "{KEY}"\ntokens_per_minute = 100_000\n'
    )
    await server.close()


async def texts(sdk: Sdk, **fields: Any) -> list[Any]:
    chunks: list[Any] = []
    await sdk.read_texts(chunks, **fields)
    return chunks


async def test_embeddings(connect: Connect, demo: str) -> None:
    """The client asks for base64 unless it is told otherwise, and decodes it."""
    sdk = await connect(demo)
    asks: list[dict[str, Any]] = [{}, {"encoding_format": "float"}, {"encoding_format": "float", "dimensions": 3}]
    for asked in asks:
        embeddings = await sdk.call("embeddings.create", model="all", input=["a cat", "tax law"], **asked)
        assert [one.index for one in embeddings.data] == [0, 1]
        assert embeddings.usage.total_tokens == 4
        size = asked.get("dimensions", 8)
        expected = vector("a cat", size)
        assert len(embeddings.data[0].embedding) == size
        assert all(
            math.isclose(a, b, abs_tol=1e-6) for a, b in zip(embeddings.data[0].embedding, expected, strict=True)
        )


async def test_text_completions(connect: Connect, demo: str) -> None:
    sdk = await connect(demo)
    whole = await sdk.call("completions.create", model="all", prompt="Hello")
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage.completion_tokens > 0
    chunks = await texts(sdk, model="all", prompt="Hello")
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "stop"
    *_, last = await texts(sdk, model="all", prompt="Hello", stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage.completion_tokens == whole.usage.completion_tokens


async def test_moderations(connect: Connect, demo: str) -> None:
    sdk = await connect(demo)
    for asked in ({}, {"model": "all"}):
        moderation = await sdk.call("moderations.create", input=["a cat", "violence"], **asked)
        assert [result.flagged for result in moderation.results] == [False, True]
        assert moderation.results[1].categories.violence
        assert not moderation.results[1].categories.self_harm


async def test_a_rank_with_plain_http(gateway: MakeGateway, demo: str) -> None:
    """OpenAI's client has no such call."""
    client = await gateway(demo)
    asked = {"model": "all", "query": "a cat", "documents": ["tax law", "a cat"], "top_n": 1}
    async with (
        ClientSession() as session,
        session.post(client.make_url("/v1/rerank"), json=asked, headers={"x-api-key": KEY}) as response,
    ):
        assert response.status == 200
        (best,) = (await response.json())["results"]
        assert (best["index"], best["relevance_score"]) == (1, 1.0)


async def test_the_endpoints_of_models_are_listed_and_hold(connect: Connect, demo: str) -> None:
    sdk = await connect(demo)
    few = await sdk.call("models.retrieve", "few")
    assert few.endpoints == ["embeddings"]
    with pytest.raises(openai.BadRequestError, match=r"few has no completions\. It can be asked at: embeddings\."):
        await sdk.call("completions.create", model="few", prompt="Hello")


async def test_a_moderation_without_a_model_leaves_it_to_the_upstream(
    connect: Connect, upstream: ScriptedUpstream
) -> None:
    upstream.script(answer(200, {"id": "modr-1", "model": "theirs", "results": []}))
    sdk = await connect()
    assert (await sdk.call("moderations.create", input="a")).model == "theirs"
    assert upstream.requests[0].json == {"input": "a"}


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("embeddings.create", {"model": "m-1", "input": "a"}),
        ("completions.create", TEXT),
        ("moderations.create", {"input": "a"}),
    ],
)
@pytest.mark.parametrize(
    ("status", "kind"), [(400, "BadRequestError"), (401, "InternalServerError"), (429, "RateLimitError")]
)
async def test_a_refusal_is_the_exception_for_it(
    connect: Connect, upstream: ScriptedUpstream, method: str, fields: dict[str, Any], status: int, kind: str
) -> None:
    upstream.script(answer(status, {"error": {"message": "No.", "code": "c", "param": "input"}}))
    sdk = await connect()
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.call(method, **fields)
    assert type(caught.value).__name__ == kind


PART = event({"object": "text_completion", "choices": [{"text": "Hel", "index": 0, "finish_reason": None}]})
BROKEN: dict[str, list[bytes | Step]] = {
    "an error": [event({"error": {"message": "No room.", "code": "overloaded"}}), DONE],
    "a body that breaks off": [Pause(0.05), Close()],
    "a clean end": [Pause(0.05)],
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_broken_text_raises_behind_what_came(connect: Connect, upstream: ScriptedUpstream, case: str) -> None:
    upstream.script(stream(PART, *BROKEN[case]))
    sdk = await connect()
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        await sdk.read_texts(chunks, **TEXT)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hel"
    assert caught.value.message == "No room." or "broke off" in caught.value.message
    assert json.loads(json.dumps(caught.value.body))["code"] in ("overloaded", "upstream_incomplete")
