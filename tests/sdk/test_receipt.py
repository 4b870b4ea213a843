"""The reader in `.github/docs/clients.md` that checks the receipt, as it stands there."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource

from tests.conftest import Client, MakeGateway
from tests.rig.changing import CHANGES, ChangingWire
from tests.rig.clients import ask
from tests.rig.scripted_upstream import DONE, Close, ScriptedUpstream, chunk, delta, event, finish, stream
from tests.sdk.clients_page import example

TEXTS = ["Hé", "llo 好👋\n", "\na\rb\r\nc\r", "\nd\u2028\x0b\x1c"]
REFUSAL = event(chunk(refusal="No.\n"))
SHOWN = "Héllo 好👋\n\na\nb\nc\n\nd\u2028\x0b\x1cNo.\n"
WHOLE = stream(*map(delta, TEXTS), REFUSAL, finish(), DONE)


def lines() -> dict[str, Any]:
    """What the examples define."""
    names: dict[str, Any] = {}
    for marker in ("httpx_sse", "whole_text"):
        exec(example("python", marker), names)
    return names


async def read(address: str) -> str:
    names = lines()
    async with httpx.AsyncClient() as client:
        text: str = await names["whole_text"](names["ask"](client, f"{address}/chat", "hi"))
        return text


def address_of(client: Client) -> str:
    return f"http://127.0.0.1:{client.port}"


async def test_it_returns_what_was_sent(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Also a part, of an answer that broke off, and an answer without text."""
    scripts = {SHOWN: WHOLE, "Héllo 好👋\n": stream(*map(delta, TEXTS[:2]), Close())}
    scripts[""] = stream(event(chunk(reasoning_content="hm")), finish(), DONE)
    client = await gateway()
    for text, script in scripts.items():
        upstream.script(script)
        assert await read(address_of(client)) == text


@pytest.mark.parametrize("how", CHANGES)
async def test_it_notices_a_proxy_that_changes_a_byte(
    gateway: MakeGateway, upstream: ScriptedUpstream, how: str
) -> None:
    upstream.script(WHOLE)
    client = await gateway()
    async with ChangingWire(client.port, how) as wire:
        with pytest.raises(ValueError, match="changed on the way"):
            await read(wire.address)
        assert wire.changed == 1
        wire.how = None
        assert await read(wire.address) == SHOWN


@pytest.mark.parametrize("how", CHANGES)
async def test_no_text_that_was_changed_is_returned(gateway: MakeGateway, upstream: ScriptedUpstream, how: str) -> None:
    """Wherever the byte is: the text is the right one, or it is not returned, or the `end` has not come."""
    upstream.script(WHOLE)
    whole = (await ask(await gateway())).raw
    whole_text = lines()["whole_text"]
    noticed = 0
    for at in range(len(whole)):
        body = CHANGES[how](whole, at)
        events = list(EventSource(httpx.Response(200, headers=SENT, content=body)).iter_sse())
        if "end" not in [one.event for one in events]:
            continue  # a client comes back
        try:
            assert await whole_text(one_by_one(events)) == SHOWN
        except ValueError:
            noticed += 1
    assert noticed > len(SHOWN.encode())


SENT = {"Content-Type": "text/event-stream"}


async def one_by_one(events: list[Any]) -> AsyncIterator[Any]:
    for one in events:
        yield one


async def test_without_a_receipt_there_is_nothing_to_check() -> None:
    """As from a gateway whose process has died, or from an older one."""
    body = b'data: Hello\n\nevent: end\ndata: {"reason":"upstream_error"}\n\n'
    events = list(EventSource(httpx.Response(200, headers=SENT, content=body)).iter_sse())
    assert await lines()["whole_text"](one_by_one(events)) == "Hello"
