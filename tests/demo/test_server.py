"""Well-behaved answers, in OpenAI's shape."""

import json
from typing import Any

import pytest

from gateway.demo import create_demo
from gateway.demo.models import MODELS

from .conversation import PATH, ask, asking, chunks, deltas, finish_reason, stream, text


@pytest.fixture
async def client(aiohttp_client):
    return await aiohttp_client(create_demo(interval=0))


# Streamed


async def test_a_stream_is_role_then_text_then_finish_reason_then_done(client):
    events = await stream(client, question="你好")
    assert deltas(events)[0] == {"role": "assistant", "content": ""}
    assert "演示模型" in text(events)
    assert all(set(delta) == {"content"} for delta in deltas(events)[1:-1])
    assert deltas(events)[-1] == {}
    assert finish_reason(events) == "stop"
    assert events[-1] == "[DONE]"


async def test_every_chunk_has_what_openai_promises(client):
    first, *rest = chunks(await stream(client))
    assert list(first) == ["id", "object", "created", "model", "choices"]
    assert first["id"].startswith("chatcmpl-")
    assert first["object"] == "chat.completion.chunk"
    assert first["created"] > 1_700_000_000
    assert first["model"] == "demo"
    assert list(first["choices"][0]) == ["index", "delta", "logprobs", "finish_reason"]
    for chunk in rest:
        assert {**chunk, "choices": None} == {**first, "choices": None}


async def test_two_answers_have_two_ids(client):
    first, second = [chunks(await stream(client))[0]["id"] for _ in range(2)]
    assert first != second


async def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(client):
    """And is null on all the others, as OpenAI has it."""
    *others, last = chunks(await stream(client, stream_options={"include_usage": True}))
    assert all(chunk["usage"] is None for chunk in others)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == len(others) - 2  # all but role and finish reason
    assert last["usage"]["total_tokens"] == last["usage"]["completion_tokens"] + last["usage"]["prompt_tokens"]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
async def test_usage_is_not_mentioned_when_not_asked_for(client, options):
    assert not any("usage" in chunk for chunk in chunks(await stream(client, stream_options=options)))


async def test_without_a_model_it_is_demo(client):
    async with client.post(PATH, json={"messages": [{"role": "user", "content": "Hello"}]}) as response:
        assert (await response.json())["model"] == "demo"


async def test_the_last_user_message_is_the_question_also_in_parts(client):
    parts = [{"type": "text", "text": "Which"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    parts.append({"type": "text", "text": "sea?"})
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": parts},
    ]
    assert "> Which sea?" in (await ask(client, messages=messages))["choices"][0]["message"]["content"]


# Not streamed


@pytest.mark.parametrize("model", ["demo", "demo-reasoning", "demo-tools", "demo-refusal", "demo-slow"])
async def test_whole_is_what_streamed_would_have_been(client, model):
    whole = await ask(client, model=model)
    events = await stream(client, model, stream_options={"include_usage": True})
    message = whole["choices"][0]["message"]
    assert whole["object"] == "chat.completion"
    assert message["role"] == "assistant"
    for field in ("content", "reasoning_content", "refusal"):
        assert (message.get(field) or "") == text(events, field)
    assert whole["choices"][0]["finish_reason"] == finish_reason(events)
    assert whole["usage"] == chunks(events)[-1]["usage"]


# Length


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_is_honoured(client, field):
    limited: dict[str, Any] = {field: 3}
    events = await stream(client, **limited, stream_options={"include_usage": True})
    assert len(deltas(events)) == 1 + 3 + 1
    assert finish_reason(events) == "length"
    assert chunks(events)[-1]["usage"]["completion_tokens"] == 3
    assert (await ask(client, **limited))["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(("limit", "reason"), [(4, "length"), (5, "stop"), (6, "stop")])
async def test_a_limit_that_is_just_enough_does_not_cut(aiohttp_client, limit, reason):
    client = await aiohttp_client(create_demo(tokens=5, interval=0))
    events = await stream(client, max_tokens=limit)
    assert finish_reason(events) == reason


@pytest.mark.parametrize("tokens", [1, 2, 3_000])
async def test_tokens_fixes_the_length_of_every_answer(aiohttp_client, tokens):
    client = await aiohttp_client(create_demo(tokens=tokens, interval=0))
    assert len(deltas(await stream(client))) == 1 + tokens + 1
    assert (await ask(client))["usage"]["completion_tokens"] == tokens


@pytest.mark.parametrize("wrong", [{"tokens": 0}, {"interval": -1}, {"interval": float("inf")}])
def test_a_length_or_an_interval_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        create_demo(**wrong)


# Models


async def test_models_are_listed_and_each_can_be_looked_up(client):
    async with client.get("/v1/models") as response:
        listed = await response.json()
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == list(MODELS)
    for model in listed["data"]:
        async with client.get(f"/v1/models/{model['id']}") as response:
            assert await response.json() == model
        assert model["object"] == "model"


async def test_reasoning_comes_before_the_answer_and_is_counted(client):
    events = await stream(client, "demo-reasoning", stream_options={"include_usage": True})
    kinds = [next(iter(delta)) for delta in deltas(events)[1:-1]]
    thoughts = kinds.count("reasoning_content")
    assert kinds == ["reasoning_content"] * thoughts + ["content"] * (len(kinds) - thoughts)
    assert chunks(events)[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": thoughts}


async def test_a_refusal_is_refusal_deltas_and_no_content(client):
    events = await stream(client, "demo-refusal")
    assert text(events, "refusal").startswith("I'm sorry")
    assert text(events) == ""


# Tools


def fragments(events: list[str]) -> dict[int, dict[str, str]]:
    calls: dict[int, dict[str, str]] = {}
    for call in (call for delta in deltas(events) for call in delta.get("tool_calls", ())):
        known = calls.setdefault(call["index"], {"name": "", "arguments": "", "id": call.get("id", "")})
        for field in ("name", "arguments"):
            known[field] += call["function"].get(field, "")
    return calls


TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "unit": {"type": "string", "enum": ["metric", "imperial"]},
                "limit": {"type": "integer"},
                "exact": {"type": ["boolean", "null"]},
            },
        },
    },
}


async def test_tool_calls_come_in_fragments_by_index(client):
    events = await stream(client, "demo-tools")
    calls = fragments(events)
    assert [call["name"] for call in calls.values()] == ["get_weather", "get_weather"]
    assert [json.loads(call["arguments"]) for call in calls.values()] == [{"city": "Oslo"}, {"city": "上海"}]
    assert calls[0]["id"] != calls[1]["id"]
    assert finish_reason(events) == "tool_calls"
    assert len(deltas(events)) > 10


async def test_the_tools_of_the_request_are_the_ones_that_are_called(client):
    calls = fragments(await stream(client, "demo-tools", "Which sea?", tools=[TOOL, {"type": "custom"}]))
    assert calls[0]["name"] == "look_up"
    arguments = json.loads(calls[0]["arguments"])
    assert arguments == {"query": "Which sea?", "unit": "metric", "limit": 1, "exact": "Which sea?"}


async def test_tool_calls_of_a_whole_answer_are_whole(client):
    message = (await ask(client, model="demo-tools"))["choices"][0]["message"]
    assert message["content"] is None
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["get_weather", "get_weather"]
    assert json.loads(message["tool_calls"][1]["function"]["arguments"]) == {"city": "上海"}
    assert message["tool_calls"][0]["type"] == "function"


async def test_a_tools_result_is_answered_in_words(client):
    """Else an agent that runs tools until none is called would run for ever."""
    result = {"role": "tool", "tool_call_id": "call_1_0", "content": "12 degrees"}
    events = await stream(client, "demo-tools", messages=[*asking()["messages"], result])
    assert "12 degrees" in text(events)
    assert finish_reason(events) == "stop"
