"""A browser's own `EventSource` before a wire that cuts an answer after each of its bytes."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from gateway.app import create_app, server_options
from gateway.serve import listening
from tests.conftest import configured
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream
from tests.sdk.cutting import CuttingWire

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")

ANSWER = stream(b"".join([delta("\nHi"), delta(" 好\n"), finish(), DONE]))
UNCUT = 1_000_000  # bytes: more than the answer has
SECONDS = 60  # for about seven hundred answers, each asked for twice: it takes a tenth of that on a quiet machine
ASK = """
(cuts) => Promise.all(cuts.map((cut) => new Promise((resolve) => {
  const shown = []
  const source = new EventSource(`/chat?q=Hi&cut=${cut}&idempotency_key=the-key-of-the-cut-${cut}`)
  for (const type of ['start', 'message', 'failure', 'end'])
    source.addEventListener(type, ({type, data}) => shown.push([type, data.replace(/"[\\w-]{22}"/g, '"LOT"')]))
  source.addEventListener('end', () => { source.close(); resolve(shown) })
  source.addEventListener('error', () => { if (source.readyState === EventSource.CLOSED) resolve(shown) })
})))
"""


@pytest_asyncio.fixture(loop_scope="session")
async def scripted() -> AsyncIterator[ScriptedUpstream]:
    server = ScriptedUpstream()
    await server.start()
    yield server
    await server.stop()


@pytest.mark.long
async def test_eventsource_loses_nothing_wherever_the_body_is_cut(browser: "Browser", scripted: ScriptedUpstream):
    """A cut inside of the header is Chromium's own affair: over plain HTTP it takes what is there for a whole header.

    Without a `Content-Type` in it, that is no event stream, and so it gives up: it shows nothing rather than a part.
    """
    scripted.script(ANSWER)
    app = create_app(configured(scripted.url, "[stream]\nretry_ms = 10"))
    async with (
        listening(app, "127.0.0.1", 0, **server_options()) as address,
        CuttingWire(urlsplit(address).port) as wire,
        await browser.new_context() as context,
    ):
        page = await context.new_page()
        await page.goto(f"{wire.address}/healthz")
        (whole,) = await page.evaluate(ASK, [UNCUT])
        cuts = list(range(len(wire.passed.pop(UNCUT))))
        asked = len(scripted.requests)
        async with asyncio.timeout(SECONDS):
            shown = await page.evaluate(ASK, cuts)
    assert [data for kind, data in whole if kind == "message"] == ["\nHi", " 好\n"]
    assert {cut: len(raw) for cut, raw in wire.passed.items()} == {cut: cut for cut in cuts}
    given_up = {cut for cut in cuts if re.fullmatch(rb"HTTP(?!.*text/event-stream).*", wire.passed[cut], re.DOTALL)}
    assert {cut: events for cut, events in enumerate(shown) if events != whole} == {cut: [] for cut in given_up}
    assert len(scripted.requests) - asked == len(cuts)
