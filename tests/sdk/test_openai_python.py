"""The official Python client, unmodified, gets from the gateway what it would get from OpenAI."""

import asyncio
from typing import Any

import pytest

from gateway.endpoints import Endpoint
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    ScriptedUpstream,
    Stall,
    answer,
    chunk,
    delta,
    event,
    finish,
    stream,
    usage,
)
from tests.sdk.answers import HELLO, QUESTION, STUMBLING_BLOCKS, USAGE, choice, completion
from tests.sdk.conftest import KEY, Connect

openai = pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")
pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed: openai brings it")

TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]
ARGUMENTS = '{"city": "Xi\'an 西安"}'
Weather = pydantic.create_model("Weather", city=(str, ...), degrees=(int, ...))
WEATHER = '{"city": "Paris", "degrees": 21}'
LOGPROBS = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}], "refusal": None}


def text(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# Text


async def test_a_whole_answer(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(completion())
    sdk = await connect()
    answer = await sdk.call("chat.completions.create", **QUESTION, temperature=0.5, extra_body={"top_k": 5})
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 3
    assert answer._request_id
    (request,) = upstream.requests
    assert request.json == {**QUESTION, "temperature": 0.5, "top_k": 5}


async def test_the_callers_key_stays_with_the_gateway(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(completion())
    sdk = await connect(f'[[keys]]\nname = "team"\nkey = "{KEY}"')
    assert (await sdk.call("chat.completions.create", **QUESTION)).choices[0].message.content == "Hello"
    (request,) = upstream.requests
    assert request.headers["authorization"] == "bearer key-of-the-upstream"
    assert not any(KEY in value for value in request.headers.values())


async def test_a_stream(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    sdk = await connect()
    chunks: list[Any] = []
    await sdk.read(chunks, temperature=0.5, extra_body={"top_k": 5})
    assert text(chunks) == "Hello"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "stop"]
    assert {chunk.id for chunk in chunks} == {"chatcmpl-1"}
    (request,) = upstream.requests
    sent = {**QUESTION, "temperature": 0.5, "top_k": 5, "stream": True}
    assert sent.items() <= request.json.items()


async def test_what_clients_stumble_over_does_not_reach_them(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(STUMBLING_BLOCKS)
    sdk = await connect()
    chunks: list[Any] = []
    await sdk.read(chunks)
    assert text(chunks) == "Hello\ufffd"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_a_finish_reason_is_an_end_even_without_done(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hello"), finish("length")))
    sdk = await connect()
    chunks: list[Any] = []
    await sdk.read(chunks)
    assert text(chunks) == "Hello"
    assert chunks[-1].choices[0].finish_reason == "length"


async def test_usage_ends_the_stream_of_who_asks_for_it(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    sdk = await connect()
    chunks: list[Any] = []
    await sdk.read(chunks, stream_options={"include_usage": True})
    assert text(chunks) == "Hello"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.to_dict() == USAGE
    assert upstream.requests[0].json["stream_options"] == {"include_usage": True}


async def test_usage_is_hidden_from_who_does_not(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    sdk = await connect()
    chunks: list[Any] = []
    await sdk.read(chunks)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


async def test_the_clients_own_helper_assembles_a_stream(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    sdk = await connect()
    events, answer = await sdk.assemble(stream_options={"include_usage": True})
    assert events == {"chunk", "content.delta", "content.done"}
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 3


async def test_a_whole_answer_where_a_stream_was_asked_for(connect: Connect, upstream: ScriptedUpstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    upstream.script(completion(choice(content="Hello", tool_calls=[call])))
    sdk = await connect()
    _, answer = await sdk.assemble(tools=TOOLS)
    assert answer.choices[0].message.content == "Hello"
    assert answer.choices[0].message.tool_calls[0].function.arguments == ARGUMENTS
    assert answer.choices[0].finish_reason == "stop"


# More than text


@pytest.mark.parametrize("size", [1, 3, 100])
async def test_a_streamed_tool_call_in_fragments_of_any_size(
    connect: Connect, upstream: ScriptedUpstream, size: int
) -> None:
    call: dict[str, object] = {"index": 0, "id": "call_1", "type": "function"}
    parts = [ARGUMENTS[at : at + size] for at in range(0, len(ARGUMENTS), size)]
    head = call | {"function": {"name": "weather", "arguments": parts[0]}}
    rest = [{"index": 0, "function": {"arguments": part}} for part in parts[1:]]
    upstream.script(stream(*[event(chunk(tool_calls=[part])) for part in [head, *rest]], finish("tool_calls"), DONE))
    sdk = await connect()
    _, answer = await sdk.assemble(tools=TOOLS)
    (made,) = answer.choices[0].message.tool_calls
    assert (made.id, made.function.name, made.function.arguments) == ("call_1", "weather", ARGUMENTS)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert upstream.requests[0].json["tools"] == TOOLS


async def test_two_streamed_tool_calls_at_once(connect: Connect, upstream: ScriptedUpstream) -> None:
    calls = [
        {"index": n, "id": f"call_{n}", "type": "function", "function": {"name": "weather", "arguments": f"[{n}]"}}
        for n in range(2)
    ]
    upstream.script(stream(event(chunk(tool_calls=calls)), finish("tool_calls"), DONE))
    sdk = await connect()
    _, answer = await sdk.assemble(tools=TOOLS)
    made = answer.choices[0].message.tool_calls
    assert [(call.id, call.function.arguments) for call in made] == [("call_0", "[0]"), ("call_1", "[1]")]


async def test_a_whole_tool_call(connect: Connect, upstream: ScriptedUpstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ARGUMENTS}}
    upstream.script(completion(choice(finish_reason="tool_calls", content=None, tool_calls=[call])))
    sdk = await connect()
    answer = await sdk.call("chat.completions.create", **QUESTION, tools=TOOLS)
    assert answer.choices[0].message.content is None
    assert answer.choices[0].message.tool_calls[0].to_dict() == call


async def test_structured_output(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(completion(choice(content=WEATHER)))
    sdk = await connect()
    answer = await sdk.call("chat.completions.parse", **QUESTION, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=21)
    asked: Any = upstream.requests[0].json["response_format"]
    assert asked["type"] == "json_schema"
    assert asked["json_schema"]["schema"]["required"] == ["city", "degrees"]


async def test_structured_output_as_a_stream(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta(WEATHER[:9]), delta(WEATHER[9:]), finish(), DONE))
    sdk = await connect()
    _, answer = await sdk.assemble(response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(city="Paris", degrees=21)


async def test_two_choices(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(completion(choice(0, content="heads"), choice(1, content="tails")))
    sdk = await connect()
    answer = await sdk.call("chat.completions.create", **QUESTION, n=2)
    assert [choice.message.content for choice in answer.choices] == ["heads", "tails"]
    assert upstream.requests[0].json["n"] == 2


async def test_two_streamed_choices(connect: Connect, upstream: ScriptedUpstream) -> None:
    def of(index: int, text: str | None = None, reason: str | None = None) -> bytes:
        return event(chunk() | {"choices": [{"index": index, "delta": {"content": text}, "finish_reason": reason}]})

    parts = [of(0, "he"), of(1, "ta"), of(1, "ils"), of(0, "ads"), of(0, reason="stop"), of(1, reason="stop")]
    upstream.script(stream(*parts, DONE))
    sdk = await connect()
    _, answer = await sdk.assemble(n=2)
    assert [choice.message.content for choice in answer.choices] == ["heads", "tails"]
    assert [choice.finish_reason for choice in answer.choices] == ["stop", "stop"]


async def test_logprobs_and_fields_that_nobody_knows_pass(connect: Connect, upstream: ScriptedUpstream) -> None:
    made = choice(content="a", reasoning_content="Hm.") | {"logprobs": LOGPROBS}
    upstream.script(completion(made, x_of_vendor={"deep": [1, None]}))
    sdk = await connect()
    answer = await sdk.call("chat.completions.create", **QUESTION, logprobs=True)
    assert answer.choices[0].logprobs.content[0].logprob == -0.5
    assert answer.choices[0].message.reasoning_content == "Hm."
    assert answer.x_of_vendor == {"deep": [1, None]}


async def test_logprobs_and_fields_that_nobody_knows_pass_in_a_stream(
    connect: Connect, upstream: ScriptedUpstream
) -> None:
    made = {"index": 0, "delta": {"content": "a", "reasoning_content": "Hm."}, "logprobs": LOGPROBS}
    upstream.script(stream(event(chunk() | {"choices": [made], "x_of_vendor": {"deep": [1, None]}}), finish(), DONE))
    sdk = await connect()
    chunks: list[Any] = []
    await sdk.read(chunks, logprobs=True)
    first = chunks[0]
    assert first.choices[0].logprobs.content[0].logprob == -0.5
    assert first.choices[0].delta.reasoning_content == "Hm."
    assert first.x_of_vendor == {"deep": [1, None]}


# Models


async def test_the_models_are_listed_and_found_by_name(connect: Connect, upstream: ScriptedUpstream) -> None:
    """Each with the further fields that its upstream lists."""
    listed_there = {"id": "m-1", "created": 7, "owned_by": "somebody", "context_length": 8192}
    upstream.script(answer(200, {"data": [listed_there]}))
    names = ["small", "vendor/large:latest"]
    models = [f'[[models]]\nname = "{name}"\ntargets = [{{upstream = "up", model = "m-1"}}]' for name in names]
    sdk = await connect("\n".join(models))
    listed = await sdk.call("models.list")
    assert [model.id for model in listed.data] == names
    for name in names:
        found = await sdk.call("models.retrieve", name)
        assert (found.id, found.object, found.created, found.owned_by) == (name, "model", 7, "somebody")
        assert found.context_length == 8192
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.call("models.retrieve", "no-such-model")
    assert caught.value.code == "model_not_found"
    assert len(upstream.requests) == 1


async def test_the_upstreams_models_where_none_are_configured(connect: Connect, upstream: ScriptedUpstream) -> None:
    model = {"id": "m-1", "object": "model", "created": 7, "owned_by": "somebody"}
    upstream.script(answer(200, {"object": "list", "data": [model]}))
    sdk = await connect()
    assert [found.to_dict() for found in (await sdk.call("models.list")).data] == [
        {**model, "endpoints": list(Endpoint)}
    ]
    assert (await sdk.call("models.retrieve", "m-1")).owned_by == "somebody"


# Silence and leaving

PATIENCE = 0.4  # seconds of silence that the client bears


async def test_heartbeats_carry_a_client_over_silence(connect: Connect, upstream: ScriptedUpstream) -> None:
    """Before the first token and in the middle: both pauses are longer than the client bears silence."""
    pause = Pause(PATIENCE + 0.1)
    upstream.script(stream(pause, delta("Hel"), pause, delta("lo"), finish(), usage(**USAGE), DONE))
    sdk = await connect("[stream]\nheartbeat_seconds = 0.1", timeout=PATIENCE)
    _, answer = await sdk.assemble(stream_options={"include_usage": True})
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage.total_tokens == 3


async def test_closing_a_stream_early_lets_the_upstream_go(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    sdk = await connect()
    await sdk.leave()
    await upstream.until(left=1, within=1)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_client_that_gives_up_waiting_lets_the_upstream_go(
    connect: Connect, upstream: ScriptedUpstream, streamed: bool
) -> None:
    upstream.script([Stall()])
    sdk = await connect(timeout=0.2)
    with pytest.raises(openai.APITimeoutError):
        await sdk.call("chat.completions.create", **QUESTION, stream=streamed)
    await upstream.until(left=1, within=1)


@pytest.mark.parametrize("connect", ["asynchronous"], indirect=True)
async def test_cancelling_the_task_that_reads_lets_the_upstream_go(
    connect: Connect, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(Stall()))
    sdk = await connect()
    reading = asyncio.create_task(sdk.read([]))
    await upstream.until(requests=1)
    reading.cancel()
    await upstream.until(left=1, within=1)
