"""What is wider than a phone: it scrolls by itself and says so, and the page never scrolls sideways."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from .conftest import Open
from .playground import Playground, expect

if TYPE_CHECKING:
    from playwright.async_api import Locator

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 640}, "is_mobile": True, "has_touch": True}


@pytest_asyncio.fixture(loop_scope="session")
async def phone(open_page: Open, gateway: str) -> AsyncIterator[Playground]:
    page = await open_page(gateway, **PHONE)
    yield page
    assert not await page.page.evaluate("document.documentElement.scrollWidth > innerWidth")


def streamed(*texts: str) -> str:
    events = [("start", "{}"), *(("message", text) for text in texts)]
    end = '{"reason":"complete","finish_reason":"stop","attempts":1}'
    lines = [f"event: {name}\n" + "".join(f"data: {line}\n" for line in data.split("\n")) for name, data in events]
    return "\n".join([*lines, f"event: end\ndata: {end}\n\n"])


async def answered(page: Playground, *texts: str) -> "Locator":
    body = streamed(*texts)
    await page.page.route("**/chat*", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    return await page.answer("Hello")


async def test_a_remark_beside_the_model_is_never_cut_in_two(phone: Playground):
    turn = await phone.answer("Hello", model="demo-flaky")
    remark = turn.locator(".who span")
    await expect(remark).to_have_text("answered by demo-backup in 3 attempts")
    assert await remark.evaluate("(remark) => remark.getClientRects().length") == 1


async def test_the_end_stays_in_sight(phone: Playground):
    """Also what is told of an answer after its last word, which takes several lines here."""
    for model in ("demo-429", "demo-tools", "demo-tools", "demo-flaky"):
        await phone.answer("Hello", model=model)
    below = "document.documentElement.scrollHeight - innerHeight - scrollY"
    async with asyncio.timeout(3):
        while await phone.page.evaluate(below) >= 2:  # noqa: ASYNC110 - the state of the browser
            await asyncio.sleep(0.05)


ROW = "| " + " | ".join(f"column{number}" for number in range(9)) + " |"
WIDE = f"""{ROW}
|{9 * "---|"}
{ROW}

```py
value = {" + ".join(f"number_{number}" for number in range(20))}
```

\\[ {"+".join(f"x_{{{number}}}" for number in range(60))} \\]

- > {ROW}
  > |{9 * "---|"}
  > {ROW}

{"averylongword" * 20}
"""


async def test_what_is_wide_shows_that_there_is_more(phone: Playground):
    turn = await answered(phone, WIDE)
    for name in ("Table", "Code, py"):
        box = turn.get_by_role("region", name=name).first
        await expect(box).to_have_attribute("tabindex", "0")
        await expect(box).to_have_class("table more-after" if name == "Table" else "more-after")
        assert "gradient" in await box.evaluate("(box) => getComputedStyle(box).maskImage")
        await box.evaluate("(box) => { box.scrollLeft = 50 }")
        await expect(box).to_have_class("table more-after more-before" if name == "Table" else "more-after more-before")
        await box.evaluate("(box) => { box.scrollLeft = box.scrollWidth }")
        await expect(box).to_have_class("table more-before" if name == "Table" else "more-before")
    await expect(turn.get_by_role("region", name="Table")).to_have_count(2)  # one is in a quote in a list


async def test_it_scrolls_by_keyboard(phone: Playground):
    turn = await answered(phone, WIDE)
    box = turn.get_by_role("region", name="Table").first
    await box.focus()
    await phone.page.keyboard.press("ArrowRight")
    await expect(box).to_have_class("table more-after more-before")


async def test_what_fits_shows_nothing(phone: Playground):
    """It is no stop for the keyboard either; on a turned phone the same table may fit."""
    row = f"| {'column | ' * 5}"
    turn = await answered(phone, f"| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nx = 1\n```\n\n{row}\n|{5 * '---|'}\n{row}\n")
    boxes = turn.locator(".table, .code pre")
    await expect(boxes.last).to_have_class("table more-after")
    for box in (boxes.nth(0), boxes.nth(1)):
        await expect(box).to_have_role("group")
        assert await box.get_attribute("tabindex") is None
        assert await box.evaluate("(box) => getComputedStyle(box).maskImage") == "none"
    await phone.page.set_viewport_size({"width": 1000, "height": 360})
    await expect(boxes.last).to_have_class("table")
    await expect(boxes.last).to_have_role("group")


GROW = """
async (texts) => {
  const {markdown} = await import('/playground/markdown.js')
  const root = document.querySelector('#conversation').appendChild(document.createElement('div'))
  root.className = 'prose'
  const show = markdown(root)
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))
  const seen = []
  let text = ''
  for (const piece of texts) {
    show(text += piece, {open: true})
    await frame()
    const box = root.querySelector('.table, pre')
    seen.push([box.scrollLeft, box.className])
    box.scrollLeft = 30
  }
  await frame()
  return seen
}
"""


async def test_a_growing_table_stays_where_the_reader_scrolled_it(phone: Playground):
    seen = await phone.page.evaluate(GROW, [f"{ROW}\n|{9 * '---|'}\n", ROW, "\n" + ROW])
    assert [left for left, _ in seen] == [0, 30, 30]


async def test_growing_code_shows_that_there_is_more_once_there_is(phone: Playground):
    seen = await phone.page.evaluate(GROW, ["```\na", "b" * 100, "\nc"])
    assert [name for _, name in seen] == ["", "more-after", "more-after more-before"]


async def test_without_a_keyboard_no_keys_are_named(phone: Playground):
    keys, hint = phone.page.locator("#keys"), phone.page.locator("#hint")
    await expect(keys).to_be_hidden()
    await expect(phone.question).to_have_accessible_description("")
    await expect(phone.page.locator("#demos")).not_to_contain_text("Esc")
    await phone.ask("Hello", model="demo-clock")
    await phone.question.fill("More")
    await expect(hint).to_have_text("Stop this answer first, then send.")
    await phone.button("Stop").tap()
    await phone.over(phone.turns.last)
    await expect(keys).to_be_hidden()


PROSE = "a cell that holds a whole sentence of many words"
TABLE = f"| n | {' | '.join([PROSE] * 4)} |\n{5 * '|---'}|\n| 1 | {' | '.join([PROSE] * 4)} |\n"
WIDTHS = "(cells) => cells.map((cell) => cell.clientWidth / parseFloat(getComputedStyle(cell).fontSize))"


async def test_a_column_of_words_has_room_for_them(phone: Playground):
    """Else each word would have a line of its own; a column of numbers stays narrow."""
    turn = await answered(phone, TABLE)
    number, *words = await turn.locator("td").evaluate_all(WIDTHS)
    assert number < 4
    assert min(words) >= 9


FORMULA = r"\zeta(s) = \sum_{n=1}^{\infty} n^{-s} = \prod_p (1 - p^{-s})^{-1}"


async def test_a_long_formula_scrolls_and_is_not_broken(phone: Playground):
    turn = await answered(phone, f"Then\n\\[ {FORMULA} \\]\nand\n\n- so \\({FORMULA}\\) in a line, and \\(n^{{-s}}\\).")
    long = turn.get_by_role("region", name="Formula")
    await expect(long).to_have_count(2)
    for box in await long.all():
        await expect(box).to_have_class(re.compile("more-after"))
    for formula in await turn.locator(".math").all():
        assert (
            await formula.evaluate("(math) => math.clientHeight / parseFloat(getComputedStyle(math).lineHeight)") < 1.5
        )


CHEVRON = """
([turn, width]) => {
  turn.style.width = `${width}px`
  const last = turn.querySelector('.measures summary > :last-child')
  const box = last.getBoundingClientRect()
  return [getComputedStyle(last, '::after').content, box.height < 2 * parseFloat(getComputedStyle(last).lineHeight)]
}
"""


async def test_the_mark_of_the_measures_is_never_alone_on_a_line(phone: Playground):
    """It is a part of the last words, which are not broken."""
    turn = await answered(phone, "Hi")
    for width in range(140, 330, 10):
        assert await phone.page.evaluate(CHEVRON, [await turn.element_handle(), width]) == ['""', True]
