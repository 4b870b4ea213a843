"""The official Python client's Responses API, unmodified, over an upstream that makes responses: another gateway."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.responses.judge import Judge
from tests.rig.scripted_upstream import DONE, Pause, ScriptedUpstream, Stall, delta, event, finish, stream
from tests.sdk.conftest import OpenAI
from tests.sdk.responses import ASKED, CALLS, RICH, TEXT, TOOLS, checked, events_of

openai = pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def connect(gateway: MakeGateway, openai_at: OpenAI) -> Connect:
    """A client of a gateway over an address, or over a gateway over the scripted upstream."""

    async def make(address: str = "") -> Any:
        address = address or str((await gateway()).make_url("/v1"))
        outer = await gateway(f'[[upstreams]]\nname = "maker"\napi = "responses"\nbase_url = "{address}"\n')
        return openai_at(str(outer.make_url("/v1")))

    return make


async def test_its_helper_assembles_a_stream(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    client = await connect()
    async with client.responses.stream(**ASKED, tools=TOOLS) as helper:
        seen = [event.type async for event in helper]
        final = await helper.get_final_response()
    assert seen[-1] == "response.completed"
    assert final.output_text == TEXT
    again = await client.responses.retrieve(final.id)
    assert again.output_text == TEXT
    assert [(item.name, item.arguments) for item in again.output if item.type == "function_call"] == CALLS


async def test_a_cut_behind_every_event_is_resumed(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.001))]))
    client = await connect()
    for after in range(30):
        events = []
        async with await client.responses.create(**ASKED, tools=TOOLS, background=True, stream=True) as live:
            async for event in live:
                events.append(checked(event))
                if event.sequence_number == after:
                    break
        if events[-1]["sequence_number"] < after:
            break
        name = events[0]["response"]["id"]
        events += await events_of(await client.responses.retrieve(name, stream=True, starting_after=after))
        Judge().judge(events)
    assert after > 10


async def test_a_response_in_the_background_is_cancelled(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    client = await connect()
    response = await client.responses.create(**ASKED, background=True)
    assert response.status == "queued"
    assert (await client.responses.cancel(response.id)).status == "cancelled"
    await client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


async def test_a_conversation_goes_on(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hello"), finish(), DONE))
    client = await connect()
    first = await client.responses.create(**ASKED)
    await client.responses.create(**ASKED, previous_response_id=first.id)
    assert [message["role"] for message in upstream.requests[-1].json["messages"]] == ["user", "assistant", "user"]  # type: ignore[attr-defined]  # it is JSON


async def test_an_answer_that_breaks_off_is_raised_once(connect: Connect, upstream: ScriptedUpstream) -> None:
    """With the gateway's words, which no other event could hide."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": [], "sequence_number": 0}
    data = {"type": "response.output_text.delta", **place, "delta": "Hel"}
    upstream.script(stream(b"event: response.output_text.delta\n" + event(data), Pause(0.02)))
    client = await connect(f"{upstream.url}/v1")
    with pytest.raises(openai.APIError, match="broke off"):
        await events_of(await client.responses.create(**ASKED, stream=True))
