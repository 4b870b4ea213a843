"""What a stream does with its reads, over both ways in which they come."""

import asyncio
import json
from typing import Any

import pytest

from gateway.log.memory import MemoryLog
from tests.conftest import MakeGateway
from tests.rig.clients import EVENTS, ask
from tests.rig.overheard import Overheard
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
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

pytestmark = pytest.mark.usefixtures("both_ways")

V1 = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
ROLE = event(chunk(role="assistant", content=""))


@pytest.mark.parametrize(
    "steps",
    [(ROLE, Pause(0.05), delta("a")), (ROLE + delta("a"),), (ROLE, delta("a")), (ROLE, Pause(0.05), ROLE + delta("a"))],
    ids=["two reads", "one read", "one read or two", "a second role"],
)
async def test_the_header_leaves_with_the_first_text_behind_a_role(
    gateway: MakeGateway, upstream: ScriptedUpstream, steps: tuple[bytes | Step, ...]
) -> None:
    """It does not wait for the heartbeat, which is 15 s away."""
    upstream.script(stream(*steps, Stall()))
    client = await gateway()
    async with asyncio.timeout(2), client.post("/v1/chat/completions", json=V1) as response:
        raw = b""
        while b'"content": "a"' not in raw:
            raw += await response.content.readany()
    assert raw.startswith(ROLE)


@pytest.mark.parametrize(("texts", "is_alone"), [(2, False), (40, True)])
async def test_the_last_text_of_a_long_answer_does_not_wait_for_the_end(
    gateway: MakeGateway, upstream: ScriptedUpstream, overheard: Overheard, texts: int, is_alone: bool
) -> None:
    """That of a short one leaves with the end, in one write."""
    upstream.script(stream(b"".join([delta("a ")] * (texts - 1)), Pause(0.05), delta("last") + finish() + DONE))
    assert (await ask(await gateway())).text.endswith("a last")
    (write,) = [data for where, data in overheard.said if where == "answers" and b"data: last" in data]
    assert (b"event: end" not in write) is is_alone


async def test_the_header_does_not_leave_with_a_role_alone(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A failure behind it is still a status, which SDKs retry."""
    upstream.script(stream(ROLE, Pause(0.05), event({"error": {"message": "no", "code": 429}})))
    client = await gateway()
    async with client.post("/v1/chat/completions", json=V1) as response:
        assert response.status == 429


async def test_a_byte_order_mark_in_mid_stream_is_no_mark(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Only the first bytes of a stream may be one; later it is a part of a field's name, which nobody knows."""
    steps = (delta("a"), Pause(0.02), b"\xef\xbb\xbf" + delta("b"), Pause(0.02), delta("c"), finish(), DONE)
    upstream.script(stream(*steps), stream(b"\xef\xbb\xbf", Pause(0.02), *steps))
    client = await gateway()
    for _ in range(2):
        answer = await ask(client)
        assert (answer.text, answer.end["reason"]) == ("ac", "complete")


async def test_every_read_is_progress(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A comment, an empty delta and a piece of an event reset the idle time, as a text does."""
    piece, rest = delta("c")[:9], delta("c")[9:]
    steps = [delta("a"), b":\n\n", event(chunk()), delta("b"), piece, rest, b": x\n\n", finish(), DONE]
    upstream.script(stream(*[part for step in steps for part in (step, Pause(0.15))]))
    answer = await ask(await gateway("[timeouts]\nidle = 0.3"))
    assert (answer.text, answer.end["reason"]) == ("abc", "complete")


async def test_what_comes_with_the_end_is_written_with_the_end(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    last: list[int] = []
    tell = MemoryLog.tell

    def noted(self: MemoryLog) -> None:
        last.append(self.last)
        tell(self)

    monkeypatch.setattr(MemoryLog, "tell", noted)
    upstream.script(stream(delta("a"), Pause(0.05), delta("b") + delta("c") + finish() + DONE))
    assert (await ask(await gateway())).text == "abc"
    assert last == [1, 4]


async def test_what_comes_with_the_end_counts_against_the_largest_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """It is in the log all the same, since nothing is trimmed."""
    upstream.script(stream(delta("a" * 2000), Pause(0.05), delta("b" * 3000) + finish() + DONE))
    answer = await ask(await gateway("[stream]\nmax_bytes = 4096"))
    assert (answer.text, answer.end["reason"]) == ("a" * 2000 + "b" * 3000, "incomplete")


async def test_thoughts_alone_are_no_answer_even_with_an_end(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(event(chunk(reasoning_content="hm")) + DONE))
    answer = await ask(await gateway(), reasoning="1")
    assert [one.type for one in answer.events[1:]] == ["reasoning", "failure", "end"]
    assert answer.end["reason"] == "incomplete"


async def test_a_fault_of_ours_fails_its_stream_and_no_other(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = MemoryLog.append

    def faulty(self: MemoryLog, batch: Any, *, tells: bool = True) -> None:
        if any(entry.payload == b"boom" for entry in batch):
            raise RuntimeError("a fault of ours")
        append(self, batch, tells=tells)

    monkeypatch.setattr(MemoryLog, "append", faulty)
    go = asyncio.Event()
    upstream.script(
        stream(delta("a"), Until(go), delta("b"), Pause(0.05), delta("c"), finish(), DONE),
        stream(delta("a"), Pause(0.02), delta("boom"), Pause(0.02), delta("b"), Stall()),
    )
    client = await gateway()
    other = asyncio.create_task(ask(client))
    await upstream.until(requests=1)
    answer = await ask(client)
    assert (answer.text, answer.failure["error"]["code"]) == ("a", "internal_error")
    await upstream.until(left=1)  # its connection is closed
    go.set()
    assert (await other).text == "abc"
    assert "RuntimeError: a fault of ours" in caplog.text
    caplog.clear()


async def test_a_stop_while_the_upstream_goes_on_talking(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Reads between the stop and the closing of the connection are not in the stream: its end is last.

    The upstream would go on talking for far longer than the test waits for its connection to close.
    """
    upstream.script(stream(*[part for n in range(20_000) for part in (delta(f"{n} "), Pause(0.001))]))
    client = await gateway()
    async with client.get("/chat?q=x", headers=EVENTS) as response:
        raw = await response.content.readuntil(b"\n\n")
        start = json.loads(raw.partition(b"data: ")[2].partition(b"\n")[0])
        while b"data: 9 \n" not in raw:
            raw += await response.content.readany()
        async with client.delete(f"/streams/{start['stream']}?ticket={start['ticket']}") as stopped:
            assert stopped.status == 204
        async with asyncio.timeout(2):
            raw += await response.content.read()
    assert raw.count(b"event: end\n") == 1
    assert b'"reason":"stopped"' in raw.partition(b"event: end\n")[2]
    await upstream.until(left=1)


async def test_reads_that_hold_many_events_and_halves_of_them(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    texts = [f"{n} é👍\n" for n in range(300)]
    whole = b"".join([delta(text) for text in texts]) + finish() + DONE
    for size in (1_000, 5_000, len(whole)):
        parts = [whole[n : n + size] for n in range(0, len(whole), size)]
        upstream.script(stream(*parts))
        assert (await ask(await gateway())).text == "".join(texts)
