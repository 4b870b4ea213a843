"""The official Python client's Responses API, unmodified, over a chat: typed events, helpers, resuming behind each."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.conftest import MakeGateway
from tests.responses.judge import Judge
from tests.rig.scripted_upstream import DONE, Pause, ScriptedUpstream, Stall, answer, delta, finish, stream
from tests.sdk.conftest import OpenAI
from tests.sdk.responses import ASKED, CALLS, RICH, TEXT, TOOLS, checked, events_of
from tests.test_readme import blocks, document

openai = pytest.importorskip("openai", reason="the openai package is not installed: it is in the extra `sdk`")
pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed: openai brings it")

Weather = pydantic.create_model("Weather", city=(str, ...), degrees=(int, ...))

Connect = Callable[..., Awaitable[Any]]


@pytest.fixture
def connect(gateway: MakeGateway, openai_at: OpenAI) -> Connect:
    async def make(toml: str = "", **options: Any) -> Any:
        return openai_at(str((await gateway(toml)).make_url("/v1")), **options)

    return make


async def test_every_event_is_one_that_the_sdk_knows(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    client = await connect()
    asked = {**ASKED, "tools": TOOLS, "reasoning": {"effort": "low"}}
    events = await events_of(await client.responses.create(**asked, stream=True))
    Judge().judge(events)
    adapter = pydantic.TypeAdapter(openai.types.responses.ResponseStreamEvent)
    for event in events:
        assert adapter.validate_python(event).type == event["type"]


async def test_the_whole(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    client = await connect()
    response = await client.responses.create(**ASKED, tools=TOOLS)
    type(response).model_validate(response.to_dict())
    assert response.output_text == TEXT
    calls = [item for item in response.output if item.type == "function_call"]
    assert [(call.name, call.arguments) for call in calls] == CALLS
    assert response.usage.total_tokens == 7
    assert response._request_id


async def test_its_helper_assembles_a_stream(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH))
    client = await connect()
    async with client.responses.stream(**ASKED, tools=TOOLS) as helper:
        seen = [event.type async for event in helper]
        final = await helper.get_final_response()
    assert seen[-1] == "response.completed"
    assert final.output_text == TEXT


async def test_its_helper_parses_a_structured_answer(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta('{"city": "Paris", '), delta('"degrees": 21}'), finish(), DONE))
    client = await connect()
    response = await client.responses.parse(**ASKED, text_format=Weather)
    assert response.output_parsed == Weather(city="Paris", degrees=21)
    form: Any = upstream.requests[0].json["response_format"]
    assert form["json_schema"]["schema"]["required"] == ["city", "degrees"]


async def test_a_cut_behind_every_event_is_resumed(connect: Connect, upstream: ScriptedUpstream) -> None:
    """While it runs: the client leaves behind an event, and reads the rest by its own `retrieve`."""
    upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.001))]))
    client = await connect()
    whole: list[dict[str, Any]] | None = None
    for after in range(30):
        events = []
        async with await client.responses.create(**ASKED, tools=TOOLS, background=True, stream=True) as live:
            async for event in live:
                events.append(checked(event))
                if event.sequence_number == after:
                    break
        name = events[0]["response"]["id"]
        if events[-1]["sequence_number"] < after:
            break
        resumed = await client.responses.retrieve(name, stream=True, starting_after=after)
        events += await events_of(resumed)
        Judge().judge(events)
        same = json.loads(json.dumps(events).replace(name.removeprefix("resp_"), "x").replace(name, "x"))
        for event in same:
            event.get("response", {}).pop("created_at", None)
        whole = whole or same
        assert same == whole
        assert len(upstream.requests) == after + 1
    assert whole is not None


async def test_in_the_background(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), Pause(0.1), delta("lo"), finish(), DONE))
    client = await connect()
    response = await client.responses.create(**ASKED, background=True)
    assert response.status in ("queued", "in_progress")
    while response.status in ("queued", "in_progress"):
        await asyncio.sleep(0.02)
        response = await client.responses.retrieve(response.id)
    assert (response.status, response.output_text) == ("completed", "Hello")


async def test_cancel_and_delete(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("Hel"), Stall()))
    client = await connect()
    response = await client.responses.create(**ASKED, background=True)
    assert (await client.responses.cancel(response.id)).status == "cancelled"
    await client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


async def test_a_conversation_with_a_tool(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*RICH), stream(delta("It is warm."), finish(), DONE))
    client = await connect()
    first = await client.responses.create(**ASKED, tools=TOOLS)
    outputs = [
        {"type": "function_call_output", "call_id": item.call_id, "output": "21"}
        for item in first.output
        if item.type == "function_call"
    ]
    again = await client.responses.create(model="m-1", input=outputs, previous_response_id=first.id, tools=TOOLS)
    by_hand = await client.responses.create(
        model="m-1", input=[{"role": "user", "content": "Hi"}, *first.output, *outputs], tools=TOOLS
    )
    assert again.output_text == by_hand.output_text == "It is warm."
    assert upstream.requests[1].json["messages"] == upstream.requests[2].json["messages"]


@pytest.mark.parametrize(
    ("steps", "status"), [([delta("Hel")], "failed"), ([delta("Hel"), finish("length"), DONE], "incomplete")]
)
async def test_what_is_not_whole(connect: Connect, upstream: ScriptedUpstream, steps: list[bytes], status: str) -> None:
    upstream.script(stream(*steps))
    client = await connect()
    events = await events_of(await client.responses.create(**ASKED, stream=True))
    assert events[-1]["type"] == f"response.{status}"


async def test_its_own_retry_after_an_early_failure(connect: Connect, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(500, {"error": {"message": "no"}}), stream(delta("a"), finish(), DONE))
    client = await connect("[retry]\nattempts = 1\n", max_retries=1)
    assert (await client.responses.create(**ASKED)).output_text == "a"


async def test_the_example_of_the_documents(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*[part for one in RICH for part in (one, Pause(0.001))]))
    (example,) = [code for code in blocks("python", document("http.md")) if "starting_after" in code]
    address = str((await gateway()).make_url("/v1"))
    source = "from openai import OpenAI\n" + example.replace("http://127.0.0.1:8080/v1", address)
    printed: list[tuple[int, str]] = []
    space = {"print": lambda number, kind: printed.append((number, kind))}
    await asyncio.to_thread(exec, compile(source, "http.md", "exec"), space)
    assert [number for number, _ in printed] == list(range(len(printed)))
    assert printed[-1][1] == "response.completed"
    assert len(upstream.requests) == 1
