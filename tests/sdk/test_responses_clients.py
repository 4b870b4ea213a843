"""Other clients of the Responses API, unmodified, over a chat: Node's, and the libraries that agents are built with."""

import asyncio
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.responses.judge import Judge
from tests.rig.scripted_upstream import DONE, Pause, ScriptedUpstream, delta, finish, stream
from tests.sdk.node import needs, running, script
from tests.sdk.responses import CALLS, RICH, TEXT

EXTRA = "is not installed: it is in the extra `sdk`"
HELLO = stream(delta("Hel"), delta("lo"), finish(), DONE)


async def serve(gateway: MakeGateway) -> str:
    return str((await gateway()).make_url("/v1"))


class TestNode:
    pytestmark = needs("openai", "ai", "@ai-sdk/openai")

    async def test_the_official_client_resumes(self, gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
        upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.002))]))
        async with running(script("openai_node_responses.mjs"), await serve(gateway), "7") as result:
            Judge().judge(result["events"])
            assert (result["stored"], result["text"], result["tokens"]) == (TEXT, TEXT, 7)
        assert len(upstream.requests) == 2

    async def test_the_ai_sdk(self, gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
        upstream.script(stream(*RICH))
        async with running(script("ai_sdk_responses.mjs"), await serve(gateway)) as result:
            assert result["error"] is None
            assert (result["text"], result["reasoning"], result["tokens"]) == (TEXT, "I think twice.", 7)
            assert [name for name, _ in result["calls"]] == [name for name, _ in CALLS]
            assert [arguments["city"] for _, arguments in result["calls"]] == ["西安", "Paris"]

    async def test_the_ai_sdk_is_told_of_a_cut(self, gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
        upstream.script(stream(delta("Hel")))
        async with running(script("ai_sdk_responses.mjs"), await serve(gateway)) as result:
            assert result["finish"] != "stop"


async def test_langchain(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    langchain = pytest.importorskip("langchain_openai", reason=f"langchain-openai {EXTRA}")
    upstream.script(stream(*RICH))
    address = await serve(gateway)
    model = langchain.ChatOpenAI(model="m-1", base_url=address, api_key="none", max_retries=0, use_responses_api=True)
    whole = await asyncio.to_thread(model.invoke, "Hi")
    chunks = await asyncio.to_thread(lambda: list(model.stream("Hi")))
    streamed = sum(chunks[1:], chunks[0])
    for message in (whole, streamed):
        assert message.text == TEXT
        assert [(call["name"], call["args"]["city"]) for call in message.tool_calls] == [
            ("weather", "西安"),
            ("weather", "Paris"),
        ]
        assert message.usage_metadata["total_tokens"] == 7


async def test_the_agents_sdk(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The agent calls its tool twice, and answers with what it said."""
    agents = pytest.importorskip("agents", reason=f"openai-agents {EXTRA}")
    openai = pytest.importorskip("openai", reason=f"openai {EXTRA}")
    asked: list[str] = []

    def weather(city: str) -> str:
        asked.append(city)
        return "warm"

    upstream.script(stream(*RICH), HELLO)
    client = openai.AsyncOpenAI(base_url=await serve(gateway), api_key="none", max_retries=0)
    agents.set_tracing_disabled(disabled=True)
    model = agents.OpenAIResponsesModel("m-1", client)
    agent = agents.Agent("a", model=model, tools=[agents.function_tool(weather, strict_mode=False)])
    result = agents.Runner.run_streamed(agent, "Hi")
    seen = [event.data.type async for event in result.stream_events() if event.type == "raw_response_event"]
    assert result.final_output == "Hello"
    assert asked == ["西安", "Paris"]
    assert seen.count("response.completed") == 2
    messages: Any = upstream.requests[1].json["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    await client.close()


async def test_pydantic_ai(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    pydantic_ai = pytest.importorskip("pydantic_ai", reason=f"pydantic-ai {EXTRA}")
    models = pytest.importorskip("pydantic_ai.models.openai", reason=f"pydantic-ai {EXTRA}")
    providers = pytest.importorskip("pydantic_ai.providers.openai", reason=f"pydantic-ai {EXTRA}")
    openai = pytest.importorskip("openai", reason=f"openai {EXTRA}")
    client = openai.AsyncOpenAI(base_url=await serve(gateway), api_key="none", max_retries=0)
    model = models.OpenAIResponsesModel("m-1", provider=providers.OpenAIProvider(openai_client=client))
    agent = pydantic_ai.Agent(model)

    @agent.tool_plain
    def weather(city: str) -> str:
        return f"warm in {city}"

    upstream.script(stream(*RICH), HELLO)
    assert (await agent.run("Hi")).output == "Hello"
    upstream.script(HELLO)
    async with agent.run_stream("Hi") as result:
        assert [text async for text in result.stream_text(delta=True)][-1]
        assert await result.get_output() == "Hello"
    await client.close()
