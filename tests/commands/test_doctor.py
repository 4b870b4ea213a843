"""`gateway doctor`: says what spoils a stream on the way, through a real nginx that is configured wrong in each way."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from gateway.cli import main
from gateway.commands.doctor import Plan, doctor, web_address
from tests.conftest import MakeGateway
from tests.rig.changing import CHANGES, ChangingWire
from tests.rig.nginx import NGINX, before
from tests.rig.ports import refusing

KEY = "a-key-of-sixteen-characters"
KEYS = f'[server]\nallow_anonymous = true\n[[keys]]\nname = "k"\nkey = "{KEY}"\n'
BEATING = f"{KEYS}[stream]\nheartbeat_seconds = 0.4\n"
QUICK = Plan(events=10, pace_ms=50, pause_seconds=0.1)  # half a second for each of the two longest streams
PATIENT = replace(QUICK, pause_seconds=1.6)

BUFFERED = "proxy_buffering off;"
BUFFERING = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"
GZIP = "gzip on; gzip_min_length 0; gzip_types text/event-stream;"
VERSION = "proxy_http_version 1.1;"
FIELDS = 'proxy_set_header Connection "";'
TIMEOUT = "proxy_read_timeout 610s;"


async def examined(
    address: str,
    capsys: pytest.CaptureFixture[str],
    plan: Plan = QUICK,
    key: str = KEY,
    context: ssl.SSLContext | None = None,
) -> tuple[int, dict[str, str]]:
    """The exit status, and the findings that are faults: their checks, each with its words and its remedy."""
    status = await doctor(web_address(address), key, context or ssl.create_default_context(), plan)
    printed = capsys.readouterr().out
    faults = re.findall(r"^FAULT  (.*?)  +(.*)\n +-> (.*)$", printed, re.MULTILINE)
    return status, {check: f"{seen} -> {remedy}" for check, seen, remedy in faults}


async def test_nothing_spoils_a_direct_stream(gateway: MakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    client = await gateway(KEYS)
    assert await examined(str(client.make_url("/")), capsys) == (0, {})


@pytest.mark.parametrize("prefix", ["/chat", "/v1/"])
async def test_each_surface_can_be_examined(
    gateway: MakeGateway, capsys: pytest.CaptureFixture[str], prefix: str
) -> None:
    """A proxy may have other rules for it."""
    client = await gateway(KEYS)
    assert await examined(str(client.make_url(prefix)), capsys, replace(QUICK, events=3)) == (0, {})


# Behind nginx

RIGHT: dict[str, tuple[str, Plan, Mapping[str, str]]] = {
    "as in README": (KEYS, QUICK, {}),
    "a short timeout, but heartbeats are shorter": (BEATING, PATIENT, {TIMEOUT: "proxy_read_timeout 1s;"}),
}

# What is changed in README's block -> the checks that it fails, with words of each.
WRONG: dict[str, tuple[Plan, Mapping[str, str], Mapping[str, str]]] = {
    "buffering": (  # with chunks, nginx 1.22 passes each of them on although it buffers
        QUICK,
        {BUFFERED: BUFFERING, VERSION: "proxy_http_version 1.0;"},
        {
            "events one by one": r"10 events arrived in (1 group|2 groups);.*In its location: `proxy_buffering off`",
            "HTTP to the gateway": r"HTTP/1.0 -> .*`proxy_http_version 1.1`",
            "broken answer": r"looks whole to the client.*`proxy_http_version 1.1`",
        },
    ),
    "buffering and gzip": (
        QUICK,
        {BUFFERED: f"{BUFFERING} {GZIP}"},
        {"compression, if offered": r"gzip; 10 events in (1 group|2 groups), .*In its location: `gzip off`"},
    ),
    "gzip": (
        QUICK,
        {BUFFERED: f"{BUFFERED} {GZIP}"},
        {"compression, if offered": r"gzip; 10 events in \d+ groups.*In its location: `gzip off`"},
    ),
    "HTTP/1.0": (
        QUICK,
        {VERSION: "proxy_http_version 1.0;"},
        {
            "HTTP to the gateway": r"HTTP/1.0 -> .*`proxy_http_version 1.1`",
            "broken answer": r"looks whole to the client.*`proxy_http_version 1.1`",
        },
    ),
    "an idle timeout": (
        PATIENT,
        {TIMEOUT: "proxy_read_timeout 1s;"},
        {"silence": r"cut \d\.\d s after .* a silence of 1.6 s \(.*every 15 s\).*In its location: `proxy_read_timeout"},
    ),
    "a hidden field": (
        QUICK,
        {BUFFERED: f"{BUFFERED} proxy_hide_header Cache-Control;"},
        {"Cache-Control": r"missing -> .*no `proxy_hide_header Cache-Control`"},
    ),
    "fields that are not passed on": (
        QUICK,
        {FIELDS: f'{FIELDS} proxy_set_header Last-Event-ID ""; proxy_set_header Authorization "";'},
        {
            "Last-Event-ID": r"does not reach.*no `proxy_set_header Last-Event-ID",
            "Authorization": r"does not reach.*no `proxy_set_header Authorization",
        },
    ),
    "a changed body": (
        QUICK,
        {BUFFERED: f"{BUFFERED} sub_filter_types text/event-stream; sub_filter '<b>' '<i>';"},
        {"body": r"was changed on the way; its length is the same -> .*no `sub_filter`"},
    ),
}


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("case", RIGHT)
async def test_nothing_spoils_a_stream_behind_a_right_nginx(
    gateway: MakeGateway, capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    toml, plan, changes = RIGHT[case]
    client = await gateway(toml)
    async with before(client.port or 0, tmp_path, changes) as address:
        assert await examined(address, capsys, plan) == (0, {})


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_nginx_is_found_and_nothing_else(
    gateway: MakeGateway, capsys: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    plan, changes, expected = WRONG[case]
    client = await gateway(KEYS)
    async with before(client.port or 0, tmp_path, changes) as address:
        status, faults = await examined(address, capsys, plan)
    assert status == 1
    assert faults.keys() == expected.keys()
    for check, words in expected.items():
        assert re.search(words, faults[check])


# Behind a proxy that changes one byte

LENGTHS = {"dropped": "1 byte fewer than sent", "doubled": "1 byte more than sent", "changed": "its length is the same"}


@pytest.mark.parametrize("how", CHANGES)
async def test_a_byte_that_was_changed_on_the_way_is_found(
    gateway: MakeGateway, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    client = await gateway(KEYS)
    async with ChangingWire(client.port, how, place=rb'"text":"') as wire:
        status, faults = await examined(wire.address, capsys, replace(QUICK, events=3))
        assert (status, list(faults)) == (1, ["body"])
        assert LENGTHS[how] in faults["body"]
        wire.how = None
        assert await examined(wire.address, capsys, replace(QUICK, events=3)) == (0, {})


# What is not a stream of a gateway

ANSWERS: dict[str, tuple[bytes, str]] = {
    "a redirect": (
        b"HTTP/1.1 301 Moved\r\nLocation: https://chat.example.com/doctor?events=20\r\nContent-Length: 0\r\n\r\n",
        r"^status 301 -> .*redirects to https://chat.example.com\. .*use it as the URL",
    ),
    "no such path": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", r"^status 404 -> .*/doctor too.*a proxy"),
    "no gateway": (
        b"HTTP/1.1 502 Bad Gateway\r\nServer: nginx\r\n\r\n",
        r"^status 502 -> .*does not reach the gateway",
    ),
    "a page": (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<p>", r"^content type text/html instead of"),
    "another stream": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: x\n\n",
        r"does not begin with the gateway's first event",
    ),
    "an unknown coding": (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: br\r\n\r\nxx",
        r"^the answer is coded as br -> Do not compress",
    ),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", r"^The server does not answer in HTTP"),
    "nothing": (b"", r"^The server closed the connection without an answer\. .*needs https"),
}


@asynccontextmanager
async def answering(answer: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("case", ANSWERS)
async def test_another_answer_is_explained(capsys: pytest.CaptureFixture[str], case: str) -> None:
    answer, words = ANSWERS[case]
    async with answering(answer) as port:
        status, faults = await examined(f"http://127.0.0.1:{port}", capsys)
    assert status == 1
    (found,) = faults.values()
    assert re.search(words, found)


async def test_a_closed_port_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with refusing() as port:
        assert "Nothing listens" in (await examined(f"http://127.0.0.1:{port}", capsys))[1]["answer"]


@pytest.mark.parametrize(
    ("name", "is_trusted", "words"),
    [
        ("127.0.0.1", False, "is of an authority that is not trusted here"),
        ("127.0.0.2", True, "is for another address"),
        ("127.0.0.1", True, "closed the connection without an answer"),
    ],
)
async def test_faults_of_certificates_are_explained(
    capsys: pytest.CaptureFixture[str], name: str, is_trusted: bool, words: str
) -> None:
    authority, server, client = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), None
    authority.issue_cert(name).configure_cert(server)
    if is_trusted:
        client = ssl.create_default_context()
        authority.configure_trust(client)
    async with answering(b"", server) as port:
        _, faults = await examined(f"https://127.0.0.1:{port}", capsys, context=client)
    assert words in faults["answer"]


async def test_https_to_a_port_without_tls(gateway: MakeGateway, capsys: pytest.CaptureFixture[str]) -> None:
    client = await gateway(KEYS)
    _, faults = await examined(f"https://127.0.0.1:{client.port}", capsys)
    assert "does not speak TLS at this port" in faults["answer"]


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize(
    ("toml", "words"),
    [
        (f'[[keys]]\nname = "k"\nkey = "{KEY}"\n', r"^status 401 -> Give a valid key .* GATEWAY_KEY"),
        ("", r"^status 421 -> Without keys, the gateway serves its own machine only"),
    ],
)
async def test_a_refusal_of_the_gateway_is_not_taken_for_one_of_a_proxy(
    gateway: MakeGateway, capsys: pytest.CaptureFixture[str], tmp_path: Path, toml: str, words: str
) -> None:
    client = await gateway(toml)
    changes = {"proxy_set_header Host $host;": "proxy_set_header Host chat.example.com;"}
    async with before(client.port or 0, tmp_path, changes) as address:
        status, faults = await examined(address, capsys, key="another-key-that-is-wrong")
    assert status == 1
    assert re.search(words, faults["answer"])
    assert "not from a gateway" not in faults["answer"]


# The command


async def test_the_command(
    gateway: MakeGateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, empty_folder: None
) -> None:
    client = await gateway(KEYS)
    monkeypatch.setenv("GATEWAY_KEY", KEY)
    assert await asyncio.to_thread(main, ["doctor", str(client.make_url("/")), "--pause", "1"]) == 0
    printed = capsys.readouterr().out
    assert "ok     Authorization             reaches the gateway" in printed
    assert printed.endswith("\nNothing spoils the stream.\n")
    assert KEY not in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "URL"),
        (["chat.example.com"], "expected an address such as https://chat.example.com"),
        (["http://a:b@chat.example.com"], "without a user name"),
        (["http://chat.example.com/?a=b"], "without a user name, a query"),
        (["http://chat.example.com:x"], "expected an address"),
        (["http://chat.example.com", "--pause", "0"], "a whole number from 1 to 120"),
    ],
)
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["doctor", *arguments])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--key", "a\nb"], "copy it again"), (["--ca-file", "none.pem"], "No such file")]
)
def test_options_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], empty_folder: None, arguments: list[str], words: str
) -> None:
    assert main(["doctor", "http://127.0.0.1", *arguments]) == 2
    assert words.lower() in capsys.readouterr().err.lower()
