"""Anthropic's server as an upstream, over real sockets and on all surfaces."""

import asyncio
import json
from typing import Any

import pytest

from gateway.commands.probe import probe
from gateway.config import load
from tests.conftest import Client, MakeGateway
from tests.messages.judge import judge
from tests.messages.judge import read as read_events
from tests.responses.judge import Judge
from tests.responses.judge import read as read_response
from tests.rig import anthropic as sends
from tests.rig.clients import ask, eventually
from tests.rig.completions import STREAMED, Body, post, read
from tests.rig.scripted_upstream import DONE, Close, Reset, ScriptedUpstream, Stall, answer, delta, finish, stream

HI = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
HI_SENT = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
ASKED = {"model": "m", "max_tokens": 8192, "messages": [HI_SENT]}
RETRY = "[retry]\nattempts = {}\nbackoff_seconds = 0.01\n"
TOLD = {
    "prompt_tokens": 12,
    "completion_tokens": 7,
    "total_tokens": 19,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_creation_tokens": 5},
}
THOUGHT = sends.message(sends.thinking(0, "so"), sends.text(1, "Hel", "lo"))
TOOLS = sends.message(sends.tool(0, "f", '{"a"', ":1}"), sends.tool(1, "g"), reason="tool_use")
CUT = sends.message(sends.text(0, "Hello"), reason="max_tokens")

Ask = Any


@pytest.fixture
def claude(gateway: MakeGateway, upstream: ScriptedUpstream) -> Ask:
    """`await claude(toml)`: a client of a gateway whose first upstream has this dialect, and makes one attempt."""

    async def make(more: str = "", attempts: int = 1) -> Client:
        toml = RETRY.format(attempts) + sends.configured(upstream.url) + more
        return await gateway(config=load(toml, {"OPENAI_MODEL": "m"}))

    return make


async def streamed(client: Client, **fields: object) -> Body:
    async with post(client, {**STREAMED, **fields}) as response:
        assert response.status == 200, await response.text()
        return await read(response)


async def whole(client: Client, path: str = "/v1/chat/completions", **fields: object) -> dict[str, Any]:
    async with client.post(path, json={**HI, **fields}) as response:
        assert response.status == 200, await response.text()
        value: dict[str, Any] = await response.json()
        return value


def chunks(body: Body) -> list[dict[str, Any]]:
    assert body.blocks[-1] == b"data: [DONE]"
    return [json.loads(block.removeprefix(b"data: ")) for block in body.blocks[:-1]]


# What is asked


async def test_what_its_server_is_asked(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(sends.HELLO))
    client = await claude()
    await streamed(client)
    await whole(client)
    await ask(client)
    for request in upstream.requests:
        assert (request.method, request.path) == ("POST", "/v1/messages")
        assert request.headers["x-api-key"] == "key-of-anthropic-012345"
        assert request.headers["anthropic-version"] == "2023-06-01"
        assert request.headers["accept"] == "text/event-stream"
        assert "authorization" not in request.headers
        assert request.json == {**ASKED, "stream": True}


@pytest.mark.parametrize(
    ("option", "ways"),
    [
        ("", ["enabled", "adaptive"]),
        ('thinking = "budget"\n', ["enabled", "enabled"]),
        ('thinking = "adaptive"\n', ["adaptive", "adaptive"]),
    ],
)
async def test_a_model_is_asked_to_think_by_its_name_or_by_the_option_of_the_upstream(
    claude: Ask, upstream: ScriptedUpstream, option: str, ways: list[str]
) -> None:
    upstream.script(sends.answered(sends.HELLO))
    client = await claude(option)
    for model in ("claude-sonnet-4-5", "claude-sonnet-5"):
        await streamed(client, model=model, reasoning_effort="high")
    thinking: Any = [request.json["thinking"] for request in upstream.requests]
    assert [one["type"] for one in thinking] == ways
    efforts = [request.json.get("output_config") for request in upstream.requests]
    assert efforts == [{"effort": "high"} if way == "adaptive" else None for way in ways]


# Answers


async def test_chat(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(THOUGHT))
    told = await ask(await claude(), reasoning="1")
    assert (told.data("reasoning"), told.text) == (["so"], "Hello")
    assert (told.end["reason"], told.end["finish_reason"]) == ("complete", "stop")
    assert (told.end["model"], told.end["usage"]) == ("claude-1", TOLD)


async def test_chat_with_tools(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(TOOLS))
    told = await ask(await claude())
    assert told.end["finish_reason"] == "tool_calls"
    calls = [json.loads(data) for data in told.data("tool_call")]
    assert [call["index"] for call in calls] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("asked", [True, False])
async def test_chunks(claude: Ask, upstream: ScriptedUpstream, asked: bool) -> None:
    upstream.script(sends.answered(THOUGHT))
    body = await streamed(await claude(), stream_options={"include_usage": asked})
    told = chunks(body)
    deltas = [choice["delta"] for chunk in told for choice in chunk["choices"]]
    assert deltas[:2] == [{"role": "assistant", "content": ""}, {"reasoning_content": "so"}]
    assert "".join(one.get("content", "") for one in deltas) == "Hello"
    assert [chunk.get("usage") for chunk in told if not chunk["choices"]] == [TOLD] * asked
    assert {chunk["object"] for chunk in told} == {"chat.completion.chunk"}
    assert {chunk["id"] for chunk in told} == {"msg_1"}
    assert all(chunk["created"] > 1_700_000_000 for chunk in told)


async def test_a_whole_completion(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(THOUGHT), sends.answered(TOOLS), sends.answered(CUT))
    client = await claude()
    value = await whole(client)
    (choice,) = value["choices"]
    assert (choice["message"]["content"], choice["message"]["reasoning_content"]) == ("Hello", "so")
    assert (value["object"], value["usage"], choice["finish_reason"]) == ("chat.completion", TOLD, "stop")
    (choice,) = (await whole(client))["choices"]
    functions = [call["function"] for call in choice["message"]["tool_calls"]]
    assert functions == [{"name": "f", "arguments": '{"a":1}'}, {"name": "g", "arguments": "{}"}]
    (choice,) = (await whole(client))["choices"]
    assert choice["finish_reason"] == "length"


async def test_responses(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(THOUGHT))
    async with (await claude()).post("/v1/responses", json={"model": "m", "input": "hi", "stream": True}) as response:
        assert response.status == 200, await response.text()
        told = Judge().judge(read_response(await response.read()))
    assert told["status"] == "completed"
    assert told["output"][-1]["content"][0]["text"] == "Hello"


async def test_messages_go_through_a_chat(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(TOOLS), sends.answered(THOUGHT))
    client = await claude()
    async with client.post("/v1/messages", json={**HI, "max_tokens": 7, "stream": True}) as response:
        told = judge(read_events(await response.read()))
    assert told is not None
    assert told["stop_reason"] == "tool_use"
    assert [block["input"] for block in told["content"]] == ['{"a":1}', "{}"]
    told = await whole(client, "/v1/messages", max_tokens=7)
    assert [block["type"] for block in told["content"]] == ["thinking", "text"]
    assert [request.json["max_tokens"] for request in upstream.requests] == [7, 7]


# Anthropic's own API on both sides

WEATHER = {"name": "f", "input_schema": {"type": "object"}}
THINKING = {"type": "enabled", "budget_tokens": 2048}
TALK: dict[str, Any] = {**HI, "max_tokens": 4096, "tools": [WEATHER], "thinking": THINKING}
SECRET = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
CALLED = sends.message(
    sends.thinking(0, "so ", "it is", signature="c2lnMQ=="),
    [sends.begin(1, "redacted_thinking", data=SECRET["data"]), sends.close(1)],
    sends.text(2, "I look."),
    sends.tool(3, "f", '{"a"', ":1}"),
    reason="tool_use",
)


async def messages(client: Client, **fields: Any) -> dict[str, Any]:
    """The message, streamed or whole."""
    async with client.post("/v1/messages", json={**TALK, **fields}) as response:
        assert response.status == 200, await response.text()
        if not fields.get("stream"):
            value: dict[str, Any] = await response.json()
            return value
        told = judge(read_events(await response.read()))
    assert told is not None
    for block in told["content"]:
        if block["type"] == "tool_use":
            block["input"] = json.loads(block["input"])
    return told


@pytest.mark.parametrize("is_streamed", [True, False])
async def test_a_conversation_with_a_tool_keeps_its_signed_thoughts(
    claude: Ask, upstream: ScriptedUpstream, is_streamed: bool
) -> None:
    upstream.script(sends.answered(CALLED), sends.answered(sends.HELLO))
    client = await claude()
    first = await messages(client, stream=is_streamed)
    thought = {"type": "thinking", "thinking": "so it is", "signature": "c2lnMQ=="}
    call = {"type": "tool_use", "id": "toolu_3", "name": "f", "input": {"a": 1}}
    assert first["content"] == [thought, SECRET, {"type": "text", "text": "I look."}, call]
    assert first["stop_reason"] == "tool_use"
    result = {"type": "tool_result", "tool_use_id": "toolu_3", "content": "21"}
    turns = [{"role": "assistant", "content": first["content"]}, {"role": "user", "content": [result]}]
    last = await messages(client, stream=is_streamed, messages=[*HI["messages"], *turns])
    assert last["content"] == [{"type": "text", "text": "Hello"}]
    asked, again = [request.json for request in upstream.requests]
    assert (asked["thinking"], asked["max_tokens"]) == (again["thinking"], again["max_tokens"]) == (THINKING, 4096)
    assert asked["tools"] == again["tools"] == [WEATHER]
    assert again["messages"] == [HI_SENT, *turns]


@pytest.mark.parametrize("thinking", [None, THINKING, {"type": "adaptive"}])
@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-sonnet-5"])
async def test_an_effort_arrives_as_it_was_asked_for(
    claude: Ask, upstream: ScriptedUpstream, model: str, thinking: object
) -> None:
    """Beside a schema, and without thinking that nobody asked for."""
    upstream.script(sends.answered(sends.HELLO))
    output = {"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}}
    await messages(await claude(), model=model, thinking=thinking, output_config=output)
    (request,) = upstream.requests
    assert (request.json["output_config"], request.json.get("thinking")) == (output, thinking)
    assert request.json["max_tokens"] == TALK["max_tokens"]


async def test_thoughts_that_nobody_signed_end_the_thinking_about_an_open_call(
    claude: Ask, upstream: ScriptedUpstream
) -> None:
    """The conversation began with another model. Anthropic's server would refuse it with a budget."""
    upstream.script(sends.answered(sends.HELLO))
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    said = [{"type": "thinking", "thinking": "hm", "signature": ""}, call]
    result = {"type": "tool_result", "tool_use_id": "c", "content": "21"}
    turns = [{"role": "assistant", "content": said}, {"role": "user", "content": [result]}]
    await messages(await claude(), messages=[*HI["messages"], *turns])
    (request,) = upstream.requests
    assert "thinking" not in request.json
    sent: Any = request.json["messages"]
    assert sent[1] == {"role": "assistant", "content": [call]}


async def test_thoughts_do_not_go_to_servers_that_may_not_know_them(claude: Ask, upstream: ScriptedUpstream) -> None:
    """One of two targets is of another dialect, and either may be asked."""
    client = await claude(OTHER.format(upstream.url), attempts=3)
    said = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a"}]
    turns = [*HI["messages"], {"role": "assistant", "content": said}, *HI["messages"]]
    chat = stream(delta("from another"), finish(), DONE)
    upstream.script(lambda request: chat if "other" in request.path else answer(529, {}))
    await messages(client, messages=turns)
    for request in upstream.requests:
        assert "thinking" not in request.json
        assert "hm" not in json.dumps(request.json)


async def test_a_count_of_a_request_to_it_is_an_estimate(claude: Ask, upstream: ScriptedUpstream) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "four" * 100}]}
    async with (await claude()).post("/v1/messages/count_tokens", json=body) as response:
        assert (response.status, await response.json()) == (200, {"input_tokens": 100})
    assert not upstream.requests


async def test_an_idempotent_message(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(CALLED))
    client = await claude()
    bodies = []
    for _ in range(2):
        key = {"Idempotency-Key": "0f8fad5b-d9cb-469f-a165-70867728950e"}
        async with client.post("/v1/messages", json={**TALK, "stream": True}, headers=key) as response:
            assert response.status == 200
            bodies.append(await response.read())
    assert bodies[0] == bodies[1]
    assert len(upstream.requests) == 1


# The other surfaces


async def test_a_whole_response_with_calls(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(TOOLS), sends.answered(CUT), sends.answered(sends.HELLO))
    client = await claude()
    told = await whole(client, "/v1/responses", input="hi")
    assert [(item["name"], item["arguments"]) for item in told["output"]] == [("f", '{"a":1}'), ("g", "{}")]
    assert (told["status"], told["usage"]["total_tokens"]) == ("completed", 19)
    outputs = [{"type": "function_call_output", "call_id": item["call_id"], "output": "1"} for item in told["output"]]
    cut = await whole(client, "/v1/responses", input=outputs, previous_response_id=told["id"])
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    sent: Any = upstream.requests[1].json["messages"]
    assert [block["type"] for block in sent[1]["content"]] == ["tool_use", "tool_use"]
    assert [block["type"] for block in sent[2]["content"]] == ["tool_result", "tool_result"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_a_cut_behind_content_never_looks_whole(claude: Ask, upstream: ScriptedUpstream, path: str) -> None:
    upstream.script(stream(*THOUGHT[:-3], Close()))
    client = await claude()
    asked = {"input": "hi"} if path == "/v1/responses" else {"messages": HI["messages"], "max_tokens": 7}
    async with client.post(path, json={"model": "m", "stream": True, **asked}) as response:
        body = (await read(response)).raw
    assert b"upstream_incomplete" in body
    assert not any(word in body for word in (b"[DONE]", b"response.completed", b"message_stop"))


async def test_chat_as_text_and_as_json(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered(THOUGHT))
    client = await claude()
    async with client.get("/chat?q=hi", headers={"Accept": "text/plain"}) as response:
        assert await response.text() == "Hello"
    async with client.get("/chat?q=hi", headers={"Accept": "application/json"}) as response:
        told = await response.json()
    assert (told["choices"][0]["message"]["content"], told["usage"]) == ("Hello", TOLD)


# Ends and failures


@pytest.mark.parametrize("events", range(len(THOUGHT)))
@pytest.mark.parametrize("how", [Close(), Reset()])
async def test_an_answer_that_is_cut(claude: Ask, upstream: ScriptedUpstream, events: int, how: Close | Reset) -> None:
    upstream.script(stream(*THOUGHT[:events], how))
    told = await ask(await claude())
    assert len(told.data("end")) == 1
    if events == len(THOUGHT) - 1:  # the reason has come
        assert told.end["reason"] == "complete"
    else:
        assert (told.end["reason"], told.failure["error"]["code"]) == ("incomplete", "upstream_incomplete")


async def test_a_whole_answer_of_which_no_body_can_be_built_is_an_error(
    claude: Ask, upstream: ScriptedUpstream
) -> None:
    """It was an empty 200. The gateway holds 1,024 calls of an answer."""
    calls = [sends.tool(number, "f", "{}") for number in range(1025)]
    upstream.script(sends.answered(sends.message(*calls, reason="tool_use")))
    async with post(await claude(), HI) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (502, "upstream_error")


async def test_an_error_before_content_is_a_status(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered([sends.start(), sends.error("overloaded_error", "Overloaded")]))
    async with post(await claude(), STREAMED) as response:
        assert response.status == 502
        assert (await response.json())["error"]["message"] == "Overloaded"


async def test_an_error_behind_content_is_the_end(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(sends.answered([*THOUGHT[:-3], sends.error("overloaded_error", "Overloaded"), sends.STOP]))
    client = await claude()
    body = await streamed(client)
    assert (body.error["code"], body.error["message"]) == ("upstream_error", "Overloaded")
    told = await ask(client)
    assert (told.text, told.end["reason"], told.failure["retryable"]) == ("Hello", "upstream_error", True)


@pytest.mark.parametrize(
    ("status", "kind", "words", "expected"),
    [
        (400, "invalid_request_error", "temperature: range", (400, "upstream_rejected", "temperature: range")),
        (401, "authentication_error", "invalid x-api-key", (502, "upstream_misconfigured", "credentials")),
        (429, "rate_limit_error", "Slow down.", (429, "upstream_rate_limited", "Slow down.")),
        (400, "invalid_request_error", "see key-of-anthropic-012345", (400, "upstream_rejected", "see [redacted]")),
        (529, "overloaded_error", "Overloaded", (502, "upstream_error", "status 529")),
    ],
)
async def test_statuses(
    claude: Ask, upstream: ScriptedUpstream, status: int, kind: str, words: str, expected: tuple[int, str, str]
) -> None:
    upstream.script(answer(status, sends.error_body(kind, words)))
    async with post(await claude(), STREAMED) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == expected[:2]
        assert expected[2] in error["message"]


OTHER = """
[[upstreams]]
name = "other"
base_url = "{}/other/v1"
[[models]]
name = "m"
targets = [{{upstream = "claude"}}, {{upstream = "other"}}]
"""


async def test_another_target_of_another_dialect(claude: Ask, upstream: ScriptedUpstream) -> None:
    other = stream(delta("from another"), finish(), DONE)

    def script(request: Any) -> Any:
        return other if "other" in request.path else answer(529, sends.error_body("overloaded_error", "Overloaded"))

    upstream.script(script)
    body = await streamed(await claude(OTHER.format(upstream.url), attempts=3))
    assert b"from another" in body.raw
    paths = [request.path for request in upstream.requests]
    assert paths == ["/v1/messages", "/v1/messages", "/other/v1/chat/completions"]


async def test_what_one_dialect_cannot_say_another_may(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(delta("from another"), finish(), DONE))
    client = await claude(OTHER.format(upstream.url), attempts=3)
    assert b"from another" in (await streamed(client, presence_penalty=1)).raw
    assert [request.path for request in upstream.requests] == ["/other/v1/chat/completions"]


async def test_what_cannot_be_said_is_a_400(claude: Ask, upstream: ScriptedUpstream) -> None:
    async with post(await claude(), {**STREAMED, "n": 2}) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"], error["param"]) == (400, "upstream_cannot", "n")
    assert not upstream.requests


async def test_a_client_that_leaves_ends_the_request(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(*sends.HELLO[:4], Stall()))
    async with post(await claude(), STREAMED) as response:
        await response.content.readuntil(b"Hel")
        response.close()
    await upstream.until(left=1)
    await eventually(lambda: upstream.open_connections == 0)


# Models


LIST = {"data": [{"type": "model", "id": "claude-1", "display_name": "C", "created_at": "2025-01-01T00:00:00Z"}]}
CHATS = ["chat/completions", "responses", "messages"]


async def test_its_models_are_listed(claude: Ask, upstream: ScriptedUpstream) -> None:
    upstream.script(answer(200, LIST))
    async with (await claude()).get("/v1/models") as response:
        (model,) = (await response.json())["data"]
    assert model.pop("created_at")
    assert model == {
        "id": "claude-1",
        "object": "model",
        "created": 0,
        "owned_by": "anthropic",
        "display_name": "C",
        "endpoints": CHATS,
    }
    (request,) = upstream.requests
    assert request.path == "/v1/models?limit=1000"
    assert request.headers["x-api-key"] == "key-of-anthropic-012345"


@pytest.mark.parametrize("mixed", [True, False])
async def test_embeddings_are_for_other_targets(claude: Ask, upstream: ScriptedUpstream, mixed: bool) -> None:
    upstream.script(answer(200, {"data": []}))
    client = await claude(OTHER.format(upstream.url) if mixed else "")
    async with client.post("/v1/embeddings", json={"model": "m", "input": "hi"}) as response:
        if mixed:
            assert response.status == 200, await response.text()
            assert [request.path for request in upstream.requests] == ["/other/v1/embeddings"]
        else:
            assert (response.status, (await response.json())["error"]["code"]) == (400, "endpoint_not_supported")


async def test_check_connect_asks_it(upstream: ScriptedUpstream) -> None:
    config = load(sends.configured(upstream.url), {"OPENAI_MODEL": "claude-1"})
    upstream.script(answer(200, LIST))
    (finding,) = await asyncio.to_thread(probe, config)
    assert str(finding) == "claude: reachable, 1 model"
    upstream.script(answer(404, {"detail": "Not Found"}), sends.answered(sends.HELLO))
    (finding,) = await asyncio.to_thread(probe, config)
    assert str(finding) == "claude: reachable, without a list of models; claude-1 answers"
    assert upstream.requests[-1].json["max_tokens"] == 1
