"""Translates the body of `POST /v1/responses` to the fields of a chat request.

https://platform.openai.com/docs/api-reference/responses/create

A field that a chat cannot express is an error that names it. Fields that only concern OpenAI's own servers, such as
keys of their prompt cache, are ignored. Fields that are not of this API go to the model's server unchanged, as they do
in a chat request.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from gateway.admission.fields import Fields, name_in, value_in
from gateway.admission.translating import BOOLEAN, INTEGER, NULL, ON_DISCONNECT, TEXT, unsupported
from gateway.config import OnDisconnect
from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.responses.items import Conversation, Object, qualified, references

T = TypeVar("T")

_encode_json = msgspec.json.Encoder().encode


class _Function(msgspec.Struct):
    type: str
    name: str = ""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    tools: list[Any] = []  # those of a namespace


class _Format(msgspec.Struct):
    type: str
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class ResponseRequest(msgspec.Struct, frozen=True):
    """`fields` are those of a chat request, without the model and the messages. `shown` are those of the response."""

    model: str | None
    instructions: str | None
    conversation: Conversation
    previous: str | None
    fields: Mapping[str, Any]
    shown: dict[str, Raw]
    qualified: dict[str, tuple[str, str]]  # see Head
    stream: bool
    background: bool
    store: bool
    on_disconnect: OnDisconnect | None


# Made once: making a decoder takes longer than decoding a value.
_ANY: Decoder[Any] = Decoder()
_TOOLS: Decoder[list[Any] | None] = Decoder(list[Any] | None)
_CONFIG: Decoder[_Text | None] = Decoder(_Text | None)
_REASONING: Decoder[_Reasoning | None] = Decoder(_Reasoning | None)

_LARGEST_SHOWN = 2_097_152  # bytes; the instructions and tools of coding agents have about 100,000
_TRUE = Raw(b"true")

# Fields of the response object that repeat those of the request, and what they are without.
_SHOWN = {
    "background": Raw(b"false"),
    "instructions": NULL,
    "max_output_tokens": NULL,
    "max_tool_calls": NULL,
    "metadata": Raw(b"{}"),
    "parallel_tool_calls": _TRUE,
    "previous_response_id": NULL,
    "prompt_cache_key": NULL,
    "reasoning": Raw(b'{"effort":null,"summary":null}'),
    "safety_identifier": NULL,
    "service_tier": NULL,
    "store": _TRUE,
    "temperature": NULL,
    "text": Raw(b'{"format":{"type":"text"}}'),
    "tool_choice": Raw(b'"auto"'),
    "tools": Raw(b"[]"),
    "top_p": NULL,
    "truncation": Raw(b'"disabled"'),
    "user": NULL,
}

# Those with a translation of their own, and those that the gateway acts on itself.
_OWN = frozenset(
    {
        *("input", "instructions", "model", "previous_response_id", "stream", "background", "store", "on_disconnect"),
        *("max_output_tokens", "reasoning", "text", "tool_choice", "tools", "parallel_tool_calls", "truncation"),
        *("format", "assistant", "messages", "stream_options", "n"),
    }
)
# Those that change nothing where another server than OpenAI's own answers.
_IGNORED = frozenset(
    {
        *("client_metadata", "include", "max_tool_calls", "metadata", "prompt_cache_key", "prompt_cache_options"),
        *("prompt_cache_retention", "safety_identifier"),
    }
)
_REFUSED = frozenset({"context_management", "conversation", "moderation", "prompt", "top_logprobs"})


def response_request(fields: Fields, known: Mapping[str, Object]) -> ResponseRequest:
    """`known` are items of earlier responses by their ids, for `references_in`. Raises InvalidRequest."""
    for name in sorted(_REFUSED & fields.keys()):
        if fields[name] != NULL:
            raise unsupported(f"`{name}` has no counterpart in a chat.", name)
    if value_in(fields, "truncation", TEXT) not in (None, "disabled"):
        raise unsupported("`truncation` must be `disabled`: a chat is not shortened.", "truncation")
    background = value_in(fields, "background", BOOLEAN) or False
    store = value_in(fields, "store", BOOLEAN)
    if background and store is False:
        raise InvalidRequest("A response in the background must be stored.", param="store")
    conversation = Conversation(known)
    conversation.add_input(_input(fields))
    tools = _Tools()
    given = value_in(fields, "tools", _TOOLS)
    for index, tool in enumerate(given or []):
        tools.add(tool, f"tools[{index}]")
    return ResponseRequest(
        model=name_in(fields, "model"),
        instructions=value_in(fields, "instructions", TEXT),
        conversation=conversation,
        previous=value_in(fields, "previous_response_id", TEXT) or None,
        fields=_chat_fields(fields) | tools.fields(fields),
        qualified=tools.qualified,
        shown=_shown(fields),
        stream=value_in(fields, "stream", BOOLEAN) or False,
        background=background,
        store=store is not False,
        on_disconnect=value_in(fields, "on_disconnect", ON_DISCONNECT),
    )


def _shown(fields: Fields) -> dict[str, Raw]:
    """Raises BodyTooLarge: they are repeated in several events, which wait in memory for clients that are slow."""
    shown = {name: given if (given := fields.get(name, NULL)) != NULL else default for name, default in _SHOWN.items()}
    if sum(map(len, shown.values())) > _LARGEST_SHOWN:
        words = f"`instructions`, `tools`, `text` and `metadata` have over {_LARGEST_SHOWN} bytes together."
        raise BodyTooLarge(words)
    return shown


def references_in(fields: Fields) -> list[str]:
    """The ids of items of earlier responses that the input names. Raises InvalidRequest."""
    return references(_input(fields))


def _input(fields: Fields) -> Raw:
    given = fields.get("input", NULL)
    if given == NULL:
        raise InvalidRequest("There is no `input`.", code="question_missing", param="input")
    return given


def _chat_fields(fields: Fields) -> dict[str, Any]:
    chat: dict[str, Any] = {
        name: value for name, value in fields.items() if value != NULL and name not in _OWN and name not in _IGNORED
    }
    if (most := value_in(fields, "max_output_tokens", INTEGER)) is not None:
        chat["max_tokens"] = most  # the name that all servers know; those that know a second one are fewer
    reasoning = value_in(fields, "reasoning", _REASONING)
    if reasoning is not None and reasoning.effort is not None:
        chat["reasoning_effort"] = reasoning.effort
    text = value_in(fields, "text", _CONFIG)
    if text is not None:
        chat |= _text_fields(text)
    return chat


def _text_fields(text: _Text) -> Object:
    fields: Object = {} if text.verbosity is None else {"verbosity": text.verbosity}
    match text.format:
        case None | _Format(type="text"):
            return fields
        case _Format(type="json_object"):
            return fields | {"response_format": {"type": "json_object"}}
        case _Format(type="json_schema") as form:
            known = {"name": form.name, "description": form.description, "schema": form.schema, "strict": form.strict}
            schema = {name: value for name, value in known.items() if value is not None}
            if form.name is None or form.schema is None:
                raise InvalidRequest("A format `json_schema` has a `name` and a `schema`.", param="text.format")
            return fields | {"response_format": {"type": "json_schema", "json_schema": schema}}
        case form:
            raise unsupported(f"A chat has no format of type `{form.type[:64]}`.", "text.format")


class _Tools:
    """Functions as those of a chat. A chat has no namespaces, so the names of functions in one are qualified by it."""

    def __init__(self) -> None:
        self.qualified: dict[str, tuple[str, str]] = {}
        self._functions: list[Object] = []
        self._names: set[str] = set()

    def fields(self, fields: Fields) -> dict[str, Any]:
        """The fields of a chat about tools."""
        if not self._functions:
            return {}
        chat: dict[str, Any] = {"tools": self._functions}
        if (choice := _choice(value_in(fields, "tool_choice", _ANY))) is not None:
            chat["tool_choice"] = choice
        if (parallel := value_in(fields, "parallel_tool_calls", BOOLEAN)) is not None:
            chat["parallel_tool_calls"] = parallel
        return chat

    def add(self, tool: Any, where: str, namespace: str | None = None) -> None:
        try:
            given = msgspec.convert(tool, _Function)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"The tool has the wrong form: {str(error).replace('`', '')}.", param=where) from None
        if given.type == "namespace" and namespace is None:
            for index, inner in enumerate(given.tools):
                self.add(inner, f"{where}.tools[{index}]", given.name)
        elif given.type == "function":
            self._add_function(given, namespace, where)
        else:
            words = f"The tool `{given.type[:64]}` is run by OpenAI's servers. Only functions can be called here."
            raise unsupported(words, where)

    def _add_function(self, function: _Function, namespace: str | None, where: str) -> None:
        name = qualified(namespace, function.name)
        if not function.name or name in self._names:
            words = "A function needs a `name`." if not function.name else f"Two functions are called `{name[:64]}`."
            raise InvalidRequest(words, param=f"{where}.name")
        self._names.add(name)
        if namespace is not None:
            self.qualified[name] = (namespace, function.name)
        known = {
            "name": name,
            "description": function.description,
            "parameters": function.parameters,
            "strict": function.strict or None,  # false is what a chat does by itself
        }
        described = {field: value for field, value in known.items() if value is not None}
        self._functions.append({"type": "function", "function": described})


def _choice(choice: Any) -> Any:
    match choice:
        case None | "auto" | "none" | "required":
            return choice
        case {"type": "function", "name": str(name)}:
            return {"type": "function", "function": {"name": name}}
        case _:
            words = "`tool_choice` must be `auto`, `none`, `required`, or name a function."
            raise unsupported(words, "tool_choice")
