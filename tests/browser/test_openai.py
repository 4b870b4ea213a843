"""The official JavaScript client, unmodified, in a page of another origin that is listed in `cors_origins`.

The browser asks in a preflight whether the page may send the client's own header fields, and refuses the request by
itself unless the answer names each of them.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.config import Key, Secret, Server
from gateway.demo.answers import answer_to
from gateway.serve import listening

from .conftest import Demo, Serve

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

PACKAGE = Path(__file__).parents[2] / ".node" / "node_modules" / "openai"
KEY = "a-key-of-the-team-that-asks"

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(
        not PACKAGE.is_dir(), reason="the npm packages are not in .node: `.ci/run` says how to install them"
    ),
]

PAGE = (
    '<!doctype html><link rel="icon" href="data:,">'
    '<script type="importmap">{"imports": {"openai": "/openai/index.mjs"}}</script>'
)

CALL = """
async ([options, ask]) => {
  const {default: OpenAI} = await import('openai')
  const client = new OpenAI({...options, maxRetries: 0, dangerouslyAllowBrowser: true})
  try {
    const parts = []
    for await (const chunk of await client.chat.completions.create({...ask, stream: true}))
      parts.push(chunk.choices[0]?.delta.content ?? '')
    const {choices} = await client.chat.completions.create(ask)
    const models = []
    for await (const model of client.models.list()) models.push(model.id)
    return {parts, whole: choices[0].message.content, models}
  } catch ({name, status, code, message}) {
    return {name, status: status ?? null, code: code ?? null, message}
  }
}
"""

Call = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture(loop_scope="session")
async def elsewhere() -> AsyncIterator[str]:
    """The address of a page that is not the gateway's, with the package beside it."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", page), web.static("/openai", PACKAGE)])
    async with listening(app, "127.0.0.1", 0, access_log=None) as address:
        yield address


@pytest_asyncio.fixture(loop_scope="session")
async def call(browser: "Browser", elsewhere: str) -> AsyncIterator[Call]:
    """`await call(gateway, **options of the client)`"""
    context = await browser.new_context()
    page: Page = await context.new_page()

    async def call(gateway: str, **options: Any) -> Any:
        await page.goto(elsewhere)
        ask = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
        return await page.evaluate(CALL, [{"baseURL": f"{gateway}/v1", **options}, ask])

    yield call
    await context.close()


OPTIONS: dict[str, dict[str, Any]] = {
    "Authorization": {"apiKey": KEY},
    "x-api-key": {"apiKey": "unused", "defaultHeaders": {"Authorization": None, "x-api-key": KEY}},
}


@pytest.mark.parametrize("way", OPTIONS)
async def test_it_works_in_a_page_of_a_listed_origin(call: Call, elsewhere: str, serve: Serve, way: str):
    """Streamed, whole, and the list of models; its key in either field."""
    gateway = await serve(server=Server(cors_origins=[elsewhere]), keys=[Key(name="team", key=Secret(KEY))])
    heard = await call(gateway, **OPTIONS[way])
    assert "name" not in heard, heard
    assert len(heard["parts"]) > 1
    assert "".join(heard["parts"]) == heard["whole"] == "".join(answer_to("Hello", None))
    assert "demo" in heard["models"]


async def test_a_status_is_read_there_too(call: Call, elsewhere: str, serve: Serve, demo: Demo):
    gateway = await serve(server=Server(cors_origins=[elsewhere]), keys=[Key(name="team", key=Secret(KEY))])
    heard = await call(gateway, apiKey="another-key-altogether")
    assert (heard["name"], heard["status"], heard["code"]) == ("Error", 401, "invalid_api_key")
    assert demo.asked == 0


async def test_a_page_of_another_origin_that_is_not_listed_asks_nobody(
    call: Call, elsewhere: str, serve: Serve, demo: Demo
):
    """The browser refuses for it, and tells the page nothing."""
    gateway = await serve(server=Server(cors_origins=["https://app.example"]))
    heard = await call(gateway, apiKey="unused")
    assert (heard["status"], heard["message"]) == (None, "Connection error.")
    assert demo.asked == 0
