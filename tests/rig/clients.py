"""Helpers for tests of the native surface: they send requests and read responses as a client does."""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import ClientResponse, ClientSession

from gateway.observe.records import AccessRecord
from tests.conftest import Client
from tests.rig.reset import reset
from tests.rig.whatwg import Dispatched, interpret

EVENTS = {"Accept": "text/event-stream"}
TEXT = {"Accept": "text/plain"}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def api_key(key: str) -> dict[str, str]:
    return {"x-api-key": key}


@dataclass
class Answer:
    """The events of a whole stream, read by the rules of the standard."""

    raw: bytes
    events: list[Dispatched] = field(init=False)

    def __post_init__(self) -> None:
        self.events = interpret(self.raw)

    def data(self, kind: str) -> list[str]:
        return [event.data for event in self.events if event.type == kind]

    @property
    def text(self) -> str:
        return "".join(self.data("message"))

    @property
    def failure(self) -> dict[str, Any]:
        (data,) = self.data("failure")
        value: dict[str, Any] = json.loads(data)
        return value

    @property
    def end(self) -> dict[str, Any]:
        (data,) = self.data("end")
        assert self.events[-1].type == "end"
        value: dict[str, Any] = json.loads(data)
        return value


async def ask(client: Client, question: str = "hi", **query: str) -> Answer:
    async with client.get("/chat", params={"q": question, **query}, headers=EVENTS) as response:
        assert response.status == 200, await response.text()
        return Answer(await response.read())


def access_records(caplog: pytest.LogCaptureFixture) -> list[AccessRecord]:
    told = [getattr(record, "record", None) for record in caplog.records]
    return [record for record in told if isinstance(record, AccessRecord)]


async def post(client: Client, body: object, **headers: str) -> ClientResponse:
    return await client.post("/chat", json=body, headers=headers)


async def error_of(response: ClientResponse) -> tuple[int, str]:
    """The status and the code of an error. Asserts the form that all errors have."""
    value = await response.json()
    assert set(value) == {"error"}
    assert set(value["error"]) == {"message", "type", "param", "code"}
    assert isinstance(value["error"]["message"], str)
    assert response.headers["X-Request-ID"]
    assert response.headers["Cache-Control"] == "no-store"
    return response.status, value["error"]["code"]


async def eventually(holds: Callable[[], bool], *, within: float = 5.0) -> None:
    """Waits until the condition holds, while other tasks run. Fails if it does not hold in time."""
    deadline = asyncio.get_running_loop().time() + within
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, "it does not come to hold"
        await asyncio.sleep(0.01)


async def remains(holds: Callable[[], bool], *, seconds: float = 0.1) -> None:
    """Shows that nothing happens: fails when it ceases to hold within that time."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        assert holds(), "it has ceased to hold"
        await asyncio.sleep(0.01)


async def start_of(response: ClientResponse) -> dict[str, str]:
    """The data of the start block: the stream, and the ticket if there is one."""
    (event,) = interpret(await response.content.readuntil(b"\n\n"))
    assert event.type == "start"
    value: dict[str, str] = json.loads(event.data)
    return value


async def create(
    client: Client | ClientSession, body: object = None, *, query: str = "", **headers: str
) -> dict[str, Any]:
    """Sends `POST /streams` and returns the answer."""
    body = {"question": "hi"} if body is None else body
    async with client.post(f"/streams{query}", json=body, headers=headers) as response:
        assert response.status == 201, await response.text()
        value: dict[str, Any] = await response.json()
        return value


async def watched(client: Client, url: str, **headers: str) -> Answer:
    """Reads a stream by its address, to its end."""
    async with client.get(url, headers={**EVENTS, **headers}) as response:
        assert response.status == 200, await response.text()
        return Answer(await response.read())


async def exchange(client: Client, data: bytes, *, until: bytes = b"") -> bytes:
    """Sends raw bytes to the gateway. Returns its answer up to `until`, or to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(data)
    raw = b""
    async with asyncio.timeout(5):
        while part := await reader.read(65_536):
            raw += part
            if until and until in raw:
                break
    writer.close()
    return raw


async def connect(
    client: Client, *, receive_buffer: int | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection with a small receive buffer, so that unread data wait at the gateway."""
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", client.port))
    return await asyncio.open_connection(sock=sock, limit=1024)


async def send(client: Client, request: str, *, receive_buffer: int | None = None) -> asyncio.StreamWriter:
    _, writer = await connect(client, receive_buffer=receive_buffer)
    writer.write(request.encode())
    return writer


def leave(writer: asyncio.StreamWriter, how: str) -> None:
    if how == "rst":
        reset(writer)
    else:
        writer.transport.abort()
