"""What the demo says besides chats: text completions, embeddings, moderations and ranks."""

import base64
import json
import math
import struct

import pytest

from gateway.demo import create_demo
from gateway.demo.values import vector

from .conversation import ask, chunks, payloads
from .test_refusals import refusal


@pytest.fixture
async def client(aiohttp_client):
    return await aiohttp_client(create_demo(interval=0))


async def told(client, name, **fields):
    async with client.post(f"/v1/{name}", json=fields) as response:
        assert response.status == 200, await response.text()
        return await response.json()


# Text completions


async def streamed(client, **fields):
    async with client.post("/v1/completions", json={"prompt": "Hello", "stream": True, **fields}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        return payloads(await response.read())


async def test_a_text_is_that_of_a_chat(client):
    chat = (await ask(client))["choices"][0]["message"]["content"]
    whole = await told(client, "completions", prompt="Hello")
    assert (whole["object"], whole["model"]) == ("text_completion", "demo")
    assert whole["id"].startswith("cmpl-")
    assert whole["choices"] == [{"text": chat, "index": 0, "logprobs": None, "finish_reason": "stop"}]
    assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + whole["usage"]["completion_tokens"]
    events = await streamed(client)
    assert "".join([chunk["choices"][0]["text"] for chunk in chunks(events)]) == chat
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks(events)][-2:] == [None, "stop"]
    assert all(chunk["object"] == "text_completion" and "usage" not in chunk for chunk in chunks(events))
    assert events[-1] == "[DONE]"


async def test_usage_of_a_text_comes_when_asked_for(client):
    *_, last = chunks(await streamed(client, stream_options={"include_usage": True}))
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 2


async def test_a_text_has_a_limit_and_takes_tokens_as_its_prompt(client):
    whole = await told(client, "completions", prompt=[1, 2, 3], max_tokens=3)
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 3


async def test_several_texts_are_refused(client):
    for fields in ({"prompt": ["a", "b"]}, {"n": 2}):
        async with client.post("/v1/completions", json=fields) as response:
            await refusal(response, 400)


async def test_a_thought_belongs_to_the_text(client):
    whole = await told(client, "completions", prompt="Hello", model="demo-reasoning")
    events = await streamed(client, model="demo-reasoning")
    assert "".join([chunk["choices"][0]["text"] for chunk in chunks(events)]) == whole["choices"][0]["text"]


# Embeddings


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


async def test_vectors_are_small_and_always_the_same(client):
    first, second = [await told(client, "embeddings", input=["a cat", "Ü 猫"]) for _ in range(2)]
    assert first == second
    assert [one["index"] for one in first["data"]] == [0, 1]
    assert all(len(one["embedding"]) == 8 for one in first["data"])
    assert math.isclose(sum(x * x for x in first["data"][0]["embedding"]), 1, abs_tol=1e-5)
    assert first["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


def test_texts_with_the_same_words_are_near():
    assert cosine(vector("the cat sleeps"), vector("The cat sleeps!")) > 0.999
    assert cosine(vector("the cat sleeps"), vector("the cat eats")) > cosine(
        vector("the cat sleeps"), vector("tax law")
    )


@pytest.mark.parametrize("dimensions", [1, 8, 33, 2048])
async def test_vectors_in_base64_are_the_same_numbers(client, dimensions):
    asked = {"input": "a", "dimensions": dimensions}
    numbers = (await told(client, "embeddings", **asked))["data"][0]["embedding"]
    text = (await told(client, "embeddings", encoding_format="base64", **asked))["data"][0]["embedding"]
    packed = base64.b64decode(text)
    assert struct.unpack(f"<{dimensions}f", packed) == pytest.approx(numbers, abs=1e-6)


@pytest.mark.parametrize(("asked", "count"), [("a", 1), ([1, 2], 1), ([[1, 2], [3]], 2), (["a", "b", "c"], 3), ("", 1)])
async def test_each_input_has_a_vector(client, asked, count):
    assert len((await told(client, "embeddings", input=asked))["data"]) == count


# Moderations and ranks


async def test_a_text_is_flagged_for_what_it_names(client):
    answer = await told(client, "moderations", input=["whatever", "Violence!"])
    mild, bad = answer["results"]
    assert answer["id"].startswith("modr-")
    assert not mild["flagged"]
    assert bad["flagged"]
    assert [name for name, is_found in bad["categories"].items() if is_found] == ["violence"]
    assert bad["category_scores"]["violence"] > 0.5 > bad["category_scores"]["hate"]


async def test_parts_are_one_text(client):
    parts = [{"type": "text", "text": "self"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    (result,) = (await told(client, "moderations", input=parts))["results"]
    assert not result["flagged"]


async def test_documents_with_words_of_the_query_come_first(client):
    documents = ["tax law", {"text": "a cat sleeps"}, "cats"]
    answer = await told(client, "rerank", query="a cat sleeps", documents=documents)
    assert answer["results"][0]["index"] == 1
    scores = [result["relevance_score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["usage"]["total_tokens"] > 0
    (best,) = (await told(client, "rerank", query="tax", documents=documents, top_n=1, return_documents=True))[
        "results"
    ]
    assert best["document"] == {"text": "tax law"}


# Refusals


@pytest.mark.parametrize(
    ("name", "body", "param"),
    [
        ("embeddings", {}, None),
        ("embeddings", {"input": 5}, "input"),
        ("embeddings", {"input": "a", "dimensions": 0}, "dimensions"),
        ("embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("moderations", {"input": None}, "input"),
        ("rerank", {"query": "a"}, None),
        ("rerank", {"query": "a", "documents": [1]}, "documents[0]"),
        ("completions", {"prompt": {}}, "prompt"),
        ("completions", {"max_tokens": 0}, "max_tokens"),
    ],
)
async def test_wrong_fields_are_a_400(client, name, body, param):
    async with client.post(f"/v1/{name}", json=body) as response:
        assert (await refusal(response, 400))["param"] == param


@pytest.mark.parametrize("name", ["embeddings", "moderations", "rerank", "completions"])
async def test_models_fail_as_for_chats(client, name):
    fields = {"input": "a", "query": "a", "documents": [], "prompt": "a"}
    for model, status in (("none", 404), ("demo-flaky", 503), ("demo-flaky", 503), ("demo-flaky", 200)):
        async with client.post(f"/v1/{name}", data=json.dumps({**fields, "model": model})) as response:
            assert response.status == status
