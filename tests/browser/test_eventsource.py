"""What a browser's own `EventSource` makes of the gateway, and the page's reader of `fetch` bodies beside it."""

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

from gateway.demo.answers import answer_to

from .conftest import Demo
from .playground import Playground

if TYPE_CHECKING:
    from playwright.async_api import Route

pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTEN = """
(url) => new Promise((resolve) => {
  const source = new EventSource(url)
  const events = []
  for (const type of ['start', 'message', 'reasoning', 'failure', 'end'])
    source.addEventListener(type, ({type, data, lastEventId}) => events.push({type, data, id: lastEventId}))
  source.addEventListener('end', () => {
    source.close()
    resolve({events, state: source.readyState})
  })
})
"""

FORGETFUL = """
(url) => new Promise((resolve) => {
  const source = new EventSource(url)
  let ends = 0
  source.addEventListener('end', () => { ends += 1 })
  source.addEventListener('error', () => { if (source.readyState === EventSource.CLOSED) resolve(ends) })
})
"""


async def test_events_come_in_order_and_end_once(page: Playground, demo: Demo):
    heard = await page.page.evaluate(LISTEN, "/chat?q=Hello&model=demo")
    types = [event["type"] for event in heard["events"]]
    assert types == ["start", *["message"] * (len(types) - 2), "end"]
    text = "".join(event["data"] for event in heard["events"] if event["type"] == "message")
    assert text == "".join(answer_to("Hello", None))
    numbers = [int(event["id"].rpartition(".")[2]) for event in heard["events"]]
    assert numbers == list(range(len(numbers)))
    assert heard["state"] == 2  # CLOSED
    await demo.let_go()
    assert demo.asked == 1


async def test_a_failure_comes_before_the_end(page: Playground):
    heard = await page.page.evaluate(LISTEN, "/chat?q=Hello&model=demo-cut")
    assert [event["type"] for event in heard["events"][-3:]] == ["message", "failure", "end"]


async def test_a_page_that_forgets_to_close_does_not_ask_twice(page: Playground, demo: Demo):
    page.expected = "Failed to load resource"  # what the reconnect is answered with
    assert await page.page.evaluate(FORGETFUL, "/chat?q=Hello&model=demo") == 1
    assert demo.asked == 1


# The reader in events.js, against the browser's

READ = """
async (path) => {
  const {events} = await import('/playground/events.js')
  const found = []
  for await (const event of events((await fetch(path)).body)) found.push([event.type, event.data, event.lastEventId])
  return found
}
"""

HEAR = """
(path) => new Promise((resolve) => {
  const source = new EventSource(path)
  const found = []
  for (const type of ['message', 'a', 'b c', 'é'])
    source.addEventListener(type, ({type, data, lastEventId}) => found.push([type, data, lastEventId]))
  source.addEventListener('error', () => { source.close(); resolve(found) })
})
"""

READ_IN_PIECES = """
async ([bytes, cuts]) => {
  const {events} = await import('/playground/events.js')
  const all = []
  for (const cut of cuts) {
    const found = []
    const body = new ReadableStream({
      start(controller) {
        let from = 0
        for (const to of [...cut, bytes.length]) controller.enqueue(new Uint8Array(bytes.slice(from, from = to)))
        controller.close()
      },
    })
    for await (const event of events(body)) found.push([event.type, event.data, event.lastEventId])
    all.push(found)
  }
  return all
}
"""

STREAMS = {
    "lines": b"data: one\ndata: two\n\ndata\n\ndata:\ndata:\n\n",
    "line-ends": b"data: a\r\n\r\ndata: b\r\rdata: c\n\ndata: d\r\ndata: e\rdata: f\n\r\n",
    "blanks": b"data:x\n\ndata:  two\n\ndata: \n\n data: no\n\n",
    "types": b"event: a\ndata: 1\n\ndata: 2\n\nevent: b c\ndata: 3\n\nevent: a\n\ndata: 4\n\n",
    "types-taken-back": b"event: a\nevent\ndata: 5\n\nevent: a\nevent: b c\ndata: 6\n\n",
    "ids": b"id: 1\ndata: x\n\ndata: y\n\nid\ndata: z\n\nid: 2\n\ndata: w\n\nid: 3\x004\ndata: v\n\n",
    "comments": b": hello\n\n:\ndata: a\n: between\ndata: b\n\n:\n\n",
    "unknown-fields": b"retry: 10\nfoo: bar\ndata : no\nDATA: no\ndata: yes\n\n",
    "byte-order-mark": b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\ndata: c\n\n",
    "not-UTF-8": b"data: \xff\xfe\n\ndata: \xe4\xbd\n\n",
    "not-English": "event: é\ndata: 你好 👩‍🚀 \u2028 \u0085\n\n".encode(),
    "cut-short": b"data: whole\n\ndata: half\n",
}


async def test_the_reader_reads_as_a_browser_does_wherever_the_body_is_cut(page: Playground):
    dice = random.Random(0)
    for name, stream in STREAMS.items():
        path = f"/stream/{name}"
        await page.page.route(f"**{path}", _sending(stream))
        heard = await page.page.evaluate(HEAR, path)
        assert heard, name
        assert await page.page.evaluate(READ, path) == heard, name
        cuts = [list(range(1, len(stream))), *[_cuts(dice, len(stream)) for _ in range(20)]]
        for cut, found in zip(cuts, await page.page.evaluate(READ_IN_PIECES, [list(stream), cuts]), strict=True):
            assert found == heard, (name, cut)


def _sending(stream: bytes) -> "Callable[[Route], Awaitable[None]]":
    return lambda route: route.fulfill(body=stream, content_type="text/event-stream")


def _cuts(dice: random.Random, length: int) -> list[int]:
    return sorted(dice.sample(range(1, length), dice.randrange(1, 6)))
