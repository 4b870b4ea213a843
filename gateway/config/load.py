"""Turns a TOML text and the environment into a `Config`, or into a list of all faults.

Loading goes on after a fault, so that an operator can mend all of them before the next start. Each fault begins with
its path (`upstreams[0].base_url: ...`). The text and the environment are passed in, and no file is opened here.

`${NAME}` is replaced by an environment variable in every string outside of `[assistants]`. Prompts and parameters go
to the model unchanged, because they may contain shell code.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Struct

from gateway.config.hints import expected, in_terms_of_toml, not_a_list, syntax_fault, unknown_key
from gateway.config.rules import name_faults, value_faults
from gateway.config.schema import Config, Price, Secret

_UNCLOSED = r"\$\{(?!((?!\$\{)[^}])*\})"  # a `${` that no `}` follows, or not before the next `${`
_NOTHING = object()  # stands for a value that cannot be built
_VARIABLES = {"base_url": "OPENAI_BASE_URL", "api_key": "OPENAI_API_KEY"}
_NAMED = {"upstreams", "models", "assistants", "keys"}  # the tables that refer to each other by name


class Faults(ValueError):
    """The faults of a configuration, one line each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load(text: str, environ: Mapping[str, str], *, look: Callable[[Config], Iterable[str]] = lambda _: ()) -> Config:
    """The configuration from `text` (TOML, empty if there is no file) and the environment. Raises Faults.

    `look` returns faults that need a look at the disk, such as missing files.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Faults([syntax_fault(text, str(error))]) from None
    faults: list[str] = []
    filled = {
        key: value if key == "assistants" else _filled(value, key, environ, faults) for key, value in table.items()
    }
    is_named = "upstreams" in filled
    if not is_named:
        filled["upstreams"] = _upstreams_from(environ)
    sections = _build_sections(filled, faults)
    config = Config(**sections, default_model=environ.get("OPENAI_MODEL") or None)
    if config.traces.endpoint is None and (endpoint := environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
        traces = msgspec.structs.replace(config.traces, endpoint=endpoint)
        config = msgspec.structs.replace(config, traces=traces)
    faults += _not_told([*value_faults(config), *look(config)], faults)
    if sections.keys() >= _NAMED & filled.keys():
        faults += _not_told(name_faults(config), faults)
    if faults:
        raise Faults(faults if is_named else [_with_variable(fault) for fault in faults])
    return config


def checked(config: Config) -> Config:
    """Returns the configuration unchanged if it has no faults. Raises Faults."""
    faults = [*value_faults(config), *name_faults(config)]
    if faults:
        raise Faults(faults)
    return config


# From tables to values


def _filled(value: Any, path: str, environ: Mapping[str, str], faults: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, f"{path}.{key}", environ, faults) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, f"{path}[{index}]", environ, faults) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in environ:
            faults.append(f"{path}: the environment variable {name} is not set")
        return environ.get(name, "")

    if re.search(_UNCLOSED, value):
        faults.append(f"{path}: `${{` without `}}`; write ${{NAME}} for the environment variable NAME")
    return re.sub(r"\$\{(\w+)\}", fill, value)


def _upstreams_from(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """The upstream that the OPENAI_ variables describe, in a list; empty if they are not set."""
    key, url = environ.get("OPENAI_API_KEY"), environ.get("OPENAI_BASE_URL")
    if not key and not url:
        return []
    upstream = {"name": "openai", "base_url": url or "https://api.openai.com/v1"}
    return [upstream | {"api_key": key} if key else upstream]


def _with_variable(fault: str) -> str:
    """The fault with the name of the variable that the value comes from."""
    for field, variable in _VARIABLES.items():
        fault = fault.replace(f"upstreams[0].{field}:", f"{variable}:")
    return fault


def _build_sections(table: dict[str, Any], faults: list[str]) -> dict[str, Any]:
    """The tables of the file that can be built."""
    fields = {f.name: f for f in msgspec.structs.fields(Config) if f.name != "default_model"}
    faults += [f"{key}: {unknown_key(key, fields)}" for key in table if key not in fields]
    sections = {name: _build(f.type, table[name], name, faults) for name, f in fields.items() if name in table}
    return {name: section for name, section in sections.items() if section is not _NOTHING}


def _build(kind: Any, value: Any, path: str, faults: list[str]) -> Any:
    """`value` as `kind`, or _NOTHING. It descends into structs itself, so that one fault does not hide others."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _build_struct(kind, value, path, faults)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType and isinstance(value, dict):  # an optional table
        return _build(arguments[0], value, path, faults)
    if origin is list and isinstance(value, list):
        items = [_build(arguments[0], item, f"{path}[{index}]", faults) for index, item in enumerate(value)]
        return _NOTHING if any(item is _NOTHING for item in items) else items  # never with gaps: paths have numbers
    if origin is list and (advice := not_a_list(value, path)) is not None:
        faults.append(f"{path}: {advice}")
        return _NOTHING
    if origin is dict and isinstance(value, dict) and arguments[1] is not Any:
        built = {key: _build(arguments[1], item, _below(path, key), faults) for key, item in value.items()}
        return {key: item for key, item in built.items() if item is not _NOTHING}
    try:
        return msgspec.convert(value, kind, dec_hook=_secret)
    except msgspec.ValidationError as error:
        message = expected(kind, value) or in_terms_of_toml(str(error).partition(" - at ")[0])
        faults.append(f"{path}: {message[0].lower()}{message[1:]}")
        return _NOTHING


def _build_struct(kind: type[Struct], value: Any, path: str, faults: list[str]) -> Any:
    """A field with a fault gets its default or an empty value, so that the other fields can be checked."""
    if not isinstance(value, dict):
        faults.append(f"{path}: {in_terms_of_toml(f'expected a table, got `{type(value).__name__}`')}")
        return _NOTHING
    fields = {f.encode_name: f for f in msgspec.structs.fields(kind)}
    faults += [f"{_below(path, key)}: {unknown_key(key, fields)}" for key in value if key not in fields]
    faults += [f"{_below(path, name)}: missing" for name, f in fields.items() if f.required and name not in value]
    built = {
        f.name: _build(f.type, value[name], _below(path, name), faults) for name, f in fields.items() if name in value
    }
    empty = {f.name: _empty(f.type) for f in fields.values() if f.required}
    return kind(**empty | {name: item for name, item in built.items() if item is not _NOTHING})


def _empty(kind: Any) -> Any:
    """The value of a required field that has a fault: an empty list, zero or an empty text."""
    if get_origin(kind) is list:
        return []
    return 0.0 if kind is Price else ""


def _not_told(later: Iterable[str], told: list[str]) -> list[str]:
    """The later faults, without those of a field that has a fault, lies in such a field or contains one."""
    paths = [_path(fault) for fault in told if ": unknown key" not in fault]
    return [fault for fault in later if not any(_touch(_path(fault), path) for path in paths)]


def _path(fault: str) -> str:
    return fault.partition(": ")[0]


def _touch(one: str, other: str) -> bool:
    """Whether the paths are equal or one contains the other."""
    shorter, longer = sorted([one, other], key=len)
    return longer.startswith(shorter) and longer[len(shorter) :][:1] in ("", ".", "[")


def _secret(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise msgspec.ValidationError("Expected `str`" if kind is Secret else f"Expected `{kind.__name__}`")


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
