"""The official Python client before a running gateway, blocking and asynchronous, behind one set of names."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from operator import attrgetter
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.sdk.answers import QUESTION

MISSING = "the openai package is not installed: it is in the extra `sdk`"
KEY = "test-key-of-a-team-1234"


class Blocking:
    """Runs in a thread, since the gateway runs in the test's own event loop."""

    def __init__(self, **options: Any) -> None:
        self._client = pytest.importorskip("openai", reason=MISSING).OpenAI(**options)

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        """`await sdk.call("models.retrieve", "m-1")`"""
        return await asyncio.to_thread(attrgetter(method)(self._client), *args, **fields)

    async def read(self, chunks: list[Any], **fields: Any) -> None:
        """Asks for a stream and reads it into `chunks`, so that they are there even where it raises."""

        def read() -> None:
            with self._client.chat.completions.create(**QUESTION, stream=True, **fields) as stream:
                for chunk in stream:
                    chunks.append(chunk)  # noqa: PERF402 (what came before an error is kept)

        await asyncio.to_thread(read)

    async def read_texts(self, chunks: list[Any], **fields: Any) -> None:
        """The same for a text completion."""

        def read() -> None:
            with self._client.completions.create(stream=True, **fields) as stream:
                for chunk in stream:
                    chunks.append(chunk)  # noqa: PERF402 (as above)

        await asyncio.to_thread(read)

    async def assemble(self, **fields: Any) -> tuple[set[str], Any]:
        """What the client's own helper makes of a stream: the types of its events, and the completion."""

        def assemble() -> tuple[set[str], Any]:
            with self._client.chat.completions.stream(**QUESTION, **fields) as stream:
                return {event.type for event in stream}, stream.get_final_completion()

        return await asyncio.to_thread(assemble)

    async def leave(self) -> None:
        """Closes a stream after its first chunk."""

        def leave() -> None:
            stream = self._client.chat.completions.create(**QUESTION, stream=True)
            next(stream)
            stream.close()

        await asyncio.to_thread(leave)

    async def close(self) -> None:
        self._client.close()


class Asynchronous:
    def __init__(self, **options: Any) -> None:
        self._client = pytest.importorskip("openai", reason=MISSING).AsyncOpenAI(**options)

    async def call(self, method: str, /, *args: Any, **fields: Any) -> Any:
        return await attrgetter(method)(self._client)(*args, **fields)

    async def read(self, chunks: list[Any], **fields: Any) -> None:
        async with await self._client.chat.completions.create(**QUESTION, stream=True, **fields) as stream:
            async for chunk in stream:
                chunks.append(chunk)  # noqa: PERF401 (what came before an error is kept)

    async def read_texts(self, chunks: list[Any], **fields: Any) -> None:
        async with await self._client.completions.create(stream=True, **fields) as stream:
            async for chunk in stream:
                chunks.append(chunk)  # noqa: PERF401 (as above)

    async def assemble(self, **fields: Any) -> tuple[set[str], Any]:
        async with self._client.chat.completions.stream(**QUESTION, **fields) as stream:
            return {event.type async for event in stream}, await stream.get_final_completion()

    async def leave(self) -> None:
        stream = await self._client.chat.completions.create(**QUESTION, stream=True)
        await anext(stream)
        await stream.close()

    async def close(self) -> None:
        await self._client.close()


Sdk = Blocking | Asynchronous
SDKS: dict[str, type[Sdk]] = {"blocking": Blocking, "asynchronous": Asynchronous}
Connect = Callable[..., Awaitable[Sdk]]


@pytest.fixture(params=SDKS)
async def connect(request: pytest.FixtureRequest, gateway: MakeGateway) -> AsyncIterator[Connect]:
    """`await connect(toml, **options)`: a client with those options, of a gateway that is configured by `toml`.

    It does not try again by itself unless it is told to, and it never waits long.
    """
    made: list[Sdk] = []

    async def connect(toml: str = "", **options: Any) -> Sdk:
        client = await gateway(toml)
        defaults = {"api_key": KEY, "max_retries": 0, "timeout": 5.0}
        made.append(SDKS[request.param](base_url=str(client.make_url("/v1")), **defaults | options))
        return made[-1]

    yield connect
    for sdk in made:
        await sdk.close()


OpenAI = Callable[..., Any]


@pytest.fixture
async def openai_at() -> AsyncIterator[OpenAI]:
    """`openai_at(address, **options)`: the asynchronous client itself, of what is at that address below `/v1`."""
    made: list[Any] = []

    def connect(address: str, **options: Any) -> Any:
        defaults = {"api_key": "none", "max_retries": 0, "timeout": 5.0}
        openai = pytest.importorskip("openai", reason=MISSING)
        made.append(openai.AsyncOpenAI(base_url=address, **defaults | options))
        return made[-1]

    yield connect
    for client in made:
        await client.close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients would take a proxy from the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
