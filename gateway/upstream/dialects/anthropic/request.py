"""Translates the body of a chat completion to that of `POST /messages`.

A field that asks for something that Anthropic's API does not have is an error, and another target may be asked. Fields
that change no answer by themselves, or that every server may ignore, are left out. Anthropic's own fields (`top_k`,
`thinking`, `output_config`) and unknown ones pass unchanged, as they do for other upstreams.

The answer is always asked for as a stream. A long answer in one piece leaves its connection silent for minutes, and
Anthropic's own SDKs refuse to ask for one.

`reasoning_effort` becomes a budget of tokens for thinking, or `thinking` without one beside `output_config.effort`, as
the model wants it: see the module `thinking`. There is no thinking where Anthropic's server refuses it: if a tool is
forced, or if the thoughts before an open call of a tool are missing. A budget is also left out if `max_tokens` leaves
no room, and beside a `temperature` other than 1, a `top_p` below 0.95, or `top_k`. Newer models refuse these fields by
themselves, with thinking or without, and the server says so to the caller, who sent them.
Where thoughts are missing, a `thinking` of the caller that has a budget is left out, too: the call may be another
model's.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from gateway.config import Thinking
from gateway.errors import UpstreamCannot
from gateway.upstream.dialects.anthropic.conversation import Conversation, conversation
from gateway.upstream.dialects.anthropic.refusing import no_place, read
from gateway.upstream.dialects.anthropic.thinking import way_of, with_budget, with_effort

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
_NUMBER: Decoder[float] = Decoder(float)
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
_ONE = Raw(b"1")
_LEAST_TOP_P = 0.95  # beside a budget, by Anthropic's documents

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


def messages_body(body: bytes, *, max_tokens: int, thinking: Thinking | None = None) -> bytes:
    """Raises UpstreamCannot.

    `max_tokens` is for a request without a bound of its own: Anthropic's API wants one. `thinking` is how the model is
    asked to think; without it, its name decides.
    """
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
    message |= _tool_fields(fields) | _output_fields(fields) | _caller_fields(fields) | _lengths(fields, max_tokens)
    if "reasoning_effort" in fields:
        message |= _effort_fields(fields, talk, message, thinking)
    message["stream"] = True
    return _encode_json(message)


def _check(fields: Fields) -> None:
    for name, allowed in _ONLY.items():
        if name in fields and read(fields[name], _ANY, name) not in allowed:
            raise no_place(f"this value of `{name}`", name)


# Lengths


def _lengths(fields: Fields, default: int) -> Object:
    """The bound of the answer, and the texts that stop it."""
    bound = _bound(fields)
    found: Object = {"max_tokens": default if bound is None else bound}
    if "stop" in fields:
        stop = read(fields["stop"], _STOP, "stop")
        found["stop_sequences"] = [stop] if isinstance(stop, str) else stop
    return found


def _bound(fields: Fields) -> int | None:
    name = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    return read(fields[name], _COUNT, name) if name in fields else None


# Thinking


def _effort_fields(fields: Fields, talk: Conversation, message: Object, way: Thinking | None) -> Object:
    """What `message`, which has the fields for all else, gets for `reasoning_effort`."""
    effort = read(fields["reasoning_effort"], _TEXT, "reasoning_effort")
    model = read(fields["model"], _TEXT, "model") if "model" in fields else ""
    may_think = not (talk.is_thoughtless or _forces(message) or "thinking" in message)
    if (way or way_of(model)) is Thinking.ADAPTIVE:
        return with_effort(effort, message.get("output_config", {}), may_think=may_think)
    may_think = may_think and not _is_sampled(fields)
    return with_budget(effort, _bound(fields), message["max_tokens"]) if may_think else {}


def _has_budget(thinking: Raw) -> bool:
    value = read(thinking, _ANY, "thinking")
    return isinstance(value, dict) and value.get("type") == "enabled"


def _forces(message: Object) -> bool:
    return message.get("tool_choice", {}).get("type") in ("any", "tool")


def _is_sampled(fields: Fields) -> bool:
    """Whether the request chooses tokens in a way that Anthropic's server refuses beside a budget."""
    temperature, top_p = [read(fields.get(name, _ONE), _NUMBER, name) for name in ("temperature", "top_p")]
    return temperature != 1 or top_p < _LEAST_TOP_P or "top_k" in fields


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
