"""A client of the OpenAI surface: it sends questions, and keeps all bytes of the answer."""

import json
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from aiohttp import ClientPayloadError, ClientResponse

from tests.conftest import Client

HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**HI, "stream": True}
JSON = {"Content-Type": "application/json"}
COMPLETION = json.dumps(
    {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "é"}, "x": 1.0}]},
    indent=1,
    ensure_ascii=False,
).encode()


def post(client: Client, body: object, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/v1/chat/completions", data=BytesIO(data), headers={**JSON, **headers})


@dataclass
class Body:
    """The received part of a response's body, and whether the body broke off."""

    raw: bytes
    broken: bool

    @property
    def blocks(self) -> list[bytes]:
        assert self.raw.endswith(b"\n\n")
        return self.raw[:-2].split(b"\n\n")

    @property
    def error(self) -> dict[str, Any]:
        """The error in the last block. Asserts the form of the block."""
        (line,) = self.blocks[-1].split(b"\n")
        value: dict[str, Any] = json.loads(line.removeprefix(b"data: "))
        assert set(value) == {"error"}
        assert set(value["error"]) == {"message", "type", "param", "code"}
        error: dict[str, Any] = value["error"]
        return error


async def read(response: ClientResponse) -> Body:
    parts = []
    try:
        async for part in response.content.iter_any():
            parts.append(part)  # noqa: PERF401 (the parts before the break are kept)
    except ClientPayloadError:
        return Body(b"".join(parts), broken=True)
    return Body(b"".join(parts), broken=False)


async def streamed(client: Client, body: object = STREAMED, **headers: str) -> Body:
    async with post(client, body, **headers) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"] == "text/event-stream"
        return await read(response)
