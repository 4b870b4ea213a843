"""Bytes behind the end of a response: they are no part of it, nor of the response to the next request."""

import asyncio

import pytest

from tests.conftest import MakeGateway
from tests.rig.clients import ask
from tests.rig.completions import COMPLETION, HI, STREAMED, post, streamed
from tests.rig.inside import at_rest
from tests.rig.scripted_upstream import (
    DONE,
    Pause,
    ScriptedUpstream,
    Send,
    Step,
    answer,
    chunked,
    delta,
    finish,
    head,
    stream,
)

LAST = chunked(finish() + DONE) + b"0\r\n\r\n"
LIST = {"object": "list", "data": [{"id": "true"}]}
WHOLE = {"id": "true", "object": "chat.completion", "choices": [{"index": 0, "message": {"content": "b"}}]}
FALSE = head(Transfer_Encoding="chunked") + chunked(delta("false") + finish() + DONE) + b"0\r\n\r\n"
EXTRA = {
    "a line end": b"\r\n",
    "text": b"more of it",
    "a response": FALSE,
    "half a response": FALSE[:40],
    "a timeout": head(408, Content_Length="0"),
}
IS_LATE = pytest.mark.parametrize("is_late", [False, True], ids=["at once", "late"])


def script(extra: bytes, *, is_late: bool) -> list[Step]:
    begin: list[Step] = [Send(head(Transfer_Encoding="chunked") + chunked(delta("a"))), Pause(0.05)]
    if is_late:  # when the connection rests
        return [*begin, Send(LAST), Pause(0.1), Send(extra)]
    return [*begin, Send(LAST + extra)]


@IS_LATE
@pytest.mark.parametrize("extra", EXTRA)
async def test_fault_49_extra_bytes_reach_nobody(
    gateway: MakeGateway, upstream: ScriptedUpstream, extra: str, is_late: bool
) -> None:
    upstream.script(script(EXTRA[extra], is_late=is_late), stream(delta("b"), finish(), DONE))
    client = await gateway()
    for text in "ab":
        answer = await ask(client)
        assert (answer.text, answer.end["reason"]) == (text, "complete")
        await at_rest(client)
        await asyncio.sleep(0.15)
    assert len(upstream.requests) == 2
    assert upstream.connections == 2 or extra in ("a line end", "half a response")  # which come to nothing


@IS_LATE
@pytest.mark.parametrize("extra", EXTRA)
async def test_fault_49_extra_bytes_reach_no_sdk(
    gateway: MakeGateway, upstream: ScriptedUpstream, extra: str, is_late: bool
) -> None:
    upstream.script(script(EXTRA[extra], is_late=is_late), stream(delta("b"), finish(), DONE))
    client = await gateway()
    for text in "ab":
        answer = await streamed(client, STREAMED)
        assert delta(text) in answer.raw
        assert answer.raw.endswith(DONE)
        await at_rest(client)
        await asyncio.sleep(0.15)
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("is_list", [False, True])
async def test_fault_49_whole_answers_and_lists(
    gateway: MakeGateway, upstream: ScriptedUpstream, is_list: bool
) -> None:
    """A response that nobody asked for, behind one with a length."""
    false = answer(200, {"id": "false", "data": [{"id": "false"}]})
    upstream.script([*answer(200, COMPLETION), Pause(0.1), *false], answer(200, {**LIST, **WHOLE}))
    client = await gateway()
    async with post(client, HI) as response:
        assert await response.read() == COMPLETION
    await at_rest(client)
    await asyncio.sleep(0.15)
    if is_list:
        async with client.get("/v1/models") as response:
            assert b"false" not in await response.read()
    else:
        async with post(client, HI) as response:
            assert (await response.json())["id"] == "true"
