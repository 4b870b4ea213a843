"""The page when the connection goes, when it is reloaded, and when a second tab looks on."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from gateway.config import Stream
from gateway.handlers.services import SERVICES
from tests.rig.clients import eventually

from .conftest import Apps, Demo, Open, Serve
from .playground import WAYS, Playground, Way, expect
from .wire import Wire

if TYPE_CHECKING:
    from playwright.async_api import Locator, Page, Route

pytestmark = pytest.mark.asyncio(loop_scope="session")


TRYING = "Connection lost, trying again…"


@pytest_asyncio.fixture(loop_scope="session")
async def wired(tab: "Page", wire: Wire) -> AsyncIterator[Playground]:
    """The page, through a wire that can be cut."""
    page = await Playground(tab, wire.address).open()
    page.expected = "Failed to load resource"
    yield page
    await page.leave()
    assert page.complaints() == []


async def lose(page: Playground, wire: Wire) -> None:
    wire.cut()
    await page.page.context.set_offline(True)


async def find(page: Playground, wire: Wire) -> None:
    wire.mend()
    await page.page.context.set_offline(False)


def line_of(turn: "Locator") -> "Locator":
    return turn.locator(".measures summary")


async def ticks(turn: "Locator") -> list[int]:
    """The numbers of the clock's lines: without a gap, and nothing twice."""
    numbers = [int(number) for number in re.findall(r"(\d+): This is", await turn.locator(".prose").inner_text())]
    assert numbers == list(range(1, len(numbers) + 1))
    return numbers


async def ticking(turn: "Locator", number: int) -> None:
    await expect(turn.locator(".prose")).to_contain_text(f"{number}: This is an SSE message.")


async def stopped(page: Playground, turn: "Locator", demo: Demo) -> None:
    await page.button("Stop").click()
    await page.over(turn)
    await expect(line_of(turn)).to_contain_text("Stopped")
    await demo.let_go()


@pytest.mark.parametrize("way", WAYS)
async def test_a_lost_connection_is_told_and_the_answer_goes_on(wired: Playground, wire: Wire, demo: Demo, way: Way):
    turn = await wired.ask("Hello", model="demo-clock", way=way)
    await ticking(turn, 3)
    await lose(wired, wire)
    await expect(line_of(turn)).to_contain_text(TRYING)
    await expect(wired.page.get_by_role("status")).to_have_text(TRYING)
    await expect(wired.page.locator("#state")).to_have_text("Reconnecting")
    seen = len(await ticks(turn))
    await find(wired, wire)
    await ticking(turn, seen + 10)
    await expect(wired.page.locator("#state")).to_have_text("Streaming")
    await expect(turn.locator(".failure")).to_be_hidden()
    await stopped(wired, turn, demo)
    assert len(await ticks(turn)) > seen
    await line_of(turn).click()
    await expect(turn.locator(".measures dl")).to_contain_text("End reasonstopped")  # as the gateway says
    assert demo.asked == 1


async def test_a_connection_that_is_back_while_the_model_is_silent_is_told(wired: Playground, wire: Wire, demo: Demo):
    turn = await wired.ask("Hello", model="demo-stall")
    await expect(turn.locator(".prose")).to_contain_text("Hello! 👋")
    await lose(wired, wire)
    await expect(line_of(turn)).to_contain_text(TRYING)
    await find(wired, wire)
    await expect(line_of(turn)).to_contain_text("Answering…")
    await stopped(wired, turn, demo)


@pytest.mark.parametrize("way", WAYS)
async def test_a_gateway_that_is_out_of_reach_is_asked_once_it_is_back(
    wired: Playground, wire: Wire, demo: Demo, way: Way
):
    await lose(wired, wire)
    turn = await wired.ask("Hello", way=way)
    await expect(line_of(turn)).to_contain_text("The gateway cannot be reached, trying again…")
    await expect(wired.page.locator("#state")).to_have_text("Reconnecting")
    await find(wired, wire)
    await wired.over(turn)
    await expect(line_of(turn)).to_contain_text("Complete")
    assert demo.asked == 1


async def test_stop_needs_no_gateway(wired: Playground, wire: Wire):
    await lose(wired, wire)
    turn = await wired.ask("Hello")
    await expect(wired.page.locator("#state")).to_have_text("Reconnecting")
    await wired.page.keyboard.press("Escape")
    await wired.over(turn)
    await expect(line_of(turn)).to_contain_text("Stopped")
    await find(wired, wire)
    turn = await wired.ask("Hello", model="demo-clock")
    await ticking(turn, 2)
    await lose(wired, wire)
    await expect(line_of(turn)).to_contain_text(TRYING)
    await wired.page.keyboard.press("Escape")
    await wired.over(turn)
    await expect(line_of(turn)).to_contain_text("Stopped here, out of touch with the gateway")


async def test_what_was_lost_for_too_long_can_be_had_later(open_page: Open, wire: Wire, demo: Demo):
    page = await open_page(wire.address)
    page.expected = "Failed to load resource"
    await page.page.clock.install()
    turn = await page.ask("Hello", model="demo-slow")
    await expect(turn.locator(".prose")).not_to_be_empty()
    await lose(page, wire)
    while await turn.locator(".failure").is_hidden():
        await page.page.clock.run_for(5_000)
        await asyncio.sleep(0.02)  # for the next try to fail
    await expect(turn.locator(".failure")).to_contain_text("The connection was lost in the middle of the answer.")
    await find(page, wire)
    await page.page.clock.resume()
    await turn.get_by_role("button", name="Go on").click()
    await page.over(turn)
    await expect(line_of(turn)).to_contain_text("Complete")
    await expect(turn.locator(".failure")).to_be_hidden()
    answer = await page.answer("Hello", model="demo")
    assert await turn.locator(".prose").inner_text() == await answer.locator(".prose").inner_text()
    assert demo.asked == 2


@pytest.mark.parametrize(
    ("keep_seconds", "said"),
    [(0.05, "The gateway no longer has this answer."), (60.0, "since nobody had watched it for a while")],
)
async def test_an_answer_that_ended_meanwhile_is_told(
    open_page: Open, serve: Serve, apps: Apps, keep_seconds: float, said: str
):
    async with Wire(await serve(stream=Stream(grace_seconds=0.05, keep_seconds=keep_seconds))) as wire:
        page = await open_page(wire.address)
        page.expected = "Failed to load resource"
        turn = await page.ask("Hello", model="demo-clock")
        await ticking(turn, 3)
        await lose(page, wire)
        await expect(line_of(turn)).to_contain_text(TRYING)
        held = apps[-1][SERVICES].streams
        await eventually(lambda: all(stream.log.ended for stream in held) and (keep_seconds > 1 or not list(held)))
        await find(page, wire)
        await page.over(turn)
        await expect(turn.locator(".failure")).to_contain_text(said)
        await expect(turn.get_by_role("button", name="Ask again")).to_be_visible()
        await ticks(turn)  # what came is kept


async def test_a_gateway_that_has_no_room_is_asked_again(page: Playground, demo: Demo):
    page.expected = "503"
    told = {"error": {"message": "Full.", "type": "server_error", "code": "busy", "param": None}}
    tries = []

    async def refuse_once(route: "Route") -> None:
        tries.append(route.request.headers["idempotency-key"])
        await (route.fulfill(status=503, json=told) if len(tries) == 1 else route.continue_())

    await page.page.route("**/chat", refuse_once)
    turn = await page.ask("Hello")
    await expect(line_of(turn)).to_contain_text("The gateway is busy, trying again…")
    await page.over(turn)
    await expect(line_of(turn)).to_contain_text("Complete")
    assert tries[0] == tries[1]
    assert demo.asked == 1


async def test_what_an_earlier_version_kept_does_no_harm(page: Playground):
    page.expected = "uncaught"  # but told to whoever looks
    await page.page.evaluate("sessionStorage.setItem('conversation', JSON.stringify([{over: {}}]))")
    await page.page.reload()
    await expect(page.turns).to_have_count(0)
    await page.answer("Hello")


# Reloading


@pytest.mark.parametrize("way", WAYS)
async def test_a_reload_in_the_middle_of_an_answer_loses_nothing(page: Playground, demo: Demo, way: Way):
    await page.answer("Hello", model="demo")
    turn = await page.ask("And the time?", model="demo-clock", way=way)
    await ticking(turn, 5)
    await page.page.reload()
    await expect(page.turns).to_have_count(2)
    await expect(page.turns.first.locator(".prose")).to_contain_text("I am the demo model")
    await ticking(turn, 15)
    await ticks(turn)
    await expect(page.page.locator("#state")).to_have_text("Streaming")
    await expect(page.page.locator("#welcome")).to_be_hidden()
    await stopped(page, turn, demo)
    await expect(line_of(turn)).not_to_contain_text("first token")  # the page was not there
    assert demo.asked == 2


async def test_a_reload_after_the_answer_shows_it_as_it_was(page: Playground):
    for model in ("demo-reasoning", "demo-tools", "demo-refusal", "demo-error", "demo"):
        await page.answer("Hello", model=model)
    shown = await page.page.locator("#conversation").inner_text()
    await page.page.reload()
    await expect(page.turns).to_have_count(5)
    assert await page.page.locator("#conversation").inner_text() == shown
    await expect(page.page.get_by_role("status")).to_be_empty()  # it is no news
    await page.answer("And then?")
    sent = page.asked[-1]["messages"]
    questions = [message["content"] for message in sent if message["role"] == "user"]
    assert questions == ["Hello", "Hello", "Hello", "And then?"]  # of tools and of errors, nothing
    await page.button("New conversation").click()
    await page.page.reload()
    await expect(page.turns).to_have_count(0)
    await expect(page.page.locator("#welcome")).to_be_visible()


async def test_a_reload_before_the_gateway_answered_is_told(page: Playground, demo: Demo):
    held: list[Route] = []
    await page.page.route("**/chat", lambda route: held.append(route))
    turn = await page.ask("Hello")
    await expect(page.page.locator("#state")).to_have_text("Connecting")
    await page.page.reload()
    await expect(turn.locator(".failure")).to_contain_text("reloaded before the gateway had answered")
    await page.page.unroute("**/chat")
    assert len(held) == 1
    await turn.get_by_role("button", name="Ask again").click()
    await page.over(turn)
    await expect(line_of(turn)).to_contain_text("Complete")
    assert demo.asked == 1


async def test_a_new_conversation_lets_the_model_go(page: Playground, demo: Demo):
    turn = await page.ask("Hello", model="demo-clock")
    await ticking(turn, 2)
    await page.button("New conversation").click()
    await demo.let_go()
    await expect(page.page.locator("#state")).to_have_text("Ready")


# Two tabs


async def second(page: Playground) -> Playground:
    tab = Playground(await page.page.context.new_page(), page.address)
    return await tab.open()


async def test_a_second_tab_watches_the_same_answer(page: Playground, demo: Demo):
    other = await second(page)
    await page.answer("Hello", model="demo")
    turn = await page.ask("What is the time?", model="demo-clock")
    offered = other.page.get_by_role("list", name="Answers that arrive in other tabs").get_by_role("button")
    await expect(offered).to_contain_text("What is the time?")
    await offered.click()
    watched = other.turns.last
    await expect(other.turns).to_have_count(2)
    await expect(watched.locator(".who")).to_contain_text("asked in another tab")
    await expect(other.page.locator("#state")).to_have_text("Watching")
    await ticking(watched, len(await ticks(turn)) + 5)
    await stopped(other, watched, demo)
    await page.over(turn)
    await expect(line_of(turn)).to_contain_text("Stopped")
    assert await ticks(turn) == await ticks(watched)
    assert demo.asked == 2
    await other.leave()
    await other.page.close()
    assert other.complaints() == []


async def test_a_tab_that_comes_later_is_offered_what_is_there_and_no_more(page: Playground, demo: Demo):
    turn = await page.ask("What is the time?", model="demo-clock")
    await ticking(turn, 2)
    other = await second(page)
    await expect(other.page.locator("#arriving")).to_contain_text("What is the time?")
    await stopped(page, turn, demo)
    await expect(other.page.locator("#elsewhere")).to_be_hidden()
    await other.leave()
    await other.page.close()


async def test_a_watcher_that_begins_anew_stops_nothing(page: Playground, demo: Demo):
    turn = await page.ask("What is the time?", model="demo-clock")
    other = await second(page)
    await other.page.locator("#arriving button").click()
    await ticking(other.turns.last, 2)
    await other.page.reload()  # it is still the one that watches
    await expect(other.turns.last.locator(".who")).to_contain_text("asked in another tab")
    await other.button("New conversation").click()
    await ticking(turn, len(await ticks(turn)) + 5)
    await stopped(page, turn, demo)
    await other.leave()
    await other.page.close()


async def test_no_ticket_is_left_lying_about(page: Playground, demo: Demo):
    turn = await page.ask("What is the time?", model="demo-clock")
    await ticking(turn, 2)
    kept = await page.page.evaluate("JSON.stringify(sessionStorage)")
    assert "ticket=" in kept  # what a reload needs
    await stopped(page, turn, demo)
    assert "ticket=" not in await page.page.evaluate("JSON.stringify(sessionStorage)")
    places = await page.page.evaluate("[location.href, localStorage.length, document.cookie]")
    assert places == [f"{page.address}/", 0, ""]
    assert "ticket=" not in await page.page.content()


FILL = """
() => {
  for (let size = 4_000_000; size >= 1000; size /= 2)
    try { while (true) sessionStorage.setItem(`other-${size}-${sessionStorage.length}`, 'x'.repeat(size)) } catch {}
}
"""


async def test_a_conversation_that_is_too_long_to_keep_loses_its_beginning(page: Playground):
    await page.answer("Hello", model="demo")
    await page.answer("x" * 700_000, model="demo-refusal")
    records = "JSON.parse(sessionStorage.getItem('conversation')).map(({question}) => question.length)"
    assert await page.page.evaluate(records) == [5, 700_000]
    await page.page.evaluate(FILL)
    await page.answer("Hello", model="demo")
    assert await page.page.evaluate(records) == [700_000, 5]
