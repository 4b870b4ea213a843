"""Translates the body of a chat completion to that of `POST /messages`.

A field that asks for something that Anthropic's API does not have is an error, and another target may be asked. Fields
that change no answer by themselves, or that every server may ignore, are left out. Anthropic's own fields (`top_k`,
`thinking`, `output_config`) and unknown ones pass unchanged, as they do for other upstreams.

The answer is always asked for as a stream. A long answer in one piece leaves its connection silent for minutes, and
Anthropic's own SDKs refuse to ask for one.

`reasoning_effort` becomes a budget of tokens for thinking. It is left out where Anthropic's server refuses thinking: if
a tool is forced, if the thoughts before an open call of a tool are missing, or if `max_tokens` leaves no room. Where
thoughts are missing, a `thinking` of the caller that has a budget is left out, too: the call may be another model's.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from gateway.errors import UpstreamCannot
from gateway.upstream.dialects.anthropic.conversation import Conversation, conversation
from gateway.upstream.dialects.anthropic.refusing import no_place, read

Object = dict[str, Any]
Fields = Mapping[str, Raw]


class _Function(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: Raw = Raw(b"null")
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Function | None = None
    cache_control: Raw = Raw(b"null")


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    type: str
    function: _Named | None = None


class _Schema(msgspec.Struct):
    schema: Raw = Raw(b"{}")


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


# Made once: making a decoder takes longer than decoding a value.
_FIELDS = Decoder(dict[str, Raw])
_COUNT: Decoder[int] = Decoder(int)
_TEXT: Decoder[str] = Decoder(str)
_FLAG: Decoder[bool] = Decoder(bool)
_STOP: Decoder[str | list[str]] = Decoder(str | list[str])
_TOOLS: Decoder[list[_Tool]] = Decoder(list[_Tool])
_CHOICE: Decoder[str | _Choice] = Decoder(str | _Choice)
_FORMAT: Decoder[_Format] = Decoder(_Format)
_OBJECT: Decoder[Object] = Decoder(Object)
_ANY: Decoder[Any] = Decoder()

_encode_json = msgspec.json.Encoder().encode

_NULL = Raw(b"null")
_NO_PARAMETERS = Raw(b'{"type":"object","properties":{}}')
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_BUDGETS = {"low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_768, "max": 32_768}  # tokens
_LEAST_BUDGET = 1024  # tokens, by Anthropic's documents
_ROOM = 1024  # tokens for the answer behind the thoughts: the budget is a part of `max_tokens`

# What these fields may say here. Any other value asks for something that Anthropic's API does not have.
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "functions": ([],),
    "function_call": (),
    "web_search_options": (),
}
# Those with a translation of their own, and those that are left out.
_OWN = frozenset(
    {
        *("model", "messages", "stream", "max_tokens", "max_completion_tokens", "stop", "tools", "tool_choice"),
        *("parallel_tool_calls", "response_format", "reasoning_effort", "user", "safety_identifier", "metadata"),
        *("service_tier", "output_config"),
    }
)
_LEFT_OUT = frozenset(
    {
        *("stream_options", "store", "seed", "prediction", "verbosity", "prompt_cache_key", "prompt_cache_retention"),
        *_ONLY,
    }
)


def messages_body(body: bytes, *, max_tokens: int) -> bytes:
    """`max_tokens` is for a request without a bound of its own: Anthropic's API wants one. Raises UpstreamCannot."""
    fields = {name: value for name, value in _FIELDS.decode(body).items() if value != _NULL}
    _check(fields)
    talk = conversation(fields.get("messages", Raw(b"[]")))
    if not talk.messages:
        raise UpstreamCannot(
            "There is no message beside the system prompts, and Anthropic's API wants one.", param="messages"
        )
    message: Object = {"model": fields["model"]} if "model" in fields else {}
    message["messages"] = talk.messages
    if talk.system:
        message["system"] = talk.system
    message |= {name: value for name, value in fields.items() if name not in _OWN and name not in _LEFT_OUT}
    if talk.is_thoughtless and _has_budget(fields.get("thinking", _NULL)):
        del message["thinking"]
    message |= _tool_fields(fields) | _output_fields(fields) | _caller_fields(fields)
    message |= _lengths(fields, talk, message, max_tokens)
    message["stream"] = True
    return _encode_json(message)


def _check(fields: Fields) -> None:
    for name, allowed in _ONLY.items():
        if name in fields and read(fields[name], _ANY, name) not in allowed:
            raise no_place(f"this value of `{name}`", name)


# Lengths


def _lengths(fields: Fields, talk: Conversation, message: Object, default: int) -> Object:
    """The bound of the answer, the texts that stop it, and the budget for thinking."""
    found: Object = {}
    if "stop" in fields:
        stop = read(fields["stop"], _STOP, "stop")
        found["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    name = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    most = read(fields[name], _COUNT, name) if name in fields else None
    budget = 0 if talk.is_thoughtless or _forces(message) or "thinking" in message else _budget(fields)
    if budget and most is not None:
        budget = min(budget, most - _ROOM)
    if budget >= _LEAST_BUDGET:
        found["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        budget = 0
    found["max_tokens"] = default + budget if most is None else most
    return found


def _has_budget(thinking: Raw) -> bool:
    value = read(thinking, _ANY, "thinking")
    return isinstance(value, dict) and value.get("type") == "enabled"


def _budget(fields: Fields) -> int:
    effort = fields.get("reasoning_effort")
    return 0 if effort is None else _BUDGETS.get(read(effort, _TEXT, "reasoning_effort"), 0)


def _forces(message: Object) -> bool:
    return message.get("tool_choice", {}).get("type") in ("any", "tool")


# Tools


def _tool_fields(fields: Fields) -> Object:
    """Anthropic's server refuses a choice without tools."""
    tools = read(fields["tools"], _TOOLS, "tools") if "tools" in fields else []
    if not tools:
        return {}
    found: Object = {"tools": [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]}
    choice = _chosen(read(fields["tool_choice"], _CHOICE, "tool_choice")) if "tool_choice" in fields else None
    one = "parallel_tool_calls" in fields and not read(fields["parallel_tool_calls"], _FLAG, "parallel_tool_calls")
    if one and (choice is None or choice["type"] != "none"):
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    return found if choice is None else {**found, "tool_choice": choice}


def _tool(tool: _Tool, where: str) -> Object:
    if tool.function is None:
        raise no_place(f"a tool of type `{tool.type[:64]}`", where)
    function = tool.function
    schema = _NO_PARAMETERS if function.parameters == _NULL else function.parameters
    found: Object = {"name": function.name, "input_schema": schema}
    if function.description is not None:
        found["description"] = function.description
    if function.strict:
        found["strict"] = True
    return found if tool.cache_control == _NULL else {**found, "cache_control": tool.cache_control}


def _chosen(choice: str | _Choice) -> Object:
    if isinstance(choice, str) and choice in _CHOICES:
        return {"type": _CHOICES[choice]}
    if isinstance(choice, _Choice) and choice.function is not None:
        return {"type": "tool", "name": choice.function.name}
    raise no_place("this choice of tools", "tool_choice")


# The form of the answer, and who asks


def _output_fields(fields: Fields) -> Object:
    config: Object = {}
    if "output_config" in fields:
        config = read(fields["output_config"], _OBJECT, "output_config")
    if "response_format" in fields:
        form = read(fields["response_format"], _FORMAT, "response_format")
        if form.type == "json_schema" and form.json_schema is not None:
            config["format"] = {"type": "json_schema", "schema": form.json_schema.schema}
        elif form.type != "text":
            raise no_place(f"a format of type `{form.type[:64]}`", "response_format.type")
    return {"output_config": config} if config else {}


def _caller_fields(fields: Fields) -> Object:
    """OpenAI's own `metadata` are notes for its server. Anthropic's are the id of the user."""
    found: Object = {}
    user = fields.get("safety_identifier", fields.get("user"))
    if user is not None:
        found["metadata"] = {"user_id": user}
    if fields.get("service_tier") == Raw(b'"default"'):
        found["service_tier"] = "standard_only"
    return found
