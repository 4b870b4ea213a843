"""The official Python client of OpenAI gets answers of Anthropic's server as if they were OpenAI's."""

import json
from typing import Any

import pytest

from tests.rig import anthropic as sends
from tests.rig.scripted_upstream import ScriptedUpstream
from tests.sdk.answers import QUESTION
from tests.sdk.conftest import Connect

pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
CALLS = sends.message(sends.text(0, "So."), sends.tool(1, "f", '{"a"', ":1}"), sends.tool(2, "f"), reason="tool_use")


async def test_a_stream(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(sends.HELLO))
    sdk = await connect(sends.configured(upstream.url))
    chunks: list[Any] = []
    await sdk.read(chunks, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello"
    assert chunks[-1].usage.total_tokens == 19
    assert upstream.requests[0].path == "/v1/messages"


async def test_a_whole_answer(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(sends.HELLO))
    sdk = await connect(sends.configured(upstream.url))
    answer = await sdk.call("chat.completions.create", **QUESTION)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "stop")
    assert answer.usage.prompt_tokens_details.cached_tokens == 4


async def test_tools_are_assembled(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(CALLS))
    sdk = await connect(sends.configured(upstream.url))
    _, answer = await sdk.assemble(tools=[TOOL])
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "So.")
    assert [json.loads(call.function.arguments) for call in choice.message.tool_calls] == [{"a": 1}, {}]


async def test_a_status(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered([sends.start(), sends.error("rate_limit_error", "Slow down.")]))
    sdk = await connect(sends.configured(upstream.url))
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.RateLimitError, match="Slow down"):
        await sdk.call("chat.completions.create", **QUESTION)
