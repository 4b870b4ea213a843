"""How an answer that is over looks: whole, cut by the model's server, or without any text."""

import json
from typing import TYPE_CHECKING

import pytest

from .playground import Playground, expect
from .test_extra import image, png

if TYPE_CHECKING:
    from playwright.async_api import Locator

pytestmark = pytest.mark.asyncio(loop_scope="session")

DOT = "(turn) => getComputedStyle(turn.querySelector('.dot'), '::before').backgroundColor"
AMBER, GREEN = "rgb(138, 90, 6)", "rgb(11, 107, 97)"
EMPTY = "The model sent no text."


async def ended(page: Playground, finish_reason: str, *events: tuple[str, str]) -> "Locator":
    end = json.dumps({"reason": "complete", "finish_reason": finish_reason, "attempts": 1})
    body = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in [("start", "{}"), *events, ("end", end)])
    await page.page.route("**/chat*", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    return await page.answer("Hello")


@pytest.mark.parametrize(
    ("finish_reason", "words", "colour"),
    [
        ("stop", "Complete", GREEN),
        ("length", "Cut at the token limit", AMBER),
        ("content_filter", "Cut by a content filter", AMBER),
    ],
)
async def test_a_cut_answer_has_a_dot_of_another_colour(page: Playground, finish_reason: str, words: str, colour: str):
    """Also after a reload."""
    await page.page.emulate_media(color_scheme="light")
    turn = await ended(page, finish_reason, ("message", "Hi"))
    for _ in range(2):
        await expect(turn.locator(".dot")).to_have_text(words)
        assert await turn.evaluate(DOT) == colour
        await page.page.reload()


async def test_an_answer_without_text_says_so(page: Playground):
    for finish_reason in ("stop", "length"):
        turn = await ended(page, finish_reason, ("reasoning", "hm"))
        await expect(turn.locator(".prose")).to_have_text(EMPTY)
        await expect(page.page.get_by_role("status")).to_contain_text(EMPTY)
    await page.page.reload()
    await expect(page.turns.locator(".prose")).to_have_text([EMPTY, EMPTY])


async def test_an_answer_of_another_kind_is_not_called_empty(page: Playground):
    call = json.dumps({"index": 0, "id": "a", "function": {"name": "look", "arguments": "{}"}})
    for event in (("extra", json.dumps(image(png()))), ("tool_call", call), ("refusal", "No."), ("message", "Yes.")):
        turn = await ended(page, "stop", event)
        await expect(turn).not_to_contain_text(EMPTY)


@pytest.mark.parametrize(("model", "attempts"), [("demo-flaky", 3), ("demo-rescued", 2)])
async def test_a_rescue_is_told_beside_the_model(page: Playground, model: str, attempts: int):
    """Also after a reload. While it is under way, nothing on the page looks like a failure."""
    await page.button(model).click()
    turn = page.turns.last
    await page.over(turn)
    for _ in range(2):
        await expect(turn.locator(".who span")).to_have_text(f"answered by demo-backup in {attempts} attempts")
        await expect(turn.locator(".dot")).to_have_text("Complete")
        await expect(turn.locator(".failure")).to_be_hidden()
        await expect(turn.locator(".prose")).to_contain_text("hangs up half way.")  # the end of the text
        await page.page.reload()


async def test_a_failure_after_several_attempts_tells_their_number(page: Playground):
    """It does not say who answered: nobody did."""
    failure = json.dumps({"error": {"message": "It is busy.", "code": "upstream_error"}, "retryable": True})
    end = json.dumps({"reason": "upstream_error", "model": "demo-backup", "attempts": 3})
    body = f"event: start\ndata: {{}}\n\nevent: failure\ndata: {failure}\n\nevent: end\ndata: {end}\n\n"
    await page.page.route("**/chat*", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    turn = await page.answer("Hello")
    await expect(turn.locator(".who span")).to_have_text("3 attempts")


async def test_a_single_attempt_is_not_worth_a_word(page: Playground):
    for model in ("demo", "demo-cut"):
        turn = await page.answer("Hello", model=model)
        await expect(turn.locator(".who")).to_have_text(model)
