"""Answers in the shapes that servers were seen to send, over real sockets and on both surfaces."""

import json
from typing import Any

import pytest

from tests.conftest import Client, MakeGateway
from tests.rig.clients import Answer, ask
from tests.rig.clients import post as post_chat
from tests.rig.completions import STREAMED, Body, post, read
from tests.rig.scripted_upstream import DONE, Close, Reset, ScriptedUpstream, Stall, Step, answer, chunk, event, stream

IDLE = "[timeouts]\nidle = 0.2\n"
ENDS: dict[str, tuple[list[Step], str, str]] = {
    # how the connection ends, the end reason, the code of the failure
    "a reset": ([Reset()], "incomplete", "upstream_incomplete"),
    "an end of the connection": ([Close()], "incomplete", "upstream_incomplete"),
    "a clean end": ([], "incomplete", "upstream_incomplete"),
    "silence": ([Stall()], "timeout", "idle_timeout"),
}


async def relayed(client: Client, **fields: object) -> Body:
    async with post(client, {**STREAMED, **fields}) as response:
        assert response.status == 200, await response.text()
        return await read(response)


async def whole(client: Client) -> dict[str, Any]:
    """The answer of `POST /chat` as one JSON object."""
    async with await post_chat(client, {"question": "hi"}, Accept="application/json") as response:
        assert response.status == 200, await response.text()
        value: dict[str, Any] = await response.json()
        return value


def deltas(body: Body) -> list[dict[str, Any]]:
    assert body.blocks[-1] == b"data: [DONE]"
    chunks = [json.loads(block.removeprefix(b"data: ")) for block in body.blocks[:-1]]
    return [choice["delta"] for value in chunks for choice in value["choices"]]


def one(finish_reason: str | None = None, /, index: object = 0, **delta: object) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return event({"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": [choice]})


# Completeness

TOOL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":'}}
MORE = {"index": 0, "function": {"arguments": "1"}}
TAKEN_BACK: dict[str, Any] = {
    "text": (one("stop", content=""), one(content="The first half ")),
    "reasoning": (one("stop", content="a"), one(reasoning_content="The first half ")),
    "a refusal": (one("stop", content=""), one(refusal="The first half ")),
    "tool calls": (one("tool_calls", tool_calls=[TOOL]), one(tool_calls=[MORE])),
    "a function call": (one("function_call", content=""), one(function_call={"name": "f", "arguments": "{"})),
    "audio": (one("stop", content="a"), one(audio={"data": "AA=="})),
    "text in parts": (one("stop", content=""), one(content=[{"type": "text", "text": "The first half "}])),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("case", TAKEN_BACK)
async def test_content_after_a_finish_takes_the_finish_back(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str, end: str
) -> None:
    """The answer is incomplete on both surfaces, and `[DONE]` is not made up."""
    steps, reason, code = ENDS[end]
    upstream.script(stream(*TAKEN_BACK[case], *steps))
    client = await gateway(IDLE)
    answered = await ask(client)
    assert (answered.end["reason"], answered.failure["error"]["code"]) == (reason, code)
    assert answered.end["finish_reason"] is None
    body = await relayed(client)
    assert body.error["code"] == code
    assert b"[DONE]" not in body.raw


EARLY: dict[str, Any] = {
    "with every chunk": (one("stop", content="The first "), one("stop", content="half ")),
    "with every thought": (one("stop", reasoning_content="hm"), one("stop", content="The first half ")),
    "twice": (one(content="The first "), one("stop"), one(content="half "), one("stop")),
    "with every call": (one("tool_calls", tool_calls=[TOOL]), one("tool_calls", tool_calls=[MORE])),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("case", EARLY)
async def test_reasons_that_come_before_the_end_are_no_ends(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str, end: str
) -> None:
    """From a server that has gone on after one, only `[DONE]` is an end."""
    steps, reason, code = ENDS[end]
    upstream.script(stream(*EARLY[case], *steps))
    client = await gateway(IDLE)
    answered = await ask(client)
    assert (answered.end["reason"], answered.failure["error"]["code"]) == (reason, code)
    body = await relayed(client)
    assert b"[DONE]" not in body.raw
    upstream.script(stream(*EARLY[case], DONE))
    assert (await ask(client)).end["reason"] == "complete"
    assert (await relayed(client)).blocks[-1] == b"data: [DONE]"


KEPT: dict[str, Any] = {
    "usage alone": event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
    "a role": one(role="assistant", content=""),
    "an empty delta": one(),
    "the finish once more": one("stop"),
    "a tail of a tool call that says nothing": one(
        tool_calls=[{"index": 0, "id": "", "type": "function", "function": {"arguments": None}}]
    ),
    "annotations": one(annotations=[{"type": "url_citation"}]),
    "a comment": b": done\n\n",
}


@pytest.mark.parametrize("case", KEPT)
async def test_a_finish_stands_where_no_content_follows(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    upstream.script(stream(one(content="Hello"), one("stop"), KEPT[case], Reset()))
    client = await gateway()
    answered = await ask(client)
    assert (answered.text, answered.end["reason"], answered.end["finish_reason"]) == ("Hello", "complete", "stop")
    assert (await relayed(client)).blocks[-1] == b"data: [DONE]"


@pytest.mark.parametrize("reason", ["null", "", "NULL", "None"])
async def test_a_finish_reason_that_says_nothing_is_none(
    gateway: MakeGateway, upstream: ScriptedUpstream, reason: str
) -> None:
    """It ends nothing, and on the OpenAI surface it is null."""
    upstream.script(stream(one(reason, content="Hello "), Reset()))
    client = await gateway()
    answered = await ask(client)
    assert (answered.end["reason"], answered.end["finish_reason"]) == ("incomplete", None)
    assert (await relayed(client)).error["code"] == "upstream_incomplete"
    upstream.script(stream(one(reason, content="Hel"), one(reason, content="lo"), one("stop"), DONE))
    answered = await ask(client)
    assert (answered.text, answered.end["finish_reason"]) == ("Hello", "stop")
    body = await relayed(client)
    reasons = [json.loads(block[6:])["choices"][0]["finish_reason"] for block in body.blocks[:-1]]
    assert reasons == [None, None, "stop"]


async def test_a_finish_reason_that_says_nothing_is_null_in_a_whole_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """The rest of the body keeps its bytes, where one JSON body was asked for and where a stream was."""
    body = b'{"id":"c", "x":1.0,"choices":[{"index":0,"message":{"content":"a"},"finish_reason":""}]}'
    upstream.script(answer(200, body))
    client = await gateway()
    async with post(client, {**STREAMED, "stream": False}) as response:
        value = json.loads(await response.read())
    assert (value["x"], value["choices"][0]["finish_reason"]) == (1.0, None)
    assert json.loads((await relayed(client)).blocks[0][6:])["choices"][0]["finish_reason"] == "stop"


GAVE_UP = ["abort", "error", "insufficient_system_resource", "cancelled", "ABORT", "network_error"]


@pytest.mark.parametrize("reason", GAVE_UP)
async def test_a_reason_that_means_given_up_is_a_failure(
    gateway: MakeGateway, upstream: ScriptedUpstream, reason: str
) -> None:
    """`[DONE]` behind it changes nothing."""
    upstream.script(stream(one(content="The first half "), one(reason), DONE))
    client = await gateway()
    answered = await ask(client)
    assert (answered.text, answered.end["reason"]) == ("The first half ", "upstream_error")
    assert answered.end["finish_reason"] == reason
    assert answered.failure["retryable"]
    body = await relayed(client)
    assert body.error["code"] == "upstream_error"
    assert b"[DONE]" not in body.raw


@pytest.mark.parametrize("reason", GAVE_UP)
async def test_a_whole_answer_that_was_given_up_is_an_error(
    gateway: MakeGateway, upstream: ScriptedUpstream, reason: str
) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "The first half "}, "finish_reason": reason}
    upstream.script(answer(200, {"id": "c", "choices": [choice]}))
    client = await gateway()
    assert (await ask(client)).end["reason"] == "upstream_error"
    async with post(client, {**STREAMED, "stream": False}) as response:
        assert response.status == 502


def of_router(finish_reason: str | None, **fields: object) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": ""}, "finish_reason": finish_reason, **fields}


ROUTED: dict[str, Any] = {
    # the last choice; the code and the words of the failure
    "a reason of its upstream": (of_router("stop", native_finish_reason="network_error"), "upstream_error", "network"),
    "an error": (of_router(None, error={"code": 502, "message": "Its host died."}), "upstream_error", "Its host died."),
    "an error behind a reason": (of_router("stop", error={"code": 502, "message": "Died."}), "upstream_error", "Died."),
    "a limit": (of_router("error", error={"code": 429, "message": "Slow."}), "upstream_rate_limited", "Slow."),
}


@pytest.mark.parametrize("case", ROUTED)
async def test_a_failure_that_a_router_puts_into_a_choice(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """OpenRouter's form, as a stream and as one body. `[DONE]` behind it changes nothing."""
    last, code, words = ROUTED[case]
    upstream.script(stream(one(content="The first half "), event({"id": "c", "choices": [last]}), DONE))
    client = await gateway("[retry]\nattempts = 1\n")
    answered = await ask(client)
    assert (answered.text, answered.failure["error"]["code"]) == ("The first half ", code)
    assert words in answered.failure["error"]["message"]
    body = await relayed(client)
    assert body.error["code"] == code
    assert b"[DONE]" not in body.raw
    message = {"role": "assistant", "content": "The first half "}
    upstream.script(answer(200, {"id": "c", "choices": [{**last, "message": message}]}))
    async with post(client, {**STREAMED, "stream": False}) as response:
        assert (await response.json())["error"]["code"] == code


async def test_reasons_of_a_router_that_are_ends(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    last = of_router("stop", native_finish_reason="end_turn", error=None)
    upstream.script(stream(one(content="a"), event({"id": "c", "choices": [last]})))
    assert (await ask(await gateway())).end["finish_reason"] == "stop"


@pytest.mark.parametrize("reason", ["length", "content_filter", "tool_calls", "sunset"])
async def test_other_reasons_are_ends(gateway: MakeGateway, upstream: ScriptedUpstream, reason: str) -> None:
    upstream.script(stream(one(content="a"), one(reason)))
    assert (await ask(await gateway())).end["finish_reason"] == reason


# Text


async def test_tokens_that_are_numbers_are_text(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Cloudflare's form of a token of digits. On the OpenAI surface, chunks keep their bytes."""
    parts = [one(content=content) for content in ("It costs $", 6, ".", 0.5, True, 0)]
    upstream.script(stream(*parts, one("stop"), DONE))
    client = await gateway()
    answered = await ask(client)
    assert (answered.text, answered.end["reason"]) == ("It costs $6.0.5true0", "complete")
    assert (await whole(client))["choices"][0]["message"]["content"] == "It costs $6.0.5true0"
    assert [delta["content"] for delta in deltas(await relayed(client))[:-1]] == ["It costs $", 6, ".", 0.5, True, 0]
    upstream.script(stream(one(content=4), one("stop"), DONE))
    assert (await ask(client)).text == "4"


# Choices

COUNTED_UP: dict[str, Any] = {
    "counted up": [0, 1, 2, 3],
    "all at one": [1, 1, 1, 1],
    "at one, then at zero": [1, 1, 1, 0],
    "as strings": ["0", "0", "0", "0"],
    "as floats": [0.0, 0.0, 0.0, 0.0],
    "null": [None, None, None, None],
}


@pytest.mark.parametrize("case", COUNTED_UP)
async def test_choices_of_one_answer_are_one_however_they_are_numbered(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """Nothing is dropped, and the finish of any of them is the finish."""
    a, b, c, d = COUNTED_UP[case]
    parts = [one(index=a, content="One "), one(index=b, content="two "), one(index=c, content="three")]
    upstream.script(stream(*parts, one("stop", index=d)))
    client = await gateway()
    answered = await ask(client)
    assert (answered.text, answered.end["reason"]) == ("One two three", "complete")
    assert (await whole(client))["choices"][0]["message"]["content"] == "One two three"
    assert "".join(delta.get("content", "") for delta in deltas(await relayed(client))) == "One two three"


async def test_a_second_answer_that_nobody_asked_for_is_left_out(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """It begins with a role of its own."""
    upstream.script(
        stream(
            one(role="assistant", content=""),
            one(index=1, role="assistant", content=""),
            one(content="a"),
            one(index=1, content="x"),
            one("stop"),
            one("length", index=1),
        )
    )
    answered = await ask(await gateway())
    assert (answered.text, answered.end["finish_reason"]) == ("a", "stop")


async def test_fewer_choices_than_were_asked_for_are_an_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Where the stream ends cleanly; where it breaks, the other choice may have been lost."""
    client = await gateway()
    upstream.script(stream(one(content="a"), one("stop")))
    assert (await relayed(client, n=2)).blocks[-1] == b"data: [DONE]"
    upstream.script(stream(one(content="a"), one("stop"), Reset()))
    assert (await relayed(client, n=2)).error["code"] == "upstream_incomplete"


EMPTY: dict[str, Any] = {
    "a role alone": (stream(one(role="assistant", content=""), DONE), "upstream_empty"),
    "[DONE] alone": (stream(DONE), "upstream_empty"),
    "a thought alone": (stream(one(reasoning_content="hm"), DONE), "upstream_empty"),
    "a body without an answer": (answer(200, {"id": "c", "choices": []}), "upstream_empty"),
    "a message without content": (
        answer(200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": None}}]}),
        "upstream_empty",
    ),
    "nothing": (stream(), "upstream_incomplete"),
    "half a body": (answer(200, b'{"choices":['), "upstream_incomplete"),
}


@pytest.mark.parametrize("case", EMPTY)
async def test_the_surfaces_agree_on_an_empty_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    steps, code = EMPTY[case]
    upstream.script(steps)
    client = await gateway()
    assert (await ask(client)).failure["error"]["code"] == code
    async with await post_chat(client, {"question": "hi"}, Accept="application/json") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (502, code)
    async with post(client, STREAMED) as response:
        found = json.loads(await response.read()) if response.status == 502 else {"error": (await read(response)).error}
    assert found["error"]["code"] == code


# Tool calls

CALLS: dict[str, Any] = {
    "another id": (
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}},
            {"index": 0, "function": {"arguments": "1}"}},
            {"index": 0, "id": "b", "function": {"name": "f", "arguments": '{"x":'}},
            {"index": 0, "function": {"arguments": "2}"}},
        ],
        [("a", "f", '{"x":1}'), ("b", "f", '{"x":2}')],
    ),
    "another name without an id": (
        [{"index": 0, "function": {"name": name, "arguments": "{}"}} for name in ("f", "g")],
        [("", "f", "{}"), ("", "g", "{}")],
    ),
    "the same name, behind whole arguments": (
        [{"index": 0, "function": {"name": "f", "arguments": f'{{"x":{n}}}'}} for n in (1, 2)],
        [("", "f", '{"x":1}'), ("", "f", '{"x":2}')],
    ),
    "the name in every fragment": (
        [{"index": 0, "function": {"name": "f", "arguments": part}} for part in ('{"x":{', '"y":{}}', "}")],
        [("", "f", '{"x":{"y":{}}}')],
    ),
    "the id in every fragment": (
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": part}} for part in ("{", "}")],
        [("a", "f", "{}")],
    ),
    "indexes as strings and floats": (
        [
            {"index": "0", "id": "a", "function": {"name": "f", "arguments": "{"}},
            {"index": 1.0, "id": "b", "function": {"name": "g", "arguments": "{}"}},
            {"index": 0.0, "function": {"arguments": "}"}},
        ],
        [("a", "f", "{}"), ("b", "g", "{}")],
    ),
    "two at zero, then one at one": (
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": "1"}},
            {"index": 0, "id": "b", "function": {"name": "g", "arguments": "2"}},
            {"index": 1, "id": "c", "function": {"name": "h", "arguments": "3"}},
        ],
        [("a", "f", "1"), ("b", "g", "2"), ("c", "h", "3")],
    ),
}


@pytest.mark.parametrize("case", CALLS)
async def test_parallel_tool_calls_stay_apart(gateway: MakeGateway, upstream: ScriptedUpstream, case: str) -> None:
    fragments, expected = CALLS[case]
    upstream.script(stream(*[one(tool_calls=[fragment]) for fragment in fragments], one("tool_calls"), DONE))
    client = await gateway()
    calls = (await whole(client))["choices"][0]["message"]["tool_calls"]
    assert [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls] == expected
    assert [json.loads(data) for data in (await ask(client)).data("tool_call")] == fragments


async def test_one_tool_call_that_is_no_list_is_a_list_of_one(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(one(tool_calls=TOOL), one(tool_calls=MORE | {"function": {"arguments": "1}"}}), DONE))
    client = await gateway()
    (call,) = (await whole(client))["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert len((await ask(client)).data("tool_call")) == 2


# Characters that were cut in two

HIGH, LOW = "\\ud83d", "\\ude00"


def raw(delta: str, reason: str = "null") -> bytes:
    return f'data: {{"choices":[{{"index":0,"delta":{delta},"finish_reason":{reason}}}]}}\n\n'.encode()


FIELDS: dict[str, Any] = {
    "content": ('{"content":"%s"}', "content", "message"),
    "reasoning_content": ('{"reasoning_content":"%s"}', "reasoning_content", "reasoning"),
    "reasoning": ('{"reasoning":"%s"}', "reasoning", "reasoning"),
    "refusal": ('{"refusal":"%s"}', "refusal", "refusal"),
}


@pytest.mark.parametrize("name", FIELDS)
async def test_a_character_in_two_chunks_is_one(gateway: MakeGateway, upstream: ScriptedUpstream, name: str) -> None:
    shape, field, kind = FIELDS[name]
    parts = [f"a{HIGH}", "", f"{LOW}b{HIGH}", "c", HIGH, f"{LOW}{HIGH}", LOW]
    upstream.script(stream(*[raw(shape % part) for part in parts], one(content="."), one("stop"), DONE))
    client = await gateway()
    expected = "a😀b\ufffdc😀😀" + ("." if name == "content" else "")
    assert "".join((await ask(client, reasoning="1")).data(kind)) == expected
    assert "".join(delta.get(field, "") for delta in deltas(await relayed(client))) == expected
    async with await post_chat(client, {"question": "hi", "reasoning": True}, Accept="application/json") as response:
        message = (await response.json())["choices"][0]["message"]
    assert message["reasoning_content" if kind == "reasoning" else field] == expected


async def test_a_character_in_two_fragments_of_tool_arguments_is_one(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Each call has a half of its own."""
    shape = r'{"tool_calls":[{"index":%d,"id":"%s","function":{"name":"f","arguments":"%s"}}]}'
    fragments = [(0, f'\\"a{HIGH}'), (1, f'\\"{HIGH}'), (0, f'{LOW}b\\"'), (1, 'x\\"')]
    upstream.script(stream(*[raw(shape % (n, f"call_{n}", text)) for n, text in fragments], one("tool_calls"), DONE))
    client = await gateway()
    calls = (await whole(client))["choices"][0]["message"]["tool_calls"]
    assert [json.loads(call["function"]["arguments"]) for call in calls] == ["a😀b", "\ufffdx"]
    passed = ["", ""]
    for delta in deltas(await relayed(client)):
        for call in delta.get("tool_calls", []):
            passed[call["index"]] += call["function"]["arguments"]
    assert [json.loads(text) for text in passed] == ["a😀b", "\ufffdx"]


HALF_ENDS: dict[str, Any] = {
    "a finish": [one("stop"), DONE],
    "[DONE]": [DONE],
    "a break": [Reset()],
    "the chunk that finishes": [],
}


@pytest.mark.parametrize("case", HALF_ENDS)
async def test_half_a_character_at_the_end_is_a_replacement(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    reason = "null" if HALF_ENDS[case] else '"stop"'
    upstream.script(stream(raw('{"content":"a"}'), raw(f'{{"content":"b{HIGH}"}}', reason), *HALF_ENDS[case]))
    client = await gateway()
    answered = await ask(client)
    assert answered.text == "ab\ufffd"
    body = await relayed(client)
    chunks = [
        json.loads(block[6:]) for block in body.blocks if block.startswith(b'data: {"') and b'"error"' not in block
    ]
    assert "".join(c["delta"].get("content", "") for value in chunks for c in value["choices"]) == "ab\ufffd"


# Other fields


async def test_a_function_call_is_a_tool_call_on_the_native_surface(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Its asker sent `functions`, and finds the call in the JSON answer by that older name."""
    parts = [{"name": "f", "arguments": '{"a"'}, {"arguments": ":1}"}]
    upstream.script(stream(*[one(function_call=part) for part in parts], one("function_call"), DONE))
    client = await gateway()
    answered = await ask(client)
    fragments = [json.loads(data)["function"] for data in answered.data("tool_call")]
    assert (fragments, answered.end["reason"]) == (parts, "complete")
    message = (await whole(client))["choices"][0]["message"]
    assert message["function_call"] == {"name": "f", "arguments": '{"a":1}'}
    assert [delta.get("function_call") for delta in deltas(await relayed(client))][:2] == parts


EXTRAS: dict[str, Any] = {
    "audio": (
        [
            {"audio": {"id": "a1", "data": "AA"}},
            {"audio": {"data": "BB", "transcript": "Hel"}},
            {"audio": {"transcript": "lo"}},
        ],
        {"audio": {"id": "a1", "data": "AABB", "transcript": "Hello"}},
    ),
    "images": (
        [{"images": [{"type": "image_url", "image_url": {"url": "data:,a"}}]}, {"images": [{"type": "image_url"}]}],
        {"images": [{"type": "image_url", "image_url": {"url": "data:,a"}}, {"type": "image_url"}]},
    ),
    "a picture among the parts of the content": (
        [{"content": [{"type": "text", "text": "See "}, {"type": "image_url", "image_url": {"url": "x"}}]}],
        {"content": [{"type": "text", "text": "See "}, {"type": "image_url", "image_url": {"url": "x"}}]},
    ),
    "a field that nobody knows": ([{"verdict": "yes"}, {"verdict": " and no"}], {"verdict": "yes and no"}),
}


@pytest.mark.parametrize("case", EXTRAS)
async def test_other_fields_of_a_delta_are_an_answer(
    gateway: MakeGateway, upstream: ScriptedUpstream, case: str
) -> None:
    """They are events of type `extra`, and fields of the message in the JSON answer."""
    parts, message = EXTRAS[case]
    upstream.script(stream(*[one(**part) for part in parts], DONE))
    client = await gateway()
    answered = await ask(client)
    assert answered.end["reason"] == "complete"
    found = [json.loads(data) for data in answered.data("extra")]
    assert [set(fields) for fields in found] == [set(part) for part in parts]
    assert (await whole(client))["choices"][0]["message"].items() >= message.items()
    assert [delta for delta in deltas(await relayed(client)) if delta] == parts


async def test_other_fields_of_a_whole_answer_are_kept(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "audio": {"id": "a1", "data": "AA=="},
        "annotations": [{"x": 1}],
    }
    upstream.script(answer(200, {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
    client = await gateway()
    assert json.loads(*(await ask(client)).data("extra")) == {k: message[k] for k in ("audio", "annotations")}
    assert (await whole(client))["choices"][0]["message"].items() >= {"audio": message["audio"]}.items()


async def test_details_of_reasoning_are_shown_with_the_reasoning(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """And only where it was asked for, in the JSON answer too."""
    details = [{"type": "reasoning.text", "text": "hm"}]
    upstream.script(stream(one(reasoning="hm", reasoning_details=details), one(content="a"), one("stop"), DONE))
    client = await gateway()
    assert (await ask(client)).data("extra") == []
    shown: Answer = await ask(client, reasoning="1")
    assert [json.loads(data) for data in shown.data("extra")] == [{"reasoning_details": details}]
    assert "reasoning_details" not in (await whole(client))["choices"][0]["message"]
    async with await post_chat(client, {"question": "hi", "reasoning": True}, Accept="application/json") as response:
        assert (await response.json())["choices"][0]["message"]["reasoning_details"] == details


async def test_content_as_a_list_of_strings_is_its_text(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    upstream.script(stream(one(content=["Hel", "lo"]), one(content=[{"type": "output_text", "text": "!"}]), DONE))
    client = await gateway()
    answered = await ask(client)
    assert (answered.text, answered.data("extra")) == ("Hello!", [])
    assert (await whole(client))["choices"][0]["message"]["content"] == "Hello!"


# Usage


@pytest.mark.parametrize("zeros", [{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, {}])
async def test_a_usage_of_zeros_does_not_take_a_count_back(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]], zeros: dict[str, int]
) -> None:
    real = {"prompt_tokens": 12.0, "completion_tokens": 5.0, "total_tokens": 17.0}
    counts = [event({**chunk(), "choices": [], "usage": value}) for value in (real, zeros)]
    upstream.script(stream(one(content="a"), one("stop"), *counts, DONE))
    client = await gateway()
    assert (await ask(client)).end["usage"] == real
    await relayed(client)
    for line in lines:
        assert (line["stream"]["input_tokens"], line["stream"]["output_tokens"]) == (12, 5)
        assert "tokens_estimated" not in line["stream"]


async def test_reasoning_apart_from_the_completion_is_output(
    gateway: MakeGateway, upstream: ScriptedUpstream, lines: list[dict[str, Any]]
) -> None:
    """In the log, in the cost, and in what the limits count, on both surfaces."""
    told = {"prompt_tokens": 10_120, "completion_tokens": 1_499, "total_tokens": 14_428, "reasoning_tokens": 2_809}
    upstream.script(stream(one(content="a"), one("stop"), event({"choices": [], "usage": told}), DONE))
    prices = '[[models]]\nname = "m"\ntargets = [{upstream = "up"}]\nprices = {input = 0, output = 1_000_000}\n'
    client = await gateway(prices)
    await ask(client, model="m")
    await relayed(client)
    for line in lines:
        assert (line["stream"]["output_tokens"], line["stream"]["reasoning_tokens"]) == (4_308, 2_809)
        assert line["stream"]["cost"] == 4_308


async def test_events_without_data_are_not_skipped_events(gateway: MakeGateway, upstream: ScriptedUpstream) -> None:
    """Some servers keep a connection open with them."""
    upstream.script(stream(b"data:\n\n", one(content="a"), b"data: \n\n", b"data:  \n\n", one("stop"), DONE))
    client = await gateway()
    assert "skipped" not in (await ask(client)).end
    assert len(deltas(await relayed(client))) == 2
