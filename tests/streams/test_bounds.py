"""What the process may hold at most: of running answers, of request bodies, of failures, for one caller and for all."""

import asyncio
import gc
import json
import socket
import weakref
from contextlib import suppress
from typing import Any, cast

import pytest
from aiohttp import ClientPayloadError, web
from aiohttp.test_utils import TestClient, TestServer

from gateway.admission.admit import AdmittedRequest
from gateway.admission.body_room import BodyRoom
from gateway.bounds import Bounds
from gateway.entries import Entry, Kind
from gateway.errors import Busy, ClientGone, GatewayError, TooManyStreams
from gateway.handlers.services import BOUNDS, EXCHANGE, SERVICES, Exchange, Services
from gateway.handlers.sinks import EventStreamSink
from gateway.log.memory import MemoryStore
from gateway.log.snapshot import Snapshot
from gateway.log.views import text_view
from gateway.streams.frames import Frames
from gateway.streams.registry import Streams
from gateway.streams.viewer import Viewer
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, ask, bearer, create, error_of, eventually, leave, remains, send, start_of
from tests.rig.inside import held, streams
from tests.rig.scripted_upstream import (
    DONE,
    Reset,
    ScriptedUpstream,
    Send,
    Stall,
    Step,
    Until,
    answer,
    delta,
    finish,
    head,
    stream,
)

pytestmark = pytest.mark.usefixtures("both_ways")

ENDLESS = stream(delta("a"), Stall())
OK = stream(delta("a"), finish(), DONE)
KEYS = "".join([f'[[keys]]\nname = "{name}"\nkey = "the-key-of-{name}-team"\n' for name in ("one", "two")])


def by(name: str) -> dict[str, str]:
    return bearer(f"the-key-of-{name}-team")


async def left(client: Client, question: str = "hi", **headers: str) -> str:
    """The stream of a client that asked, read the first text, and is gone."""
    async with client.get("/chat", params={"q": question}, headers={**EVENTS, **headers}) as response:
        start = await start_of(response)
        await response.content.readuntil(b"data: a\n")
    await eventually(lambda: not held(client, start["stream"]).viewers)
    name: str = start["stream"]
    return name


# A failure that is kept


@pytest.mark.parametrize("way", ["events", "text", "json", "completions", "streamed completions"])
async def test_a_failure_that_is_kept_holds_words_only(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """An exception keeps its frames alive, and with them the upstream's response and what it had read."""
    upstream.script(stream(delta("a"), Reset()))
    client = await gateway("[stream]\nkeep_seconds = 60")
    generations = []
    begin = Streams._start

    def start(*args: Any) -> Any:
        started = begin(*args)
        generations.append(started.generation)
        return started

    monkeypatch.setattr(Streams, "_start", start)
    ways: dict[str, tuple[str, str, dict[str, str], object]] = {
        "events": ("GET", "/chat?q=hi", EVENTS, None),
        "text": ("GET", "/chat?q=hi", {"Accept": "text/plain"}, None),
        "json": ("GET", "/chat?q=hi", {}, None),
        "completions": ("POST", "/v1/chat/completions", {}, {"messages": []}),
        "streamed completions": ("POST", "/v1/chat/completions", {}, {"messages": [], "stream": True}),
    }
    method, path, headers, body = ways[way]
    async with client.request(method, path, headers=headers, json=body) as response:
        with suppress(ClientPayloadError):
            await response.read()
    (generation,) = generations
    failure = generation.failure
    assert failure is not None
    assert failure.code == "upstream_incomplete"
    assert (failure.__traceback__, failure.__cause__, failure.__context__) == (None, None, None)


def test_a_copy_of_an_error_says_the_same() -> None:
    kinds: list[type[Exception]] = [GatewayError, *_kinds(GatewayError)]
    for kind in kinds:
        error = kind.__new__(kind)
        assert isinstance(error, GatewayError)
        GatewayError.__init__(error, "words", code="c", param="p", headers={"A": "b"}, note="n")
        other = error.copy()
        assert type(other) is kind
        assert (other.body(), other.headers, other.note) == (error.body(), error.headers, "n")


def _kinds(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [one for child in kind.__subclasses__() for one in (child, *_kinds(child))]


# A viewer's broken connection


class Broken:
    """A sink whose transport raises, as uvloop's does where the connection was lost in the same turn of the loop."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.breaks = False

    async def write(self, data: bytes) -> None:
        if self.breaks:
            raise ClientGone()
        self.writes.append(data)

    def write_now(self, data: bytes) -> bool:
        if self.breaks:
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")
        self.writes.append(data)
        return True

    async def finish(self, data: bytes) -> None:
        await self.write(data)

    def abort(self) -> None:
        pass


async def test_a_sink_that_raises_costs_its_own_viewer_alone() -> None:
    log = MemoryStore(max_streams=1, max_bytes=1 << 30).create("s")
    frames, sinks = Frames(log, text_view), [Broken(), Broken(), Broken()]
    viewing = [asyncio.create_task(Viewer(frames, sink, heartbeat=None).run()) for sink in sinks]
    await asyncio.sleep(0)
    sinks[1].breaks = True
    log.append([Entry(Kind.TEXT, b"a")])
    log.append([Entry(Kind.TEXT, b"b")])
    log.append([Entry(Kind.END, b"{}")])
    one, two, three = await asyncio.gather(*viewing, return_exceptions=True)
    assert (one, three) == (None, None)
    assert isinstance(two, RuntimeError)
    assert b"".join(sinks[0].writes) == b"".join(sinks[2].writes) == b"ab"


# What runs


async def test_running_answers_are_bounded_in_number(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(ENDLESS)
    client = await gateway("[server]\nmax_running = 2\n")
    made = [await create(client), await create(client)]
    requests: list[tuple[str, str, object]] = [
        ("GET", "/chat?q=hi", None),
        ("POST", "/streams", {"question": "hi"}),
        ("POST", "/v1/chat/completions", {"messages": []}),
    ]
    for method, path, body in requests:
        async with client.request(method, path, json=body) as response:
            assert await error_of(response) == (503, "too_many_running")
            assert response.headers["Retry-After"]
    async with client.delete(made[0]["url"]):
        pass
    await eventually(lambda: len(streams(client)) == 1)
    assert (await create(client))["id"]


async def test_past_the_bound_nothing_begins_and_past_twice_the_bound_the_largest_ends(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Those that run hold what the store may hold twice over, and not as much as each of them may grow to."""
    parts = [delta("x" * 50_000)] * 10
    upstream.script(
        stream(delta("a"), *parts[:4], Stall()),  # 200 KB
        stream(delta("a"), *parts, Stall()),  # 500 KB
    )
    client = await gateway("[store]\nmax_bytes = 300_000\n")
    first = await create(client)
    await eventually(lambda: held(client, first["id"]).log.last == 5)
    second = await create(client)
    largest = held(client, second["id"])
    await eventually(lambda: largest.log.ended)
    failure = largest.generation.failure
    assert failure is not None
    assert failure.code == "answer_too_large"
    assert not held(client, first["id"]).log.ended
    await eventually(lambda: streams(client).find(second["id"]) is None)  # it made room


UNFINISHED: dict[str, tuple[list[Step], bool]] = {
    "a body that is being collected": (
        [
            Send(head(200, "application/json", Content_Length="9000000")),
            Send(b'{"choices": [{"index": 0, "message": {"content": "' + b"x" * 700_000),
            Stall(),
        ],
        False,
    ),
    "a stream from which a body is put together": (stream(*[delta("x" * 50_000)] * 14, Stall()), False),
    "an event that does not come whole": (
        stream(delta("a"), b'data: {"choices": [{"index": 0, "delta": {"content": "' + b"x" * 700_000, Stall()),
        True,
    ),
    "frames that wait for a client that takes nothing": (stream(*[delta("x" * 50_000)] * 140, Stall()), True),
}


@pytest.mark.parametrize("case", UNFINISHED)
async def test_what_runs_for_an_sdk_is_counted_too(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    steps, streamed = UNFINISHED[case]
    upstream.script(steps)
    client = await gateway("[store]\nmax_bytes = 200_000\n")
    body = json.dumps({"messages": [], "stream": streamed})
    fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    writer = await send(client, f"POST /v1/chat/completions HTTP/1.1\r\n{fields}", receive_buffer=4096)
    await upstream.until(requests=1)
    (one,) = list(streams(client))
    await eventually(lambda: one.log.ended)
    assert one.record.error == "answer_too_large"
    leave(writer, "rst")
    store = streams(client)._store
    await eventually(lambda: store.size == 0)


async def test_nothing_is_counted_that_is_not_held(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """After all kinds of answers, the store is as empty as before."""
    upstream.script(OK, OK, stream(delta("a"), Reset()), answer(500, {}), OK, OK)
    client = await gateway("[stream]\nkeep_seconds = 0.05\n")
    made = await create(client)
    async with client.get(made["url"], headers={"Accept": "application/json"}) as response:
        assert response.status == 200
    for _ in range(3):
        await ask(client)
    for streamed in (True, False):
        async with client.post("/v1/chat/completions", json={"messages": [], "stream": streamed}) as response:
            await response.read()
    await eventually(lambda: not list(streams(client)) and streams(client)._store.size == 0)


async def test_clients_that_poll_share_what_they_are_sent(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """However many of them read it slowly, or not at all."""
    upstream.script(stream(*[delta("x" * 50_000)] * 20, finish(), DONE))
    client = await gateway()
    made = await create(client)
    one = held(client, made["id"])
    await eventually(lambda: one.log.ended)
    first, second = streams(client).snapshot(one), streams(client).snapshot(one)
    assert sum(map(len, first)) > 1_000_000
    shared = {id(part) for part in first} & {id(part) for part in second}
    assert sum(len(part) for part in first if id(part) not in shared) < 70_000
    assert json.loads(b"".join(second))["text"] == "x" * 1_000_000


async def test_looking_at_a_stream_does_not_push_it_out(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """What makes looking quick gives way before any stream does."""
    upstream.script(stream(*[delta("x" * 50_000)] * 12, finish(), DONE))
    client = await gateway("[store]\nmax_bytes = 1_000_000\n")
    made = await create(client)
    await eventually(lambda: held(client, made["id"]).log.ended)
    for _ in range(5):
        async with client.get(made["url"], headers={"Accept": "application/json"}) as response:
            assert len((await response.json())["text"]) == 600_000
    assert streams(client)._store.size < 1_000_000


async def test_readers_of_ended_answers_are_cut_before_running_ones_are_ended(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """All that is held is within twice the bound, whoever still reads it."""
    grow = asyncio.Event()
    large = stream(*[delta("x" * 50_000)] * 100, finish(), DONE)
    upstream.script(stream(delta("a"), Until(grow), *[delta("x" * 50_000)] * 140, Stall()), large, large)
    client = await gateway("[store]\nmax_bytes = 8_000_000\n")
    running = held(client, (await create(client))["id"])
    await eventually(lambda: running.log.last == 1)
    readers = []
    for number in (1, 2):
        request = "GET /chat?q=hi HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        readers.append(await send(client, request, receive_buffer=4096))
        await eventually(lambda: sum(one.log.ended for one in streams(client)) == number)  # noqa: B023 (called within the turn)
    assert [one.viewers for one in streams(client)] == [0, 1, 1]
    grow.set()
    await eventually(lambda: running.log.last == 141)
    await eventually(lambda: len(list(streams(client))) < 3)
    assert not running.log.ended
    for writer in readers:
        leave(writer, "rst")


# What one caller may do to another


async def test_many_small_answers_of_one_caller_do_not_end_a_larger_one_of_another(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("x" * 100_000), Stall()), stream(delta("x" * 40_000), Stall()))
    client = await gateway("[store]\nmax_bytes = 300_000\n" + KEYS)
    mine = await create(client, **by("one"))
    kept = held(client, mine["id"])
    await eventually(lambda: kept.log.last == 1)
    for _ in range(15):  # at twice the bound, one of the other's own is ended
        async with client.post("/streams", json={"question": "hi"}, headers=by("two")) as response:
            if response.status == 503:
                break
    await remains(lambda: not kept.log.ended, seconds=0.3)


async def test_a_request_that_is_refused_ends_no_answer_of_its_caller(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Its place would go to the next question, but its minute is used up."""
    upstream.script(ENDLESS)
    client = await gateway(
        '[[keys]]\nname = "one"\nkey = "the-key-of-one-team"\nmax_streams = 1\nrequests_per_minute = 1\n'
    )
    mine = await left(client, **by("one"))
    for method in ("get", "post"):
        ask = getattr(client, method)
        body = {} if method == "get" else {"json": {"question": "hi"}}
        async with ask("/chat?q=hi" if method == "get" else "/chat", headers=by("one"), **body) as response:
            assert await error_of(response) == (429, "rate_limit_exceeded")
    assert not held(client, mine).log.ended


async def test_orphans_of_one_caller_push_out_no_others(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Beyond the bound the caller who has the most loses its oldest."""
    upstream.script(ENDLESS)
    client = await gateway("[stream]\nmax_orphans = 3\n" + KEYS)
    mine = await left(client, **by("one"))
    theirs = [await left(client, **by("two")) for _ in range(5)]
    assert not held(client, mine).log.ended
    assert [held(client, name).log.ended for name in theirs] == [True, True, True, False, False]


async def test_a_guest_does_not_keep_an_abandoned_answer_alive(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The grace time is that without any viewer since the owner left. A guest's visit interrupts it, no more."""
    upstream.script(ENDLESS)
    client = await gateway("[stream]\ngrace_seconds = 0.3\n")
    made = await create(client)
    async with client.get(made["url"], headers=EVENTS) as response:
        await start_of(response)
    stream_, visits = held(client, made["id"]), 0
    while not stream_.log.ended and visits < 50:
        await asyncio.sleep(0.1)  # the grace time goes on between visits
        visits += 1
        async with client.get(made["viewer_url"], headers=EVENTS) as response:
            await response.content.readuntil(b"\n\n")
        await eventually(lambda: not stream_.viewers)
    assert 2 <= visits <= 6
    assert stream_.record.end == "client_gone"


async def test_its_owner_coming_back_renews_the_grace_time(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(ENDLESS)
    client = await gateway("[stream]\ngrace_seconds = 0.3\n")
    made = await create(client)
    for _ in range(6):
        async with client.get(made["url"], headers=EVENTS) as response:
            await start_of(response)
        await asyncio.sleep(0.1)  # six times make twice the grace time
    assert not held(client, made["id"]).log.ended


async def test_callers_at_two_addresses_share_no_idempotency_key(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(OK)
    client = await gateway('[server]\nallow_anonymous = true\ntrusted_proxies = ["127.0.0.1"]\n')
    key, made = "0123456789abcdef", []
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        headers = {"Idempotency-Key": key, "X-Forwarded-For": address}
        async with client.post("/streams", json={"question": "hi"}, headers=headers) as response:
            made.append((await response.json())["id"])
    assert made[0] == made[2] != made[1]
    await upstream.until(requests=2)


# Request bodies


def test_bodies_are_bounded_together_and_for_each_caller() -> None:
    bodies = BodyRoom(100)
    with bodies.reading("one") as one, bodies.reading("two") as two, bodies.reading("three") as three:
        one(50)
        with pytest.raises(Busy):
            one(1)  # half of the room is one caller's most
        two(40)
        with pytest.raises(Busy):
            three(11)
        three(10)
    with bodies.reading("three") as three:
        three(50)
    assert not bodies._all
    assert not bodies._held
    assert not bodies._number


def test_a_caller_may_read_as_many_bodies_at_once_as_it_may_have_streams() -> None:
    bodies = BodyRoom(100)
    with bodies.reading("one", at_a_time=1):
        with pytest.raises(TooManyStreams), bodies.reading("one", at_a_time=1):
            pass
        with bodies.reading("two", at_a_time=1):
            pass
    with bodies.reading("one", at_a_time=1):
        pass


def test_a_body_for_a_caller_is_none_that_it_sends() -> None:
    """It takes room, but leaves the caller as many requests as before."""
    bodies = BodyRoom(100)
    with bodies.holding("one") as one:
        one(40)
        with bodies.reading("one", at_a_time=1) as other:
            other(10)
            with pytest.raises(Busy):
                other(1)
        assert bodies._all == 40
    assert not bodies._all
    assert not bodies._held
    assert not bodies._number


async def test_a_body_that_never_has_room_is_413(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A caller may have half of the room: a larger body would be told to try again for ever."""
    client = await gateway("[server]\nmax_bodies_bytes = 200_000\n")
    fields = {"messages": [{"role": "user", "content": "x" * 150_000}]}
    for path in ("/v1/chat/completions", "/chat", "/streams"):
        async with client.post(path, json=fields) as response:
            assert await error_of(response) == (413, "body_too_large")


async def test_what_can_be_refused_is_refused_before_the_body_is_read(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Its places are taken, or its minute is used up: a body of 30 MiB is not waited for."""
    upstream.script(ENDLESS)
    limited = '[[keys]]\nname = "one"\nkey = "the-key-of-one-team"\n'
    client = await gateway(limited + "max_streams = 1\n" + limited.replace("one", "two") + "requests_per_minute = 1\n")
    for name, code in (("one", "too_many_streams"), ("two", "rate_limit_exceeded")):
        async with client.post("/chat", json={"question": "hi"}, headers={**EVENTS, **by(name)}) as response:
            await start_of(response)
            for path in ("/v1/chat/completions", "/chat", "/streams"):
                assert await _refused(client, path, name) == (429, code)


async def _refused(client: Client, path: str, name: str) -> tuple[int, str]:
    """The answer to a body that never comes."""
    never = asyncio.Event()

    async def body() -> Any:
        yield b"{"
        await never.wait()

    headers = {"Content-Type": "application/json", **by(name)}
    async with asyncio.timeout(5), client.post(path, data=body(), headers=headers) as response:
        return await error_of(response)


async def test_bodies_past_the_bound_are_503(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway("[server]\nmax_bodies_bytes = 200_000\n")
    bodies = client.app[SERVICES].bodies
    fields = {"messages": [{"role": "user", "content": "x" * 50_000}]}
    with bodies.reading("another") as count:
        count(100_000)
        with bodies.reading("one more") as count:
            count(60_000)
            for path in ("/v1/chat/completions", "/chat", "/streams"):
                async with client.post(path, json=fields) as response:
                    assert await error_of(response) == (503, "busy")
                    assert response.headers["Retry-After"] == "1"
    async with client.post("/v1/chat/completions", json=fields) as response:
        assert response.status == 200


async def test_a_large_request_is_not_held_while_it_is_answered(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    """Pictures of many megabytes travel in requests; once the upstream has them, the gateway needs them no longer."""
    upstream.script(ENDLESS)
    client = await gateway('[stream]\non_disconnect = "cancel"\n')
    fields = {"messages": [{"role": "user", "content": "x" * 900_000}], "stream": True}
    for path, headers in (("/v1/chat/completions", {}), ("/chat", EVENTS)):
        async with client.post(path, json=fields, headers=headers) as response:
            await response.content.readuntil(b'"a"' if "v1" in path else b"data: a\n")
            gc.collect()
            requests = [one for one in gc.get_objects() if isinstance(one, AdmittedRequest)]
            assert {len(one.payload.fields) for one in requests} == {0}
            (running,) = [one for one in streams(client) if not one.log.ended]
            assert len(upstream.requests[-1].body) > 900_000
            assert running.log.held < 100_000
    await eventually(lambda: len(lines) == 2)
    assert [line["stream"]["input_tokens"] for line in lines] == [225_000, 225_000]


# The end


async def test_an_end_that_cannot_be_accounted_is_an_end(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours in the accounting is in the log; nobody waits for the end of the stream for ever."""
    upstream.script(OK)
    client = await gateway()
    monkeypatch.setattr("gateway.streams.attempt.taken", lambda *_, **__: 1 / 0)
    answered = await ask(client)
    assert answered.end["reason"] == "complete"
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]
    assert streams(client).limiter.streams == 0  # type: ignore[attr-defined] # of the one in memory
    caplog.clear()


@pytest.mark.parametrize("way", ["json", "events", "text", "snapshot", "completions", "streamed completions", "failed"])
async def test_a_client_that_stops_at_the_tail_is_cut(
    gateway: MakeGateway, upstream: ScriptedUpstream, way: str
) -> None:
    """All of the answer fits into the transport's buffer: that is not yet sent."""
    ends = (Reset(),) if way == "failed" else (finish(), DONE)
    upstream.script(stream(*[delta("x" * 50_000)], *ends))
    client = await gateway(bounds=Bounds(stall_seconds=0.3))
    made = await create(client)
    body = json.dumps({"messages": [], "stream": "streamed" in way})
    requests = {
        "snapshot": f"GET {made['url']} HTTP/1.1\r\nAccept: application/json\r\n",
        "json": "GET /chat?q=hi HTTP/1.1\r\n",
        "events": "GET /chat?q=hi HTTP/1.1\r\nAccept: text/event-stream\r\n",
        "text": "GET /chat?q=hi HTTP/1.1\r\nAccept: text/plain\r\n",
        "failed": "GET /chat?q=hi HTTP/1.1\r\nAccept: text/plain\r\n",
    }
    posted = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    await eventually(lambda: held(client, made["id"]).log.ended)
    await client.session.close()
    await eventually(lambda: not client.server.handler.connections)
    writer = await send(client, requests.get(way, posted) + "Host: localhost\r\n", receive_buffer=4096)
    await eventually(lambda: len(client.server.handler.connections) == 1)
    (connection,) = client.server.handler.connections
    assert connection.transport is not None
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    writer.write(f"\r\n{'' if way in requests else body}".encode())
    await eventually(lambda: connection.transport is not None and connection.transport.get_write_buffer_size() > 0)
    await eventually(lambda: not client.server.handler.connections)
    writer.close()


async def test_no_event_is_written_before_the_header(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A sink says no to `write_now` until its header has left, which `write` sends with the first bytes."""
    said = []

    async def handle(request: web.Request) -> web.StreamResponse:
        request[EXCHANGE] = Exchange(cast("Services", None), "request-id")
        sink = EventStreamSink(request)
        said.append(sink.write_now(b": a\n\n"))
        await sink.open()
        said.append(sink.write_now(b": b\n\n"))
        await sink.write(b": c\n\n")
        said.append(sink.write_now(b": d\n\n"))
        await sink.finish(b": e\n\n")
        return sink.response

    app = web.Application()
    app[BOUNDS] = Bounds()
    app.router.add_get("/", handle)
    async with TestClient(TestServer(app)) as client, client.get("/") as response:
        assert await response.read() == b": c\n\n: d\n\n: e\n\n"
    assert said == [False, False, True]


def test_each_entry_is_encoded_once_however_often_a_client_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore(max_streams=1, max_bytes=1 << 30)
    log = store.create("s")
    looked: list[int] = []

    def counted(number: int, entry: Any) -> bytes:
        looked.append(number)
        return text_view(number, entry)

    monkeypatch.setattr("gateway.log.snapshot.text_view", counted)
    snapshot, text = Snapshot("s" * 22, log), ""
    for number in range(1, 50):
        text += f'{number} "\\\n\u2028é👋'
        log.append([Entry(Kind.TEXT, f'{number} "\\\n\u2028é👋'.encode())])
        for _ in range(3):
            body = json.loads(b"".join(snapshot.parts()))
            assert (body["text"], body["events"], body["state"]) == (text, number, "running")
    assert looked == list(range(1, 50))
    log.append([Entry(Kind.END, b'{"reason":"complete"}')])
    assert json.loads(b"".join(snapshot.parts()))["end"] == {"reason": "complete"}
    gone = weakref.ref(snapshot)
    del snapshot
    assert gone() is None
    store.discard("s")
    assert store.size == 0
