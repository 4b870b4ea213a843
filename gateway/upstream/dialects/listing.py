"""An upstream's list of models: https://platform.openai.com/docs/api-reference/models/list

Servers add fields of their own, such as `context_length`, `max_model_len` or prices. They stay raw JSON, so that they
pass unchanged. Together's list is a bare array.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.errors import UpstreamError
from gateway.upstream.shapes import stripped

ModelFields = Mapping[str, msgspec.Raw]

_MOST_MODELS = 10_000  # that are read, which takes about 10 ms; the longest lists have some hundreds
_OF_ANTHROPIC = {
    "object": msgspec.Raw(b'"model"'),
    "created": msgspec.Raw(b"0"),
    "owned_by": msgspec.Raw(b'"anthropic"'),
}
_UNREADABLE = "The model's server did not say which models it has."


class _List(msgspec.Struct):
    data: list[msgspec.Raw]


def models_in(body: bytes) -> Sequence[ModelFields]:
    """The objects of the list; other values in it are ignored. Raises UpstreamError if there is no such list."""
    try:
        body.decode()
        value = msgspec.json.decode(stripped(body), type=_List | list[msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise UpstreamError(_UNREADABLE) from error
    listed = (value.data if isinstance(value, _List) else value)[:_MOST_MODELS]
    models = [fields for raw in listed if (fields := _read(raw, dict[str, msgspec.Raw])) is not None]
    if listed and not models:
        raise UpstreamError(_UNREADABLE)
    return models


def with_openais_fields(models: Sequence[ModelFields]) -> Sequence[ModelFields]:
    """Anthropic's models with the fields that OpenAI's SDKs expect: https://platform.claude.com/docs/en/api/models-list

    A model keeps its fields, such as `display_name` and `created_at`, apart from its type.
    """
    return [{**_OF_ANTHROPIC, **{name: raw for name, raw in model.items() if name != "type"}} for model in models]


def text_in(fields: ModelFields, name: str) -> str | None:
    """The field, or None if it is not a string."""
    text: str | None = _read(fields[name], str) if name in fields else None
    return text


def is_a(raw: msgspec.Raw, kind: type) -> bool:
    return _read(raw, kind) is not None


def _read(raw: msgspec.Raw, kind: Any) -> Any:
    """The value, or None if it is of another kind."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError):
        return None
