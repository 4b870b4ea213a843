"""What comes with an answer beside its text: pictures are shown, everything else can be looked at."""

import base64
import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from .playground import Playground, expect

if TYPE_CHECKING:
    from playwright.async_api import Locator

pytestmark = pytest.mark.asyncio(loop_scope="session")


def png(width: int = 40, height: int = 30) -> str:
    """A red one, as an address that holds it."""

    def part(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\xc0\x30\x20" * width) * height)
    whole = b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")
    return f"data:image/png;base64,{base64.b64encode(whole).decode()}"


def image(url: str) -> dict[str, Any]:
    return {"images": [{"type": "image_url", "image_url": {"url": url}}]}


async def answered(page: Playground, *extras: dict[str, Any], text: str = "Here it is.") -> "Locator":
    events = [
        ("start", "{}"),
        *(("extra", json.dumps(extra)) for extra in extras),
        *([("message", text)] if text else []),
    ]
    end = '{"reason":"complete","finish_reason":"stop","attempts":1}'
    body = "".join(f"event: {name}\ndata: {data}\n\n" for name, data in [*events, ("end", end)])
    await page.page.route("**/chat*", lambda route: route.fulfill(content_type="text/event-stream", body=body))
    return await page.answer("Hello")


SIZES = "(images) => images.map((image) => [image.naturalWidth, image.naturalHeight])"


async def test_pictures_are_shown(page: Playground):
    """Wherever in the fields they are; they are asked of nobody, and the policy allows them."""
    part = {"content": [{"type": "image", "source": png(20, 10)}]}
    turn = await answered(page, image(png()), part, text="")
    pictures = turn.get_by_role("list", name="Pictures of the answer").get_by_role("img")
    await expect(pictures).to_have_count(2)
    await pictures.last.evaluate("(image) => image.decode()")
    assert await pictures.evaluate_all(SIZES) == [[40, 30], [20, 10]]
    await expect(turn.get_by_role("img", name="Picture 1 of the answer")).to_be_visible()
    await expect(turn.locator(".measures summary")).to_contain_text("not part of the conversation")  # it has no text


DRAWN = """
async (data) => {
  const {Turn} = await import('/playground/turn.js')
  return new Promise((resolve) => {
    const grown = () => { if (turn.root.querySelector('img')?.naturalWidth) resolve('after it was drawn') }
    const turn = new Turn('?', {notify: () => {}, grown, again: () => {}})
    document.querySelector('#conversation').append(turn.root)
    turn.begin({model: 'm', way: 'fetch'})
    turn.take({type: 'extra', data})
    turn.stop()
    setTimeout(() => resolve('never'), 1000)
  })
}
"""


async def test_the_page_follows_a_picture_that_comes_last(page: Playground):
    """It has its height only once it is drawn, which may be after the end of the answer."""
    assert await page.page.evaluate(DRAWN, json.dumps(image(png(600, 380)))) == "after it was drawn"


async def test_what_is_no_picture_is_no_element(page: Playground):
    addresses = (
        *("https://example.com/cat.png", "javascript:alert(1)", "data:image/svg+xml;base64,PHN2Zz4=", "blob:x"),
        *(
            "data:text/html;base64,PGI+",
            "data:image/png,raw",
            " data:image/png;base64,AA==",
            "<img src=x onerror=alert(1)>",
        ),
    )
    turn = await answered(page, *map(image, addresses))
    await turn.locator(".extra summary").click()
    for address in addresses:
        await expect(turn.locator(".extra pre")).to_contain_text(address)
    assert await turn.locator("img, script, b, svg, a").count() == 0


async def test_a_picture_is_not_printed_as_well(page: Playground):
    """Its data URL is cut in the JSON, however short it is; an address on the web stays whole."""
    address = f"https://example.com/{'a' * 60}"
    turn = await answered(page, image(png()), image(address))
    await turn.locator(".extra summary").click()
    shown = turn.locator(".extra pre")
    await expect(shown).to_contain_text(f'"url": "{png()[:40]}… ({len(png())} characters)"')
    await expect(shown).to_contain_text(address)
    await expect(shown).not_to_contain_text(png()[:41])


async def test_the_other_fields_can_be_looked_at(page: Playground):
    note = {"type": "url_citation", "url_citation": {"url": "https://example.com/", "title": "An <b>example</b>"}}
    turn = await answered(page, {"annotations": [note]}, {"audio": {"transcript": "Hi"}})
    box = turn.locator(".extra")
    await expect(box.locator("summary")).to_have_text("Also sent: annotations, audio · 2 events")
    await expect(box.locator("pre")).to_be_hidden()
    await box.locator("summary").click()
    first, second = json.dumps({"annotations": [note]}, indent=2), json.dumps({"audio": {"transcript": "Hi"}}, indent=2)
    assert await box.locator("pre").inner_text() == f"{first}\n{second}\n"
    await expect(turn.locator(".prose")).to_have_text("Here it is.")
    turn = await answered(page)
    await expect(turn.locator(".extra")).to_be_hidden()
    await expect(turn.locator(".pictures")).to_be_hidden()


async def test_it_is_bounded(page: Playground):
    """Megabytes of audio and pictures without end leave the page usable."""
    sound = {"audio": {"data": "QUJD" * 2000}}
    names = {f"{'field' * 20}{number}": number + 1 for number in range(300)}
    turn = await answered(page, *([sound] * 300), *([image(png(2, 2))] * 12), names)
    await expect(turn.locator(".pictures img")).to_have_count(8)
    await expect(turn.locator(".extra summary")).to_contain_text("313 events · too much to show all")
    shown = await turn.locator(".extra").evaluate("(box) => box.textContent")
    assert len(shown) < 21_000
    assert "… (8000 characters)" in shown


async def test_it_outlives_a_reload(page: Playground):
    await answered(page, image(png()), {"annotations": [1]})
    await page.page.reload()
    turn = page.turns.last
    await expect(turn.locator(".pictures img")).to_have_count(1)
    await expect(turn.locator(".extra summary")).to_have_text("Also sent: images, annotations · 2 events")
    await turn.locator(".extra summary").click()
    await expect(turn.locator(".extra pre")).to_contain_text("data:image/png;base64,")


async def test_a_picture_pushes_no_turn_out_of_what_is_kept(page: Playground):
    """The browser keeps 5 MB: what is too much of it is the picture."""
    await answered(page, text="First.")
    await answered(page, image("data:image/png;base64," + "A" * 6_000_000), text="Second.")
    await page.page.reload()
    await expect(page.turns.locator(".prose")).to_have_text(["First.", "Second."])
    await expect(page.turns.last.locator(".extra summary")).to_have_text("Also sent: images")
    await expect(page.turns.last.locator(".pictures")).to_be_hidden()


async def test_a_question_that_is_asked_again_begins_without_it(page: Playground):
    cut = 'event: start\ndata: {}\n\nevent: extra\ndata: {"images":["' + png() + '"]}\n\n'
    failure = 'event: failure\ndata: {"error":{"message":"Cut","type":"t","code":null},"retryable":true}\n\n'
    end = 'event: end\ndata: {"reason":"incomplete","attempts":1}\n\n'
    await page.page.route("**/chat*", lambda r: r.fulfill(content_type="text/event-stream", body=cut + failure + end))
    turn = await page.answer("Hello")
    await expect(turn.locator(".pictures img")).to_have_count(1)
    await page.page.unroute_all()
    await turn.get_by_role("button", name="Ask again").click()
    await page.over(turn)
    await expect(turn.locator(".pictures img")).to_have_count(0)
    await expect(turn.locator(".extra")).to_be_hidden()


DOING = """
async (events) => {
  const {Turn} = await import('/playground/turn.js')
  const seen = []
  const turn = new Turn('?', {notify: () => seen.push(turn.state), grown: () => {}, again: () => {}})
  turn.begin({model: 'm', way: 'fetch'})
  turn.take({type: 'start', data: '{}'})
  for (const [type, data] of events) turn.take({type, data})
  turn.stop()
  return [seen, turn.measures.deltas]
}
"""


async def test_it_tells_what_the_model_does(page: Playground):
    """Notes about an answer are no answer; thoughts of another form are thoughts; only text counts as deltas."""
    events = [
        *[("extra", '{"annotations":[1]}'), ("extra", '{"reasoning_details":[1]}'), ("reasoning", "hm")],
        *[("extra", '{"audio":{"data":"QQ=="}}'), ("message", "Hi"), ("extra", '{"thinking_blocks":[1]}')],
    ]
    states = ["connecting", "waiting", "thinking", "answering", "stopped"]
    assert await page.page.evaluate(DOING, events) == [states, 2]
