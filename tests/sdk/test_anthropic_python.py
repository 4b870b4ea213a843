"""Anthropic's official Python client, unmodified, before a running gateway whose model's server speaks OpenAI's API."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.rig import anthropic as sends
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    Reset,
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
from tests.sdk.answers import CUTS, HELLO, USAGE, refusal
from tests.sdk.conftest import KEY
from tests.sdk.cutting import CuttingWire

QUESTION: dict[str, Any] = {"model": "m-1", "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
ARGUMENTS = '{"city": "Xi\'an 西安"}'
CALL = stream(
    event(chunk(role="assistant")),
    event(chunk(reasoning_content="Where? ")),
    event(chunk(reasoning_content="There.")),
    delta("I look."),
    event(chunk(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "weather", "arguments": ""}}])),
    *[event(chunk(tool_calls=[{"index": 0, "function": {"arguments": piece}}])) for piece in ARGUMENTS],
    finish("tool_calls"),
    usage(**USAGE),
    DONE,
)
SOON = "[stream]\nheartbeat_seconds = 0.05"

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def anthropic() -> Any:
    """Importing it takes 3 seconds, so only the process that runs these tests does, and not each that collects them."""
    return pytest.importorskip("anthropic", reason="the anthropic package is not installed: it is in the extra `sdk`")


@pytest.fixture
async def connect(gateway: MakeGateway, anthropic: Any) -> AsyncIterator[Connect]:
    """`await connect(toml, **options)`: a client with those options, of a gateway that is configured by `toml`."""
    made: list[Any] = []

    async def connect(toml: str = "", **options: Any) -> Any:
        address = str((await gateway(toml)).make_url("/"))
        defaults = {"api_key": KEY, "max_retries": 0, "timeout": 5.0}
        made.append(anthropic.AsyncAnthropic(base_url=address, **defaults | options))
        return made[-1]

    yield connect
    for client in made:
        await client.close()


def validated(message: Any) -> Any:
    """The message, if it is one by the client's own model. The client itself does not check what it gets."""
    return type(message).model_validate(message.model_dump(warnings=False), strict=True)


# Answers


async def test_a_whole_answer(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(HELLO)
    message = await (await connect()).messages.create(**QUESTION, stop_sequences=["x"], extra_body={"seed": 7})
    assert validated(message).content[0].text == "Hello"
    assert (message.stop_reason, message.model, message.usage.output_tokens) == ("end_turn", "m-1", 2)
    assert message._request_id
    assert {"stop": ["x"], "seed": 7, "max_tokens": 64}.items() <= upstream.requests[0].json.items()


async def test_a_stream_and_its_final_message(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(Pause(0.1), delta("Hel"), Pause(0.1), delta("lo"), finish(), usage(**USAGE), DONE))
    async with (await connect(SOON)).messages.stream(**QUESTION) as answer:
        assert [text async for text in answer.text_stream] == ["Hel", "lo"]
        message = validated(await answer.get_final_message())
    assert message.content[0].text == "Hello"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (1, 2)
    assert message.stop_reason == "end_turn"


async def test_the_blocking_client(gateway: MakeGateway, upstream: ScriptedUpstream, anthropic: Any) -> None:
    upstream.script(HELLO)
    address = str((await gateway()).make_url("/"))

    def read() -> list[str]:
        with anthropic.Anthropic(base_url=address, api_key=KEY) as client:
            return [one.type for one in client.messages.create(**QUESTION, stream=True)]

    deltas = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    assert await asyncio.to_thread(read) == ["message_start", *deltas, "message_delta", "message_stop"]


@pytest.mark.parametrize("way", ["whole", "streamed"])
async def test_a_tool_round_trip(connect: Connect, upstream: ScriptedUpstream, way: str) -> None:
    """With thinking, which goes to the client and is left out on the way back."""
    upstream.script(CALL, HELLO)
    client = await connect()
    asked = {**QUESTION, "tools": [TOOL], "thinking": {"type": "enabled", "budget_tokens": 1024}}
    if way == "whole":
        message = validated(await client.messages.create(**asked))
    else:
        async with client.messages.stream(**asked) as answer:
            message = validated(await answer.get_final_message())
    thought, text, call = message.content
    assert (thought.thinking, text.text) == ("Where? There.", "I look.")
    assert (call.id, call.name, call.input) == ("c1", "weather", {"city": "Xi'an 西安"})
    assert message.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "21"}]}
    turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    last = await client.messages.create(**{**asked, "messages": [*QUESTION["messages"], *turns]})
    assert last.content[0].text == "Hello"
    messages: Any = upstream.requests[1].json["messages"]
    assert [(message["role"], message["content"]) for message in messages] == [
        ("user", "Hi"),
        ("assistant", "I look."),
        ("tool", "21"),
    ]
    (sent,) = messages[1]["tool_calls"]
    assert (sent["id"], messages[2]["tool_call_id"], sent["function"]["name"]) == ("c1", "c1", "weather")
    assert json.loads(sent["function"]["arguments"]) == json.loads(ARGUMENTS)


@pytest.mark.parametrize("way", ["whole", "streamed"])
async def test_a_tool_round_trip_with_signed_thoughts(connect: Connect, upstream: ScriptedUpstream, way: str) -> None:
    """Over Anthropic's own server: it gets back what it has signed, and goes on thinking."""
    called = sends.message(sends.thinking(0, "Where?"), sends.tool(1, "weather", ARGUMENTS), reason="tool_use")
    upstream.script(sends.answered(called), sends.answered(sends.HELLO))
    client = await connect(sends.configured(upstream.url))
    asked = {**QUESTION, "tools": [TOOL], "thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2048}
    if way == "whole":
        message = validated(await client.messages.create(**asked))
    else:
        async with client.messages.stream(**asked) as answer:
            message = validated(await answer.get_final_message())
    thought, call = message.content
    assert (thought.thinking, thought.signature, call.input) == ("Where?", "c2ln", json.loads(ARGUMENTS))
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "21"}
    turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    last = await client.messages.create(**{**asked, "messages": [*QUESTION["messages"], *turns]})
    assert last.content[0].text == "Hello"
    sent: Any = upstream.requests[1].json
    assert sent["thinking"] == asked["thinking"]
    assert sent["messages"][1]["content"][0] == {"type": "thinking", "thinking": "Where?", "signature": "c2ln"}


async def test_a_count(connect: Connect, upstream: ScriptedUpstream) -> None:
    fields = {name: QUESTION[name] for name in ("model", "messages")}
    counted = await (await connect()).messages.count_tokens(**fields, system="abcd" * 100)
    assert counted.input_tokens == 101


async def test_leaving_lets_the_upstream_go(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    answer = await (await connect()).messages.create(**QUESTION, stream=True)
    await anext(answer)
    await answer.close()
    await upstream.until(left=1, within=1)


# Errors


@pytest.mark.parametrize("case", ["reset", "a clean end without a finish reason", "an error object"])
async def test_a_cut_stream_raises(connect: Connect, upstream: ScriptedUpstream, anthropic: Any, case: str) -> None:
    script, code = CUTS[case]
    upstream.script(script)
    client, texts = await connect(), list[str]()

    async def read() -> None:
        async with client.messages.stream(**QUESTION) as answer:
            async for text in answer.text_stream:
                texts.append(text)

    with pytest.raises(anthropic.APIStatusError) as raised:
        await read()
    assert texts == ["Hel"]
    assert raised.value.body["error"]["code"] == code


async def test_an_error_in_the_place_of_content_raises(
    connect: Connect, upstream: ScriptedUpstream, anthropic: Any
) -> None:
    """A heartbeat has opened the body."""
    upstream.script(stream(Pause(0.2), Reset()))
    client = await connect(SOON)
    with pytest.raises(anthropic.APIStatusError, match="broke off"):
        [one async for one in await client.messages.create(**QUESTION, stream=True)]


STATUSES: dict[int, tuple[str, int]] = {
    # the status of the upstream: the client's error, and its status
    400: ("BadRequestError", 400),
    413: ("ContentTooLargeError", 413),
    429: ("RateLimitError", 429),
    500: ("InternalServerError", 502),
}


@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_of_the_upstream(
    connect: Connect, upstream: ScriptedUpstream, anthropic: Any, status: int
) -> None:
    upstream.script(refusal(status))
    with pytest.raises(anthropic.APIStatusError) as raised:
        await (await connect()).messages.create(**QUESTION)
    assert (type(raised.value).__name__, raised.value.status_code) == STATUSES[status]
    assert f"Words of the upstream for {status}." in str(raised.value) or status == 500
    assert raised.value.request_id


@pytest.mark.parametrize("name", ["api_key", "auth_token"])
async def test_a_key(connect: Connect, upstream: ScriptedUpstream, anthropic: Any, name: str) -> None:
    """The client sends one of the two as `x-api-key`, and the other one as a bearer."""
    upstream.script(HELLO)
    options = {"api_key": None, name: "wrong-key-1234567890"}
    client = await connect(f'[[keys]]\nname = "team"\nkey = "{KEY}"', **options)
    with pytest.raises(anthropic.AuthenticationError):
        await client.messages.create(**QUESTION)
    assert (await client.copy(**{name: KEY}).messages.create(**QUESTION)).content[0].text == "Hello"


async def test_what_cannot_be_translated(connect: Connect, upstream: ScriptedUpstream, anthropic: Any) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\]"):
        await (await connect()).messages.create(**QUESTION, tools=tools)


async def test_the_clients_retry_recovers_from_early_failures(connect: Connect, upstream: ScriptedUpstream) -> None:
    """Four requests at once, since the client waits for half a second before it tries again."""
    early = [
        refusal(429),
        answer(503, b"busy", "text/plain"),
        answer(529, b"overloaded", "text/plain"),
        stream(event(chunk(role="assistant")), Pause(0.02), Reset()),
    ]
    upstream.script(*early, *[HELLO] * len(early))
    client = await connect(max_retries=1)

    async def ask() -> str:
        async with client.messages.stream(**QUESTION) as answer:
            return str(await answer.get_final_text())

    assert await asyncio.gather(*[ask() for _ in early]) == ["Hello"] * len(early)
    assert len(upstream.requests) == 2 * len(early)


@pytest.mark.parametrize("way", ["whole", "streamed"])
async def test_with_an_idempotency_key_no_retry_is_paid(
    gateway: MakeGateway, upstream: ScriptedUpstream, anthropic: Any, way: str
) -> None:
    """The connection breaks once, at any place. Before the header, the client tries again, and its user behind it."""
    upstream.script(stream(delta("Hel"), Pause(0.02), delta("lo"), finish(), DONE))
    cuts = range(0, 1500, 60)

    async def ask(client: Any, cut: int) -> str:
        once = {"Idempotency-Key": str(uuid.uuid4()), "Connection": "close"}
        asked = {**QUESTION, "extra_query": {"cut": cut}, "extra_headers": once}
        words = ""
        for _ in range(3):
            try:
                if way == "whole":
                    message = await client.messages.create(**asked)
                else:
                    async with client.messages.stream(**asked) as answer:
                        message = await answer.get_final_message()
            except Exception as error:
                words = repr(error)
            else:
                if message.stop_reason is not None:
                    return str(message.content[0].text)
        return words

    async with CuttingWire((await gateway()).port) as wire:
        options = {"base_url": wire.address, "api_key": KEY, "max_retries": 2, "timeout": 5.0}
        async with anthropic.AsyncAnthropic(**options) as client:
            assert set(await asyncio.gather(*[ask(client, cut) for cut in cuts])) == {"Hello"}
        assert len(wire.passed) == len(cuts)
    assert len(upstream.requests) == len(cuts)
