"""The page for everybody: by keyboard, by ear, in the dark, on a phone."""

import re
from typing import Literal

import pytest

from .conftest import Open
from .playground import Playground, expect

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_keyboard_is_enough(page: Playground):
    keyboard = page.page.keyboard
    await expect(page.question).to_be_focused()  # from the start
    await keyboard.type("one")
    await keyboard.press("Shift+Enter")
    await keyboard.type("two")
    assert await page.question.input_value() == "one\ntwo"
    await keyboard.press("Tab")
    await keyboard.type("demo-clock")  # chooses it in the list of models
    await keyboard.press("Tab")
    await expect(page.page.get_by_role("radio", name="fetch")).to_be_focused()
    await keyboard.press("Tab")
    await keyboard.press("Enter")
    await expect(page.turns.last.locator(".prose")).to_contain_text("1: This")
    await expect(page.button("Stop")).to_be_focused()  # it took the place of Send
    await keyboard.press("Enter")
    await page.over(page.turns.last)
    await expect(page.button("Send")).to_be_focused()
    await expect(page.turns.last.locator(".question")).to_have_text("one\ntwo")
    await keyboard.press("Tab")
    assert await page.page.evaluate("document.activeElement === document.body")  # the end; no trap


async def test_enter_that_ends_a_composition_does_not_send(page: Playground):
    await page.question.fill("你")
    await page.question.evaluate(
        "(box) => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, cancelable: true}))"
    )
    await expect(page.turns).to_have_count(0)


STRUCTURE = """
- banner:
  - heading "gateway playground" [level=1]
  - paragraph: Ready
  - button "New conversation"
- main:
  - region "Conversation":
    - article:
      - heading "You asked" [level=2]
      - paragraph: Write a program.
      - heading "demo" [level=3]
      - paragraph
      - blockquote
      - paragraph
      - text: python
      - button "Copy"
      - region "Code, python"
      - paragraph
      - list:
        - listitem
        - listitem
        - listitem
      - group "Table":
        - table
      - paragraph
      - group: /Complete/
- form "Ask":
  - textbox "Your question"
  - text: Model
  - combobox "Model"
  - group "How the page asks":
    - radio "fetch" [checked]
    - radio "EventSource"
  - button "Send"
  - paragraph: /Enter sends/
- status: Complete.
"""

COUNT = """
() => {
  window.announced = []
  const announcer = document.querySelector('[role=status]')
  new MutationObserver(() => window.announced.push(announcer.textContent)).observe(announcer, {childList: true})
}
"""


async def test_everything_has_a_name_and_a_screen_reader_is_not_flooded(page: Playground):
    await page.page.evaluate(COUNT)
    await page.answer("Write a program.")
    await expect(page.page.locator("body")).to_match_aria_snapshot(STRUCTURE)
    told = await page.page.evaluate("window.announced")
    assert told == ["Connecting…", "Waiting for the first token…", "Answering…", "Complete. "]
    live = page.page.locator("[aria-live], [role=log], [role=alert], [role=status]")
    assert await live.count() == 1


READ_COLOURS = """
(names) => names.map((name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`))
"""

PAIRS = [
    *[("ink", ground, 7.0) for ground in ("paper", "raised", "sunken", "tint", "bad-tint")],
    *[("soft", ground, 4.5) for ground in ("paper", "raised", "sunken", "tint", "bad-tint")],
    *[("accent", ground, 4.5) for ground in ("paper", "raised")],
    ("on-accent", "accent", 4.5),
    ("bad", "paper", 4.5),
    ("bad-tint", "bad", 4.5),
    ("ink", "thumb", 7.0),
]


async def test_colours_suit_the_scheme_and_can_be_read(page: Playground):
    names = sorted({name for pair in PAIRS for name in pair[:2]})
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.page.emulate_media(color_scheme=scheme)
        values = await page.page.evaluate(READ_COLOURS, names)
        light = {name: _luminance(value) for name, value in zip(names, values, strict=True)}
        assert (light["paper"] > light["ink"]) == (scheme == "light")
        found = [(scheme, one, other, least, _contrast(light[one], light[other])) for one, other, least in PAIRS]
        assert [pair for pair in found if pair[-1] < pair[-2]] == []


def _luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    channels = [int(colour.strip()[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


async def test_a_phone_has_room_for_it(open_page: Open, gateway: str):
    page = await open_page(gateway, viewport={"width": 360, "height": 640}, is_mobile=True, has_touch=True)
    too_wide = "document.documentElement.scrollWidth > innerWidth"
    assert not await page.page.evaluate(too_wide)
    await page.answer("Write a program with " + "averylongword" * 10)
    await page.answer("Hello", model="demo-cut", way="EventSource")
    assert not await page.page.evaluate(too_wide)
    for name in ("Send", "New conversation"):
        box = await page.button(name).bounding_box()
        assert box is not None
        assert box["height"] >= 24  # WCAG 2.2, 2.5.8
        assert box["x"] + box["width"] <= 360
    await expect(page.button("Send")).to_be_in_viewport()
    await expect(page.page.locator("#hint")).to_have_text(re.compile("GET"))


async def test_a_small_phone_has_room_while_an_answer_comes(open_page: Open, gateway: str):
    page = await open_page(gateway, viewport={"width": 320, "height": 568}, is_mobile=True, has_touch=True)
    await page.ask("Hello", model="demo-clock")
    await expect(page.turns.last.locator(".prose")).to_contain_text("1: This")
    widest = "document.querySelector('#state').textContent = 'Reconnecting'"
    await page.page.evaluate(widest)
    assert await page.page.evaluate("document.documentElement.scrollWidth") == 320
    await expect(page.button("New conversation")).to_be_in_viewport(ratio=1)
    await page.page.keyboard.press("Escape")
    await page.over(page.turns.last)


async def test_nothing_moves_for_those_who_asked_for_that(page: Playground):
    await page.ask("Hello", model="demo-clock")
    await expect(page.turns.last.locator(".prose")).to_contain_text("1: This")
    assert await page.page.evaluate("document.getAnimations().length") == 1
    await page.page.emulate_media(reduced_motion="reduce")
    assert await page.page.evaluate("document.getAnimations().length") == 0
    await page.page.keyboard.press("Escape")
    await page.over(page.turns.last)
