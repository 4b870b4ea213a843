"""The field for an API key: where the gateway takes one, what it opens, and what becomes of it."""

from typing import TYPE_CHECKING

import pytest

from gateway.config import Assistant, Key, Secret

from .conftest import Demo, Open, Serve
from .playground import WAYS, Playground, Way, expect

if TYPE_CHECKING:
    from playwright.async_api import Locator

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = "a-key-of-the-team-that-asks"
TEAM = Key(name="team", key=Secret(KEY), models=["demo", "demo-clock"])


async def enter(page: Playground, key: str) -> None:
    await page.page.get_by_label("API key").fill(key)
    await page.page.get_by_label("API key").press("Enter")


def note(page: Playground) -> "Locator":
    return page.page.locator("#key-note")


async def test_there_is_none_where_nobody_needs_one(page: Playground):
    await expect(page.page.get_by_label("API key")).to_be_hidden()


@pytest.mark.parametrize("way", WAYS)
async def test_a_key_opens_what_it_may_ask(open_page: Open, serve: Serve, demo: Demo, way: Way):
    page = await open_page(await serve(keys=[TEAM]))
    field = page.page.get_by_label("API key")
    await expect(note(page)).to_have_text("One is needed here.")
    await expect(page.page.get_by_label("Model", exact=True)).to_be_hidden()
    await page.question.fill("Hello")
    await page.question.press("Enter")
    await expect(field).to_be_focused()  # instead of an answer
    await expect(page.question).to_have_value("Hello")
    await enter(page, KEY)
    await expect(note(page)).to_contain_text("Taken.")
    models = page.page.get_by_label("Model", exact=True).get_by_role("option")
    await expect(models).to_have_text(["demo", "demo-clock"])
    turn = await page.answer("Hello", model="demo", way=way)
    await expect(turn.locator(".prose")).to_contain_text("I am the demo model")
    turn = await page.ask("Hello", model="demo-clock", way=way)
    await expect(turn.locator(".prose")).to_contain_text("3: This")
    await page.page.reload()
    await expect(field).to_have_value(KEY)
    await expect(turn.locator(".prose")).to_contain_text("9: This")
    await page.page.keyboard.press("Escape")
    await page.over(turn)
    await expect(turn.locator(".measures summary")).to_contain_text("Stopped")
    await demo.let_go()
    assert demo.asked == 2
    assert KEY not in await page.page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")


async def test_it_is_in_no_address(open_page: Open, serve: Serve):
    page = await open_page(await serve(keys=[TEAM]))
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    await enter(page, KEY)
    await expect(note(page)).to_contain_text("Taken.")
    for way in WAYS:
        await page.answer("Hello", model="demo", way=way)
    assert any("/streams/" in url for url in asked)
    assert not [url for url in asked if KEY in url]


async def test_a_key_that_is_refused_is_told_and_not_kept(open_page: Open, serve: Serve):
    page = await open_page(await serve(keys=[TEAM]))
    page.expected = "401"
    await enter(page, "a-key-that-is-not-one")
    field = page.page.get_by_label("API key")
    await expect(field).to_have_accessible_description("Refused: it is wrong, or has expired.")
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(page.page.get_by_role("status")).to_contain_text("Refused")
    assert await page.page.evaluate("sessionStorage.getItem('key')") == ""
    await enter(page, KEY)
    await expect(field).to_have_attribute("aria-invalid", "false")
    await page.answer("Hello")
    await enter(page, "")
    await expect(note(page)).to_have_text("One is needed here.")


async def test_whoever_has_no_key_asks_what_is_public(open_page: Open, serve: Serve):
    assistants = {"guide": Assistant(model="demo", public=True), "inner": Assistant(model="demo")}
    page = await open_page(await serve(keys=[TEAM], assistants=assistants))
    await expect(page.page.get_by_label("Assistant").get_by_role("option")).to_have_text(["guide"])
    for way in WAYS:
        turn = await page.answer("Hello", way=way)
        await expect(turn.locator(".measures summary")).to_contain_text("Complete")
    assert "model" not in page.asked[-1]
    await enter(page, KEY)
    await expect(page.page.get_by_label("Assistant").get_by_role("option")).to_have_text(["none", "guide", "inner"])


OPEN = {"guide": Assistant(model="demo", public=True), "helper": Assistant(model="demo", public=True)}


async def test_the_chosen_assistant_stays_while_it_is_offered(open_page: Open, serve: Serve):
    assistants = {**OPEN, "default": Assistant(model="demo"), "inner": Assistant(model="demo")}
    page = await open_page(await serve(keys=[TEAM], assistants=assistants))
    assistant, model = page.page.get_by_label("Assistant"), page.page.get_by_label("Model", exact=True)
    await assistant.select_option("helper")
    await enter(page, KEY)
    await expect(note(page)).to_contain_text("Taken.")
    await expect(assistant.get_by_role("option", name="inner")).to_have_count(1)
    await expect(assistant).to_have_value("helper")
    await model.select_option("demo-clock")
    await enter(page, "")
    await expect(note(page)).not_to_contain_text("Taken.")
    await expect(assistant).to_have_value("helper")
    await enter(page, KEY)
    await expect(note(page)).to_contain_text("Taken.")
    await assistant.select_option("inner")
    await enter(page, "")
    await expect(assistant).to_have_value("guide")  # `inner` is no longer offered


async def test_an_assistant_that_appears_with_the_key_is_chosen_as_on_a_fresh_page(open_page: Open, serve: Serve):
    page = await open_page(await serve(keys=[TEAM], assistants={"default": Assistant(model="demo")}))
    await enter(page, KEY)
    await expect(page.page.get_by_label("Assistant")).to_have_value("default")


@pytest.mark.parametrize("way", WAYS)
async def test_a_wrong_key_says_that_none_is_needed(open_page: Open, serve: Serve, way: Way):
    """The question goes out without a key, and the note says how to get rid of the fault."""
    page = await open_page(await serve(keys=[TEAM], assistants=OPEN))
    page.expected = "401"
    await enter(page, "a-key-that-is-not-one")
    words = "Refused: it is wrong, or has expired. Clear the field to ask without a key."
    await expect(note(page)).to_have_text(words)
    turn = await page.answer("Hello", way=way)
    await expect(turn.locator(".measures summary")).to_contain_text("Complete")
    await enter(page, "")
    await expect(note(page)).to_have_text("Kept in this tab alone.")
