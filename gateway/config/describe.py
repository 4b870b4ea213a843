"""The effective configuration as text for a person."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from gateway.config.schema import Config, Secret, Store


def described(config: Config) -> Iterator[str]:
    """Lines of the form `path = value`, one for each value that is set. Secrets are masked."""
    for path, value in _leaves(config, ""):
        yield f"{path} = {value!r}" if isinstance(value, Secret) else f"{path} = {_shown(value)}"


def _shown(value: Any) -> str:
    """The value as JSON. The user and password of a URL are masked."""
    return re.sub(r'(?<=://)[^/"]*@', "***@", msgspec.json.encode(value).decode())


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Struct):
        for f in msgspec.structs.fields(type(value)):
            part = _place(value) if isinstance(value, Store) and f.name == "url" else getattr(value, f.name)
            yield from _leaves(part, f"{path}.{f.name}" if path else f.name)
    elif isinstance(value, dict) and not path.endswith(".parameters"):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}")
    elif isinstance(value, list) and value and isinstance(value[0], Struct):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    elif value is not None:
        yield path, value


def _place(store: Store) -> str:
    """The address of the store. Its query is left out, which may hold a password, too."""
    url, _, query = store.url.reveal().partition("?")
    return "***" if "@" in query else url  # with `@`, a password may have been taken for a query
