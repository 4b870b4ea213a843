"""`.github/nginx.conf` in a real nginx, before two gateways. Only paths, ports and certificates are replaced."""

import asyncio
import io
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.handlers.services import SERVICES
from tests.commands.test_drain import until_status
from tests.conftest import Client, MakeGateway
from tests.rig.clients import EVENTS, Answer, create, error_of
from tests.rig.nginx import nginx_with
from tests.rig.ports import free_port
from tests.rig.processes import ends_cleanly, running
from tests.rig.scripted_upstream import DONE, Pause, ScriptedUpstream, Stall, Until, delta, finish, stream
from tests.rig.served import toml
from tests.test_readme import ROOT

CONF = (ROOT / ".github" / "nginx.conf").read_text()
NAME = "chat.example.com"
BEHIND_NGINX = f'[server]\nallow_anonymous = true\npublic_url = "https://{NAME}"\ndrain_seconds = 10\n'
FIVE = [part for n in range(5) for part in (delta(f"{n}"), Pause(0.15))]
EVENTS_OF_FIVE = [b"data: %d\n" % n for n in range(5)]
MANY = 24  # questions, of which both gateways get some, except in one of a million runs
BACK = 8  # of them are asked by clients that lose their connection


class Here(AbstractResolver):
    """Every name is this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@dataclass
class Site:
    """nginx with its certificate, and a client of it that speaks HTTP/1.1."""

    port: int
    folder: Path
    trust: ssl.SSLContext
    session: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}"


@asynccontextmanager
async def site(folder: Path, *gateways: int, conf: str = CONF) -> AsyncIterator[Site]:
    ca, port = trustme.CA(), free_port()
    certificate = ca.issue_cert(NAME, "127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / f"{NAME}.key")
    for number, part in enumerate(certificate.cert_chain_pems):
        part.write_to_path(folder / f"{NAME}.pem", append=number > 0)
    ca.cert_pem.write_to_path(folder / "ca.pem")
    trust = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    replaced = {
        "listen [::]:80;": "",
        "listen [::]:443 ssl http2;": "",
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/run/": f"{folder}/",
        "/var/log/nginx/": f"{folder}/",
        "/etc/nginx/tls/": f"{folder}/",
        "127.0.0.1:8080 ": f"127.0.0.1:{gateways[0]} ",
        "127.0.0.1:8081 ": f"127.0.0.1:{gateways[1]} ",
    }
    for old, new in replaced.items():
        assert old in conf
        conf = conf.replace(old, new)
    connector = aiohttp.TCPConnector(ssl=trust, resolver=Here(), limit=0)
    base = f"https://{NAME}:{port}"
    async with nginx_with(conf, folder, port), aiohttp.ClientSession(base, connector=connector) as session:
        yield Site(port, folder, trust, session)


@pytest.fixture
async def gateways(gateway: MakeGateway) -> list[Client]:
    return [await gateway(BEHIND_NGINX), await gateway(BEHIND_NGINX)]


@pytest.fixture
async def served(gateways: list[Client], tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, *[client.port or 0 for client in gateways]) as served:
        yield served


def held(client: Client) -> int:
    app = client.server.app  # type: ignore[attr-defined]  # a TestServer has it
    return sum(1 for _ in app[SERVICES].streams)


@asynccontextmanager
async def closing_server(server: asyncio.Server) -> AsyncIterator[None]:
    try:
        yield
    finally:
        server.close()


async def raw(served: Site, url: str, *, last: str = "", **options: Any) -> bytes:
    headers = {**EVENTS, **({"Last-Event-ID": last} if last else {})}
    async with served.session.get(url, headers=headers, **options) as response:
        assert response.status == 200, await response.text()
        return await response.read()


# Bytes


async def arrivals(lines: AsyncIterable[bytes]) -> tuple[list[float], bytes]:
    """The moments at which the events 0 to 4 come, and the last line."""
    moments, line = [], b""
    async for line in lines:
        if line in EVENTS_OF_FIVE:
            moments += [asyncio.get_running_loop().time()]
    return moments, line


def came_one_by_one(moments: list[float]) -> bool:
    return len(moments) == 5 and min(later - earlier for earlier, later in pairwise(moments)) > 0.05


async def test_events_pass_one_by_one_over_http_1(served: Site, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*FIVE, finish(), DONE))
    async with served.session.get("/chat?q=x", headers=EVENTS) as response:
        moments, _ = await arrivals(response.content)
    assert came_one_by_one(moments)


async def test_events_pass_one_by_one_over_http_2(served: Site, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*FIVE, finish(), DONE))
    assert await asyncio.to_thread(negotiated, served) == "h2"
    if not curl_speaks_http_2():  # then the protocol is shown to be there, and the events pass over the other one
        return
    options = ["--http2", "-sSN", "--noproxy", "*", "--cacert", str(served.folder / "ca.pem")]
    options += ["--resolve", f"{NAME}:{served.port}:127.0.0.1", "-H", "Accept: text/event-stream"]
    command = ["curl", *options, "-w", "over HTTP/%{http_version}", f"{served.url}/chat?q=x"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    moments, last = await arrivals(process.stdout)
    assert came_one_by_one(moments)
    assert (await process.wait(), last) == (0, b"over HTTP/2")


def negotiated(served: Site) -> str | None:
    """The protocol that nginx chooses for a client that speaks both."""
    context = ssl.create_default_context(cafile=str(served.folder / "ca.pem"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=5) as wire,
        context.wrap_socket(wire, server_hostname=NAME) as wrapped,
    ):
        return wrapped.selected_alpn_protocol()


def curl_speaks_http_2() -> bool:
    curl = shutil.which("curl")
    return curl is not None and b"HTTP2" in subprocess.run([curl, "-V"], capture_output=True).stdout


async def test_a_body_of_megabytes_passes(served: Site, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 2_000_000}]}).encode()
    headers = {"Content-Type": "application/json"}
    async with served.session.post("/v1/chat/completions", data=io.BytesIO(body), headers=headers) as response:
        assert response.status == 200
    assert len(upstream.requests[0].body) > 2_000_000


# Two gateways


async def test_a_client_that_comes_back_reaches_the_gateway_that_holds_its_stream(
    served: Site, gateways: list[Client], upstream: ScriptedUpstream
) -> None:
    """By each way in which clients say where they were; and the model is asked once for each question."""
    go_on = asyncio.Event()
    upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    lasts = []
    for _ in range(MANY):
        async with served.session.get("/chat?q=x", headers=EVENTS) as response:
            seen = await response.content.readuntil(b"Hel\n")
            lasts.append((seen + await response.content.readuntil(b"\n\n")).rpartition(b"id: ")[2].decode().strip())
    go_on.set()
    assert min(held(client) for client in gateways) > 0
    rests = []
    for last in lasts:
        rests.append(await raw(served, "/chat?q=x", last=last))
        rests.append(await raw(served, f"/chat?q=x&last_event_id={last}"))
        rests.append(await raw(served, f"/chat?q=x&lastEventId={last}"))
        fetch = {"json": {"question": "x"}, "headers": {**EVENTS, "Last-Event-ID": last}}
        async with served.session.post("/chat", **fetch) as response:  # type: ignore[arg-type]  # mixed values
            rests.append(await response.read())
    assert {Answer(rest).text for rest in rests} == {"lo"}
    assert len(upstream.requests) == MANY


async def test_an_address_of_a_stream_is_watched_and_stopped_from_anywhere(
    served: Site, gateways: list[Client], upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    started = [await create(served.session) for _ in range(MANY)]
    assert min(held(client) for client in gateways) > 0
    await upstream.until(requests=MANY)
    for one in started:
        address = one["url"].replace(f"https://{NAME}", "")
        async with served.session.get(address, headers={"Accept": "application/json"}) as response:
            assert (response.status, (await response.json())["id"]) == (200, one["id"])
        async with served.session.delete(address) as response:
            assert response.status == 204
        assert Answer(await raw(served, address)).end["reason"] == "stopped"


async def test_a_stream_that_nobody_holds_is_not_found_and_no_model_is_asked(
    served: Site, upstream: ScriptedUpstream
) -> None:
    headers = {**EVENTS, "Last-Event-ID": "7XbqJ0k2QnUe8d3Lw5vRtA.3"}
    for url in ("/chat?q=x", "/streams/7XbqJ0k2QnUe8d3Lw5vRtA?ticket=x"):
        async with served.session.get(url, headers=headers) as response:
            assert await error_of(response) == (404, "stream_not_found")
    assert upstream.requests == []


async def test_a_retry_with_its_key_joins_the_first_request(served: Site, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hello"), finish(), DONE))
    for number in range(MANY):
        for _ in range(3):
            assert Answer(await raw(served, f"/chat?q=x&idempotency_key=key-{number:016}")).text == "Hello"
    assert len(upstream.requests) == MANY


async def test_a_question_goes_to_the_other_gateway_but_not_after_a_second(
    gateway: MakeGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """One gateway dies a while after it was asked: it may have asked a model, so nobody else is."""
    upstream.script(stream(delta("Hello"), finish(), DONE))
    client, seconds, died = await gateway(BEHIND_NGINX), 0.0, 0

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal died
        await reader.readuntil(b"\r\n\r\n")
        died += 1
        await asyncio.sleep(seconds)
        writer.transport.abort()

    server = await asyncio.start_server(die, "127.0.0.1", 0)
    async with closing_server(server), site(tmp_path, client.port or 0, server.sockets[0].getsockname()[1]) as served:
        for _ in range(MANY):
            assert Answer(await raw(served, "/chat?q=x")).text == "Hello"
        assert died > 0
        seconds = 1.2
        posts = [served.session.post("/chat", json={"question": "x"}) for _ in range(MANY)]
        async with asyncio.timeout(10):
            statuses = [response.status for response in await asyncio.gather(*posts)]
        assert set(statuses) == {200, 502}
        assert len(upstream.requests) == MANY + statuses.count(200)


class Deploy:
    """Two gateways as processes behind nginx, of which each can be replaced by a new one."""

    site: Site

    def __init__(self, config: Path, stack: AsyncExitStack) -> None:
        self.ports = [free_port(), free_port()]
        self.processes: dict[int, asyncio.subprocess.Process] = {}
        self._config = config
        self._stack = stack

    async def start(self, number: int) -> None:
        arguments, port = ("serve", "--config", str(self._config)), str(self.ports[number])
        self.processes[number], _ = await self._stack.enter_async_context(running(*arguments, port=port))

    async def stop(self, number: int) -> None:
        self.processes[number].terminate()
        await ends_cleanly(self.processes[number])


@asynccontextmanager
async def deployed(upstream: ScriptedUpstream, folder: Path) -> AsyncIterator[Deploy]:
    config = folder / "gateway.toml"
    config.write_text(toml(upstream.url, BEHIND_NGINX, model="demo"))  # the model that README asks
    async with AsyncExitStack() as stack:
        deploy = Deploy(config, stack)
        for number in (0, 1):
            await deploy.start(number)
        deploy.site = await stack.enter_async_context(site(folder, *deploy.ports))
        yield deploy


async def test_a_gateway_that_restarts_loses_no_stream(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Both in turn, as a deploy does it: running answers go on to their end, and new questions are answered.

    Some clients lose their connection in the meantime. They come back while the gateway drains. What README's clients
    see of it is in `tests/sdk/test_rolling_restart.py`.
    """
    async with deployed(upstream, tmp_path) as deploy:
        served = deploy.site
        for number in (0, 1):
            go_on = asyncio.Event()
            upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
            answers = [await served.session.get("/chat?q=old", headers=EVENTS) for _ in range(MANY)]
            first = [await answer.content.readuntil(b"Hel\n") for answer in answers]
            asked = len(upstream.requests)
            deploy.processes[number].terminate()
            await until_status(served.session, f"http://127.0.0.1:{deploy.ports[number]}/readyz", 503)
            for answer in answers[:BACK]:
                answer.close()
            lasts = [read.rpartition(b"id: ")[2].split(b"\n")[0].decode() for read in first[:BACK]]
            back = [
                await served.session.get("/chat?q=old", headers={**EVENTS, "Last-Event-ID": last}) for last in lasts
            ]
            upstream.script(stream(delta("new"), finish(), DONE))
            assert {Answer(await raw(served, "/chat?q=new")).text for _ in range(MANY)} == {"new"}  # while it drains
            go_on.set()
            rests = [Answer(await answer.read()) for answer in [*back, *answers[BACK:]]]
            assert [rest.end["reason"] for rest in rests] == ["complete"] * MANY
            await ends_cleanly(deploy.processes[number])
            assert {Answer(await raw(served, "/chat?q=new")).text for _ in range(MANY)} == {"new"}  # while it is away
            await deploy.start(number)
            assert len(upstream.requests) == asked + 2 * MANY


# Bounds


async def test_metrics_and_details_are_closed(served: Site, gateways: list[Client]) -> None:
    async with gateways[0].get("/metrics") as response:
        assert response.status == 200
    for path in ("/metrics", "//metrics", "/./metrics", "/%6detrics", "/metrics?x=1"):
        status = await asyncio.to_thread(plain_status, served, path)
        assert status == 404, path
    async with served.session.get("/readyz") as response:
        assert await response.json() == {"status": "ready"}


def plain_status(served: Site, path: str) -> int:
    """The status of a path that is sent as it stands: clients tidy paths."""
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=5) as wire,
        served.trust.wrap_socket(wire, server_hostname=NAME) as wrapped,
    ):
        wrapped.sendall(f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
        return int(wrapped.recv(1024).split()[1])


async def test_one_address_opens_a_bounded_number_of_requests(
    gateways: list[Client], upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.script(stream(delta("a"), Stall()))
    assert "limit_conn clients 100;" in CONF
    conf = CONF.replace("limit_conn clients 100;", "limit_conn clients 3;")
    async with site(tmp_path, *[client.port or 0 for client in gateways], conf=conf) as served:
        answers = [await served.session.get("/chat?q=x", headers=EVENTS) for _ in range(3)]
        assert [answer.status for answer in answers] == [200] * 3
        async with served.session.get("/healthz") as response:
            assert response.status == 429
        for answer in answers:
            answer.close()


async def test_the_log_holds_no_query(served: Site, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("a"), finish(), DONE))
    await raw(served, "/chat?q=secret-question")
    async with served.session.get("/chat?q=secret-question", headers={"Last-Event-ID": "x.1"}) as response:
        assert response.status == 404
    log = (served.folder / "gateway.log").read_text() + (served.folder / "gateway-error.log").read_text()
    assert log.count(" /chat") == 2
    assert "secret-question" not in log
