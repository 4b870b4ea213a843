"""Event clients that others wrote, unmodified, before a wire that cuts an answer after each of its bytes.

They come back by their own rules. Their code is that of `.github/docs/clients.md`, as it stands there.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.conftest import MakeGateway
from tests.rig.receipts import sum_of
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, delta, finish, stream
from tests.sdk.clients_page import example
from tests.sdk.cutting import CuttingWire
from tests.sdk.node import needs, running, script

SECONDS = 60  # for about a thousand answers, each asked for twice: it takes a tenth of that on a quiet machine

TEXTS = ["\nHi", " 好\n"]
ANSWER = stream(b"".join([*map(delta, TEXTS), finish(), DONE]))
AS_JSON = [json.dumps({"content": text}, ensure_ascii=False, separators=(",", ":")) for text in TEXTS]
SOON = "[stream]\nretry_ms = 10"
UNCUT = 1_000_000  # bytes: more than the answer has


def needs_packages(test: Any) -> Any:
    for mark in needs("eventsource", "@microsoft/fetch-event-source"):
        test = mark(test)
    return test


Events = list[tuple[str, str]]  # as (type, data); an empty type is `message`

# @microsoft/fetch-event-source as its own README shows it: it comes back with the id that it has read last.
AS_IT_IS = """
import { fetchEventSource } from '@microsoft/fetch-event-source'

async function ask(address, question, on) {
  const over = new AbortController()
  await fetchEventSource(address, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', 'Idempotency-Key': crypto.randomUUID() },
    body: JSON.stringify({ question, format: 'json' }),
    signal: over.signal,
    async onopen(response) { if (response.status === 204) over.abort() },
    onmessage(event) {
      on(event)
      if (event.event === 'end') over.abort()
    },
  })
}
"""


@dataclass
class Cuts:
    """What came of an answer that was cut after each of its bytes."""

    shown: dict[int, Events]  # by the cut
    passed: dict[int, bytes]  # what the client had before it
    asked: int  # how often the upstream was asked

    @property
    def inside_an_id(self) -> set[int]:
        """The cuts between an `id:` line and the blank line behind it."""
        return {cut for cut, raw in self.passed.items() if re.search(rb"\nid: [\w-]{22}\.\d+\n\Z", raw)}


Ask = Callable[[str, list[int]], Awaitable[dict[int, Events]]]


async def cut_everywhere(gateway: MakeGateway, upstream: ScriptedUpstream, ask: Ask) -> Cuts:
    """An answer is asked for uncut, which says how long it is, and then once for each of its bytes."""
    upstream.script(ANSWER)
    client = await gateway(SOON)
    async with CuttingWire(client.port) as wire:
        await ask(wire.address, [UNCUT])
        cuts = list(range(len(wire.passed.pop(UNCUT))))
        asked = len(upstream.requests)
        async with asyncio.timeout(SECONDS):
            shown = await ask(wire.address, cuts)
    assert {cut: len(raw) for cut, raw in wire.passed.items()} == {cut: cut for cut in cuts}
    assert list(shown) == cuts
    return Cuts(shown, wire.passed, len(upstream.requests) - asked)


def events(*texts: str) -> Events:
    """All that a client shows of the answer."""
    receipt = json.dumps(sum_of("".join(TEXTS)), separators=(",", ":"))
    end = '{"reason":"complete","finish_reason":"stop","model":"m-1","usage":null,"stream":"LOT","attempts":1,'
    end += f'"receipt":{receipt}}}'
    return [("start", '{"stream":"LOT","ticket":"LOT"}'), *(("", text) for text in texts), ("end", end)]


def without_lots(kind: str, data: str) -> tuple[str, str]:
    """An event without what is drawn by lot for every stream."""
    return ("" if kind == "message" else kind), re.sub(r'"[\w-]{22}"', '"LOT"', data)


def in_node(source: str) -> Ask:
    """Asks with the `ask` of `source`."""

    async def ask(address: str, cuts: list[int]) -> dict[int, Events]:
        numbers = json.dumps(cuts)
        async with running(source + script("cut_clients.mjs"), address, numbers, within=SECONDS) as outcomes:
            return {
                cut: [without_lots(*event) for event in shown]
                for cut, shown in sorted((cut, shown) for shown, cuts in outcomes for cut in cuts)
            }

    return ask


async def in_python(address: str, cuts: list[int]) -> dict[int, Events]:
    """Asks with the example for httpx-sse, whose waiting is left out."""
    names: dict[str, Any] = {}
    exec(example("python", "httpx_sse"), names)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits) as client:

        async def ask(cut: int) -> Events:
            answer = names["ask"](client, f"{address}/chat?cut={cut}", "Hi")
            return [without_lots(event.event, event.data) async for event in answer]

        return dict(zip(cuts, await asyncio.gather(*map(ask, cuts)), strict=True))


@pytest.mark.long
@needs_packages
async def test_eventsource_loses_nothing_wherever_it_is_cut(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    cuts = await cut_everywhere(gateway, upstream, in_node(example("js", "from 'eventsource'")))
    assert {cut: shown for cut, shown in cuts.shown.items() if shown != events(*TEXTS)} == {}
    assert cuts.asked == len(cuts.shown)


@pytest.mark.long
@needs_packages
async def test_fetch_event_source_loses_nothing_wherever_it_is_cut(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """With a `fetch` that comes back with the id of the last event that was shown."""
    cuts = await cut_everywhere(gateway, upstream, in_node(example("js", "fetchEventSource")))
    assert {cut: shown for cut, shown in cuts.shown.items() if shown != events(*AS_JSON)} == {}
    assert cuts.asked == len(cuts.shown)


@pytest.mark.long
@needs_packages
async def test_fetch_event_source_as_it_is_loses_an_event_only_between_its_id_and_the_blank_line(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """One byte for each event. A cut there loses that event and no other, and still asks the model once."""
    cuts = await cut_everywhere(gateway, upstream, in_node(AS_IT_IS))
    whole = events(*AS_JSON)
    lost = {cut: shown for cut, shown in cuts.shown.items() if shown != whole}
    assert set(lost) == cuts.inside_an_id
    assert [lost[cut] for cut in sorted(lost)] == [whole[:n] + whole[n + 1 :] for n in range(len(whole))]
    assert cuts.asked == len(cuts.shown)


@needs_packages
async def test_fetch_event_source_drops_a_leading_line_feed_of_bare_text(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """That is why the documents tell its users to ask for `format=json`."""
    upstream.script(ANSWER)
    client = await gateway(SOON)
    bare = AS_IT_IS.replace(", format: 'json'", "")
    async with CuttingWire(client.port) as wire:
        shown = await in_node(bare)(wire.address, [UNCUT])
    assert shown == {UNCUT: events("Hi", " 好\n")}


@pytest.mark.long
async def test_httpx_sse_loses_nothing_wherever_it_is_cut(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    cuts = await cut_everywhere(gateway, upstream, in_python)
    assert {cut: shown for cut, shown in cuts.shown.items() if shown != events(*TEXTS)} == {}
    assert cuts.asked == len(cuts.shown)
