"""Every `end` has the receipt of the text that was sent, however the answer went and whoever reads it."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from tests.conftest import MakeGateway
from tests.rig.clients import EVENTS, Answer, ask, create, eventually, watched
from tests.rig.inside import held
from tests.rig.receipts import EMPTY, sum_of
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    ScriptedUpstream,
    Stall,
    Step,
    Until,
    chunk,
    delta,
    event,
    finish,
    stream,
)

HALVES = [event(chunk(content="HALF")).replace(b"HALF", half) for half in (rb"\ud83d", rb"\udc4b")]
ALONE = event(chunk(content="HALF")).replace(b"HALF", rb"\ud83d")

# What the upstream sends -> the text of the answer.
ANSWERS: dict[str, tuple[Sequence[bytes | Step], str]] = {
    "deltas": ([delta("Hel"), delta("lo\n\n"), finish(), DONE], "Hello\n\n"),
    "letters of many bytes": ([delta("é好"), delta("\u2028\0"), finish(), DONE], "é好\u2028\0"),
    "a character cut in two": ([*HALVES, finish(), DONE], "👋"),
    "half a character": ([delta("a"), ALONE, delta("b"), finish(), DONE], "a\ufffdb"),
    "thoughts": ([event(chunk(reasoning_content="hm")), delta("a"), finish(), DONE], "a"),
    "a refusal": ([event(chunk(refusal="No")), event(chunk(refusal=".")), finish(), DONE], "No."),
    "no text": ([event(chunk(reasoning_content="hm")), finish(), DONE], ""),
    "broken off": ([delta("a"), delta("b"), Close()], "ab"),
    "an error": ([delta("a"), event({"error": {"message": "no"}})], "a"),
    "an error at once": ([event({"error": {"message": "no"}})], ""),
}


TWO_TARGETS = """
[retry]
attempts = 2
[[models]]
name = "m"
targets = [{upstream = "up", model = "one"}, {upstream = "up", model = "two"}]
same_answer = true
"""


@pytest.mark.parametrize("case", ANSWERS)
async def test_it_is_that_of_the_text(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    parts, text = ANSWERS[case]
    upstream.script(stream(*parts))
    answer = await ask(await gateway("[retry]\nattempts = 1"))
    assert "".join([event.data for event in answer.events if event.type in ("message", "refusal")]) == text
    assert answer.end["receipt"] == sum_of(text)
    assert text or answer.end["receipt"] == EMPTY


@pytest.mark.parametrize("format", ["text", "json"])
async def test_each_format_has_the_sum_of_what_it_shows(
    gateway: MakeGateway, upstream: ScriptedUpstream, format: str
) -> None:
    """Bare text shows a carriage return as a line feed, and a CRLF that is cut in two as two of them."""
    upstream.script(stream(delta("a\rb\r\nc\r"), delta("\nd"), finish(), DONE))
    answer = await ask(await gateway(), format=format)
    receipt = answer.end["receipt"]
    lines = receipt.pop("line_feeds")
    if format == "text":
        assert answer.text == "a\nb\nc\n\nd"
        assert lines == sum_of(answer.text)
    else:
        text = "".join([json.loads(data)["content"] for data in answer.data("message")])
        assert text == "a\rb\r\nc\r\nd"
        assert receipt == sum_of(text)


async def test_a_stopped_answer_has_that_of_its_part(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), delta("lo"), Stall()))
    client = await gateway()
    made = await create(client)
    await eventually(lambda: held(client, made["id"]).log.last == 2)
    async with client.delete(made["url"]) as response:
        assert response.status == 204
    answer = await watched(client, made["url"])
    assert (answer.end["reason"], answer.text, answer.end["receipt"]) == ("stopped", "Hello", sum_of("Hello"))


async def test_it_is_the_same_for_every_viewer_and_in_the_snapshot(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    gate = asyncio.Event()
    upstream.script(stream(delta("Hel"), Until(gate), delta("lo"), finish(), DONE))
    client = await gateway()
    made = await create(client)
    address = made["url"]
    viewers = [asyncio.create_task(watched(client, url)) for url in (address, address, f"{address}&format=json")]
    await eventually(lambda: held(client, made["id"]).viewers > 0)
    gate.set()
    answers = [*await asyncio.gather(*viewers), await watched(client, address)]
    async with client.get(address, headers={"Accept": "application/json"}) as response:
        snapshot = await response.json()
    assert snapshot["text"] == "Hello"
    assert [end["receipt"] for end in (snapshot["end"], *[answer.end for answer in answers])] == [sum_of("Hello")] * 5


async def test_one_who_comes_back_can_check_all_of_the_text(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Behind each event: the client keeps the text that it has, and gets the receipt with the rest."""
    texts = ["Hel", "\n", "lo ", "👋"]
    upstream.script(stream(*map(delta, texts), finish(), DONE))
    client = await gateway()
    made = await create(client)
    whole = await watched(client, made["url"])
    for place, last in enumerate(whole.events[:-1]):
        async with client.get(made["url"], headers={**EVENTS, "Last-Event-ID": last.last_event_id}) as response:
            rest = Answer(await response.read())
        assert rest.end["receipt"] == sum_of("".join(texts[:place]) + rest.text)


async def test_a_long_answer_is_summed_up_in_pieces(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Also when thoughts stand between them, and up to the end of an answer that became too large."""
    texts = [f"{number} é\r\n" * 500 for number in range(60)]
    parts = [part for text in texts for part in (event(chunk(reasoning_content="hm" * 999)), delta(text))]
    upstream.script(stream(*parts, finish(), DONE))
    answer = await ask(await gateway(), format="json")
    assert answer.end["receipt"] == sum_of("".join(texts)) | {"line_feeds": sum_of("".join(texts).replace("\r", ""))}
    answer = await ask(await gateway("[stream]\nmax_bytes = 100_000"), format="json")
    text = "".join([json.loads(data)["content"] for data in answer.data("message")])
    assert answer.failure["error"]["code"] == "answer_too_large"
    assert 50_000 < len(text) < 150_000
    receipt = answer.end["receipt"]
    assert (receipt["bytes"], receipt["sha256"]) == tuple(sum_of(text).values())


async def test_a_rescued_answer_has_the_text_of_both_targets(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), delta("lo"), Close()), stream(delta("Hello"), delta(" world"), finish(), DONE))
    answer = await ask(await gateway(TWO_TARGETS), model="m")
    assert (answer.end["attempts"], answer.text) == (2, "Hello world")
    assert answer.end["receipt"] == sum_of("Hello world")


async def test_what_sdks_get_has_none(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """`/v1` sends what the upstream sends."""
    upstream.script(stream(delta("Hello"), finish(), DONE))
    client = await gateway()
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    async with client.post("/v1/chat/completions", json=body) as response:
        assert b"receipt" not in await response.read()
