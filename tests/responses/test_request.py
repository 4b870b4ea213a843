"""What a Responses request becomes in a chat, and what is refused by name."""

import json
from typing import Any

import msgspec
import pytest

from gateway.admission.fields import body_fields
from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.responses.request import ResponseRequest, references_in, response_request

NAMED = {"type": "function", "name": "f"}
FUNCTION = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}


def translated(**body: Any) -> ResponseRequest:
    fields = body_fields(json.dumps({"input": "hi", **body}).encode())
    assert all(isinstance(name, str) for name in references_in(fields))
    return response_request(fields, {})


def chat(**body: Any) -> Any:
    """The fields of the chat request as the model's server gets them."""
    return json.loads(msgspec.json.encode(translated(**body).fields))


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ("hi", [{"role": "user", "content": "hi"}]),
        ([{"role": "user", "content": "hi"}], [{"role": "user", "content": "hi"}]),
        ([{"type": "message", "role": "developer", "content": "d"}], [{"role": "system", "content": "d"}]),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            [{"role": "user", "content": "hi"}],
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "see"},
                        {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
                        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
                    ],
                }
            ],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "see"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
                        {
                            "type": "file",
                            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"},
                        },
                    ],
                }
            ],
        ),
        (
            [
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
                {"type": "reasoning", "id": "rs", "summary": []},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
                {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "1"},
                {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
            ],
            [
                {
                    "role": "assistant",
                    "content": "I look.",
                    "tool_calls": [
                        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                        {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "1"},
                {"role": "tool", "tool_call_id": "c2", "content": "2"},
            ],
        ),
        (
            [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}],
            [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                }
            ],
        ),
        (
            [{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
            [{"role": "assistant", "content": "", "refusal": "no"}],
        ),
    ],
)
def test_input(given: object, messages: object) -> None:
    assert translated(input=given).conversation.messages == messages


def test_reasoning_is_left_out_and_counted() -> None:
    items = [{"role": "user", "content": "a"}, {"type": "reasoning", "summary": []}]
    assert translated(input=items).conversation.left_out == 1


def test_a_text_behind_calls_comes_before_their_results() -> None:
    """As servers want it: results are right behind the message with the calls."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "1"}
    messages = translated(input=[call, {"role": "assistant", "content": "I ask."}, output]).conversation.messages
    assert [message["role"] for message in messages] == ["assistant", "tool"]
    assert messages[0]["content"] == "I ask."


def test_images_of_results_are_shown_behind_all_results() -> None:
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA"}
    outputs = [
        {"type": "function_call_output", "call_id": "c", "output": [image]},
        {"type": "function_call_output", "call_id": "d", "output": [{"type": "input_text", "text": "2"}, image]},
    ]
    *results, shown = translated(input=outputs).conversation.messages
    assert [result["content"] for result in results] == ["The result is an image. It follows.", "2"]
    assert shown == {"role": "user", "content": [{"type": "image_url", "image_url": {"url": image["image_url"]}}] * 2}


@pytest.mark.parametrize(
    "items",
    [
        [{"role": "user", "content": "a"}] * 20_001,
        [{"role": "user", "content": [{"type": "input_text", "text": "a"}] * 20_000}],
    ],
)
def test_too_many_are_refused(items: list[Any]) -> None:
    with pytest.raises(InvalidRequest, match="over 20000 items and parts"):
        translated(input=items)


def test_what_a_response_repeats_is_bounded() -> None:
    with pytest.raises(BodyTooLarge):
        translated(instructions="a" * 2_097_152)


def test_null_is_as_if_it_was_not_sent() -> None:
    shown = translated(tools=None, metadata=None, store=None, parallel_tool_calls=None).shown
    assert [bytes(shown[name]) for name in ("tools", "metadata", "store")] == [b"[]", b"{}", b"true"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        (
            {"temperature": 0.5, "top_p": 1, "user": "u", "top_k": 5},
            {"temperature": 0.5, "top_p": 1, "user": "u", "top_k": 5},
        ),
        ({"max_output_tokens": 9}, {"max_tokens": 9}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
                }
            },
        ),
        (
            {"tools": [{**FUNCTION, "strict": False}], "tool_choice": "auto", "parallel_tool_calls": False},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
                    }
                ],
                "tool_choice": "auto",
                "parallel_tool_calls": False,
            },
        ),
        (
            {
                "tools": [{"type": "function", "name": "f", "strict": True}],
                "tool_choice": {"type": "function", "name": "f"},
            },
            {
                "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
            },
        ),
        ({"tool_choice": "auto", "parallel_tool_calls": True, "tools": []}, {}),
        ({"metadata": {"a": "b"}, "store": True, "include": [], "prompt_cache_key": "k", "stream": True}, {}),
        ({"temperature": None, "truncation": "disabled", "conversation": None}, {}),
    ],
)
def test_parameters(given: dict[str, Any], expected: object) -> None:
    assert chat(**given) == expected


def test_functions_of_a_namespace_are_qualified_by_it() -> None:
    tools = [NAMED, {"type": "namespace", "name": "files", "tools": [{"type": "function", "name": "read"}]}]
    call = {"type": "function_call", "namespace": "files", "call_id": "c", "name": "read", "arguments": "{}"}
    asked = translated(tools=tools, input=[call])
    assert [tool["function"]["name"] for tool in asked.fields["tools"]] == ["f", "files__read"]
    assert asked.qualified == {"files__read": ("files", "read")}
    assert asked.conversation.messages[0]["tool_calls"][0]["function"]["name"] == "files__read"


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{}]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "msg"}]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": 5}]}, "input[0]"),
        ({"input": [{"type": ["item_reference"], "id": "msg"}]}, "input[0]"),
        ({"input": [{"type": "web_search_call"}]}, "input[0]"),
        ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]},
            "input[0].content[0].file_url",
        ),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": 5}]}, "input[0].output"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image"}]}]},
            "input[0].output[0].image_url",
        ),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": [FUNCTION, {"type": "mcp"}]}, "tools[1]"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [NAMED, NAMED]}, "tools[1].name"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format"),
        ({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom"}]}]}, "tools[0].tools[0]"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"text": 5}, "text"),
        ({"truncation": "auto"}, "truncation"),
        ({"conversation": "c"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"background": True, "store": False}, "store"),
        ({"max_output_tokens": "9"}, "max_output_tokens"),
    ],
)
def test_what_a_chat_cannot_express_is_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        translated(**given)
    assert raised.value.param == param


@pytest.mark.parametrize("field", ['"content":[1e999]', '"content":"a","x":{"y":[1e999]}', '"output":[{"a":-1e999}]'])
def test_a_number_that_is_no_double_is_refused(field: str) -> None:
    body = f'{{"input":[{{"role":"user","content":"a"}},{{"role":"user",{field}}}]}}'
    with pytest.raises(InvalidRequest) as raised:
        response_request(body_fields(body.encode()), {})
    assert raised.value.param == "input[1]"
