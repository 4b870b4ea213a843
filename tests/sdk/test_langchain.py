"""LangChain's ChatOpenAI, unmodified, before a running gateway."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.rig.scripted_upstream import DONE, Close, Pause, ScriptedUpstream, delta, finish, stream, usage
from tests.sdk.answers import USAGE, completion

langchain = pytest.importorskip(
    "langchain_openai", reason="the langchain-openai package is not installed: it is in the extra `sdk`"
)
openai = pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")

HEARTBEATS = "[stream]\nheartbeat_seconds = 0.05"


Chat = Callable[..., Awaitable[Any]]


@pytest.fixture
async def chat(gateway: MakeGateway) -> AsyncIterator[Chat]:
    """`await chat(toml, **options)`: a model that asks a gateway which is configured by `toml`."""
    models: list[Any] = []

    async def make(toml: str = "", **options: Any) -> Any:
        fields = {"base_url": str((await gateway(toml)).make_url("/v1")), "api_key": "none", **options}
        models.append(langchain.ChatOpenAI(model="m-1", max_retries=0, timeout=5, **fields))
        return models[-1]

    yield make
    for model in models:
        await model.root_async_client.close()  # uvloop does not close a loop that has open connections


async def test_invoke(chat: Chat, upstream: ScriptedUpstream) -> None:
    upstream.script(completion())
    answer = await asyncio.to_thread((await chat()).invoke, "Hi")
    assert answer.content == "Hello"
    assert answer.usage_metadata["total_tokens"] == 3


@pytest.mark.parametrize("way", ["blocking", "asynchronous"])
async def test_stream(chat: Chat, upstream: ScriptedUpstream, way: str) -> None:
    """To the end, with usage, over heartbeats."""
    upstream.script(stream(Pause(0.2), delta("Hel"), Pause(0.2), delta("lo"), finish(), usage(**USAGE), DONE))
    model = await chat(HEARTBEATS, stream_usage=True)
    if way == "blocking":
        chunks = await asyncio.to_thread(lambda: list(model.stream("Hi")))
    else:
        chunks = [chunk async for chunk in model.astream("Hi")]
    assert "".join(chunk.content for chunk in chunks) == "Hello"
    assert sum(chunk.usage_metadata["total_tokens"] for chunk in chunks if chunk.usage_metadata) == 3


@pytest.mark.parametrize("end", [[], [Close()]], ids=["a clean end", "closed inside the body"])
async def test_a_cut_stream_raises(chat: Chat, upstream: ScriptedUpstream, end: list[Close]) -> None:
    upstream.script(stream(delta("Hel"), Pause(0.1), *end))
    model = await chat()
    chunks: list[str] = []

    async def read() -> None:
        async for chunk in model.astream("Hi"):
            chunks.append(chunk.content)  # noqa: PERF401 (what came before the error is kept)

    with pytest.raises(openai.APIError):
        await read()
    assert "".join(chunks) == "Hel"
