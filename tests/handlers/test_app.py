"""The HTTP contract around the streams: what is refused, in which words, and what every response carries."""

import gzip
import logging
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from gateway.bounds import Bounds
from gateway.config import load
from gateway.handlers.services import SERVICES
from tests.conftest import MakeGateway
from tests.rig.clients import EVENTS, access_records, ask, error_of, eventually, exchange, post
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, delta, finish, stream

OK = stream(delta("a"), finish(), DONE)

JSON = {"Content-Type": "application/json"}
DEEP = b'{"question": "x", "y": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"

BAD_BODIES = {
    "not JSON": (b"{", 400, "invalid_json"),
    "not an object": (b"[1]", 400, "invalid_json"),
    "nothing": (b"", 400, "invalid_json"),
    "fault_85 nested too deeply": (DEEP, 400, "invalid_json"),
    "not UTF-8": (b'{"question": "\xff"}', 400, "invalid_json"),
    "trailing bytes": (b'{"question": "x"} {}', 400, "invalid_json"),
    "no question": (b"{}", 400, "question_missing"),
    "an empty question": (b'{"question": "  "}', 400, "question_missing"),
    "a question that is no text": (b'{"question": 1}', 400, "invalid_request"),
    "a lone surrogate": (rb'{"question": "\ud83d"}', 400, "invalid_json"),
    "no messages": (b'{"messages": []}', 400, "question_missing"),
    "messages that are no list": (b'{"messages": "x"}', 400, "invalid_request"),
    "a message that is no object": (b'{"messages": ["x"]}', 400, "invalid_request"),
    "a message without a role": (b'{"messages": [{"content": "x"}]}', 400, "invalid_request"),
    "both": (b'{"question": "x", "messages": []}', 400, "invalid_request"),
    "n": (b'{"question": "x", "n": 2}', 400, "invalid_request"),
    "a model that is no text": (b'{"question": "x", "model": 1}', 400, "invalid_request"),
    "fault_75 control characters": (rb'{"question": "x", "model": "a\r\nb"}', 400, "invalid_request"),
    "an unknown assistant": (b'{"question": "x", "assistant": "zz"}', 404, "assistant_not_found"),
    "an unknown format": (b'{"question": "x", "format": "xml"}', 400, "invalid_request"),
    "an unclear flag": (b'{"question": "x", "reasoning": "maybe"}', 400, "invalid_request"),
}


@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_is_a_clear_error_and_asks_nobody(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    body, status, code = BAD_BODIES[case]
    client = await gateway()
    async with client.post("/chat", data=body, headers={**JSON, **EVENTS}) as response:
        assert await error_of(response) == (status, code)
    assert not upstream.requests


BAD_QUERIES = {
    "no question": ("/chat", 400, "question_missing"),
    "an empty question": ("/chat?q=", 400, "question_missing"),
    "not UTF-8": ("/chat?q=%ff", 400, "invalid_query"),
    "twice": ("/chat?q=a&q=b", 400, "invalid_query"),
    "20 kB": (f"/chat?q={'x' * 20_000}", 414, "query_too_long"),
    "many fields": ("/chat?q=x" + "&a=" * 200, 400, "invalid_query"),
    "an unknown format": ("/chat?q=x&format=xml", 400, "invalid_request"),
    "a path that is not there": ("/nothing", 404, "not_found"),
    "fault_83 a path that climbs": ("/v1/%2e%2e/admin", 404, "not_found"),
}


@pytest.mark.parametrize("case", BAD_QUERIES)
async def test_a_bad_query_is_a_clear_error_and_asks_nobody(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    path, status, code = BAD_QUERIES[case]
    client = await gateway()
    raw = await exchange(client, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert raw.startswith(b"HTTP/1.1 %d " % status)
    assert b'"code":"%b"' % code.encode() in raw
    assert not upstream.requests


async def test_no_default_model_is_an_error_that_says_so(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway(config=load(f'[[upstreams]]\nname = "up"\nbase_url = "{upstream.url}"', {}))
    async with client.get("/chat?q=x") as response:
        assert await error_of(response) == (400, "model_missing")


async def test_an_unknown_model_is_named_with_those_that_exist(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(OK)
    client = await gateway('[[models]]\nname = "small"\ntargets = [{upstream = "up", model = "m-small"}]')
    async with client.get("/chat?q=x&model=large") as response:
        assert "small" in (await response.json())["error"]["message"]
        assert await error_of(response) == (404, "model_not_found")
    await ask(client)
    assert upstream.requests[0].json["model"] == "m-small"


async def test_a_body_of_2_mb_is_413_before_it_is_read(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway()
    head = (
        b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2000000\r\n\r\n"
    )
    raw = await exchange(client, head, until=b'"body_too_large"')
    assert raw.startswith(b"HTTP/1.1 413 ")


async def test_a_chunked_body_of_2_mb_is_413(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b"x" * 65_536

    client = await gateway()
    async with client.post("/chat", data=parts(), headers=JSON) as response:
        assert await error_of(response) == (413, "body_too_large")


@pytest.mark.parametrize("path", [b"/chat", b"/v1/chat/completions"])
async def test_fault_86_a_slow_body_is_408(gateway: MakeGateway, upstream: ScriptedUpstream, path: bytes) -> None:
    client = await gateway(bounds=Bounds(body_seconds=0.2))
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"
    assert (await exchange(client, head % path, until=b'"body_timeout"')).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_post_takes_json_only(gateway: MakeGateway, upstream: ScriptedUpstream, content_type: str) -> None:
    """What an HTML form can send across origins without a preflight is not taken."""
    client = await gateway()
    headers = {"Content-Type": content_type}
    async with client.post("/chat", data=b'{"question": "x"}', headers=headers) as response:
        assert await error_of(response) == (415, "media_type_not_supported")


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_is_not_what_its_encoding_says_is_400(
    gateway: MakeGateway, upstream: ScriptedUpstream, encoding: str
) -> None:
    client = await gateway()
    async with client.post("/chat", data=b"nothing", headers={**JSON, "Content-Encoding": encoding}) as response:
        assert await error_of(response) == (400, "invalid_body")


async def test_expect_is_answered_only_to_those_who_may_ask(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway()
    head = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    body = b'{"question": "x"}'
    length = b"Content-Length: %d\r\nConnection: close\r\n" % len(body)
    refused = await exchange(
        client, head + length + b"Origin: https://evil.example\r\n\r\n", until=b"origin_not_allowed"
    )
    assert refused.startswith(b"HTTP/1.1 403 ")
    raw = await exchange(client, head + length + b"\r\n" + body)
    assert raw.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


async def test_accept_may_come_in_several_lines(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway()
    head = b"GET /chat?q=x HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\nAccept: text/event-stream\r\n"
    assert b"event: end" in await exchange(client, head + b"Connection: close\r\n\r\n")


METHODS = {"HEAD": "/chat?q=x", "PUT": "/chat", "DELETE": "/chat", "PATCH": "/chat", "OPTIONS": "/chat"}


@pytest.mark.parametrize("method", METHODS)
async def test_other_methods_are_405_and_ask_nobody(
    gateway: MakeGateway, upstream: ScriptedUpstream, method: str
) -> None:
    client = await gateway()
    async with client.request(method, METHODS[method]) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "GET, POST"
        if method != "HEAD":
            assert await error_of(response) == (405, "method_not_allowed")
    assert not upstream.requests


@pytest.mark.parametrize("headers", [{"Sec-Purpose": "prefetch;prerender"}, {"Purpose": "prefetch"}])
async def test_a_prefetch_spends_nothing(
    gateway: MakeGateway, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    client = await gateway()
    async with client.get("/chat?q=x", headers=headers) as response:
        assert await error_of(response) == (403, "prefetch_not_allowed")
    assert not upstream.requests


@pytest.mark.parametrize("last", ["nope.3", "x" * 8000, "\u00e9", "a b"])
async def test_fault_62_63_a_client_that_comes_back_never_asks_again(
    gateway: MakeGateway, upstream: ScriptedUpstream, last: str
) -> None:
    """No stream outlives its connection yet, so every id is unknown: 404, and never a second generation."""
    client = await gateway()
    async with client.get("/chat?q=x", headers={"Last-Event-ID": last, **EVENTS}) as response:
        assert await error_of(response) == (404, "stream_not_found")
    async with client.get("/chat", params={"q": "x", "last_event_id": last}) as response:
        assert response.status == 404 or response.status == 414
    assert not upstream.requests


async def test_an_empty_last_event_id_counts_as_absent(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway()
    async with client.get("/chat?q=x&last_event_id=", headers={"Last-Event-ID": ""}) as response:
        assert response.status == 200


# Whose page may ask

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_fault_80_a_foreign_page_is_refused_before_anything_else(
    gateway: MakeGateway, upstream: ScriptedUpstream, headers: dict[str, str]
) -> None:
    client = await gateway()
    for method, path in [("GET", "/chat?q=x"), ("POST", "/chat"), ("OPTIONS", "/chat"), ("GET", "/nothing")]:
        async with client.request(method, path, headers=headers) as response:
            assert await error_of(response) == (403, "origin_not_allowed")
            assert "Access-Control-Allow-Origin" not in response.headers
    assert not upstream.requests


async def test_the_gateways_own_page_may_ask(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway()
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Sec-Fetch-Site": "same-origin"}
    for headers in (own, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin"}, {}):
        async with client.get("/chat?q=x", headers=headers) as response:
            assert response.status == 200


async def test_fault_79_cors_is_an_exact_list(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway('[server]\ncors_origins = ["https://app.example"]')
    mine = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    preflight = {**mine, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "last-event-id"}
    async with client.options("/chat", headers=preflight) as response:
        assert response.status == 204
        assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Last-Event-ID" in response.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Credentials" not in response.headers
    for path in ("/chat?q=x", "/chat"):
        async with client.get(path, headers={**mine, **EVENTS}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
            assert response.headers["Vary"] == "Origin"
    for other in ("https://app.example.evil.example", "http://app.example", "https://APP.example"):
        async with client.get("/chat?q=x", headers={"Origin": other}) as response:
            assert response.status == 403


async def test_fault_79_a_preflight_allows_a_listed_origin_what_it_asks_for(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """On every route, and caches are told what the answer depends on."""
    client = await gateway('[server]\ncors_origins = ["https://app.example"]')
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key,x-stainless-os"}
    for path in ("/chat", "/streams", "/streams/x", "/v1/chat/completions", "/v1/models", "/healthz"):
        async with client.options(path, headers={**asked, "Origin": "https://app.example"}) as response:
            allowed = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
            assert {"x-api-key", "x-stainless-os"} <= set(allowed)
            assert response.headers["Vary"] == "Origin, Access-Control-Request-Headers"
        async with client.options(path, headers={**asked, "Origin": "https://evil.example"}) as response:
            assert response.status == (204 if path == "/healthz" else 403)
            assert "x-stainless-os" not in response.headers.get("Access-Control-Allow-Headers", "")
            assert "Access-Control-Allow-Origin" not in response.headers
    async with client.options("/chat", headers=asked) as response:
        assert "x-stainless-os" not in response.headers["Access-Control-Allow-Headers"]


async def test_behind_tls_the_own_origin_is_public_url(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway('[server]\npublic_url = "https://chat.example/"\nallow_anonymous = true')
    async with client.get("/chat?q=x", headers={"Origin": "https://chat.example"}) as response:
        assert response.status == 200
    async with client.get("/chat?q=x", headers={"Origin": f"http://127.0.0.1:{client.port}"}) as response:
        assert response.status == 403


@pytest.mark.parametrize(
    ("public_url", "host", "origin"),
    [
        ("https://chat.example:443", "10.0.0.1", "https://chat.example"),
        ("http://chat.example:80/", "10.0.0.1", "http://chat.example"),
        (None, "chat.example:80", "http://chat.example"),
    ],
)
async def test_the_own_origin_has_no_usual_port(
    gateway: MakeGateway, upstream: ScriptedUpstream, public_url: str | None, host: str, origin: str
) -> None:
    """Browsers leave it out, whatever the configuration and `Host` say."""
    upstream.script(OK)
    line = "" if public_url is None else f'public_url = "{public_url}"\n'
    client = await gateway(f"[server]\nallow_anonymous = true\n{line}")
    async with client.post("/chat", json={"question": "hi"}, headers={"Host": host, "Origin": origin}) as response:
        assert response.status == 200
    for other in (f"{origin}:81", origin.replace("chat", "evil")):
        async with client.post("/chat", json={"question": "hi"}, headers={"Host": host, "Origin": other}) as response:
            assert await error_of(response) == (403, "origin_not_allowed")


# Which host, and no proxy


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.7:8080", "", "0.0.0.0"])
async def test_fault_82_without_keys_only_this_machine_is_served(
    gateway: MakeGateway, upstream: ScriptedUpstream, host: str
) -> None:
    client = await gateway()
    for path in ("/chat", "/v1/chat/completions"):
        async with client.post(path, json={"messages": []}, headers={"Host": host}) as response:
            assert await error_of(response) == (421, "host_not_served")
    async with client.get("/healthz", headers={"Host": host}) as response:
        assert response.status == 200


@pytest.mark.parametrize("field", ["Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-Real-IP", "Via"])
async def test_without_keys_nothing_is_served_through_a_proxy(
    gateway: MakeGateway, upstream: ScriptedUpstream, field: str
) -> None:
    client = await gateway()
    async with client.get("/chat?q=x", headers={field: "203.0.113.7"}) as response:
        assert await error_of(response) == (403, "proxy_not_allowed")
    assert not upstream.requests


async def test_allow_anonymous_says_otherwise(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway("[server]\nallow_anonymous = true")
    async with client.get("/chat?q=x", headers={"Host": "chat.example", "X-Forwarded-For": "203.0.113.7"}) as response:
        assert response.status == 200


# What every response carries


async def test_a_request_id_is_on_everything(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """A usable one is taken over, so that logs of several hops can be joined; any other is replaced."""
    upstream.script(OK)
    client = await gateway()
    for path in ("/chat?q=x", "/nothing", "/healthz", "/chat"):
        async with client.get(path, headers={"X-Request-ID": "from-nginx.7"}) as response:
            assert response.headers["X-Request-ID"] == "from-nginx.7"
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
    async with client.get("/healthz", headers={"X-Request-ID": "no good"}) as response:
        assert len(response.headers["X-Request-ID"]) == 32


async def test_an_event_stream_is_not_buffered_by_proxies(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(OK)
    client = await gateway()
    async with client.get("/chat?q=x", headers=EVENTS) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["Cache-Control"] == "no-store"


async def test_fault_81_one_access_line_per_request_without_prompt_or_query(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    upstream.script(stream(delta("secret-answer"), DONE))
    client = await gateway()
    await ask(client, "secret-question")
    await post(client, {"question": "secret-question"})
    await client.get("/secret/../%0aforged")
    records = access_records(caplog)
    assert [(r.method, r.status) for r in records] == [("GET", 200), ("POST", 200), ("GET", 404)]
    assert records[0].path == "/chat"
    stream_record = records[0].stream
    assert stream_record is not None
    assert stream_record.finish_missing  # fault_20: complete by its [DONE] alone
    assert stream_record.end == "complete"
    assert "\n" not in records[2].path
    assert "secret-" not in str(records) + caplog.text


async def test_health(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    client = await gateway()
    for path in ("/healthz", "/readyz"):
        async with client.get(path, headers={"Origin": "https://evil.example"}) as response:
            assert response.status == 200


async def test_fault_69_when_there_is_no_room_new_streams_are_refused_and_old_ones_go_on(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("a"), Stall()))
    client = await gateway("[store]\nmax_streams = 1")
    async with client.get("/chat?q=x", headers=EVENTS) as first:
        await first.content.readuntil(b"data: a\n")
        async with client.get("/chat?q=x", headers=EVENTS) as second:
            assert await error_of(second) == (503, "busy")
            assert second.headers["Retry-After"] == "5"
        assert len(client.app[SERVICES].streams) == 1


async def test_what_is_not_http_is_a_bare_400_and_one_log_line(
    gateway: MakeGateway, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    client = await gateway()
    await exchange(client, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", until=b"ok")
    for raw in (b"GET / HTTP/1.1\r\nHost: x\r\nbad line\r\n\r\n", b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n"):
        caplog.clear()
        assert (await exchange(client, raw)).startswith(b"HTTP/1.0 400 ")
        (record,) = [r for r in caplog.records if r.name.startswith("gateway")]
        assert record.exc_info is None


@pytest.mark.parametrize(
    "smuggled",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ],
)
async def test_fault_84_ambiguous_framing_is_refused(
    gateway: MakeGateway, upstream: ScriptedUpstream, smuggled: bytes
) -> None:
    client = await gateway()
    head = b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    assert b" 400 " in (await exchange(client, head + smuggled)).split(b"\r\n")[0]
    assert not upstream.requests


async def test_a_fault_of_ours_is_a_500_in_the_same_shape(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("gateway.handlers.chat.admit", broken)
    client = await gateway()
    async with client.get("/chat?q=x") as response:
        assert "secret detail" not in await response.text()
        assert await error_of(response) == (500, "internal_error")
    assert any(record.exc_info for record in caplog.records)
    caplog.clear()


# Faults of ours, and requests that say two things


@pytest.mark.parametrize("way", ["GET /healthz", "GET /chat", "GET /chat as events", "POST /v1/chat/completions"])
async def test_a_fault_outside_of_the_handlers_is_a_500(
    gateway: MakeGateway,
    upstream: ScriptedUpstream,
    caplog: pytest.LogCaptureFixture,
    lines: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """A hook that prepares every response fails for each: that of the handler, and that which says so."""

    async def broken(request: web.Request, response: web.StreamResponse) -> None:
        raise LookupError("no such thing")

    monkeypatch.setattr("gateway.app.add_common_headers", broken)
    upstream.script(OK)
    client = await gateway()
    method, path = way.split(" ")[:2]
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": True} if method == "POST" else None
    headers = {"Accept": "text/event-stream"} if "events" in way else {}
    address = path + ("?q=hi" if path == "/chat" else "")
    async with client.request(method, address, json=body, headers=headers) as response:
        assert response.status == 500
        assert (await response.json())["error"]["code"] == "internal_error"
        assert response.headers["X-Request-ID"]
    await eventually(lambda: len(lines) == 1)
    assert lines[0]["status"] == 500
    faults = [record for record in caplog.records if record.exc_info]
    assert len(faults) == 1
    caplog.clear()


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "gzip, gzip", "x-unknown"])
async def test_a_coding_that_nobody_reads_is_415(gateway: MakeGateway, upstream: ScriptedUpstream, coding: str) -> None:
    """In our own words: the library's name its version."""
    client = await gateway()
    for path in ("/chat", "/streams", "/v1/chat/completions"):
        headers = {**JSON, "Content-Encoding": coding}
        async with client.post(path, data=b'{"question": "x"}', headers=headers) as response:
            assert await error_of(response) == (415, "content_coding_not_supported")
            assert response.headers["Accept-Encoding"] == "gzip, deflate"
            assert response.headers["Server"] == "gateway"


@pytest.mark.parametrize(
    ("coding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
async def test_a_coding_that_is_read(
    gateway: MakeGateway, upstream: ScriptedUpstream, coding: str, encode: Callable[[bytes], bytes]
) -> None:
    upstream.script(OK)
    client = await gateway()
    headers = {**JSON, "Content-Encoding": coding}
    async with client.post("/chat", data=encode(b'{"question": "x"}'), headers=headers) as response:
        assert response.status == 200
    assert upstream.requests[0].json["messages"] == [{"role": "user", "content": "x"}]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_small_body_that_becomes_a_large_one_is_413(
    gateway: MakeGateway, upstream: ScriptedUpstream, coding: str
) -> None:
    client = await gateway()
    packed = (gzip.compress if coding == "gzip" else zlib.compress)(b" " * 50_000_000)
    async with client.post("/chat", data=packed, headers={**JSON, "Content-Encoding": coding}) as response:
        assert await error_of(response) == (413, "body_too_large")


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site"])
@pytest.mark.parametrize("path", ["/", "/chat?q=hi", "/streams/x", "/v1/models"])
async def test_a_page_that_is_named_twice_is_400(
    gateway: MakeGateway, upstream: ScriptedUpstream, name: str, path: str
) -> None:
    client = await gateway()
    values = {"Origin": ("http://localhost", "https://evil.example")}.get(name, ("none", "cross-site"))
    fields = "".join([f"{name}: {value}\r\n" for value in values])
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n"
    raw = await exchange(client, request.encode())
    assert raw.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"repeated_header"' in raw


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("http://localhost:8080/healthz", 200),
        ("http://LOCALHOST:8080/healthz", 200),
        ("http://localhost:8081/healthz", 421),
        ("http://localhost/healthz", 421),
        ("http://evil.example/healthz", 421),
        ("http://evil.example:8080/chat?q=hi", 421),
    ],
)
async def test_a_target_and_a_host_that_differ_are_421(
    gateway: MakeGateway, upstream: ScriptedUpstream, target: str, status: int
) -> None:
    client = await gateway()
    raw = await exchange(client, f"GET {target} HTTP/1.1\r\nHost: localhost:8080\r\nConnection: close\r\n\r\n".encode())
    assert raw.split(b" ")[1] == str(status).encode()
    assert (b"hosts_differ" in raw) is (status == 421)
