"""What a client of the demo does: asks, and reads the events of the answer."""

import json
from typing import Any

from aiohttp import ClientPayloadError, ClientResponse, web
from aiohttp.test_utils import TestClient

PATH = "/v1/chat/completions"

Client = TestClient[web.Request, web.Application]


def asking(question: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": question}], **fields}


def streaming(model: str = "demo", question: str = "Hello", **fields: Any) -> dict[str, Any]:
    return asking(question, model=model, stream=True, **fields)


async def ask(client: Client, question: str = "Hello", **fields: Any) -> dict[str, Any]:
    """The whole answer, not streamed."""
    async with client.post(PATH, json=asking(question, **fields)) as response:
        assert response.status == 200
        body: dict[str, Any] = await response.json()
        return body


async def stream(client: Client, model: str = "demo", question: str = "Hello", **fields: Any) -> list[str]:
    """The payloads of a streamed answer that ends in order."""
    async with client.post(PATH, json=streaming(model, question, **fields)) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        return payloads(await response.read())


def payloads(body: bytes) -> list[str]:
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == "", "the last event is not complete"
    return [block.removeprefix("data: ") for block in blocks if not block.startswith(":")]


def chunks(events: list[str]) -> list[dict[str, Any]]:
    return [json.loads(event) for event in events if event != "[DONE]"]


def deltas(events: list[str]) -> list[dict[str, Any]]:
    return [choice["delta"] for chunk in chunks(events) for choice in chunk.get("choices", ())]


def text(events: list[str], field: str = "content") -> str:
    return "".join(delta.get(field) or "" for delta in deltas(events))


def finish_reason(events: list[str]) -> str | None:
    reasons: list[str | None] = [
        choice["finish_reason"] for chunk in chunks(events) for choice in chunk.get("choices", ())
    ]
    assert set(reasons[:-1]) <= {None}
    return reasons[-1]


async def read_to_the_break(response: ClientResponse) -> bytes:
    """What arrived of a body that is broken off before its end."""
    received = bytearray()
    try:
        while part := await response.content.readany():
            received += part
    except ClientPayloadError:
        return bytes(received)
    raise AssertionError("the body came to its end")
