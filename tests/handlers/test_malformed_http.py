"""What is no proper HTTP, over raw sockets: one answer for each request, none for what hides in another, and an end.

Each case is judged in the same way. The answers are whole and as many as the requests, the connection is closed, the
upstream is asked only what was asked for in the open, nothing is a traceback in the log, and the gateway serves others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
from aiohttp.test_utils import TestClient, TestServer

from gateway.app import create_app, server_options
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from tests.conftest import Client, configured
from tests.rig.clients import eventually
from tests.rig.overheard import Overheard
from tests.rig.replies import Reply, parsed, replies
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Until, delta, finish, stream

PATIENCE = 1.0  # seconds, for what takes too long: 75 for a head, 30 for a body and 10 for its rest where it is served

BODY = b'{"question":"x"}'
CHUNK = b"10\r\n" + BODY + b"\r\n"
LENGTH = b"Content-Length: 16"
CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"
HIDDEN = b"GET /chat?q=hidden HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

MakeDoor = Callable[..., Awaitable[Client]]
Statuses = dict[str, list[int]]


@pytest.fixture
async def door(upstream: ScriptedUpstream, overheard: Overheard) -> AsyncIterator[MakeDoor]:
    """A gateway as it is served. `patience`: it waits no longer for anything."""
    options = server_options()
    assert options.pop("handler_cancellation")  # a TestServer has it anyway, and takes it only from itself
    opened: list[Client] = []
    upstream.script(stream(delta("a"), finish(), DONE))

    async def make(toml: str = "", *, patience: float | None = None) -> Client:
        config = configured(upstream.url, toml)
        overheard.keep_keys(config)
        bounds, waits = DEFAULT_BOUNDS, {}
        if patience is not None:
            bounds = Bounds(body_seconds=patience)
            waits = {"keepalive_timeout": patience, "lingering_time": patience / 4}
        server = TestServer(create_app(config, bounds=bounds))
        await server.start_server(**options | waits)
        client: Client = TestClient(server)
        opened.append(client)
        return client

    yield make
    for client in opened:
        await client.close()


def ask(*fields: bytes, body: bytes = b"", version: bytes = b"1.1", path: bytes = b"/chat") -> bytes:
    """A request for an answer as one JSON body, with these fields."""
    lines = [b"POST %b HTTP/%b" % (path, version), b"Host: localhost", b"Content-Type: application/json", *fields]
    return b"\r\n".join([*lines, b"", body])


def get(*fields: bytes, line: bytes = b"GET /healthz HTTP/1.1", host: bytes = b"Host: localhost") -> bytes:
    lines = [line, *([host] if host else []), *fields, b"Connection: close"]
    return b"\r\n".join([*lines, b"", b""])


async def judged(
    client: Client, upstream: ScriptedUpstream, *parts: bytes, asked: int, pause: float = 0.0
) -> list[Reply]:
    found = await replies(client, *parts, pause=pause)
    assert len(upstream.requests) == asked
    assert not any(b"hidden" in request.body for request in upstream.requests)
    (well,) = await replies(client, get())
    assert well.status == 200
    return found


async def statuses_of(client: Client, upstream: ScriptedUpstream, cases: Mapping[str, bytes], asked: int) -> Statuses:
    """The statuses of all answers to each case, on a connection of its own. Each is judged."""
    found = {}
    for number, (case, raw) in enumerate(cases.items(), 1):
        try:
            found[case] = [reply.status for reply in await judged(client, upstream, raw, asked=number * asked)]
        except AssertionError as error:
            error.add_note(f"the case: {case}")
            raise
    return found


# Framing: where a request ends

FRAMING = {
    # Both a length and chunks, or several of one
    "a length and chunks": ask(LENGTH, CHUNKED, body=CHUNK + LAST),
    "chunks and a length": ask(CHUNKED, LENGTH, body=CHUNK + LAST),
    "chunks, and a length that ends before": ask(CHUNKED, b"Content-Length: 4", body=LAST),
    "a length of nothing, and chunks": ask(b"Content-Length: 0", CHUNKED, body=LAST),
    "the same length twice": ask(LENGTH, LENGTH, body=BODY),
    "two lengths": ask(LENGTH, b"Content-Length: 0", body=BODY),
    "two lengths in one field": ask(b"Content-Length: 16, 16", body=BODY),
    "two different ones in one field": ask(b"Content-Length: 0, 16", body=BODY),
    # Lengths that some read and others do not
    "a length with a plus": ask(b"Content-Length: +16", body=BODY),
    "a length with a minus": ask(b"Content-Length: -16", body=BODY),
    "a length with an underscore": ask(b"Content-Length: 1_6", body=BODY),
    "a length with a space inside": ask(b"Content-Length: 1 6", body=BODY),
    "a length in hexadecimal": ask(b"Content-Length: 0x10", body=BODY),
    "a length with a fraction": ask(b"Content-Length: 16.0", body=BODY),
    "a length with a parameter": ask(b"Content-Length: 16;x", body=BODY),
    "a length in other digits": ask("Content-Length: ١٦".encode(), body=BODY),
    "a length of no digit": ask(b"Content-Length: ", body=BODY),
    "a length beyond 64 bits": ask(b"Content-Length: 18446744073709551632", body=BODY),
    "a length with NUL": ask(b"Content-Length: 16\0", body=BODY),
    "a space before the colon of a length": ask(b"Content-Length : 16", body=BODY),
    "a tab before the colon of a length": ask(b"Content-Length\t: 16", body=BODY),
    "a folded length": ask(b"Content-Length:\r\n 16", body=BODY),
    "a length behind a bare LF": ask(b"X: a\nContent-Length: 16", body=BODY),
    "a length behind a bare CR": ask(b"X: a\rContent-Length: 16", body=BODY),
    # Codings that some take for chunks and others do not
    "chunked, identity": ask(b"Transfer-Encoding: chunked, identity", body=CHUNK + LAST),
    "identity, then chunked in a second field": ask(b"Transfer-Encoding: identity", CHUNKED, body=CHUNK + LAST),
    "chunked, then identity in a second field": ask(CHUNKED, b"Transfer-Encoding: identity", body=CHUNK + LAST),
    "chunked twice": ask(b"Transfer-Encoding: chunked, chunked", body=CHUNK + LAST),
    "chunked in two fields": ask(CHUNKED, CHUNKED, body=CHUNK + LAST),
    "xchunked": ask(b"Transfer-Encoding: xchunked", body=CHUNK + LAST),
    "chunkedx": ask(b"Transfer-Encoding: chunkedx", body=CHUNK + LAST),
    "identity": ask(b"Transfer-Encoding: identity", body=BODY),
    "identity and a length": ask(b"Transfer-Encoding: identity", LENGTH, body=BODY),
    "gzip": ask(b"Transfer-Encoding: gzip", body=CHUNK + LAST),
    "quoted": ask(b'Transfer-Encoding: "chunked"', body=CHUNK + LAST),
    "a parameter": ask(b"Transfer-Encoding: chunked;q=1", body=CHUNK + LAST),
    "a vertical tab": ask(b"Transfer-Encoding: \x0bchunked", body=CHUNK + LAST),
    "NUL behind it": ask(b"Transfer-Encoding: chunked\0", body=CHUNK + LAST),
    "a non-breaking space": ask(b"Transfer-Encoding: \xa0chunked", body=CHUNK + LAST),
    "a space before the colon": ask(b"Transfer-Encoding : chunked", body=CHUNK + LAST),
    "a folded coding": ask(b"Transfer-Encoding:\r\n chunked", body=CHUNK + LAST),
    "a field that begins with a space": ask(b" Transfer-Encoding: chunked", body=CHUNK + LAST),
    "a tab around": ask(b"Transfer-Encoding:\tchunked\t", body=CHUNK + LAST),
    "no coding": ask(b"Transfer-Encoding: ", body=CHUNK + LAST),
    "chunks from a peer that speaks 1.0": ask(CHUNKED, version=b"1.0", body=CHUNK + LAST),
}


async def test_fault_84_framing_that_two_could_read_differently_is_refused(
    door: MakeDoor, upstream: ScriptedUpstream
) -> None:
    cases = {case: raw + HIDDEN for case, raw in FRAMING.items()}
    assert await statuses_of(await door(), upstream, cases, asked=0) == {case: [400] for case in FRAMING}


CHUNKS = {
    "no digit": b"zz\r\n" + BODY + b"\r\n" + LAST,
    "no size": b"\r\n" + BODY + b"\r\n" + LAST,
    "a minus": b"-10\r\n" + BODY + b"\r\n" + LAST,
    "a plus": b"+10\r\n" + BODY + b"\r\n" + LAST,
    "an underscore": b"1_0\r\n" + BODY + b"\r\n" + LAST,
    "0x": b"0x10\r\n" + BODY + b"\r\n" + LAST,
    "a space before it": b" 10\r\n" + BODY + b"\r\n" + LAST,
    "a size beyond 64 bits": b"10000000000000010\r\n" + BODY + b"\r\n" + LAST,
    "NUL": b"10\0\r\n" + BODY + b"\r\n" + LAST,
    "a bare LF behind the size": b"10\n" + BODY + b"\r\n" + LAST,
    "a bare CR behind the size": b"10\r" + BODY + b"\r\n" + LAST,
    "a bare LF in an extension": b"10;a\nb\r\n" + BODY + b"\r\n" + LAST,
    "no line end behind the data": b"10\r\n" + BODY + LAST,
    "a bare LF behind the data": b"10\r\n" + BODY + b"\n" + LAST,
    "more data than the size": b"f\r\n" + BODY + b"\r\n" + LAST,
    "a trailer that is none": CHUNK + b"0\r\nno trailer\r\n\r\n",
    "a trailer with NUL": CHUNK + b"0\r\nX: a\0b\r\n\r\n",
    "a trailer behind a bare LF": CHUNK + b"0\nX: a\r\n\r\n",
    "a trailer with a length": CHUNK + b"0\r\nContent-Length: 400\r\n\r\n",
    "trailers of 1 MB": CHUNK + b"0\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 30_000 + b"\r\n",
}


async def test_fault_84_a_malformed_chunk_is_refused_once(door: MakeDoor, upstream: ScriptedUpstream) -> None:
    """The request is answered, and not what came behind the chunk."""
    cases = {case: ask(CHUNKED, body=chunks) + HIDDEN for case, chunks in CHUNKS.items()}
    assert await statuses_of(await door(), upstream, cases, asked=0) == {case: [400] for case in CHUNKS}


async def test_fault_84_nor_when_it_comes_late(door: MakeDoor, upstream: ScriptedUpstream) -> None:
    """When a handler waits for the body: it is not told, and waits for as long as a body may take."""
    client = await door(patience=PATIENCE)
    late = [replies(client, ask(CHUNKED), chunks + HIDDEN, pause=PATIENCE / 4) for chunks in CHUNKS.values()]
    found = dict(zip(CHUNKS, await asyncio.gather(*late), strict=True))
    assert {case: [reply.status for reply in told] for case, told in found.items()} == {case: [408] for case in CHUNKS}
    await judged(client, upstream, get(), asked=0)


PROPER = {
    "a length": ask(LENGTH, body=BODY),
    "a length with space around": ask(b"Content-Length: \t16 \t", body=BODY),
    "leading zeros": ask(b"Content-Length: 0016", body=BODY),
    "chunks": ask(CHUNKED, body=CHUNK + LAST),
    "chunks in capitals": ask(b"TRANSFER-ENCODING: CHUNKED", body=CHUNK + LAST),
    "chunks with an extension": ask(CHUNKED, body=b'10;a=b;c="d"\r\n' + BODY + b"\r\n" + LAST),
    "chunks with zeros": ask(CHUNKED, body=b"00010\r\n" + BODY + b"\r\n000\r\n\r\n"),
    "chunks with an extension of 100 kB": ask(
        CHUNKED, body=b"10;a=" + b"b" * 100_000 + b"\r\n" + BODY + b"\r\n" + LAST
    ),
    "a trailer": ask(CHUNKED, body=CHUNK + b"0\r\nX: y\r\n\r\n"),
    "a field with underscores": ask(LENGTH, b"Transfer_Encoding: chunked", b"Content_Length: 3", body=BODY),
    "empty lines before it": b"\r\n\r\n" + ask(LENGTH, body=BODY),
    "an upgrade to websockets": ask(LENGTH, b"Connection: Upgrade", b"Upgrade: websocket", body=BODY),
}


async def test_fault_84_what_is_proper_is_answered_and_so_is_the_next(
    door: MakeDoor, upstream: ScriptedUpstream
) -> None:
    """So the framing was understood."""
    cases = {case: raw + get() for case, raw in PROPER.items()}
    assert await statuses_of(await door(), upstream, cases, asked=1) == {case: [200, 200] for case in PROPER}


async def test_fault_84_what_follows_an_upgrade_that_is_declined_is_not_read(
    door: MakeDoor, upstream: ScriptedUpstream
) -> None:
    """It may be the other protocol. The request itself is answered, and the connection closed."""
    upgrade = ask(LENGTH, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", body=BODY)
    (reply,) = await judged(await door(patience=PATIENCE), upstream, upgrade + HIDDEN, asked=1)
    assert reply.status == 200


# Bytes that are in no proper head

HEADS = {
    "fault_75 NUL in the method": b"G\0ET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "fault_75 NUL in the target": b"GET /heal\0thz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "fault_75 NUL in the version": b"GET /healthz HTTP/1.1\0\r\nHost: localhost\r\n\r\n",
    "fault_75 NUL in a name": get(b"X\0Y: a"),
    "fault_75 NUL in a value": get(b"X: a\0b"),
    "fault_75 NUL in the host": get(host=b"Host: local\0host"),
    "fault_75 NUL between lines": b"GET /healthz HTTP/1.1\r\n\0\r\nHost: localhost\r\n\r\n",
    "fault_75 only NUL": b"\0" * 64,
    "fault_75 CR in the target": b"GET /heal\rthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "fault_75 LF in the target": b"GET /heal\nthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "fault_75 CR in a name": get(b"X\rY: a"),
    "fault_75 CR in a value": get(b"X: a\rb"),
    "fault_75 CR CR LF": get(b"X: a\r"),
    "fault_75 only CR": b"GET /healthz HTTP/1.1\rHost: localhost\r\r",
    "fault_75 a folded value": get(b"X: a\r\n b"),
    "fault_75 a name with a space": get(b"X Y: a"),
    "fault_75 no name": get(b": a"),
    "fault_75 no colon": get(b"X"),
    "fault_75 a name in other letters": get("é: a".encode()),
    "fault_75 DEL in a name": get(b"X\x7f: a"),
    "fault_75 a tab in the line": b"GET\t/healthz\tHTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no version": b"GET /healthz\r\nHost: localhost\r\n\r\n",
    "HTTP/0.9": b"GET /healthz\r\n",
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: localhost\r\n\r\n",
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "HTTP/9.9": b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "a version of two digits": b"GET /healthz HTTP/1.11\r\nHost: localhost\r\n\r\n",
    "another protocol": b"GET /healthz RTSP/1.0\r\nHost: localhost\r\n\r\n",
    "something behind the version": b"GET /healthz HTTP/1.1 x\r\nHost: localhost\r\n\r\n",
    "a space in the target": b"GET /heal thz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method in small letters": b"get /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a method that nobody knows": b"STEAL /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "a TLS hello": b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03" + bytes(range(160)),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "fault_85 a value of 70 kB": get(b"X: " + b"a" * 70_000),
    "fault_85 a name of 70 kB": get(b"X" * 70_000 + b": a"),
    "fault_85 a method of 70 kB": b"G" * 70_000 + b" / HTTP/1.1\r\n\r\n",
    "fault_85 a head of 10 MB": get(*[b"X-%d: %b" % (n, b"a" * 1000) for n in range(10_000)]),
    "fault_85 100,000 fields": get(*[b"X: a"] * 100_000),
}


async def test_fault_75_a_head_that_is_not_http_is_400(door: MakeDoor, upstream: ScriptedUpstream) -> None:
    cases = {case: raw + HIDDEN for case, raw in HEADS.items()}
    assert await statuses_of(await door(), upstream, cases, asked=0) == {case: [400] for case in HEADS}


TARGETS = {
    # the request, the status
    "of a proxy": (get(line=b"GET http://localhost/healthz HTTP/1.1"), 200),
    "of a proxy, and another host": (get(line=b"GET http://other.example/healthz HTTP/1.1"), 421),
    "of a proxy, and a user": (get(line=b"GET http://localhost:80@evil.example/healthz HTTP/1.1"), 421),
    "of a tunnel": (get(line=b"CONNECT localhost:80 HTTP/1.1"), 404),
    "a host without a scheme": (get(line=b"GET localhost:80 HTTP/1.1"), 400),
    "all": (get(line=b"OPTIONS * HTTP/1.1"), 404),
    "two slashes": (get(line=b"GET //healthz HTTP/1.1"), 404),
    "dots": (get(line=b"GET /./healthz HTTP/1.1"), 404),
    "NUL, encoded": (get(line=b"GET /healthz%00 HTTP/1.1"), 404),
    "line ends, encoded": (get(line=b"GET /healthz%0d%0aX-Evil:%201 HTTP/1.1"), 404),
    "bytes that are not UTF-8": (get(line=b"GET /\xff\xfe HTTP/1.1"), 400),
    "half an escape": (get(line=b"GET /%z HTTP/1.1"), 404),
    "a fragment": (get(line=b"GET /healthz#x HTTP/1.1"), 200),
    "HTTP/1.0": (get(line=b"GET /healthz HTTP/1.0"), 200),
    "HTTP/1.0, no host": (get(line=b"GET /healthz HTTP/1.0", host=b""), 200),
}


async def test_fault_83_targets(door: MakeDoor, upstream: ScriptedUpstream) -> None:
    cases = {case: raw for case, (raw, _) in TARGETS.items()}
    expected = {case: [status] for case, (_, status) in TARGETS.items()}
    assert await statuses_of(await door(), upstream, cases, asked=0) == expected


HOSTS = {
    "no host": b"",
    "an empty one": b"Host:",
    "two": b"Host: localhost\r\nHost: evil.example",
    "the same twice": b"Host: localhost\r\nHost: localhost",
    "two in one": b"Host: localhost, evil.example",
    "a space": b"Host: local host",
    "a path": b"Host: localhost/evil",
    "a user": b"Host: localhost@evil.example",
    "bytes that are not ASCII": b"Host: localhost\xff",
    "another one": b"Host: evil.example",
}


async def test_fault_75_hosts(door: MakeDoor, upstream: ScriptedUpstream) -> None:
    """Nobody is asked for one who does not name this machine, once."""
    cases = {case: get(line=b"GET /chat?q=hidden HTTP/1.1", host=host) for case, host in HOSTS.items()}
    for case, statuses in (await statuses_of(await door(), upstream, cases, asked=0)).items():
        assert statuses in ([400], [421]), case


# Fields that come back in an answer

EVIL = b"%0d%0aX-Evil:%201"
INJECTIONS = {
    "the id of a request": get(b"X-Request-ID: a" + EVIL),
    "the id of a request, with a tab": get(b"X-Request-ID: a\tX-Evil: 1"),
    "the id of a request, with bytes": get(b"X-Request-ID: a\xe5\x98\x8d\xe5\x98\x8aX-Evil: 1"),  # lower bytes CR, LF
    "the id of a request, long": get(b"X-Request-ID: " + b"a" * 60_000),
    "an origin": get(b"Origin: https://app.example" + EVIL, line=b"GET /v1/models HTTP/1.1"),
    "an origin, with bytes": get(b"Origin: https://app.example\xe5\x98\x8a", line=b"GET /v1/models HTTP/1.1"),
    "a preflight": get(
        b"Origin: https://app.example",
        b"Access-Control-Request-Method: POST",
        b"Access-Control-Request-Headers: x-a" + EVIL + b", x b, \xe5\x98\x8aX-Evil",
        line=b"OPTIONS /chat HTTP/1.1",
    ),
    "a model": get(line=b"GET /chat?q=hidden&model=a" + EVIL + b" HTTP/1.1"),
    "an assistant": get(line=b"GET /chat?q=hidden&assistant=a" + EVIL + b" HTTP/1.1"),
    "the id of a stream": get(line=b"GET /streams/" + EVIL + b" HTTP/1.1"),
    "the id of a response": get(line=b"GET /v1/responses/resp_" + EVIL + b" HTTP/1.1"),
    "the name of a model": get(line=b"GET /v1/models/" + EVIL + b" HTTP/1.1"),
    "the last id of an event": get(b"Last-Event-ID: x" + EVIL, line=b"GET /chat?q=hidden HTTP/1.1"),
    "a ticket": get(line=b"GET /streams/x?ticket=" + EVIL + b" HTTP/1.1"),
    "the key of a request": get(b"Idempotency-Key: k" + EVIL + b"\t\xff", line=b"GET /chat?q=hidden HTTP/1.1"),
    "a method": get(line=b"DELETE /chat HTTP/1.1"),
    "a trace": get(b"traceparent: 00-" + EVIL, b"tracestate: a=" + EVIL),
}
KNOWN = {
    *("content-type", "content-length", "date", "server", "x-request-id", "cache-control", "x-content-type-options"),
    *("connection", "vary", "access-control-allow-origin", "access-control-expose-headers", "allow"),
    *("access-control-allow-methods", "access-control-allow-headers", "access-control-max-age"),
}


@pytest.mark.parametrize("case", INJECTIONS)
async def test_fault_75_nothing_of_a_request_becomes_a_field_of_the_answer(
    door: MakeDoor, upstream: ScriptedUpstream, case: str
) -> None:
    client = await door('[server]\ncors_origins = ["https://app.example"]\n')
    (reply,) = await judged(client, upstream, INJECTIONS[case], asked=0)
    assert {name for name, _ in reply.fields} <= KNOWN
    for _, value in reply.fields:
        assert value.isascii()
        assert value.isprintable()
        assert "evil" not in value.lower()


BODIES = {
    # the body, the status, requests to the upstream
    "fault_75 NUL": (b'{"question":"a\0b"}', 400, 0),
    "fault_75 NUL between values": (b'{"question":\0"a"}', 400, 0),
    "fault_75 NUL behind it": (b'{"question":"a"}\0', 400, 0),
    "fault_75 a line end": (b'{"question":"a\r\nb"}', 400, 0),
    "fault_75 NUL, escaped": (rb'{"question":"a\u0000b"}', 200, 1),
    "fault_75 line ends, escaped": (rb'{"question":"a\r\nX-Evil: 1\r\n\r\nb"}', 200, 1),
    "fault_75 line ends in a name": (rb'{"question":"a","x\r\ny":1}', 200, 1),
    "fault_75 line ends in the model": (rb'{"question":"a","model":"m\r\nX-Evil: 1"}', 400, 0),
    "fault_85 a request within": (b'{"question":"a"}' + HIDDEN, 400, 0),
}


@pytest.mark.parametrize("case", BODIES)
async def test_bodies(door: MakeDoor, upstream: ScriptedUpstream, case: str) -> None:
    body, status, asked = BODIES[case]
    raw = ask(b"Content-Length: %d" % len(body), b"Connection: close", body=body)
    (reply,) = await judged(await door(), upstream, raw, asked=asked)
    assert reply.status == status
    assert all("X-Evil" not in request.headers for request in upstream.requests)


# Slowness


SLOW = {
    # what is sent, in which parts: the statuses
    "nothing": ([], []),
    "half a line": ([b"GET /heal"], []),
    "half a head": ([b"GET /healthz HTTP/1.1\r\nHost: loc"], []),
    "a head without an end": ([b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"], []),
    "a head in drops": ([b"GET /healthz HTTP/1.1\r\n", *[b"X: a\r\n"] * 40], []),
    "half a head behind a request": ([b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /"], [200]),
    "no body": ([ask(LENGTH)], [408]),
    "half a body": ([ask(LENGTH, body=BODY[:8])], [408]),
    "a body in drops": ([ask(b"Content-Length: 400"), *[b" "] * 40], [408]),
    "half a chunk": ([ask(CHUNKED, body=b"10\r\n" + BODY[:8])], [408]),
    "half a size of a chunk": ([ask(CHUNKED, body=CHUNK + b"1")], [408]),
    "chunks without an end": ([ask(CHUNKED, body=CHUNK)], [408]),
    "chunks in drops": ([ask(CHUNKED), *[b"1\r\n \r\n"] * 40], [408]),
    "half a trailer": ([ask(CHUNKED, body=CHUNK + b"0\r\nX: ")], [408]),
    "a promise to wait": ([ask(LENGTH, b"Expect: 100-continue")], [408]),
}


async def test_fault_86_what_takes_too_long_is_closed(door: MakeDoor, upstream: ScriptedUpstream) -> None:
    """Each of them, all at the same time. Others are served meanwhile."""
    client = await door(patience=PATIENCE)
    slow = [replies(client, *parts, pause=PATIENCE / 10) for parts, _ in SLOW.values()]
    closing = asyncio.gather(*slow)
    await judged(client, upstream, get(), asked=0)
    found = dict(zip(SLOW, await closing, strict=True))
    statuses = {case: [reply.status for reply in told] for case, told in found.items()}
    assert statuses == {case: expected for case, (_, expected) in SLOW.items()}
    await judged(client, upstream, get(), asked=0)


# A flood


def numbered(number: int, path: str = "/healthz") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: r{number}\r\n\r\n".encode()


async def test_fault_87_a_flood_of_pipelined_requests_is_answered_in_order(
    door: MakeDoor, upstream: ScriptedUpstream
) -> None:
    """A thousand in one write. Others are served meanwhile."""
    client = await door()
    flood = b"".join([numbered(number) for number in range(1000)])
    found, other = await asyncio.gather(replies(client, flood + get()), replies(client, get()))
    assert [reply.field("x-request-id") for reply in found[:-1]] == [f"r{number}" for number in range(1000)]
    assert {reply.status for reply in found} == {200}
    assert [reply.status for reply in other] == [200]


async def test_fault_87_answers_to_a_flood_of_questions_are_not_mixed(
    door: MakeDoor, upstream: ScriptedUpstream
) -> None:
    upstream.script(lambda request: stream(delta(request.json["messages"][0]["content"]), finish(), DONE))  # type: ignore[index]  # the body is any JSON
    questions = [ask(b"Content-Length: %d" % (17 + len(str(n))), body=b'{"question": "q%d"}' % n) for n in range(100)]
    found = await replies(await door(), b"".join(questions) + get())
    assert [reply.status for reply in found] == [200] * 101
    for number, reply in enumerate(found[:-1]):
        assert b'"content":"q%d"' % number in reply.body


async def test_fault_87_a_flood_behind_an_answer_that_waits_stays_with_its_client(
    door: MakeDoor, upstream: ScriptedUpstream
) -> None:
    """The gateway reads some of it, and no more until the first request has its answer. Then it goes on."""
    goes_on = asyncio.Event()
    upstream.script(stream(Until(goes_on), delta("a"), finish(), DONE))
    client = await door()
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(ask(LENGTH, body=BODY))
    await upstream.until(requests=1)
    writer.write(numbered(0) * 400_000)  # 27 MB, where two sockets hold at most ten
    sizes: list[int] = []

    def is_stuck() -> bool:
        sizes.append(writer.transport.get_write_buffer_size())
        return len(set(sizes[-5:])) == 1 < len(sizes)

    await eventually(is_stuck)
    assert sizes[-1] > 10_000_000
    (well,) = await replies(client, get())
    assert well.status == 200
    goes_on.set()
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        for _ in range(100):
            await reader.readuntil(b"X-Request-ID: r0\r\n")
    writer.transport.abort()
    assert len(upstream.requests) == 1


def test_the_reader_of_answers_takes_whole_ones_only() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert [reply.body for reply in parsed(whole * 2)] == [b"ok", b"ok"]
    for broken in (whole[:-1], whole + b"x", whole[:20]):
        with pytest.raises(AssertionError):
            parsed(broken)
