"""Clients that ask again and again, each time on a connection of their own, whatever they are told.

One that is let in stays, and reads nothing. So a limit that is not yet reached fills up.
"""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from itertools import cycle

from tests.bench.wire import model_name
from tests.rig.ports import HOST
from tests.rig.wire import post, read_response

_QUIET = model_name(0.01, 2)  # one event, and nothing more for 100 seconds
_CHAT = {"model": _QUIET, "messages": [{"role": "user", "content": "hi"}], "stream": True}
BODIES: dict[str, dict[str, object]] = {
    "/chat": _CHAT,
    "/streams": _CHAT,
    "/v1/chat/completions": _CHAT,
    "/v1/responses": {"model": _QUIET, "input": "hi", "stream": True},
    "/v1/messages": {**_CHAT, "max_tokens": 10},
    "/v1/completions": {"model": _QUIET, "prompt": "hi", "stream": True},
    "/v1/embeddings": {"model": _QUIET, "input": "hi"},
}
_REQUESTS = {path: post(path, body, Accept="text/event-stream") for path, body in BODIES.items()}
_NO_EMBEDDINGS = ("/v1/embeddings", 502)  # let in, but the benchmark's upstream has none
_PATIENCE = 5.0  # seconds for an answer; a connection that waits at a shut door gets none
_REST = 0.002  # seconds between two requests of one client: at once is a test of the client


class Knocking:
    """What clients were told since it began, and the time that it took."""

    def __init__(self, port: int) -> None:
        self.refused: Counter[str] = Counter()  # by path
        self.codes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()  # whatever is neither an answer nor a 503 with `retry-after`
        self.seconds: list[float] = []  # until each refusal
        self._port = port
        self.let_in = 0
        self._inside: list[asyncio.StreamWriter] = []

    async def until_refused(self, *, within: float) -> None:
        """Asks until the limit is reached."""
        async with asyncio.timeout(within):
            while not self.refused:
                await self._knock("/chat", _REQUESTS["/chat"])
                await asyncio.sleep(_REST)

    async def go_on(self, clients: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end, requests = loop.time() + seconds, cycle(_REQUESTS.items())

        async def client() -> None:
            while loop.time() < end:
                await self._knock(*next(requests))
                await asyncio.sleep(_REST)

        await asyncio.gather(*[client() for _ in range(clients)])

    async def _knock(self, path: str, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_connection(HOST, self._port)
                writer.write(request)
                raw = await _first_of(reader)
        except (OSError, TimeoutError) as error:
            self.faults[type(error).__name__] += 1
            return
        response = read_response(raw)
        if response is not None and (response.status in (200, 201) or (path, response.status) == _NO_EMBEDDINGS):
            self.let_in += 1
            self._inside.append(writer)
            return
        writer.close()
        if response is None or response.status != 503 or not response.fields.get("retry-after", "").isdigit():
            self.faults[raw[:80].decode("latin-1")] += 1
            return
        told = json.loads(response.body)["error"]
        self.refused[path] += 1
        self.codes[told.get("code") or told["type"]] += 1
        self.seconds.append(loop.time() - started)

    async def leave(self) -> None:
        for writer in self._inside:
            writer.transport.abort()
        for writer in self._inside:
            with suppress(OSError):
                await writer.wait_closed()
        self._inside.clear()


async def _first_of(reader: asyncio.StreamReader) -> bytes:
    """The header, and the body unless it is a stream."""
    raw = b""
    while data := await reader.read(65_536):
        raw += data
        response = read_response(raw)
        if response is not None and (response.status == 200 or response.is_whole):
            break
    return raw
