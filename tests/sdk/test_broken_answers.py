"""A streamed answer that fails on `/v1`: each official client tells its user once, with the gateway's words.

It does so wherever in the answer the failure is, and no client takes a broken answer for a whole one. How the body ends
for that, and why, is in `gateway/handlers/completions.py`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from gateway.errors import UpstreamIncomplete
from tests.conftest import MakeGateway
from tests.rig.scripted_upstream import Pause, Reset, ScriptedUpstream, Step, chunk, delta, event, finish, stream
from tests.sdk.answers import QUESTION
from tests.sdk.node import needs, running, script

SOON = "[stream]\nheartbeat_seconds = 0.05"
WORDS = UpstreamIncomplete.message

_CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city'}}

# What the upstream says before it fails, and the text in it. Before any content a heartbeat opens the body. The pauses
# let what was said arrive first: a reset takes with it what was not yet read.
STAGES: dict[str, tuple[list[bytes | Step], str]] = {
    "before any content": ([Pause(0.2)], ""),
    "after content": ([delta("Hel"), Pause(0.05)], "Hel"),
    "in a tool call": ([event(chunk(role="assistant")), event(chunk(tool_calls=[_CALL])), Pause(0.05)], ""),
}
FAILURES: dict[str, tuple[list[bytes | Step], str]] = {
    "a reset": ([Reset()], WORDS),
    "a clean end": ([], WORDS),
    "an error": ([event({"error": {"message": "No room here.", "code": "overloaded"}})], "No room here."),
}


@dataclass
class Told:
    """What a client made of an answer. `told`: its errors, in words."""

    told: list[str] = field(default_factory=list)
    text: str = ""
    finish: str | None = None


async def openai_python(address: str) -> Told:
    openai = pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")
    result = Told()
    async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0, timeout=5) as client:
        try:
            async for part in await client.chat.completions.create(**QUESTION, stream=True):
                result.text += part.choices[0].delta.content or ""
                result.finish = part.choices[0].finish_reason or result.finish
        except Exception as error:
            result.told.append(str(error))
    return result


async def openai_python_blocking(address: str) -> Told:
    openai = pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")

    def read() -> Told:
        result = Told()
        with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=5) as client:
            try:
                for part in client.chat.completions.create(**QUESTION, stream=True):
                    result.text += part.choices[0].delta.content or ""
                    result.finish = part.choices[0].finish_reason or result.finish
            except Exception as error:
                result.told.append(str(error))
        return result

    return await asyncio.to_thread(read)


async def langchain(address: str) -> Told:
    package = pytest.importorskip(
        "langchain_openai", reason="the langchain-openai package is not installed: it is in the extra `sdk`"
    )
    result = Told()
    model = package.ChatOpenAI(model="m-1", base_url=address, api_key="none", max_retries=0, timeout=5)
    try:
        async for part in model.astream("Hi"):
            result.text += part.content
            result.finish = part.response_metadata.get("finish_reason", result.finish)
    except Exception as error:
        result.told.append(str(error))
    return result


def in_node(client: str) -> Callable[[str], Awaitable[Told]]:
    async def ask(address: str) -> Told:
        async with running(script("broken_answers.mjs"), address, client) as result:
            return Told(**result)

    return ask


needs_node = needs("openai", "ai", "@ai-sdk/openai-compatible")
CLIENTS = [
    pytest.param(openai_python, id="openai for Python"),
    pytest.param(openai_python_blocking, id="openai for Python, blocking"),
    pytest.param(langchain, id="LangChain"),
    pytest.param(in_node("openai"), id="openai for JavaScript", marks=needs_node),
    pytest.param(in_node("openai helper"), id="the helper of openai for JavaScript", marks=needs_node),
    pytest.param(in_node("ai sdk"), id="AI SDK", marks=needs_node),
]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("stage", STAGES)
async def test_a_user_is_told_once_and_in_our_words(
    gateway: MakeGateway, upstream: ScriptedUpstream, stage: str, client: Callable[[str], Awaitable[Told]]
) -> None:
    said, text = STAGES[stage]
    address = str((await gateway(SOON)).make_url("/v1"))
    for failure, words in FAILURES.values():
        upstream.script(stream(*said, *failure))
        result = await client(address)
        assert result.told == [words]
        assert result.text == text
        assert result.finish in (None, "error")


@pytest.mark.parametrize("client", CLIENTS)
async def test_behind_a_finish_reason_our_words_come_first(
    gateway: MakeGateway, upstream: ScriptedUpstream, client: Callable[[str], Awaitable[Told]]
) -> None:
    """The body is broken off then, and the AI SDK tells of that too."""
    upstream.script(stream(delta("Hel"), finish(), Pause(0.05), event({"error": {"message": "No room here."}})))
    result = await client(str((await gateway()).make_url("/v1")))
    assert result.told[0] == "No room here."
    assert result.told[1:] in ([], ["Failed to process successful response"])
