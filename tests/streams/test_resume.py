"""A client whose connection is cut comes back and gets the rest, byte for byte, and the upstream is asked once.

`.ci/long` cuts ten thousand times at random.
"""

import asyncio
import json
import logging
import os
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import product
from urllib.parse import quote, urlencode

import pytest

from gateway.streams.viewer import until
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, access_records, eventually
from tests.rig.inside import held, streams
from tests.rig.receipts import sum_of
from tests.rig.scripted_upstream import (
    DONE,
    Close,
    Pause,
    Reset,
    ScriptedUpstream,
    Stall,
    Step,
    Until,
    chunk,
    delta,
    event,
    finish,
    stream,
    usage,
)
from tests.rig.wire import CUTS as HOWS
from tests.rig.wire import HEARTBEAT, Response, Wire, close_all, get, last_event_id, post, whole_blocks, without_names


@pytest.fixture(autouse=True)
async def nothing_left_open() -> AsyncIterator[None]:
    yield
    close_all()
    await asyncio.sleep(0)


CUTS = int(os.environ.get("CUTS", "500"))
AT_ONCE = 40  # streams: sockets for both sides of both hops, under any usual limit of open files

# An answer with everything in it: what one upstream read brings, and how many entries it completes

_emoji = delta("好👩‍👩‍👧\u2028!")
_middle = _emoji.index("👩".encode()) + 2
_call = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,\ndata: "function":{"arguments":"{"}}]}}]}\n\n'

READS: list[tuple[bytes, int]] = [
    (event(chunk(role="assistant", content="")), 0),
    (event(chunk(reasoning_content="Hm.\nSo")), 1),
    (event(chunk(reasoning="…")) + event(chunk(reasoning="\r", content="Hello")), 3),
    (delta(",\n") + delta("\n\n") + delta("a\rb\r\nc\n\r"), 3),
    (_emoji[:_middle], 0),
    (_emoji[_middle:] + b": a comment\n\ndata: not JSON\n\n", 1),
    (delta("data: x\n\nid: y.1\nevent: end"), 1),
    (_call, 1),
    (event(chunk(tool_calls=[{"index": 0, "id": "c"}, {"index": 1, "id": "d"}])), 2),
    (event(chunk(refusal="No,\nno.")), 1),
    (b"".join([delta(f" {number}") for number in range(5)]), 5),
    (finish("tool_calls"), 0),
    (usage(prompt_tokens=3, completion_tokens=2), 0),
    (DONE, 1),
]
ENTRIES = sum(count for _, count in READS)
HIDDEN = {1, 2, 3}  # the entries that are reasoning


def scripted(*, gate: asyncio.Event, behind: int) -> list[Step]:
    """The answer, which stops at the gate behind the read that completes the entry of that number."""
    parts: list[bytes | Step] = []
    number = 0
    for data, count in READS:
        if number - count < behind <= number:
            parts.append(Until(gate))
        parts.append(data)
        number += count
    return stream(*parts, Until(gate))


# Ways to ask, and to come back


@dataclass(frozen=True)
class Way:
    """How a client says what it wants, and what it has: `method` and `field` of its requests to `path`."""

    path: str
    method: str = "GET"
    in_query: bool = False  # is the last event id there, and not in the header?

    async def address(self, client: Client) -> str:
        """Where the answer is to be had: at a stream's own address, which is started here, or by asking."""
        if self.path == "/chat":
            return "/chat?q=x"
        async with client.post("/streams", json={"question": "x"}) as response:
            assert response.status == 201
            return str((await response.json())["url"])

    def request(self, address: str, view: dict[str, str], last: str = "", **fields: str | bytes) -> bytes:
        fields = {**EVENTS, **fields}
        if self.method == "POST":
            return post("/chat", {"question": "x", **view}, **fields, **({"Last-Event-ID": last} if last else {}))
        query = {**view, "last_event_id": last} if last and self.in_query else view
        if last and not self.in_query:
            fields["Last-Event-ID"] = last
        return get(f"{address}&{urlencode(query)}", **fields)


WAYS = {
    "chat": Way("/chat"),
    "chat by query": Way("/chat", in_query=True),
    "chat by POST": Way("/chat", "POST"),
    "streams": Way("/streams"),
    "streams by query": Way("/streams", in_query=True),
}
VIEWS = [{"format": format, "reasoning": reasoning} for format, reasoning in product(["text", "json"], ["0", "1"])]

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
every_view = pytest.mark.parametrize("view", VIEWS, ids=lambda view: "-".join(view.values()))


# Cuts at every place


@every_way
@every_view
async def test_fault_59_behind_every_event_the_rest_is_what_was_missed(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: Way, view: dict[str, str]
) -> None:
    """Whether it came while nobody watched or comes only now, and however the connection went. At the end: 204."""
    client = await gateway()
    whole = await uncut(client, upstream, way, view)
    numbers = [number for number in range(ENTRIES + 1) if view["reasoning"] == "1" or number not in HIDDEN]
    for place, number in enumerate(numbers, 1):
        gate = asyncio.Event()
        upstream.script(scripted(gate=gate, behind=number))
        upstream.requests.clear()
        address = await way.address(client)
        first = await Wire.open(client, way.request(address, view))
        kept = await first.blocks(place)
        last = last_event_id(kept)
        assert last.endswith(f".{number}")
        first.cut(HOWS[place % 2])
        if place % 4 < 2 or number == ENTRIES:
            gate.set()
            await ended(client, last)
        again = await Wire.open(client, way.request(address, view, last))
        assert (await again.head()).status == (200 if number < ENTRIES else 204)
        gate.set()
        rest = (await again.whole()).body
        assert without_names(kept + rest) == whole
        assert len(upstream.requests) == 1


async def test_the_uncut_answer_holds_everything(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """What all others are measured by, read by the standard's rules."""
    whole = (await uncut(await gateway(), upstream, WAYS["chat"], {"format": "json", "reasoning": "1"})).decode()
    told = [
        json.loads(line.removeprefix("data: ")) for line in whole.split("\n") if line.startswith('data: {"content"')
    ]
    text = "Hello,\n\n\na\rb\r\nc\n\r好👩‍👩‍👧\u2028!data: x\n\nid: y.1\nevent: end"
    assert "".join(part["content"] for part in told) == f"{text} 0 1 2 3 4"
    said = f"{text}No,\nno. 0 1 2 3 4"
    assert [f"id: STREAM.{number}\n" in whole for number in range(ENTRIES + 2)] == [True] * (ENTRIES + 1) + [False]
    end = json.loads(whole.split("event: end\ndata: ")[-1].split("\n")[0])
    assert end == {
        "reason": "complete",
        "finish_reason": "tool_calls",
        "model": "m-1",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "stream": "STREAM",
        "attempts": 1,
        "skipped": 1,
        "receipt": sum_of(said) | {"line_feeds": sum_of(said.replace("\r\n", "\n").replace("\r", "\n"))},
    }


async def test_fault_59_a_cut_at_every_byte(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Of the header's end, of the chunks' own lines, of a block: what did not come whole did not come."""
    upstream.script(stream(delta("好👋"), delta("a\n\nb"), finish(), DONE))
    client = await gateway()
    way, view = WAYS["streams"], VIEWS[0]
    first = await Wire.open(client, way.request(await way.address(client), view))
    whole = without_names((await first.whole()).body)
    for size in [0, *range(first.raw.index(b"\r\n\r\n"), len(first.raw))]:
        upstream.requests.clear()
        address = await way.address(client)
        wire = await Wire.open(client, way.request(address, view))
        await wire.some(size=size, seconds=5)
        wire.cut(HOWS[size % 2])
        kept = whole_blocks(wire.body)
        again = await Wire.open(client, way.request(address, view, last_event_id(kept)))
        assert without_names(kept + (await again.whole()).body) == whole
        assert len(upstream.requests) == 1


@every_way
async def test_a_client_that_comes_back_and_is_gone_at_once_is_no_fault_of_ours(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, way: Way
) -> None:
    """Before so much as the header is out: it is one more client that left, and nothing is logged as broken."""
    caplog.set_level(logging.INFO, "gateway.access")
    gate = asyncio.Event()
    client = await gateway()
    upstream.script(scripted(gate=gate, behind=8))
    address = await way.address(client)
    first = await Wire.open(client, way.request(address, VIEWS[1]))
    last = last_event_id(await first.blocks(4))
    for number, how in enumerate(HOWS * 5):
        back = await Wire.open(client, way.request(address, VIEWS[1], last))
        await asyncio.sleep(0.01 * (number % 3))  # for the stream to be found, or not
        back.cut(how)
        await asyncio.sleep(0.001)  # so that the gateway sees some of them whole, and some not
    await eventually(lambda: any(record.viewed for record in access_records(caplog)))
    assert {record.status for record in access_records(caplog) if record.viewed} == {499}
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
    gate.set()
    await first.whole()
    assert len(upstream.requests) == 1


@every_way
@every_view
async def test_fault_59_one_answer_cut_behind_each_of_its_events(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: Way, view: dict[str, str]
) -> None:
    client = await gateway()
    whole = await uncut(client, upstream, way, view)
    upstream.script(stream(*[data for data, _ in READS]))
    upstream.requests.clear()
    address = await way.address(client)
    kept = b""
    for turn in range(whole.count(b"\n\n")):
        wire = await Wire.open(client, way.request(address, view, last_event_id(kept)))
        kept += await wire.blocks(1)
        wire.cut(HOWS[turn % 2])
    assert without_names(kept) == whole
    assert len(upstream.requests) == 1


@every_way
async def test_fault_59_resumed_before_the_upstream_said_a_word(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: Way
) -> None:
    """From the `start` block, over and over, with nothing but heartbeats in between."""
    gate = asyncio.Event()
    client = await gateway("[stream]\nheartbeat_seconds = 0.02")
    whole = await uncut(client, upstream, way, VIEWS[1])
    upstream.script([Until(gate), *stream(*[data for data, _ in READS])])
    upstream.requests.clear()
    address = await way.address(client)
    first = await Wire.open(client, way.request(address, VIEWS[1]))
    kept = await first.blocks(1)
    for how in (*HOWS, *HOWS):
        wire = await Wire.open(client, way.request(address, VIEWS[1], last_event_id(kept)))
        await wire.heartbeats(2)
        assert whole_blocks(wire.body) == b""
        wire.cut(how)
    first.cut("fin")
    again = await Wire.open(client, way.request(address, VIEWS[1], last_event_id(kept)))
    assert (await again.head()).status == 200  # at once: a browser is to see that it is connected
    gate.set()
    assert without_names(kept + whole_blocks((await again.whole()).body)) == whole
    assert len(upstream.requests) == 1


@every_way
async def test_fault_59_resumed_while_the_upstream_is_silent(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: Way
) -> None:
    gate = asyncio.Event()
    client = await gateway("[stream]\nheartbeat_seconds = 0.02")
    whole = await uncut(client, upstream, way, VIEWS[0])
    upstream.script(scripted(gate=gate, behind=9))
    address = await way.address(client)
    first = await Wire.open(client, way.request(address, VIEWS[0]))
    await first.blocks(6)
    await first.heartbeats(2)
    kept = whole_blocks(first.body)
    assert last_event_id(kept).endswith(".9") or kept.count(b"\n\n") > 5
    first.cut("rst")
    again = await Wire.open(client, way.request(address, VIEWS[0], last_event_id(kept)))
    await again.heartbeats(2)
    gate.set()
    rest = (await again.whole()).body
    assert rest.startswith(HEARTBEAT)
    assert without_names(kept + whole_blocks(rest)) == whole


# Several at once


@every_way
@pytest.mark.parametrize("is_live", [True, False], ids=["live", "ended"])
async def test_fault_61_the_same_id_twice_at_the_same_time(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: Way, is_live: bool
) -> None:
    """Two readers, one upstream call; and each of them gets all of the rest."""
    gate = asyncio.Event()
    client = await gateway()
    whole = await uncut(client, upstream, way, VIEWS[1])
    upstream.script(scripted(gate=gate, behind=8))
    upstream.requests.clear()
    address = await way.address(client)
    first = await Wire.open(client, way.request(address, VIEWS[1]))
    kept = await first.blocks(6)
    first.cut("fin")
    if not is_live:
        gate.set()
        await ended(client, last_event_id(kept))
    request = way.request(address, VIEWS[1], last_event_id(kept))
    both = await asyncio.gather(Wire.open(client, request), Wire.open(client, request))
    for wire in both:
        assert (await wire.head()).status == 200
    gate.set()
    one, other = [(await wire.whole()).body for wire in both]
    assert one == other
    assert without_names(kept + one) == whole
    assert len(upstream.requests) == 1


@every_way
async def test_fault_61_resumed_while_the_first_connection_is_open(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: Way
) -> None:
    """As with a client that moved to another network, whose old connection nobody has closed: both get all."""
    gate = asyncio.Event()
    client = await gateway()
    whole = await uncut(client, upstream, way, VIEWS[3])
    upstream.script(scripted(gate=gate, behind=8))
    upstream.requests.clear()
    address = await way.address(client)
    first = await Wire.open(client, way.request(address, VIEWS[3]))
    kept = await first.blocks(4)
    again = await Wire.open(client, way.request(address, VIEWS[3], last_event_id(kept)))
    await again.blocks(2)
    gate.set()
    uncut_body, rest = (await first.whole()).body, (await again.whole()).body
    assert without_names(uncut_body) == whole
    assert kept + rest == uncut_body
    assert len(upstream.requests) == 1


async def test_fault_61_viewers_of_every_view_and_place_at_the_same_time(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """One stream, seen by all that there are: each sees its own view, from its own place on."""
    client = await gateway()
    way = WAYS["streams"]
    wholes = [await uncut(client, upstream, way, view) for view in VIEWS]
    gate = asyncio.Event()
    upstream.script(scripted(gate=gate, behind=8))
    upstream.requests.clear()
    address = await way.address(client)
    stream_id = address.split("/")[2].split("?")[0]
    await until(held(client, stream_id).log, lambda: held(client, stream_id).log.last >= 8)
    places = [(view, number) for view in range(len(VIEWS)) for number in range(9)]
    requests = [way.request(address, VIEWS[view], f"{stream_id}.{number}") for view, number in places]
    wires = await asyncio.gather(*[Wire.open(client, request) for request in requests])
    for wire in wires:
        await wire.head()
    gate.set()
    for (view, number), wire in zip(places, wires, strict=True):
        assert without_names((await wire.whole()).body) == behind(wholes[view], number)
    assert len(upstream.requests) == 1


# The end


@every_way
@every_view
async def test_fault_60_a_client_that_has_the_end_is_told_to_stop(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: Way, view: dict[str, str]
) -> None:
    """204 ends an `EventSource` for good; the same answer again and again, and for one that has all but the end, it."""
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway()
    address = await way.address(client)
    whole = (await (await Wire.open(client, way.request(address, view))).whole()).body
    last = last_event_id(whole)
    for _ in range(3):
        response = await (await Wire.open(client, way.request(address, view, last))).whole()
        assert (response.status, response.body) == (204, b"")
    before = last.replace(".2", ".1")
    response = await (await Wire.open(client, way.request(address, view, before))).whole()
    assert response.body == whole.partition(f"id: {before}\n\n".encode())[2]
    assert len(upstream.requests) == 1


FAILED = [data for data, _ in READS[:8]]
ENDINGS: dict[str, list[Step]] = {
    "complete": stream(*[data for data, _ in READS]),
    "upstream_error": stream(*FAILED, event({"error": {"message": "It broke.\nBadly."}})),
    "incomplete": stream(*FAILED, Close()),
    "reset": stream(*FAILED, Reset()),
    "timeout": stream(*FAILED, Stall()),
    "stopped": stream(*FAILED, Stall()),
    "no answer": [Close()],
}


@pytest.mark.parametrize("ending", ENDINGS)
@every_view
async def test_however_it_ended_every_viewer_is_told_so_in_the_same_bytes(
    gateway: MakeGateway, upstream: ScriptedUpstream, view: dict[str, str], ending: str
) -> None:
    """The one who watched, and those who come back later from any place: the failure, if there was one, and the end."""
    upstream.script(ENDINGS[ending])
    client = await gateway("[timeouts]\nidle = 0.1" if ending == "timeout" else "")
    way = WAYS["streams"]
    address = await way.address(client)
    watching = await Wire.open(client, way.request(address, view))
    if ending == "stopped":
        await watching.blocks(6)
        async with client.delete(address) as response:
            assert response.status == 204
    whole = (await watching.whole()).body
    stream_id, _, final = last_event_id(whole).partition(".")
    assert whole.count(b"\nevent: end\n") == 1
    assert whole.count(b"\nevent: failure\n") == (ending not in ("complete", "stopped"))
    for number in range(int(final) + 1):
        again = await Wire.open(client, way.request(address, view, f"{stream_id}.{number}"))
        assert (await again.whole()).body == behind(whole, number)
    assert len(upstream.requests) == 1


async def test_what_was_cancelled_while_its_client_was_away_says_so(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Where a stream does not wait for its client, that one still gets what there was, and why there is no more."""
    upstream.script(stream(delta("a"), delta("b"), Stall()))
    client = await gateway('[stream]\non_disconnect = "cancel"')
    way, view = WAYS["chat"], VIEWS[0]
    first = await Wire.open(client, way.request("/chat?q=x", view))
    kept = await first.blocks(2)
    first.cut("fin")
    await upstream.until(left=1)
    again = await Wire.open(client, way.request("/chat?q=x", view, last_event_id(kept)))
    rest = (await again.whole()).body
    assert b"data: b\n" in rest
    assert b'"reason":"client_gone"' in rest
    assert len(upstream.requests) == 1


# Cuts at random


@pytest.mark.parametrize("ending", ["complete", "upstream_error", "incomplete"])
async def test_fault_59_cut_at_any_byte_and_any_moment(
    gateway: MakeGateway, upstream: ScriptedUpstream, ending: str
) -> None:
    """Many streams at once, each cut again and again and resumed until its end: nothing is lost, nothing comes twice.

    Who had not even the id asks again with its `Idempotency-Key`. Some leave their old connection open.
    """
    chance = random.Random(ending)
    client = await gateway("[stream]\nheartbeat_seconds = 0.01")
    upstream.script(ENDINGS[ending])
    wholes = [await uncut(client, upstream, WAYS["chat"], view, ENDINGS[ending]) for view in VIEWS]
    upstream.script(*[paced(ENDINGS[ending], chance) for _ in range(100)])
    upstream.requests.clear()
    streams = await cut_again_and_again(client, wholes, chance, cuts=CUTS / 3, at_once=AT_ONCE)
    assert len(upstream.requests) == streams


async def cut_again_and_again(
    client: Client, wholes: list[bytes], chance: random.Random, *, cuts: float, at_once: int
) -> int:
    """Asks `at_once` streams at a time until that many connections were cut. Returns the number of streams.

    Each answer must be the one of `wholes` that belongs to its view.
    """
    done = streams = 0

    async def keep_asking() -> None:
        nonlocal done, streams
        while done < cuts:
            streams += 1
            way, view = chance.choice(list(WAYS.values())), chance.randrange(len(VIEWS))
            received, count = await cut_and_resumed(client, way, VIEWS[view], chance)
            done += count
            assert without_names(received) == wholes[view]

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(keep_asking())
    return streams


async def cut_and_resumed(client: Client, way: Way, view: dict[str, str], chance: random.Random) -> tuple[bytes, int]:
    """The blocks of one answer, and how often its connection was cut before they were all there."""
    address, key = await way.address(client), f"{chance.getrandbits(128):032x}"
    received, cuts = b"", 0
    abandoned: list[Wire] = []
    for _ in range(chance.randint(1, 5)):
        wire = await Wire.open(client, way.request(address, view, last_event_id(received), Idempotency_Key=key))
        is_cut = await wire.some(size=chance.randrange(3000), seconds=chance.choice([chance.random() * 0.08, 5]))
        received += checked(wire, received)
        if not is_cut:
            break
        cuts += 1
        abandoned.append(wire)
        if chance.random() < 0.8:
            abandoned.pop().cut(chance.choice(HOWS))
    else:
        wire = await Wire.open(client, way.request(address, view, last_event_id(received), Idempotency_Key=key))
        await wire.whole()
        received += checked(wire, received)
    for wire in abandoned:
        wire.cut("fin")
    return received, cuts


def checked(wire: Wire, received: bytes) -> bytes:
    """What came whole; a status other than 200 only where nothing was missing."""
    if b"\r\n\r\n" in wire.raw:
        assert wire.response.status == (204 if b"event: end\ndata: {" in received else 200)
    return whole_blocks(wire.body)


def paced(steps: Sequence[Step], chance: random.Random) -> list[Step]:
    """The same with a pause before each step, at times none."""
    return [paced for step in steps for paced in (Pause(chance.choice([0, 0.001, 0.01]) * chance.random()), step)]


# Ids that are nobody's


def wrong_ids(stream_id: str, last: int) -> dict[str, str]:
    return {
        "another stream": f"{'A' * 22}.1",
        "a number beyond the last": f"{stream_id}.{last + 1}",
        "a large number": f"{stream_id}.999999999",
        "a huge number": f"{stream_id}.{'9' * 5000}",
        "no number": stream_id,
        "an empty number": f"{stream_id}.",
        "a leading zero": f"{stream_id}.01",
        "two zeros": f"{stream_id}.00",
        "a minus": f"{stream_id}.-1",
        "a plus": f"{stream_id}.+1",
        "a fraction": f"{stream_id}.1.0",
        "an exponent": f"{stream_id}.1e0",
        "an underscore": f"{stream_id}.1_0",
        "an Arabic digit": f"{stream_id}.\u0661",
        "a full-width digit": f"{stream_id}.\uff11",
        "a superscript": f"{stream_id}.\u00b9",
        "something in front": f"x{stream_id}.1",
        "something behind": f"{stream_id}.1x",
        "a space inside": f"{stream_id} .1",
        "another separator": f"{stream_id}:1",
        "another case": f"{stream_id.swapcase()}.1",
        "only a number": "1",
        "only a dot": ".",
        "null": "null",
        "a path": f"../{stream_id}.1",
        "quotes": f'"{stream_id}.1"',
        "8 KiB": f"{stream_id}.1{'x' * 7800}",
        "non-ASCII": "é好👋",
    }


UNPRINTABLE = {
    "NUL": "\0",
    "NUL behind": "{}.1\0",
    "NUL in front": "\0{}.1",
    "CR behind": "{}.1\r",
    "LF behind": "{}.1\n",
    "CR LF behind": "{}.1\r\n",
    "LF inside": "{}\n.1",
    "a space behind": "{}.1 ",
    "a tab in front": "\t{}.1",
    "spaces": "  ",
    "a no-break space": "\xa0",
    "a separator behind": "{}.1\u2028",
}


@pytest.mark.parametrize("way", ["chat", "chat by POST", "streams"])
async def test_fault_62_63_a_wrong_id_is_404_with_one_answer_for_all(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: str
) -> None:
    """In the header and in the query; and never is the upstream asked a second time."""
    client, address, stream_id = await with_one_stream(gateway, upstream, WAYS[way])
    answers = set()
    for name, last in wrong_ids(stream_id, 2).items():
        answers.add((await told(client, way, address, header=last.encode()), len(upstream.requests)))
        answers.add((await told(client, way, address, query=last), len(upstream.requests)))
        assert len(answers) == 1, (name, answers)
    for name, pattern in UNPRINTABLE.items():
        answers.add((await told(client, way, address, query=pattern.format(stream_id)), len(upstream.requests)))
        assert len(answers) == 1, (name, answers)
    ((status, _, body), asked) = answers.pop()
    assert (status, json.loads(body)["error"]["code"], asked) == (404, "stream_not_found", 1)


@pytest.mark.parametrize("way", ["chat", "chat by POST", "streams"])
@pytest.mark.parametrize("byte", [b"\0", b"\r", b"\n", b"\x0b", b"\x7f", b"\xe9", b"\xff\xfe"], ids=repr)
async def test_fault_63_a_header_with_a_byte_that_no_id_has(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: str, byte: bytes
) -> None:
    """What HTTP itself forbids in a field is a bare 400 and a close, before we see it; the others are 404."""
    client, address, stream_id = await with_one_stream(gateway, upstream, WAYS[way])
    for last in (stream_id.encode() + b".1" + byte, byte + b"x", b"x" + byte + b"y", byte + stream_id.encode() + b".1"):
        status, _, _ = await told(client, way, address, header=last)
        assert status == (404 if byte >= b"\x80" else 400), last
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("way", ["chat", "chat by POST", "streams"])
async def test_fault_63_what_cannot_be_a_query_asks_nobody(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: str
) -> None:
    """Bytes that are no UTF-8, a query over 8 KiB, two ids."""
    client, address, stream_id = await with_one_stream(gateway, upstream, WAYS[way])
    for escaped, status in {"%FF": 400, "x" * 8192: 414, f"{stream_id}.1&last_event_id={stream_id}.2": 400}.items():
        assert (await told(client, way, f"{address}&last_event_id={escaped}"))[0] == status
    assert len(upstream.requests) == 1


POLYFILLS = [
    # what stands in the query, what it is answered with
    ("lastEventId={id}.1", 200),
    ("lastEventId={id}.1&last_event_id={id}.1", 200),
    ("lastEventId={id}.1&last_event_id=", 200),
    ("lastEventId=&last_event_id={id}.1", 200),
    ("lastEventId={id}.2", 204),
    ("lastEventId=nope.1", 404),
    ("lastEventId={id}.1&last_event_id={id}.2", 200),
    ("last_event_id=nope.1&lastEventId={id}.1", 200),
    ("last_event_id={id}.1&lastEventId=nope.1", 404),
    ("lastEventId={id}.1&lastEventId={id}.2", 400),
]


@pytest.mark.parametrize("way", ["chat", "chat by POST", "streams"])
async def test_the_name_that_polyfills_use_resumes_too(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: str
) -> None:
    """To the byte as by the other name. It outranks that: a polyfill adds it to an address with an older id."""
    client, address, stream_id = await with_one_stream(gateway, upstream, WAYS[way])
    _, _, expected = await told(client, way, address, query=f"{stream_id}.1")
    assert b"event: end" in expected
    for query, status in POLYFILLS:
        answer = await told(client, way, f"{address}&{query.format(id=stream_id)}")
        assert (answer[0], answer[2] == expected) == (status, status == 200), query
    assert (await told(client, way, f"{address}&lastEventId=nope.1", header=f"{stream_id}.2".encode()))[0] == 204
    assert len(upstream.requests) == 1


async def test_fault_63_only_an_empty_id_counts_as_absent(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """The header, which a browser sends by itself, outranks the query, be it right or wrong."""
    client, address, stream_id = await with_one_stream(gateway, upstream, WAYS["streams"])
    right, wrong = f"{stream_id}.1", "nope.1"
    for header, query, status in [
        (b"", "", 200),
        (b"   ", "", 200),  # to HTTP, space around a value is not part of it
        (b"", right, 200),
        (b"", wrong, 404),
        (right.encode(), wrong, 200),
        (wrong.encode(), right, 404),
        (f"{stream_id}.2".encode(), right, 204),
    ]:
        assert (await told(client, "streams", address, header=header, query=query))[0] == status
    assert len(upstream.requests) == 1
    assert (await told(client, "chat", "/chat?q=x", header=b"", query=""))[0] == 200
    assert len(upstream.requests) == 2


TWO_KEYS = """
[server]
allow_anonymous = true
[[keys]]
name = "a"
key = "the-key-of-team-a"
[[keys]]
name = "b"
key = "the-key-of-team-b"
"""
CALLERS: dict[str, dict[str, str]] = {
    "a": {"Authorization": "Bearer the-key-of-team-a"},
    "b": {"Authorization": "Bearer the-key-of-team-b"},
    "anonymous": {},
}


@pytest.mark.parametrize(("owner", "other"), [pair for pair in product(CALLERS, CALLERS) if pair[0] != pair[1]])
@pytest.mark.parametrize("is_live", [True, False], ids=["live", "ended"])
async def test_fault_62_90_a_foreign_stream_is_none(
    gateway: MakeGateway, upstream: ScriptedUpstream, owner: str, other: str, is_live: bool
) -> None:
    """Its id opens nothing to whoever did not ask, whichever way it is sent; the answer is that for an unknown id."""
    upstream.script(stream(delta("a secret"), Stall()) if is_live else stream(delta("a secret"), finish(), DONE))
    client = await gateway(TWO_KEYS)
    first = await Wire.open(client, get("/chat?q=x", **EVENTS, **CALLERS[owner]))
    start = await first.blocks(2)
    stream_id = last_event_id(start).partition(".")[0]
    unknown = await told(client, "chat", "/chat?q=x", header=b"unknown.1", caller=other)
    assert unknown[0] == 404
    for number in range(4):
        last = f"{stream_id}.{number}"
        for path in ("/chat?q=x", f"/streams/{stream_id}?", f"/streams/{stream_id}?ticket=x"):
            assert await told(client, "chat", path, header=last.encode(), caller=other) == unknown
            assert await told(client, "chat", path, query=last, caller=other) == unknown
        assert await told(client, "chat by POST", "/chat?q=x", header=last.encode(), caller=other) == unknown
    assert await told(client, "streams", f"/streams/{stream_id}?", caller=other) == unknown
    assert len(upstream.requests) == 1
    first.cut("fin")
    again = await Wire.open(client, get("/chat?q=x", **EVENTS, **CALLERS[owner], Last_Event_ID=f"{stream_id}.0"))
    assert b"a secret" in await again.blocks(1)
    again.cut("fin")


async def test_fault_90_a_ticket_opens_the_ids_of_its_own_stream(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    client, address, stream_id = await with_one_stream(gateway, upstream, WAYS["streams"])
    foreign = await WAYS["streams"].address(client)
    foreign_id, _, ticket = foreign.removeprefix("/streams/").partition("?")
    await until(held(client, foreign_id).log, lambda: held(client, foreign_id).log.ended)
    unknown = await told(client, "streams", address, header=b"unknown.1")
    assert unknown[0] == 404
    assert await told(client, "streams", address, header=f"{foreign_id}.1".encode()) == unknown
    assert await told(client, "streams", f"/streams/{stream_id}?{ticket}", header=f"{stream_id}.1".encode()) == unknown
    assert len(upstream.requests) == 2


@pytest.mark.memory
async def test_fault_62_an_expired_id_is_as_an_unknown_one(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway("[stream]\nkeep_seconds = 0.2")
    for way in ("chat", "streams"):
        upstream.requests.clear()
        address = await WAYS[way].address(client)
        first = await Wire.open(client, WAYS[way].request(address, VIEWS[0]))
        last = last_event_id((await first.whole()).body)
        unknown = await told(client, way, "/chat?q=x", header=b"unknown.1")
        assert (await told(client, way, address, header=last.encode()))[0] == 204
        await gone(client, last)
        for number in (0, 1, 2):
            sent = f"{last.partition('.')[0]}.{number}"
            assert await told(client, way, address, header=sent.encode()) == unknown
            assert await told(client, way, address, query=sent) == unknown
        assert len(upstream.requests) == 1


@pytest.mark.memory
async def test_fault_62_a_stream_that_made_room_is_as_an_unknown_one(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway("[store]\nmax_streams = 1")
    way = WAYS["chat"]
    lasts = []
    for _ in range(2):
        answer = await (await Wire.open(client, way.request("/chat?q=x", VIEWS[0]))).whole()
        lasts.append(last_event_id(answer.body))
    assert (await told(client, "chat", "/chat?q=x", header=lasts[1].encode()))[0] == 204
    assert (await told(client, "chat", "/chat?q=x", header=lasts[0].encode()))[0] == 404
    assert len(upstream.requests) == 2


# What the tests are made of


async def uncut(
    client: Client, upstream: ScriptedUpstream, way: Way, view: dict[str, str], steps: list[Step] | None = None
) -> bytes:
    """The answer, had by a client that nothing happens to; without the stream's own names."""
    upstream.script(steps or ENDINGS["complete"])
    wire = await Wire.open(client, way.request(await way.address(client), view))
    return without_names(whole_blocks((await wire.whole()).body))


def behind(whole: bytes, number: int) -> bytes:
    """The blocks of the entries behind that number."""
    blocks = [block + b"\n\n" for block in whole.split(b"\n\n")[:-1]]
    numbers = [int(last_event_id(block).rpartition(".")[2]) for block in blocks]
    return b"".join([block for block, own in zip(blocks, numbers, strict=True) if own > number])


async def ended(client: Client, last: str) -> None:
    log = held(client, last.partition(".")[0]).log
    assert await until(log, lambda: log.ended, within=5)


async def gone(client: Client, last: str) -> None:
    await eventually(lambda: streams(client).find(last.partition(".")[0]) is None)


async def with_one_stream(gateway: MakeGateway, upstream: ScriptedUpstream, way: Way) -> tuple[Client, str, str]:
    """A gateway that has made one answer, of two entries: its client, the answer's address, the stream's id."""
    upstream.script(stream(delta("a"), finish(), DONE))
    client = await gateway()
    address = await way.address(client)
    wire = await Wire.open(client, way.request(address, VIEWS[0]))
    return client, address, last_event_id((await wire.whole()).body).partition(".")[0]


async def told(
    client: Client, way: str, address: str, *, header: bytes = b"", query: str = "", caller: str = "anonymous"
) -> tuple[int, tuple[str, ...], bytes]:
    """Status, names of the header's fields, body: all that could tell one refusal from another."""
    sent: dict[str, str | bytes] = {**EVENTS, **CALLERS[caller], **({"Last-Event-ID": header} if header else {})}
    path = f"{address}&last_event_id={quote(query, safe='')}" if query else address
    if way == "chat by POST":
        request = post(path.replace("/chat?q=x", "/chat?"), {"question": "x"}, **sent)
    else:
        request = get(path, **sent)
    response: Response = await (await Wire.open(client, request)).whole()
    return response.status, tuple(response.fields), response.body
