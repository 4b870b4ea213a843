"""What a page says of an answer whose text was changed between the gateway and the browser."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from gateway.app import create_app, server_options
from gateway.serve import listening
from tests.conftest import configured
from tests.rig.changing import CHANGES, TEXT, ChangingWire
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, chunk, delta, event, finish, stream
from tests.test_readme import blocks, document

from .conftest import Demo, Open
from .playground import Playground, Way, expect
from .test_client import ASKS, Ask

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = pytest.mark.asyncio(loop_scope="session")

SAID = {
    "dropped": "The answer was changed on the way. 1 byte of its text is missing.",
    "doubled": "The answer was changed on the way. Its text has 1 byte too many.",
    "changed": "The answer was changed on the way. Its text is not the one that was sent.",
}
NOTHING = ["", "end"]
FORMATS = ("text", "json")


# The page


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(gateway: str) -> AsyncIterator[ChangingWire]:
    async with ChangingWire(urlsplit(gateway).port, None) as wire:
        yield wire


async def test_a_person_is_told_and_can_get_it_again(open_page: Open, proxy: ChangingWire, demo: Demo):
    """Also after a reload. The model is asked once for each question."""
    page = await open_page(proxy.address)
    ways: dict[str, Way] = {"dropped": "fetch", "doubled": "EventSource", "changed": "fetch"}
    for asked, (how, way) in enumerate(ways.items(), 1):
        proxy.how = how
        turn = await page.answer("Hello", model="demo", way=way)
        await expect(turn.locator(".failure")).to_contain_text(SAID[how])
        await expect(turn.locator(".dot")).to_have_text("Changed on the way")
        await expect(turn.locator(".measures summary")).to_contain_text("not part of the conversation")
        await expect(page.page.get_by_role("status")).to_contain_text(SAID[how])
        proxy.how = None
        await page.page.reload()
        await expect(page.turns.last.locator(".failure")).to_contain_text(SAID[how])
        await page.button("Get it again").click()
        await expect(page.turns.last.locator(".dot")).to_have_text("Complete")
        await expect(page.turns.last.locator(".failure")).to_be_hidden()
        assert demo.asked == proxy.changed == asked


async def test_an_answer_that_failed_says_both(open_page: Open, proxy: ChangingWire):
    proxy.how = "dropped"
    page = await open_page(proxy.address)
    turn = await page.answer("Hello", model="demo-cut")
    await expect(turn.locator(".failure")).to_contain_text(SAID["dropped"])
    await expect(turn.locator(".failure p")).to_contain_text("The answer had failed, too: ")


# client.js

HEAR = """
async ([ask, question, format]) => {
  const client = await import('/playground/client.js')
  const types = []
  let said = ''
  const on = ({type, error}) => { types.push(type); said += error?.message ?? '' }
  await client[ask]({[ask === 'askWithFetch' ? 'question' : 'q']: question, format}, on)
  return [said, types.at(-1)]
}
"""
NO_DIGESTS = "Object.defineProperty(Crypto.prototype, 'subtle', {value: undefined})"


@dataclass
class Caller:
    """A page that calls the client's functions, behind a proxy before a gateway before an upstream."""

    page: "Page"
    wire: ChangingWire
    upstream: ScriptedUpstream

    async def hears(self, how: str | None, ask: Ask = "askWithFetch", format: str = "text") -> list[Any]:
        """What the client says of an answer, and the type of its last event."""
        self.wire.how = how
        return list(await self.page.evaluate(HEAR, [ask, "Hello", format]))


@pytest_asyncio.fixture(loop_scope="session")
async def caller(tab: "Page") -> AsyncIterator[Caller]:
    upstream = ScriptedUpstream()
    await upstream.start()
    upstream.script(stream(delta("Hello"), delta(" world"), finish(), DONE))
    app = create_app(configured(upstream.url))
    async with (
        listening(app, "127.0.0.1", 0, **server_options()) as address,
        ChangingWire(urlsplit(address).port, None) as wire,
    ):
        page = await Playground(tab, wire.address).open()
        yield Caller(tab, wire, upstream)
        await page.leave()
        assert page.complaints() == []
    await upstream.stop()


@pytest.mark.parametrize("ask", ASKS)
async def test_the_client_says_it_in_each_format(caller: Caller, ask: Ask):
    for format, (how, said) in product(FORMATS, SAID.items()):
        assert await caller.hears(how, ask, format) == [said, "changed"]
    for format in FORMATS:
        assert await caller.hears(None, ask, format) == NOTHING


async def test_a_page_without_digests_checks_the_length(caller: Caller):
    """As one is that came by plain http from another machine. It says nothing that is not true."""
    await caller.page.evaluate(NO_DIGESTS)
    for how, expected in {None: NOTHING, "changed": NOTHING, "dropped": [SAID["dropped"], "changed"]}.items():
        assert await caller.hears(how) == expected


async def test_a_receipt_that_was_changed_does_not_fit(caller: Caller):
    """The end itself may be no JSON any more; it has come all the same."""
    for place, how in product([rb'"sha256":"', rb'"bytes":', rb"event: end\ndata: "], CHANGES):
        caller.wire.place = place
        said, last = await caller.hears(how)
        assert said.startswith("The answer was changed on the way. ")
        assert last == "changed"
    caller.wire.place = TEXT


async def test_the_example_of_the_documents_checks_it(proxy: ChangingWire, open_page: Open):
    """As it stands there, but for the way to the file and for where its words go."""
    example = next(block for block in blocks("js", document("clients.md")) if "receipt.take(event)" in block)
    lines = example.replace("import { Receipt } from './receipt.js'", "")
    assert lines.count("console.error(") == 1
    page = await open_page(proxy.address)
    ask = f"""async () => {{
      const {{ Receipt }} = await import('/playground/receipt.js')
      return await new Promise((resolve) => {{ {lines.replace("console.error(", "resolve(")} }})
    }}"""
    assert await page.page.evaluate(ask) == ""
    proxy.how = "dropped"
    assert await page.page.evaluate(ask) == "1 byte of its text is missing."


async def test_every_text_fits(caller: Caller):
    """Letters of several bytes, lines of every kind, a CRLF that is cut in two, a refusal; and no text at all."""
    texts = ["hé", "好👋\n\n", "\na\rb\r\nc\r", "\nd", " ", "\ufeff\u2028\0"]
    for parts in ([*map(delta, texts), event(chunk(refusal="No.\r"))], [event(chunk(reasoning_content="hm"))]):
        caller.upstream.script(stream(*parts, finish(), DONE))
        for ask, format in product(ASKS, FORMATS):
            assert await caller.hears(None, ask, format) == NOTHING
