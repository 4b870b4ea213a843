"""From what was asked to what is sent: which model, with which prompts and parameters, or which clear error.

A request's fields are kept as raw JSON and put together again for the upstream, so that any OpenAI parameter passes,
integers of any size survive, and of duplicate names the last one wins, as JSON readers do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.config import Assistant, Config
from gateway.errors import InvalidRequest, NotFound
from gateway.routing import Target, default_model, route
from gateway.views import Format

_LONGEST_NAME = 200  # characters of a model or an assistant; the longest names in use are about 100
_OWN_FIELDS = frozenset(
    {"question", "messages", "model", "assistant", "format", "reasoning", "n", "stream", "stream_options"}
)

_encode_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Asked:
    """An admitted request: where it goes, what is posted there, and how its answer is to be shown."""

    target: Target
    body: bytes
    model: str | None
    format: Format
    reasoning: bool


def read_query(fields: Mapping[str, str]) -> dict[str, msgspec.Raw]:
    """The query of a GET as the body of a POST would say the same."""
    if "q" not in fields:
        raise InvalidRequest("There is no question: add ?q=...", code="question_missing", param="q")
    return view_fields(fields) | {"question": msgspec.Raw(_encode_json(fields["q"]))}


def view_fields(fields: Mapping[str, str]) -> dict[str, msgspec.Raw]:
    """What may be said in the query of any request: whom to ask, and how to show the answer."""
    names = ("model", "assistant", "format", "reasoning")
    return {name: msgspec.Raw(_encode_json(fields[name])) for name in names if name in fields}


def read_body(body: bytes) -> dict[str, msgspec.Raw]:
    """The fields of a JSON object. Raises InvalidRequest for anything else."""
    try:
        body.decode()
        return msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8 (byte {error.start}).", code="invalid_json") from None
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", code="invalid_json") from None


def admit(config: Config, fields: Mapping[str, msgspec.Raw]) -> Asked:
    """Raises InvalidRequest, NotFound or ModelNotFound."""
    assistant = _assistant(config, _name(fields, "assistant"))
    asked = _name(fields, "model")
    target = route(config, asked or assistant.model)
    if _value(fields, "n", int | None) not in (None, 1):
        raise InvalidRequest("`n` must be 1 here: a stream carries one answer.", param="n")
    return Asked(
        target=target,
        body=_body(target, assistant, fields),
        model=asked or assistant.model or default_model(config),
        format=_value(fields, "format", Format | None) or Format.TEXT,
        reasoning=_flag(fields, "reasoning"),
    )


def _assistant(config: Config, name: str | None) -> Assistant:
    if name is None:
        return config.assistants.get("default", Assistant())
    if name not in config.assistants:
        raise NotFound(f"There is no assistant named {name}.", code="assistant_not_found", param="assistant")
    return config.assistants[name]


def _body(target: Target, assistant: Assistant, fields: Mapping[str, msgspec.Raw]) -> bytes:
    """What is posted upstream. A request's parameters override an assistant's, key by key."""
    body: dict[str, Any] = dict(assistant.parameters)
    body |= {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    system = [{"role": "system", "content": prompt} for prompt in assistant.system]
    body["model"] = target.model
    body["messages"] = [*system, *_messages(fields)]
    body["stream"] = True
    if target.upstream.stream_usage:
        body["stream_options"] = {"include_usage": True}
    return _encode_json(body)


class _Message(msgspec.Struct):
    role: str


def _messages(fields: Mapping[str, msgspec.Raw]) -> list[Any]:
    if "question" in fields and "messages" in fields:
        raise InvalidRequest("Send either `question` or `messages`, not both.", param="messages")
    if "messages" not in fields:
        return [{"role": "user", "content": _question(fields)}]
    messages: list[Any] | None = _value(fields, "messages", list[msgspec.Raw] | None)
    if not messages:
        raise InvalidRequest("`messages` is empty.", code="question_missing", param="messages")
    for index, message in enumerate(messages):
        try:
            msgspec.json.decode(message, type=_Message)
        except msgspec.DecodeError:
            raise InvalidRequest("Each message must be an object with a `role`.", param=f"messages[{index}]") from None
    return messages


def _question(fields: Mapping[str, msgspec.Raw]) -> str:
    question: str | None = _value(fields, "question", str | None)
    if question is None or not question.strip():
        raise InvalidRequest("There is no question.", code="question_missing", param="question")
    return question


def _name(fields: Mapping[str, msgspec.Raw], param: str) -> str | None:
    name = _value(fields, param, str | None)
    if name is not None and not (name.isprintable() and len(name) <= _LONGEST_NAME):
        raise InvalidRequest(f"`{param}` must be at most {_LONGEST_NAME} printable characters.", param=param)
    return name or None


def _flag(fields: Mapping[str, msgspec.Raw], param: str) -> bool:
    """A yes or no: as JSON true, false, 1, 0, or as a query has them."""
    value = _value(fields, param, bool | int | str | None)
    if value in (None, False, 0, "", "0", "false"):
        return False
    if value in (True, 1, "1", "true"):
        return True
    raise InvalidRequest(f"`{param}` must be 1 or 0.", param=param)


def _value(fields: Mapping[str, msgspec.Raw], param: str, kind: Any) -> Any:
    if param not in fields:
        return None
    try:
        return msgspec.json.decode(fields[param], type=kind)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(" - at ")[0].replace("`", "")
        raise InvalidRequest(f"`{param}` has the wrong form: {reason}.", param=param) from None
