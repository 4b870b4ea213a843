"""What becomes of a chat request for Anthropic's server: a table of fields, and one of messages."""

import json
from typing import Any

import pytest

from gateway.config import Thinking
from gateway.errors import Recovery, UpstreamCannot
from gateway.upstream.dialects.anthropic.request import messages_body

HI = {"role": "user", "content": "hi"}
HI_TOLD = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
USE = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": "42"}
SCHEMA = {"type": "object", "properties": {}}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def sent(
    fields: dict[str, Any], messages: object = None, *, model: str = "m", thinking: Thinking | None = None
) -> dict[str, Any]:
    body = {"model": model, "messages": [HI] if messages is None else messages, **fields}
    told: dict[str, Any] = json.loads(messages_body(json.dumps(body).encode(), max_tokens=100, thinking=thinking))
    assert told.pop("model") == model
    assert told.pop("stream") is True
    return told


# What the fields become, beside `messages` and a `max_tokens` of 100.
FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "a bound": ({"max_tokens": 7}, {"max_tokens": 7}),
    "the newer bound": ({"max_tokens": 7, "max_completion_tokens": 8}, {"max_tokens": 8}),
    "numbers pass": ({"temperature": 0.1, "top_p": 1, "top_k": 3}, {"temperature": 0.1, "top_p": 1, "top_k": 3}),
    "one stop": ({"stop": "x"}, {"stop_sequences": ["x"]}),
    "two stops": ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
    "null is nothing": ({"stop": None, "n": None, "tools": None, "logprobs": None}, {}),
    "defaults ask for nothing": (
        {"n": 1, "logprobs": False, "presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}},
        {},
    ),
    "left out": ({"stream_options": {"include_usage": True}, "seed": 1, "store": True, "metadata": {"a": "b"}}, {}),
    "a user": ({"user": "u"}, {"metadata": {"user_id": "u"}}),
    "a newer user": ({"user": "u", "safety_identifier": "s"}, {"metadata": {"user_id": "s"}}),
    "a tier": ({"service_tier": "default"}, {"service_tier": "standard_only"}),
    "another tier": ({"service_tier": "flex"}, {}),
    "tools": ({"tools": [FUNCTION]}, {"tools": [TOOL]}),
    "a tool without parameters": (
        {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
        {"tools": [{"name": "f", "input_schema": SCHEMA, "strict": True}]},
    ),
    "a choice without tools": ({"tool_choice": "auto", "tools": [], "parallel_tool_calls": False}, {}),
    "auto": ({"tools": [FUNCTION], "tool_choice": "auto"}, {"tools": [TOOL], "tool_choice": {"type": "auto"}}),
    "required": ({"tools": [FUNCTION], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": {"type": "any"}}),
    "none": (
        {"tools": [FUNCTION], "tool_choice": "none", "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "none"}},
    ),
    "one tool": (
        {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}},
    ),
    "one call at a time": (
        {"tools": [FUNCTION], "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    "a format of text": ({"response_format": {"type": "text"}}, {}),
    "a schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    "low effort": (
        {"reasoning_effort": "low"},
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 2148},
    ),
    "high effort within a bound": (
        {"reasoning_effort": "high", "max_tokens": 4000},
        {"thinking": {"type": "enabled", "budget_tokens": 2976}, "max_tokens": 4000},
    ),
    "no room for an effort": ({"reasoning_effort": "high", "max_tokens": 2000}, {"max_tokens": 2000}),
    "no effort": ({"reasoning_effort": "none"}, {}),
    "an effort with a forced tool": (
        {"reasoning_effort": "low", "tools": [FUNCTION], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
    ),
    "an effort with a temperature": ({"reasoning_effort": "low", "temperature": 0.5}, {"temperature": 0.5}),
    "an effort with the default temperature": (
        {"reasoning_effort": "low", "temperature": 1.0},
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 2148, "temperature": 1.0},
    ),
    "an effort with few tokens to choose from": (
        {"reasoning_effort": "low", "top_p": 0.94},
        {"top_p": 0.94},
    ),
    "an effort with nearly all tokens to choose from": (
        {"reasoning_effort": "low", "top_p": 0.95},
        {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 2148, "top_p": 0.95},
    ),
    "an effort with a number of tokens to choose from": ({"reasoning_effort": "low", "top_k": 5}, {"top_k": 5}),
    "thinking of its own": (
        {"reasoning_effort": "low", "thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
    ),
}


@pytest.mark.parametrize("case", FIELDS)
def test_fields(case: str) -> None:
    fields, expected = FIELDS[case]
    assert sent(fields) == {"messages": [HI_TOLD], "max_tokens": 100} | expected


# Thinking

OLDER = [
    "m",
    "qwen3",
    "claude-3-7-sonnet-20250219",
    "claude-3.5-haiku",
    "claude-3-5-sonnet-latest",
    "claude-4-sonnet",
    "claude-opus-4-20250514",
    "claude-opus-4-0",
    "claude-sonnet-4@20250514",
    "anthropic/claude-sonnet-4.5",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "claude-sonnet-4-5@20250929",
    "claude-haiku-4-5",
    "claude-opus-4-6",
    "Claude-Opus-4.6",
    "claude-sonnet-4-6[1m]",
]
NEWER = [
    "claude-opus-4-7",
    "claude-opus-4-8[1m]",
    "anthropic/claude-opus-4.8",
    "global.anthropic.claude-opus-4-7-v1:0",
    "claude-sonnet-4-10",
    "claude-sonnet-5",
    "claude-sonnet-5-20260301",
    "claude-fable-5",
    "claude-mythos-5",
    "claude-opus-5@20260401",
    "claude-opus-latest",
    "claude-next",
]
BUDGET = {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 2148}
ADAPTIVE = {"type": "adaptive", "display": "summarized"}


@pytest.mark.parametrize("model", OLDER)
def test_models_up_to_46_and_those_of_other_makers_get_a_budget(model: str) -> None:
    told = sent({"reasoning_effort": "low"}, model=model)
    assert told == {"messages": [HI_TOLD], **BUDGET}
    assert sent({"reasoning_effort": "low"}, model=model, thinking=Thinking.BUDGET) == told


@pytest.mark.parametrize("model", NEWER)
def test_newer_models_get_an_effort_and_no_budget(model: str) -> None:
    told = sent({"reasoning_effort": "low"}, model=model)
    assert told == {
        "messages": [HI_TOLD],
        "thinking": ADAPTIVE,
        "output_config": {"effort": "low"},
        "max_tokens": 100,
    }
    assert sent({"reasoning_effort": "low"}, model=model, thinking=Thinking.ADAPTIVE) == told


def test_the_option_of_the_upstream_outranks_the_name() -> None:
    for model, way in ((NEWER[0], Thinking.BUDGET), (OLDER[0], Thinking.ADAPTIVE)):
        told = sent({"reasoning_effort": "low"}, model=model, thinking=way)
        assert ("output_config" in told) == (way is Thinking.ADAPTIVE)
        assert told["thinking"]["type"] == ("adaptive" if way is Thinking.ADAPTIVE else "enabled")


@pytest.mark.parametrize(
    ("asked", "effort"),
    [
        ("minimal", "low"),
        ("low", "low"),
        ("medium", "medium"),
        ("high", "high"),
        ("xhigh", "xhigh"),
        ("max", "max"),
        ("none", None),
        ("enormous", None),
    ],
)
def test_the_efforts_of_newer_models(asked: str, effort: str | None) -> None:
    told = sent({"reasoning_effort": asked, "max_tokens": 7}, model=NEWER[0])
    thinking = {} if effort is None else {"thinking": ADAPTIVE, "output_config": {"effort": effort}}
    assert told == {"messages": [HI_TOLD], "max_tokens": 7, **thinking}


# What is sent for a low effort, beside `messages`, `max_tokens` and the fields of the request themselves.
EFFORTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a temperature": (
        {"temperature": 0.5, "top_k": 5},
        {"temperature": 0.5, "top_k": 5, "thinking": ADAPTIVE, "output_config": {"effort": "low"}},
    ),
    "a forced tool": (
        {"tools": [FUNCTION], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "any"}, "output_config": {"effort": "low"}},
    ),
    "a schema": (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
        {
            "thinking": ADAPTIVE,
            "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        },
    ),
    "thinking of its own": (
        {"thinking": {"type": "disabled"}},
        {"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}},
    ),
    "an effort of its own": (
        {"output_config": {"effort": "max"}},
        {"thinking": ADAPTIVE, "output_config": {"effort": "max"}},
    ),
}


@pytest.mark.parametrize("case", EFFORTS)
def test_an_effort_for_a_newer_model(case: str) -> None:
    fields, expected = EFFORTS[case]
    told = sent({"reasoning_effort": "low", **fields}, model=NEWER[0])
    assert told == {"messages": [HI_TOLD], "max_tokens": 100, **expected}


MESSAGES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "one role twice": ([HI, HI], [{"role": "user", "content": [text("hi"), text("hi")]}]),
    "an empty text": ([HI, {"role": "assistant", "content": ""}, HI], [{"role": "user", "content": [text("hi")] * 2}]),
    "an image as data": (
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}],
        [
            {
                "role": "user",
                "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}],
            }
        ],
    ),
    "an image elsewhere": (
        [
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://h/a.png", "detail": "low"}}],
            }
        ],
        [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://h/a.png"}}]}],
    ),
    "a document": (
        [
            {
                "role": "user",
                "content": [
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "f"}}
                ],
            }
        ],
        [
            {
                "role": "user",
                "content": [
                    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA=="}}
                ],
            }
        ],
    ),
    "a mark of the cache": (
        [{"role": "user", "content": [{**text("a"), "cache_control": {"type": "ephemeral"}}]}],
        [{"role": "user", "content": [{**text("a"), "cache_control": {"type": "ephemeral"}}]}],
    ),
    "a call and its result": (
        [
            HI,
            {"role": "assistant", "content": "So.", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
        ],
        [HI_TOLD, {"role": "assistant", "content": [text("So."), USE]}, {"role": "user", "content": [RESULT]}],
    ),
    "results come first": (
        [
            HI,
            {"role": "assistant", "content": None, "tool_calls": [CALL, {**CALL, "id": "c2"}]},
            HI,
            {"role": "tool", "tool_call_id": "c1", "content": "42"},
            {"role": "tool", "tool_call_id": "c2", "content": [text("43")]},
        ],
        [
            HI_TOLD,
            {"role": "assistant", "content": [USE, {**USE, "id": "c2"}]},
            {
                "role": "user",
                "content": [RESULT, {**RESULT, "tool_use_id": "c2", "content": [text("43")]}, text("hi")],
            },
        ],
    ),
    "no arguments": (
        [HI, {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": ""}}]}],
        [HI_TOLD, {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]}],
    ),
    "a signed thought": (
        [
            HI,
            {
                "role": "assistant",
                "content": "a",
                "reasoning_content": "so",
                "thinking_blocks": [{"type": "thinking", "signature": "s"}],
            },
            {
                "role": "assistant",
                "thinking_blocks": [
                    {"type": "redacted_thinking", "data": "d"},
                    {"type": "thinking", "thinking": "t", "signature": "s"},
                    {"type": "thinking", "thinking": "unsigned"},
                ],
            },
        ],
        [
            HI_TOLD,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "so", "signature": "s"},
                    text("a"),
                    {"type": "redacted_thinking", "data": "d"},
                    {"type": "thinking", "thinking": "t", "signature": "s"},
                ],
            },
        ],
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_messages(case: str) -> None:
    messages, expected = MESSAGES[case]
    assert sent({}, messages) == {"messages": expected, "max_tokens": 100}


def test_system_prompts_are_lifted_out() -> None:
    system = [{"role": "system", "content": "a"}, HI, {"role": "developer", "content": [text("b")]}, HI]
    assert sent({}, system) == {
        "messages": [{"role": "user", "content": [text("hi"), text("hi")]}],
        "system": [text("a"), text("b")],
        "max_tokens": 100,
    }


@pytest.mark.parametrize("thoughts", [[], [{"type": "thinking", "thinking": "t", "signature": "s"}]])
def test_the_model_thinks_about_a_result_only_if_its_thoughts_before_the_call_are_there(thoughts: list[object]) -> None:
    messages = [
        HI,
        {"role": "assistant", "thinking_blocks": thoughts, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
    ]
    assert ("thinking" in sent({"reasoning_effort": "low"}, messages)) == bool(thoughts)
    newer = sent({"reasoning_effort": "low"}, messages, model=NEWER[0])
    assert ("thinking" in newer) == bool(thoughts)
    assert newer["output_config"] == {"effort": "low"}
    budget = {"type": "enabled", "budget_tokens": 2048}
    assert sent({"thinking": budget}, messages).get("thinking") == (budget if thoughts else None)
    for other in ({"type": "adaptive"}, {"type": "disabled"}):  # which need no thoughts before
        assert sent({"thinking": other}, messages)["thinking"] == other


AUDIO = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several answers": ({"n": 2}, "n"),
    "probabilities": ({"logprobs": True}, "logprobs"),
    "a penalty": ({"presence_penalty": 0.5}, "presence_penalty"),
    "a bias": ({"logit_bias": {"1": 2}}, "logit_bias"),
    "audio": ({"audio": {"voice": "x"}}, "audio"),
    "a modality": ({"modalities": ["text", "audio"]}, "modalities"),
    "old functions": ({"functions": [{"name": "f"}]}, "functions"),
    "any JSON": ({"response_format": {"type": "json_object"}}, "response_format.type"),
    "a tool of another type": ({"tools": [FUNCTION, {"type": "custom", "custom": {}}]}, "tools[1]"),
    "a choice of several": ({"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
    "a bound that is no number": ({"max_tokens": "x"}, "max_tokens"),
    "an effort that is no text": ({"reasoning_effort": 7}, "reasoning_effort"),
    "audio in a message": (
        {"messages": [HI, {"role": "user", "content": [text("a"), AUDIO]}]},
        "messages[1].content[1]",
    ),
    "another role": ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
    "no messages": ({"messages": []}, "messages"),
    "only a prompt": ({"messages": [{"role": "system", "content": "x"}]}, "messages"),
    "a message without a role": ({"messages": [{"content": "x"}]}, "messages[0]"),
    "arguments that are no object": (
        {
            "messages": [
                HI,
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "1"}}]},
            ]
        },
        "messages[1].tool_calls[0].function.arguments",
    ),
    "arguments that are no JSON": (
        {
            "messages": [
                HI,
                {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": '{"a'}}]},
            ]
        },
        "messages[1].tool_calls[0].function.arguments",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_said_is_refused_and_another_target_may_be_asked(case: str) -> None:
    fields, place = REFUSED[case]
    with pytest.raises(UpstreamCannot) as raised:
        sent(fields)
    assert (raised.value.status, raised.value.code, raised.value.param) == (400, "upstream_cannot", place)
    assert raised.value.recovery is Recovery.ELSEWHERE
