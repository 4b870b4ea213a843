"""Translates the body of `POST /v1/messages` to the fields of a chat request.

https://platform.claude.com/docs/en/api/messages

A field that a chat cannot express is an error that names it. Fields that only concern Anthropic's own servers are
ignored. Fields that are not of this API go to the model's server unchanged, as they do in a chat request, and so does
`top_k`: many servers have it under the same name, and one that does not says so.

`thinking` decides only whether the model's reasoning is shown. A chat has no budget for it, and servers whose models do
not reason refuse the field `reasoning_effort`. Clients send `thinking` to any model, so it would lock them out. An
effort that a client chooses by `output_config` becomes `reasoning_effort`, apart from `high`: that is what Anthropic's
models do by themselves, and Claude Code sends it with every request. Where Anthropic's own server is asked, both go to
it as they are.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from gateway.admission.fields import Fields, name_in
from gateway.admission.translating import BOOLEAN, INTEGER, NULL, ON_DISCONNECT, TEXT, needed, read, unsupported
from gateway.config import OnDisconnect
from gateway.errors import InvalidRequest
from gateway.messages.conversation import Object, chat_messages


class MessageRequest(msgspec.Struct, frozen=True):
    """`fields` are those of a chat request, without the model."""

    model: str | None
    fields: Mapping[str, Any]
    stream: bool
    shows_thinking: bool
    on_disconnect: OnDisconnect | None

    @property
    def form(self) -> str:
        """What the form of the answer depends on, apart from the fields."""
        return f"stream={self.stream} thinking={self.shows_thinking}"


class _Tool(msgspec.Struct):
    type: str | None = None
    name: str | None = None
    description: str | None = None
    input_schema: Raw = Raw()
    strict: bool | None = None


class _Choice(msgspec.Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct):
    type: str
    display: str | None = None


class _Format(msgspec.Struct):
    type: str
    schema: Raw = Raw()


class _Output(msgspec.Struct):
    effort: str | None = None
    format: _Format | None = None


class _Metadata(msgspec.Struct):
    user_id: str | None = None


# Made once: making a decoder takes longer than decoding a value.
_TEXTS: Decoder[list[str] | None] = Decoder(list[str] | None)
_TOOLS: Decoder[list[_Tool] | None] = Decoder(list[_Tool] | None)
_CHOICE: Decoder[_Choice | None] = Decoder(_Choice | None)
_THINKING: Decoder[_Thinking | None] = Decoder(_Thinking | None)
_OUTPUT: Decoder[_Output | None] = Decoder(_Output | None)
_METADATA: Decoder[_Metadata | None] = Decoder(_Metadata | None)

_LONGEST_USER = 64  # characters: OpenAI's server refuses a longer `user`, and Claude Code's own id has over 100
_DEFAULT_EFFORT = "high"
_EFFORTS = {"xhigh": "high", "max": "high"}  # the highest that all servers know that know any

# Those with a translation of their own, and those that the gateway sets or acts on itself.
_OWN = frozenset(
    {
        *("model", "messages", "system", "max_tokens", "stream", "on_disconnect", "stop_sequences", "tools"),
        *("tool_choice", "thinking", "output_config", "metadata", "service_tier"),
        *("format", "reasoning", "assistant", "stream_options", "n"),
    }
)
# Those that change nothing where another server than Anthropic's own answers.
_IGNORED = frozenset(
    {
        *("cache_control", "context_management", "diagnostics", "inference_geo", "speed", "user_profile_id"),
        *("workspace_id", "betas"),
    }
)
_REFUSED = frozenset({"container", "mcp_servers"})


def message_request(fields: Fields, *, is_asked: bool = True, takes_thoughts: bool = False) -> MessageRequest:
    """Raises InvalidRequest.

    `is_asked`: an answer is wanted, and not only a number of tokens. `takes_thoughts`: Anthropic's own server is asked.
    """
    fields = {name: value for name, value in fields.items() if value != NULL}
    for name in sorted(_REFUSED & fields.keys()):
        raise unsupported("Only Anthropic's own servers have this.", name)
    thinking = _value(fields, "thinking", _THINKING)
    return MessageRequest(
        model=name_in(fields, "model"),
        fields=_chat_fields(fields, is_asked=is_asked, takes_thoughts=takes_thoughts),
        stream=_value(fields, "stream", BOOLEAN) or False,
        shows_thinking=thinking is None or takes_thoughts or _is_shown(thinking),
        on_disconnect=_value(fields, "on_disconnect", ON_DISCONNECT),
    )


def _is_shown(thinking: _Thinking) -> bool:
    return thinking.type != "disabled" and thinking.display != "omitted"


def _value(fields: Fields, name: str, decoder: Decoder[Any]) -> Any:
    return read(fields.get(name, NULL), decoder, name)


def _chat_fields(fields: Fields, *, is_asked: bool, takes_thoughts: bool) -> Object:
    chat: Object = {name: value for name, value in fields.items() if name not in _OWN and name not in _IGNORED}
    messages, system = fields.get("messages", Raw(b"[]")), fields.get("system", NULL)
    chat["messages"] = chat_messages(messages, system, takes_thoughts=takes_thoughts)
    if takes_thoughts and "thinking" in fields:
        chat["thinking"] = fields["thinking"]
    most: int | None = _value(fields, "max_tokens", INTEGER)
    if most is None and is_asked:
        raise InvalidRequest("This field is required.", param="max_tokens")
    if most is not None:
        if most < 1:
            raise InvalidRequest("It must be at least 1.", param="max_tokens")
        chat["max_tokens"] = most  # the name that all servers know; those that know a second one are fewer
    if stop := _value(fields, "stop_sequences", _TEXTS):
        chat["stop"] = stop
    if _value(fields, "service_tier", TEXT) == "standard_only":  # the other value is what a chat does by itself
        chat["service_tier"] = "default"
    metadata: _Metadata | None = _value(fields, "metadata", _METADATA)
    if metadata is not None and metadata.user_id and len(metadata.user_id) <= _LONGEST_USER:
        chat["user"] = metadata.user_id
    return chat | _output_fields(fields, takes_thoughts=takes_thoughts) | _tool_fields(fields)


def _output_fields(fields: Fields, *, takes_thoughts: bool) -> Object:
    output: _Output | None = _value(fields, "output_config", _OUTPUT)
    if output is None:
        return {}
    chat = _effort_fields(output.effort, takes_thoughts=takes_thoughts)
    if output.format is not None:
        if output.format.type != "json_schema":
            words = f"There is no format of type `{output.format.type[:64]}`."
            raise unsupported(words, "output_config.format.type")
        schema = _object(output.format.schema, "output_config.format.schema")
        json_schema = {"name": "answer", "schema": schema, "strict": True}  # a chat wants a name
        chat["response_format"] = {"type": "json_schema", "json_schema": json_schema}
    return chat


def _effort_fields(effort: str | None, *, takes_thoughts: bool) -> Object:
    """To Anthropic's server it goes as it is: `reasoning_effort` would ask for thinking, too."""
    if effort in (None, _DEFAULT_EFFORT):  # some models of either kind refuse the field
        return {}
    if takes_thoughts:
        return {"output_config": {"effort": effort}}
    return {"reasoning_effort": _EFFORTS.get(effort, effort)}


def _tool_fields(fields: Fields) -> Object:
    """Servers refuse a choice without tools."""
    tools: list[_Tool] = _value(fields, "tools", _TOOLS) or []
    if not tools:
        return {}
    chat: Object = {"tools": [_tool(tool, f"tools[{index}]") for index, tool in enumerate(tools)]}
    choice: _Choice | None = _value(fields, "tool_choice", _CHOICE)
    if choice is not None:
        chat["tool_choice"] = _chosen(choice)
        if choice.disable_parallel_tool_use:
            chat["parallel_tool_calls"] = False
    return chat


def _tool(tool: _Tool, where: str) -> Object:
    if tool.type not in (None, "custom"):
        words = f"A tool of type `{tool.type[:64]}` is known to Anthropic's own models and servers only."
        raise unsupported(words, where)
    schema = _object(tool.input_schema, f"{where}.input_schema")
    function: Object = {"name": needed(tool.name, f"{where}.name"), "parameters": schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _object(raw: Raw, where: str) -> Raw:
    if not bytes(raw).startswith(b"{"):
        raise InvalidRequest("An object is needed here.", param=where)
    return raw


def _chosen(choice: _Choice) -> Any:
    match choice.type:
        case "auto" | "none":
            return choice.type
        case "any":
            return "required"
        case "tool":
            return {"type": "function", "function": {"name": needed(choice.name, "tool_choice.name")}}
        case _:
            raise unsupported("The type must be `auto`, `any`, `tool` or `none`.", "tool_choice.type")
