"""A real browser, a real gateway and the demo upstream behind it, all on loopback.

One browser for all tests, a page of its own (no cookies, no cache, nothing kept) for each. Where there is no browser,
the tests that need one are skipped and say so.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.app import create_app, server_options
from gateway.commands.demo import demo_config
from gateway.config import Config, Retry, Stream
from gateway.demo import create_demo
from gateway.serve import listening

from .playground import Playground
from .wire import Wire

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, ViewportSize

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
VIEWPORT: "ViewportSize" = {"width": 1000, "height": 700}
INTERVAL = 0.002  # seconds to a token: an answer takes a few tenths of a second, `demo-clock` ticks every twentieth


class Demo:
    """The demo upstream, and how often it is asked."""

    def __init__(self) -> None:
        self.address = ""
        self.asked = 0
        self.answering = 0
        self._idle = asyncio.Event()

    def app(self) -> web.Application:
        app = create_demo(interval=INTERVAL)
        app.middlewares.append(self._count)
        return app

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.asked += 1
        self.answering += 1
        self._idle.clear()
        try:
            return await handler(request)
        finally:
            self.answering -= 1
            if not self.answering:
                self._idle.set()

    async def let_go(self) -> None:
        """Returns once nothing is being answered (any more)."""
        await asyncio.wait_for(self._idle.wait(), timeout=5)


@pytest_asyncio.fixture(loop_scope="session")
async def demo() -> AsyncIterator[Demo]:
    demo = Demo()
    async with listening(demo.app(), "127.0.0.1", 0, access_log=None) as demo.address:
        yield demo


Serve = Callable[..., Awaitable[str]]
Apps = list[web.Application]


@pytest.fixture
def apps() -> Apps:
    """The gateways that `serve` has started."""
    return []


@pytest_asyncio.fixture(loop_scope="session")
async def serve(demo: Demo, apps: Apps) -> AsyncIterator[Serve]:
    """`await serve(**fields of the configuration)`: the address of a gateway before the demo."""
    async with AsyncExitStack() as gateways:

        async def start(**fields: Any) -> str:
            app = create_app(msgspec.structs.replace(_config(demo), **fields))
            apps.append(app)
            return await gateways.enter_async_context(listening(app, "127.0.0.1", 0, **server_options()))

        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def gateway(serve: Serve) -> str:
    return await serve()


@pytest_asyncio.fixture(loop_scope="session")
async def wire(gateway: str) -> AsyncIterator[Wire]:
    """To the gateway."""
    async with Wire(gateway) as wire:
        yield wire


def _config(demo: Demo) -> Config:
    """As of `gateway serve --demo`, for people without patience."""
    retry = Retry(backoff_seconds=0.05, max_wait_seconds=0.5)
    return msgspec.structs.replace(demo_config(f"{demo.address}/v1"), stream=Stream(retry_ms=50), retry=retry)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> "AsyncIterator[Browser]":
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        pytest.skip("playwright is not installed")
    async with async_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = next(filter(None, map(shutil.which, (*BROWSERS, own))), None)
        if path is None:
            pytest.skip("there is no Chromium here")
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tab(browser: "Browser") -> "AsyncIterator[Page]":
    """The one that most tests share, one after the other: a new one costs more than many a test."""
    context = await browser.new_context(viewport=VIEWPORT)
    yield await context.new_page()
    await context.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def drawing(browser: "Browser") -> "AsyncIterator[Page]":
    """A page that draws what it is given; nothing is asked on it."""
    async with listening(create_app(Config()), "127.0.0.1", 0) as address:
        page = await browser.new_page()
        await page.goto(address)
        yield page
        await page.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(tab: "Page", gateway: str) -> AsyncIterator[Playground]:
    """The page, freshly loaded; at the end the browser must have had nothing to complain about."""
    page = Playground(tab, gateway)
    yield await page.open()
    await page.leave()
    assert page.complaints() == []


Open = Callable[..., Awaitable[Playground]]


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: "Browser") -> AsyncIterator[Open]:
    """`await open_page(address, **how the browser is set up)`: the same in a tab of its own."""
    opened: list[Playground] = []

    async def start(address: str, **setup: Any) -> Playground:
        context = await browser.new_context(**({"viewport": VIEWPORT} | setup))
        opened.append(Playground(await context.new_page(), address))
        return await opened[-1].open()

    yield start
    for page in opened:
        await page.leave()
        await page.page.context.close()
        assert page.complaints() == []
