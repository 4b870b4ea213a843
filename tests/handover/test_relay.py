"""A gateway beside a process that is scripted, which holds a stream: what reaches it, and what its silence does."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.bounds import Bounds
from gateway.handlers.services import SERVICES
from gateway.handover.folder import Folder, listening_at
from gateway.observe.metrics import PassedOn
from tests.conftest import Client, MakeGateway
from tests.handlers.test_metrics import samples, value
from tests.rig.clients import EVENTS, error_of

EPOCH = "abcd"
ID = EPOCH + "0123456789abcdef012345"
BOUNDS = Bounds(neighbour_seconds=0.2, stall_seconds=0.2)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"


class Scripted:
    """A process that answers questions while `answers`, and each request with `parts`, then with silence or an end."""

    def __init__(self, folder: Folder) -> None:
        self.answers = True
        self.parts: list[bytes] = [HEAD, b"data: x\n\n"]
        self.is_silent = False
        self.heard = b""
        self.folder = folder

    async def start(self) -> list[asyncio.Server]:
        questions, requests = listening_at(self.folder.questions(EPOCH)), listening_at(self.folder.requests(EPOCH))
        return [
            await asyncio.start_unix_server(self._answer, sock=questions),
            await asyncio.start_unix_server(self._respond, sock=requests),
        ]

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline() and self.answers:
            writer.write(b"yes\n")
        await reader.read()
        writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"".join(self.parts))
        if self.is_silent:
            await reader.read()  # until the other side gives up
        writer.close()


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Scripted]:
    folder = Folder(tmp_path / "run")
    folder.open()
    scripted = Scripted(folder)
    servers = await scripted.start()
    yield scripted
    for server in servers:
        server.close()


@pytest.fixture
async def client(gateway: MakeGateway, other: Scripted) -> Client:
    return await gateway(f'[server]\nruntime_dir = "{other.folder.path}"\n', bounds=BOUNDS)


async def test_what_the_other_process_hears(client: Client, other: Scripted) -> None:
    """All fields as they came, apart from those of the connection. Nobody outside tells it the client's address."""
    fields = {
        **EVENTS,
        "Authorization": "Bearer abc",
        "Gateway-Client": "10.9.8.7",
        "Keep-Alive": "5",
        "TE": "trailers",
    }
    async with client.get(f"/streams/{ID}?ticket=%26", headers=fields) as response:
        assert (response.status, await response.read()) == (200, b"data: x\n\n")
    request, *lines = other.heard.decode().strip().split("\r\n")
    assert request == f"GET /streams/{ID}?ticket=%26 HTTP/1.1"
    names = [line.partition(":")[0] for line in lines]
    assert len(set(names)) == len(names)
    assert "Authorization: Bearer abc" in lines
    assert "Gateway-Client: 127.0.0.1" in lines
    assert "Connection: close" in lines
    assert f"Host: 127.0.0.1:{client.port}" in lines
    assert not {"Keep-Alive", "TE"} & set(names)


async def test_what_is_passed_on_is_counted_by_its_kind(client: Client, other: Scripted) -> None:
    """Only if the other process is there."""
    found = await samples(client)
    assert [value(found, "gateway_passed_on_total", kind=kind) for kind in PassedOn] == [0, 0, 0]
    services = client.app[SERVICES]
    assert services.neighbours is not None
    once = {**EVENTS, "Idempotency-Key": "0123456789abcdef"}
    for path, headers in ((f"/streams/{ID}", EVENTS), ("/chat?q=x", EVENTS | {"Last-Event-ID": f"{ID}.3"})):
        async with client.get(path, headers=headers) as response:
            assert await response.read() == b"data: x\n\n"
    async with client.get("/chat?q=x", headers=once) as response:
        assert await response.read() == b"data: x\n\n"
    services.neighbours.successor = EPOCH
    for path in ("/chat?q=x", "/chat?q=y", "/readyz"):
        async with client.get(path, headers=EVENTS) as response:
            assert await response.read() == b"data: x\n\n"
    other.answers = False
    async with client.get(f"/streams/{ID}", headers=EVENTS) as response:
        assert await error_of(response) == (404, "stream_not_found")
    found = await samples(client)
    assert value(found, "gateway_passed_on_total", kind="stream") == 2
    assert value(found, "gateway_passed_on_total", kind="idempotency_key") == 1
    assert value(found, "gateway_passed_on_total", kind="new") == 3


@pytest.mark.parametrize("path", ["/chat", "/streams", "/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_a_key_leads_to_the_process_that_knows_it_wherever_one_may_be_sent(
    client: Client, other: Scripted, path: str
) -> None:
    for query, fields in (("", {"Idempotency-Key": "0123456789abcdef"}), ("?idempotency_key=0123456789abcdef", {})):
        other.heard = b""
        async with client.post(path + query, json={}, headers=fields) as response:
            assert await response.read() == b"data: x\n\n"
        assert other.heard.startswith(f"POST {path}{query} ".encode())


async def test_the_address_that_a_client_tells_of_itself_is_not_believed(
    client: Client, lines: list[dict[str, Any]]
) -> None:
    async with client.get("/healthz", headers={"Gateway-Client": "10.9.8.7"}) as response:
        assert response.status == 200
    assert [line["client"] for line in lines] == ["127.0.0.1"]


async def test_silence_lasts_as_long_as_the_other_process_answers_questions(client: Client, other: Scripted) -> None:
    other.parts, other.is_silent = [], True
    started = time.monotonic()
    asyncio.get_running_loop().call_later(0.5, setattr, other, "answers", False)
    async with client.get(f"/streams/{ID}", headers=EVENTS) as response:
        assert await error_of(response) == (404, "stream_not_found")
    assert 0.5 <= time.monotonic() - started < 3


async def test_a_body_that_falls_silent_for_good_breaks_off(client: Client, other: Scripted) -> None:
    other.parts, other.is_silent = [HEAD, b"data"], True
    async with client.get(f"/streams/{ID}", headers=EVENTS) as response:
        assert await response.content.readexactly(4) == b"data"
        other.answers = False
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()


@pytest.mark.parametrize("parts", [[], [HEAD[:20]]])
async def test_a_process_that_goes_before_its_header_is_gone(
    client: Client, other: Scripted, parts: list[bytes]
) -> None:
    other.parts = parts
    async with client.get(f"/streams/{ID}", headers=EVENTS) as response:
        assert await error_of(response) == (404, "stream_not_found")


async def test_one_that_does_not_answer_questions_is_not_asked_for_more(client: Client, other: Scripted) -> None:
    other.answers = False
    async with client.get("/chat?q=x", headers={**EVENTS, "Last-Event-ID": f"{ID}.3"}) as response:
        assert await error_of(response) == (404, "stream_not_found")
    assert other.heard == b""


async def test_sockets_without_a_process_are_removed(client: Client, other: Scripted) -> None:
    for path in (other.folder.questions("dead"), other.folder.requests("dead")):
        listening_at(path).close()
    assert "dead" in other.folder.others("")
    async with client.get("/streams/dead0123456789abcdef012345", headers=EVENTS) as response:
        assert await error_of(response) == (404, "stream_not_found")
    assert other.folder.others("") == [EPOCH]
