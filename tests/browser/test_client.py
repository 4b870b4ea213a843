"""`client.js`, which pages copy: asking, losing the connection in every way there is, and coming back."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import pytest
import pytest_asyncio

from gateway.config import Stream
from gateway.demo.answers import answer_to
from gateway.handlers.services import SERVICES
from tests.rig.clients import eventually

from .conftest import Apps, Demo, Open, Serve
from .playground import Playground
from .wire import Wire

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

pytestmark = pytest.mark.asyncio(loop_scope="session")

Ask = Literal["askWithFetch", "askWithEventSource"]
ASKS: tuple[Ask, ...] = ("askWithFetch", "askWithEventSource")

QUESTION = "Hello"
ANSWER = "".join(answer_to(QUESTION, None))

RETRIES = "heard.types.filter((type) => type === 'reconnecting').length"
CALL = """
async ([name, first, options]) => {
  const client = await import('/playground/client.js')
  const heard = window.heard = {events: [], address: undefined, types: [], outcome: null}
  const leaving = window.leaving = new AbortController()
  const on = ({type, data, lastEventId}, address) => {
    heard.types.push(type)
    heard.address = address
    if (lastEventId) heard.events.push({type, data, id: lastEventId})
  }
  client[name](first, on, {...options, signal: leaving.signal}).then(
    () => { heard.outcome = {} },
    ({name, message, status, code}) => { heard.outcome = {name, message, status, code} },
  )
}
"""


class Caller:
    """What the page that calls the client's functions hears."""

    def __init__(self, page: Playground, wire: Wire) -> None:
        self.page = page.page
        self.wire = wire
        page.expected = "Failed to load resource"

    async def call(self, name: str, first: Any, **options: Any) -> None:
        await self.page.evaluate(CALL, [name, first, options])

    async def ask(self, ask: Ask, *, model: str = "demo-slow", question: str = QUESTION, **fields: Any) -> None:
        await self.call(ask, {"question" if ask == "askWithFetch" else "q": question, "model": model} | fields)

    async def stop(self) -> None:
        stop = "async () => (await import('/playground/client.js')).stop(heard.address)"
        await self.page.evaluate(stop)
        assert await self.outcome() == {}

    async def until(self, condition: str) -> None:
        """(Playwright's own way of waiting for this needs `eval`, which the page's policy forbids.)"""
        look = f"(resolve) => {{ const look = () => {condition} ? resolve() : setTimeout(look, 20); look() }}"
        async with asyncio.timeout(8):
            await self.page.evaluate(f"() => new Promise({look})")

    async def has(self, messages: int) -> None:
        await self.until(f"heard.types.filter((type) => type === 'message').length >= {messages}")

    async def outcome(self) -> dict[str, Any]:
        await self.until("heard.outcome")
        outcome: dict[str, Any] = await self.page.evaluate("heard.outcome")
        return outcome

    async def events(self) -> list[dict[str, str]]:
        events: list[dict[str, str]] = await self.page.evaluate("heard.events")
        return events

    async def address(self) -> str:
        return str(await self.page.evaluate("heard.address"))

    async def retries(self) -> int:
        return int(await self.page.evaluate(RETRIES))

    async def lose(self) -> None:
        """The network goes."""
        self.wire.cut()
        await self.page.context.set_offline(True)
        await self.until("heard.types.at(-1) === 'reconnecting'")

    async def find(self) -> None:
        """The network is back."""
        self.wire.mend()
        await self.page.context.set_offline(False)


@pytest_asyncio.fixture(loop_scope="session")
async def caller(tab: "Page", wire: Wire) -> AsyncIterator[Caller]:
    page = await Playground(tab, wire.address).open()
    yield Caller(page, wire)
    await page.leave()
    assert page.complaints() == []


def text_of(events: list[dict[str, str]]) -> str:
    return "".join(event["data"] for event in events if event["type"] == "message")


def numbers(events: list[dict[str, str]]) -> list[int]:
    return [int(event["id"].rpartition(".")[2]) for event in events]


def assert_whole(events: list[dict[str, str]]) -> None:
    """Without a gap, and nothing twice."""
    assert text_of(events) == ANSWER
    assert numbers(events) == list(range(len(events)))
    assert events[-1]["type"] == "end"
    assert '"reason":"complete"' in events[-1]["data"]


@pytest.mark.parametrize("ask", ASKS)
async def test_a_network_that_goes_and_comes_back_leaves_no_gap(caller: Caller, demo: Demo, ask: Ask):
    await caller.ask(ask)
    for messages in (5, 20):
        await caller.has(messages)
        await caller.lose()
        tries = await caller.retries()
        await caller.until(f"{RETRIES} > {tries}")
        await caller.find()
    assert await caller.outcome() == {}
    assert_whole(await caller.events())
    assert await caller.page.evaluate("heard.types.at(-1)") == "end"  # and the text is the one of its receipt
    assert await caller.retries() >= 2
    assert demo.asked == 1


@pytest.mark.parametrize("ask", ASKS)
async def test_it_comes_back_to_the_same_view(caller: Caller, ask: Ask):
    await caller.ask(ask, model="demo-clock", format="json", reasoning="1")
    await caller.has(3)
    await caller.lose()
    before = len(await caller.events())
    await caller.find()
    await caller.has(before + 5)
    await caller.stop()
    events = await caller.events()
    assert all(event["data"].startswith('{"content":') for event in events if event["type"] == "message")


class Interrupted:
    """Answers the first requests to an address by itself, and lets the others through."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.left = list(answers)
        self.seen: list[str] = []

    async def __call__(self, route: "Route") -> None:
        self.seen.append(route.request.url)
        if self.left:
            await route.fulfill(**self.left.pop(0))
        else:
            await route.continue_()


BAD_GATEWAY = {"status": 502, "content_type": "text/html", "body": "<h1>502 Bad Gateway</h1>"}
PORTAL = {"status": 200, "content_type": "text/html", "body": "<h1>Log in to this network</h1>"}


@pytest.mark.parametrize("ask", ASKS)
async def test_a_proxy_that_has_no_gateway_for_a_moment_is_no_end(caller: Caller, demo: Demo, ask: Ask):
    proxy = Interrupted(BAD_GATEWAY, PORTAL)
    await caller.page.route("**/streams/*", proxy)
    await caller.ask(ask)
    await caller.has(5)
    await caller.lose()
    await caller.find()
    assert await caller.outcome() == {}
    assert_whole(await caller.events())
    assert len(proxy.seen) >= 3
    assert all("last_event_id=" in url for url in proxy.seen)
    assert demo.asked == 1


@pytest.mark.parametrize("ask", ASKS)
async def test_a_question_of_which_nobody_knows_whether_it_arrived_is_asked_once(
    caller: Caller, demo: Demo, wire: Wire, ask: Ask
):
    keys = []

    async def lose_the_first(route: "Route") -> None:
        """It arrives, and the connection breaks before a byte of the answer is back."""
        request = route.request
        keys.append(request.headers.get("idempotency-key") or request.url.partition("idempotency_key=")[2])
        if len(keys) > 1:
            await route.continue_()
            return
        headers = {**request.headers, "origin": wire.address}
        async with aiohttp.request(request.method, request.url, headers=headers, data=request.post_data) as response:
            assert response.status == 200
            await response.content.readline()
        await route.abort("connectionreset")

    await caller.page.route("**/chat*", lose_the_first)
    await caller.ask(ask)
    assert await caller.outcome() == {}
    assert_whole(await caller.events())
    assert keys[0] == keys[1]
    assert len(keys) == 2
    assert demo.asked == 1


@pytest.mark.parametrize("ask", ASKS)
async def test_a_refusal_is_final_and_says_why(caller: Caller, demo: Demo, ask: Ask):
    await caller.ask(ask, model="missing")
    outcome = await caller.outcome()
    assert (outcome["status"], outcome["code"]) == (404, "model_not_found")
    assert await caller.retries() == demo.asked == 0


@pytest.mark.parametrize("ask", ASKS)
async def test_an_answer_that_is_gone_is_told(open_page: Open, serve: Serve, apps: Apps, ask: Ask):
    async with Wire(await serve(stream=Stream(grace_seconds=0.05, keep_seconds=0.05))) as wire:
        caller = Caller(await open_page(wire.address), wire)
        await caller.ask(ask, model="demo-clock")
        await caller.has(3)
        await caller.lose()
        await eventually(lambda: not list(apps[-1][SERVICES].streams))
        await caller.find()
        outcome = await caller.outcome()
    assert (outcome["status"], outcome["code"]) == (404, "stream_not_found")
    assert "end" not in [event["type"] for event in await caller.events()]


@pytest.mark.parametrize("ask", ASKS)
async def test_it_gives_up_after_two_minutes(open_page: Open, wire: Wire, ask: Ask):
    caller = Caller(await open_page(wire.address), wire)
    await caller.page.clock.install()
    await caller.page.context.set_offline(True)
    await caller.ask(ask)
    waited = 0
    while not await caller.page.evaluate("heard.outcome"):
        await caller.page.clock.run_for(5_000)
        await asyncio.sleep(0.02)  # for the next try to fail
        waited += 5
    assert 90 <= waited <= 200
    assert await caller.retries() == 15


@pytest.mark.parametrize("ask", ASKS)
async def test_stopping_ends_it_for_everyone_and_leaving_only_here(caller: Caller, demo: Demo, ask: Ask):
    await caller.ask(ask, model="demo-clock")
    await caller.has(3)
    address = await caller.address()
    await caller.page.evaluate("leaving.abort()")
    assert (await caller.outcome())["name"] == "AbortError"
    assert demo.answering == 1
    await caller.call("watch", address)
    await caller.has(3)
    await caller.stop()
    events = await caller.events()
    assert '"reason":"stopped"' in events[-1]["data"]
    assert numbers(events) == list(range(len(events)))
    await demo.let_go()
    assert demo.asked == 1


async def test_a_page_watches_what_its_backend_has_started(caller: Caller, gateway: str, demo: Demo):
    body = {"question": QUESTION, "model": "demo"}
    async with aiohttp.request("POST", f"{gateway}/streams", json=body) as response:
        started = await response.json()
    for address in (started["url"], started["viewer_url"]):
        await caller.call("watch", address)
        assert await caller.outcome() == {}
        assert_whole(await caller.events())
    await caller.call("stop", started["viewer_url"])
    assert (await caller.outcome())["status"] == 404
    assert demo.asked == 1


async def test_what_a_page_does_wrong_with_an_event_is_no_lost_connection(caller: Caller, demo: Demo):
    """Its own fault comes out of the promise, or is the browser's to report; the question is not asked again."""
    broken = """
      async () => {
        const {askWithFetch} = await import('/playground/client.js')
        const types = []
        const on = ({type}) => { types.push(type); if (type === 'start') throw new SyntaxError('of the page') }
        addEventListener('error', (event) => event.preventDefault(), {once: true})
        await askWithFetch({question: 'Hello', model: 'demo'}, on)
        return types
      }
    """
    types = await caller.page.evaluate(broken)
    assert types[-1] == "end"
    assert "reconnecting" not in types
    assert demo.asked == 1
