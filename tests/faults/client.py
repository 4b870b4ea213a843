"""What a client sees of an answer on each surface, byte for byte, as one comparable value."""

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientPayloadError, ClientResponse

from tests.conftest import Client
from tests.rig.whatwg import interpret

_EVENTS = {"Accept": "text/event-stream"}
_JSON = {"Accept": "application/json"}


@dataclass(frozen=True)
class Seen:
    """`text` is all of the answer. `code` is that of the failure, None for a success.

    `told` is the number of attempts that the gateway told, None if it could not tell it.
    """

    status: int
    text: str
    code: str | None
    told: int | None
    raw: bytes = field(compare=False)
    headers: dict[str, str] = field(compare=False)


async def events(client: Client, **more: Any) -> Seen:
    """`/chat` as events. Asserts that there is one end, and a failure before it unless the answer is whole."""
    async with client.post("/chat", json={"question": "hi", "model": "m", **more}, headers=_EVENTS) as response:
        raw = await response.read()
        if response.status != 200:
            return _refused(response, raw)
        dispatched = interpret(raw)
        assert [event.type for event in dispatched].count("end") == 1, raw
        assert dispatched[-1].type == "end", raw
        end = json.loads(dispatched[-1].data)
        failures = [json.loads(event.data)["error"]["code"] for event in dispatched if event.type == "failure"]
        assert len(failures) == (end["reason"] not in ("complete", "stopped")), raw
        assert not failures or dispatched[-2].type == "failure", raw
        text = "".join([event.data for event in dispatched if event.type == "message"])
        return _seen(response, raw, text, failures[0] if failures else None, end["attempts"])


async def json_answer(client: Client, **more: Any) -> Seen:
    """`/chat` as one JSON object."""
    async with client.post("/chat", json={"question": "hi", "model": "m", **more}, headers=_JSON) as response:
        return await _whole(response)


async def relayed(client: Client, **more: Any) -> Seen:
    """`/v1`, streamed. Asserts that `[DONE]` is at the end of a success only, and an error at that of a failure."""
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}], **more}
    async with client.post("/v1/chat/completions", json=asked) as response:
        try:
            raw = await response.read()
        except ClientPayloadError:  # see `handlers.completions` on when a body breaks off
            raise AssertionError("the body broke off") from None
        if response.status != 200:
            return _refused(response, raw)
        *blocks, last = [event.data for event in interpret(raw)]
        assert b"[DONE]" not in raw.removesuffix(b"data: [DONE]\n\n"), raw
        if last != "[DONE]":
            error = json.loads(last)["error"]
            return _seen(response, raw, _text(blocks), error["code"], _attempts(response))
        return _seen(response, raw, _text(blocks), None, _attempts(response))


async def relayed_whole(client: Client, **more: Any) -> Seen:
    """`/v1`, as one JSON body."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    async with client.post("/v1/chat/completions", json=asked) as response:
        return await _whole(response)


Ask = Callable[..., Coroutine[Any, Any, Seen]]
STREAMED: dict[str, Ask] = {"chat": events, "v1": relayed}
SURFACES: dict[str, Ask] = {**STREAMED, "chat JSON": json_answer, "v1 whole": relayed_whole}


async def _whole(response: ClientResponse) -> Seen:
    raw = await response.read()
    if response.status != 200:
        return _refused(response, raw)
    (choice,) = json.loads(raw)["choices"]
    return _seen(response, raw, choice["message"]["content"] or "", None, _attempts(response))


def _refused(response: ClientResponse, raw: bytes) -> Seen:
    value = json.loads(raw)
    assert set(value) == {"error"}
    return _seen(response, raw, "", value["error"]["code"], _attempts(response))


def _seen(response: ClientResponse, raw: bytes, text: str, code: str | None, told: int | None) -> Seen:
    return Seen(response.status, text, code, told, raw, dict(response.headers))


def _attempts(response: ClientResponse) -> int | None:
    value = response.headers.get("X-Gateway-Attempts")
    return None if value is None else int(value)


def _text(blocks: list[str]) -> str:
    """The text of chunks. Other choices than the first are left out."""
    texts = []
    for block in blocks:
        for choice in json.loads(block, parse_int=float).get("choices") or []:
            if isinstance(choice, dict) and not choice.get("index"):
                content = (choice.get("delta") or {}).get("content")
                texts.append(content if isinstance(content, str) else "")
    return "".join(texts)
