"""What a request of the Messages API becomes in a chat, and what is refused by its place."""

import json
from typing import Any

import msgspec
import pytest

from gateway.admission.fields import body_fields
from gateway.errors import InvalidRequest
from gateway.messages.request import MessageRequest, message_request

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "weather", "description": "d", "input_schema": SCHEMA}
HI = [{"role": "user", "content": "hi"}]
PIXEL = {"type": "base64", "media_type": "image/png", "data": "AA"}
IMAGE = {"type": "image", "source": PIXEL, "cache_control": {"type": "ephemeral"}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}


def translated(*, takes_thoughts: bool = False, **body: Any) -> MessageRequest:
    fields = {"model": "m", "max_tokens": 7, "messages": HI, **body}
    sent = {name: value for name, value in fields.items() if value is not ...}
    return message_request(body_fields(json.dumps(sent).encode()), takes_thoughts=takes_thoughts)


def chat(**body: Any) -> Any:
    """The fields of the chat request as the model's server gets them."""
    return json.loads(msgspec.json.encode(translated(**body).fields))


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def use(name: str = "c1", input: Any = None) -> dict[str, Any]:
    return {
        "type": "tool_use",
        "id": name,
        "name": "weather",
        "input": input if input is not None else {"city": "Xi'an"},
    }


def result(content: Any = ..., name: str = "c1", **more: Any) -> dict[str, Any]:
    fields = {} if content is ... else {"content": content}
    return {"type": "tool_result", "tool_use_id": name, **fields, **more}


def call(name: str = "c1", arguments: str = '{"city": "Xi\'an"}') -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def tool(content: str, name: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": content}


def reminder(words: str) -> str:
    return f"<system-reminder>\n{words}\n</system-reminder>"


CONVERSATIONS: dict[str, tuple[list[Any], list[Any]]] = {
    # the messages of the request, those of the chat
    "a text": ([("user", "hi")], [("user", "hi")]),
    "a block": ([("user", [text("hi", cache_control={"type": "ephemeral"})])], [("user", "hi")]),
    "texts": ([("user", [text("a"), text("b")])], [("user", "a\n\nb")]),
    "an image": ([("user", [text("see"), IMAGE])], [("user", [text("see"), IMAGE_PART])]),
    "an image by its address": (
        [("user", [{"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}])],
        [("user", [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}])],
    ),
    "turns that follow each other": ([("user", "a"), ("user", [text("b")])], [("user", "a\n\nb")]),
    "a system message on the way": (
        [("user", "a"), ("assistant", "b"), ("user", "c"), ("system", [text("d")])],
        [("user", "a"), ("assistant", "b"), ("user", "c\n\n" + reminder("d"))],
    ),
    "a system message at the end": (
        [("assistant", "b"), ("system", "d")],
        [("assistant", "b"), ("user", reminder("d"))],
    ),
    "an answer in blocks": (
        [("assistant", [{"type": "thinking", "thinking": "hm", "signature": "s"}, text("a"), text("b", citations=[])])],
        [("assistant", "a\n\nb")],
    ),
    "a thought without an answer": (
        [("user", "a"), ("assistant", [{"type": "redacted_thinking", "data": "x"}]), ("user", "b")],
        [("user", "a\n\nb")],
    ),
    "an answer begun for the model": (
        [("user", "a"), ("assistant", "The best")],
        [("user", "a"), ("assistant", "The best")],
    ),
}


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "a"}] * 20_001,
        [{"role": "user", "content": [{"type": "text", "text": "a"}] * 20_000}],
    ],
)
def test_too_many_are_refused(messages: list[Any]) -> None:
    with pytest.raises(InvalidRequest, match="over 20000 messages and blocks"):
        translated(messages=messages)


@pytest.mark.parametrize("case", CONVERSATIONS)
def test_messages(case: str) -> None:
    given, wanted = CONVERSATIONS[case]
    messages = [{"role": role, "content": content} for role, content in given]
    assert chat(messages=messages)["messages"] == [{"role": role, "content": content} for role, content in wanted]


def test_signed_thoughts_go_back_to_the_server_that_signed_them() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    encrypted = {"type": "redacted_thinking", "data": "x"}
    unsigned = {"type": "thinking", "thinking": "of another model", "signature": ""}
    asked = {
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "messages": [
            *HI,
            {"role": "assistant", "content": [thought, encrypted, unsigned, text("a"), use()]},
            {"role": "user", "content": [result("1")]},
            {"role": "assistant", "content": [encrypted]},
            {"role": "assistant", "content": [unsigned]},
        ],
    }
    told = chat(takes_thoughts=True, **asked)
    answered = {"role": "assistant", "content": "a", "tool_calls": [call()]}
    assert told["messages"] == [
        *HI,
        {**answered, "thinking_blocks": [thought, encrypted]},
        tool("1"),
        {"role": "assistant", "content": None, "thinking_blocks": [encrypted]},
    ]
    assert told["thinking"] == asked["thinking"]
    other = chat(**asked)
    assert other["messages"] == [*HI, answered, tool("1")]
    assert "thinking" not in other


@pytest.mark.parametrize("thinking", [{"type": "disabled"}, {"type": "adaptive", "display": "omitted"}])
def test_what_a_server_with_thoughts_of_its_own_shows_is_its_own_choice(thinking: Any) -> None:
    assert translated(takes_thoughts=True, thinking=thinking).shows_thinking
    assert not translated(thinking=thinking).shows_thinking


@pytest.mark.parametrize("takes_thoughts", [True, False])
def test_the_default_effort_is_left_out(takes_thoughts: bool) -> None:
    """Some models refuse the field, and Claude Code sends it always."""
    told = chat(takes_thoughts=takes_thoughts, output_config={"effort": "high"})
    assert not {"output_config", "thinking", "reasoning_effort"} & told.keys()


@pytest.mark.parametrize("effort", ["low", "xhigh", "max"])
def test_an_effort_goes_to_anthropics_server_as_it_is(effort: str) -> None:
    """And asks for no thinking there, which `reasoning_effort` would."""
    schema = {"type": "json_schema", "schema": SCHEMA}
    told = chat(takes_thoughts=True, output_config={"effort": effort, "format": schema})
    assert told["output_config"] == {"effort": effort}
    assert told["response_format"]["json_schema"]["schema"] == SCHEMA
    assert not {"thinking", "reasoning_effort"} & told.keys()


@pytest.mark.parametrize(
    ("system", "prompt"),
    [("be brief", "be brief"), ([text("be"), text("brief", cache_control={"type": "ephemeral"})], "be\n\nbrief")],
)
def test_the_system_prompt_comes_first(system: Any, prompt: str) -> None:
    assert chat(system=system)["messages"] == [{"role": "system", "content": prompt}, *HI]


@pytest.mark.parametrize("system", [..., None, "", []])
def test_no_system_prompt(system: Any) -> None:
    assert chat(system=system)["messages"] == HI


def test_calls_of_tools() -> None:
    answer = [text("I look."), use("c1"), use("c2", {})]
    assert chat(messages=[*HI, {"role": "assistant", "content": answer}])["messages"] == [
        *HI,
        {"role": "assistant", "content": "I look.", "tool_calls": [call("c1"), call("c2", "{}")]},
    ]


def test_the_input_of_a_tool_is_passed_as_it_was_written() -> None:
    body = (
        b'{"max_tokens":1,"messages":[{"role":"assistant","content":'
        b'[{"type":"tool_use","id":"c","name":"f","input":{"a":123456789012345678901234567890, "b":1.0}}]}]}'
    )
    (message,) = json.loads(msgspec.json.encode(message_request(body_fields(body)).fields))["messages"]
    arguments = message["tool_calls"][0]["function"]["arguments"]
    assert (message["content"], arguments) == (None, '{"a":123456789012345678901234567890, "b":1.0}')


RESULTS: dict[str, tuple[list[Any], list[Any]]] = {
    # the blocks of the user, the messages of the chat
    "a text": ([result("21")], [tool("21")]),
    "blocks": ([result([text("a"), text("b")])], [tool("a\n\nb")]),
    "nothing": ([result(), result(None, "c2"), result([], "c3")], [tool(""), tool("", "c2"), tool("", "c3")]),
    "an error": ([result("No such city.", is_error=True)], [tool("Error: No such city.")]),
    "no error": ([result("21", is_error=False)], [tool("21")]),
    "results come before words": (
        [text("So?"), result("21"), result("22", "c2")],
        [tool("21"), tool("22", "c2"), {"role": "user", "content": "So?"}],
    ),
    "an image": (
        [result([text("a map"), IMAGE]), text("So?")],
        [tool("a map"), {"role": "user", "content": [IMAGE_PART, text("So?")]}],
    ),
    "nothing but an image": (
        [result([IMAGE])],
        [tool("The result is an image. It follows."), {"role": "user", "content": [IMAGE_PART]}],
    ),
}


@pytest.mark.parametrize("case", RESULTS)
def test_results_of_tools(case: str) -> None:
    blocks, wanted = RESULTS[case]
    assert chat(messages=[{"role": "user", "content": blocks}])["messages"] == wanted


FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # fields of the request, fields of the chat beside the messages and `max_tokens`
    "nothing": ({}, {}),
    "null is nothing": ({"temperature": None, "tools": None, "thinking": None, "container": None}, {}),
    "sampling": (
        {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop_sequences": ["a", "b"]},
        {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "stop": ["a", "b"]},
    ),
    "no stop sequences": ({"stop_sequences": []}, {}),
    "a tool": (
        {"tools": [TOOL]},
        {"tools": [{"type": "function", "function": {"name": "weather", "description": "d", "parameters": SCHEMA}}]},
    ),
    "a tool with all fields": (
        {"tools": [{"type": "custom", "name": "f", "input_schema": {}, "strict": True, "cache_control": {}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}, "strict": True}}]},
    ),
    "a choice without tools": ({"tool_choice": {"type": "any"}, "tools": []}, {}),
    "a service tier": ({"service_tier": "standard_only"}, {"service_tier": "default"}),
    "the default of service tiers": ({"service_tier": "auto"}, {}),
    "a user": ({"metadata": {"user_id": "u" * 64}}, {"user": "u" * 64}),
    "a long user": ({"metadata": {"user_id": "u" * 65}}, {}),
    "no user": ({"metadata": {"user_id": None}}, {}),
    "thinking is no parameter of a chat": ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {}),
    "little effort": ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
    "the most effort": ({"output_config": {"effort": "max"}}, {"reasoning_effort": "high"}),
    "the default of efforts": ({"output_config": {"effort": "high"}}, {}),
    "a schema": (
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
            }
        },
    ),
    "what only Anthropic's servers know": (
        {"context_management": {"edits": []}, "inference_geo": "eu", "speed": "fast", "cache_control": {}},
        {},
    ),
    "fields of a chat": ({"seed": 7, "x": [1]}, {"seed": 7, "x": [1]}),
    "fields that the gateway sets": ({"n": 2, "stream_options": {}, "stream": True}, {}),
}


@pytest.mark.parametrize("case", FIELDS)
def test_fields(case: str) -> None:
    given, wanted = FIELDS[case]
    assert chat(**given) == {"messages": HI, "max_tokens": 7, **wanted}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"type": "auto"}, {"tool_choice": "auto"}),
        ({"type": "any"}, {"tool_choice": "required"}),
        ({"type": "none"}, {"tool_choice": "none"}),
        ({"type": "tool", "name": "f"}, {"tool_choice": {"type": "function", "function": {"name": "f"}}}),
        (
            {"type": "auto", "disable_parallel_tool_use": True},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
    ],
)
def test_the_choice_of_a_tool(given: Any, wanted: Any) -> None:
    fields = chat(tools=[TOOL], tool_choice=given)
    assert {name: fields[name] for name in fields if name not in ("messages", "tools", "max_tokens")} == wanted


@pytest.mark.parametrize(
    ("thinking", "shows"),
    [
        (..., True),
        ({"type": "adaptive"}, True),
        ({"type": "enabled", "budget_tokens": 1024}, True),
        ({"type": "disabled"}, False),
        ({"type": "adaptive", "display": "omitted"}, False),
    ],
)
def test_whether_reasoning_is_shown(thinking: Any, shows: bool) -> None:
    assert translated(thinking=thinking).shows_thinking is shows


def test_what_the_gateway_acts_on() -> None:
    request = translated(stream=True, model="large", on_disconnect="drain")
    assert (request.stream, request.model, request.on_disconnect) == (True, "large", "drain")
    assert translated(stream=None).stream is False


def test_a_count_needs_no_bound() -> None:
    fields = body_fields(json.dumps({"messages": HI}).encode())
    assert "max_tokens" not in message_request(fields, is_asked=False).fields


def block(value: Any, role: str = "user") -> dict[str, Any]:
    return {"messages": [*HI, {"role": role, "content": [text("a"), value]}]}


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    # the request, the place, a part of the message
    "no bound": ({"max_tokens": ...}, "max_tokens", "required"),
    "a bound of 0": ({"max_tokens": 0}, "max_tokens", "at least 1"),
    "a bound that is no number": ({"max_tokens": "7"}, "max_tokens", "Expected"),
    "no messages": ({"messages": ...}, "messages", "no messages"),
    "an empty list": ({"messages": []}, "messages", "no messages"),
    "messages that are no list": ({"messages": "hi"}, "messages", "Expected"),
    "an unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "role"),
    "a message without content": ({"messages": [{"role": "user"}]}, "messages[0]", "content"),
    "a content that is a number": ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content", "Expected"),
    "a block without a type": (block({"text": "x"}), "messages[1].content[1]", "type"),
    "a text without a text": (block({"type": "text"}), "messages[1].content[1].text", "missing"),
    "a text that is a number": (block({"type": "text", "text": 7}), "messages[1].content[1].text", "Expected"),
    "a document": (
        block({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}}),
        "messages[1].content[1]",
        "`document`",
    ),
    "a search result": (
        block({"type": "search_result", "source": "x", "title": "y", "content": []}),
        "messages[1].content[1]",
        "`search_result`",
    ),
    "an upload": (block({"type": "container_upload", "file_id": "f"}), "messages[1].content[1]", "`container_upload`"),
    "a file": (
        block({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        "messages[1].content[1].source",
        "`file`",
    ),
    "an image without data": (
        block({"type": "image", "source": {"type": "base64", "media_type": "image/png"}}),
        "messages[1].content[1].source.data",
        "missing",
    ),
    "an image of the model": (block(IMAGE, "assistant"), "messages[1].content[1]", "`image`"),
    "an image of the system": (block(IMAGE, "system"), "messages[1].content[1]", "`image`"),
    "a tool of Anthropic's servers": (
        block({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, "assistant"),
        "messages[1].content[1]",
        "`server_tool_use`",
    ),
    "what such a tool found": (
        block({"type": "web_search_tool_result", "tool_use_id": "s", "content": {"type": "e"}}, "assistant"),
        "messages[1].content[1]",
        "`web_search_tool_result`",
    ),
    "a call of the user": (block(use()), "messages[1].content[1]", "`tool_use`"),
    "a call without an id": (
        block({"type": "tool_use", "name": "f", "input": {}}, "assistant"),
        "messages[1].content[1].id",
        "missing",
    ),
    "an input that is no object": (block(use(input=[1]), "assistant"), "messages[1].content[1].input", "object"),
    "a result without a call": (block({"type": "tool_result"}), "messages[1].content[1].tool_use_id", "missing"),
    "a document in a result": (
        block(result([text("a"), {"type": "document"}])),
        "messages[1].content[1].content[1]",
        "`document`",
    ),
    "a number in a result": (block(result(7)), "messages[1].content[1].content", "Expected"),
    "a block of the system prompt": ({"system": [text("a"), IMAGE]}, "system[1]", "`image`"),
    "a server tool": (
        {"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]},
        "tools[1]",
        "`web_search_20250305`",
    ),
    "a tool without a schema": ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "object"),
    "a tool without a name": ({"tools": [{"input_schema": {}}]}, "tools[0].name", "missing"),
    "an image without a source": (block({"type": "image"}), "messages[1].content[1].source", "missing"),
    "an image in a result, without a source": (
        block(result([{"type": "image"}])),
        "messages[1].content[1].content[0].source",
        "missing",
    ),
    "a choice of none of the types": ({"tools": [TOOL], "tool_choice": {"type": "x"}}, "tool_choice.type", "`any`"),
    "a choice without a name": ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice.name", "missing"),
    "a container": ({"container": "c"}, "container", "Anthropic"),
    "MCP servers": ({"mcp_servers": []}, "mcp_servers", "Anthropic"),
    "another format": ({"output_config": {"format": {"type": "x"}}}, "output_config.format.type", "`x`"),
    "a format without a schema": (
        {"output_config": {"format": {"type": "json_schema"}}},
        "output_config.format.schema",
        "object",
    ),
    "a model that is a number": ({"model": 7}, "model", "wrong form"),
    "stop sequences that are a text": ({"stop_sequences": "x"}, "stop_sequences", "Expected"),
    "one that is a number": ({"stop_sequences": ["a", 7]}, "stop_sequences[1]", "Expected"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_translated_is_named_by_its_place(case: str) -> None:
    body, place, words = REFUSED[case]
    with pytest.raises(InvalidRequest) as raised:
        translated(**body)
    assert raised.value.status == 400
    assert raised.value.param == place
    assert words in raised.value.message


def test_a_schema_that_is_nested_too_deeply_is_passed_on() -> None:
    """The gateway does not read it."""
    deep: Any = {}
    for _ in range(400):
        deep = {"a": deep}
    assert chat(tools=[{"name": "f", "input_schema": deep}])["tools"][0]["function"]["parameters"] == deep
