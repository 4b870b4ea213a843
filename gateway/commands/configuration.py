"""The configuration of a command: its file, the environment, and the options that override both."""

import argparse
import importlib.util
import os
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from dotenv import dotenv_values

from gateway.commands.command_error import CommandError
from gateway.config import Config, checked, load

NOTHING_CONFIGURED = """\
Nothing is configured yet. There are three ways to continue:

  gateway serve --demo                    answers with a demo model, without any configuration
  OPENAI_API_KEY=... gateway serve        uses OpenAI or, with OPENAI_BASE_URL, any compatible server
  gateway serve --config config.toml      has all options; start from config.example.toml

The variables can also be in a file named .env."""


_EXTRA = "gateway[redis]"


def configured(path: Path | None) -> Config:
    """Raises Faults or CommandError."""
    try:
        text = "" if path is None else path.read_text(encoding="utf-8-sig")  # some editors begin it with a mark
    except OSError as error:
        raise CommandError(f"The configuration file cannot be read: {error.strerror}: {path}") from None
    except UnicodeDecodeError:
        raise CommandError(f"The configuration file is not UTF-8 text: {path}") from None
    return load(text, environment(), look=_file_faults)


def _file_faults(config: Config) -> Iterator[str]:
    """Faults that can only be found by a look at this machine: at files, and at what is installed."""
    if config.store.is_shared and importlib.util.find_spec("redis") is None:
        yield f"store.url: a package is missing; install it with: pip install '{_EXTRA}'"
    for index, upstream in enumerate(config.upstreams):
        try:
            ssl.create_default_context(cafile=upstream.ca_file)
        except OSError as error:  # ssl.SSLError is one
            yield f"upstreams[{index}].ca_file: cannot be loaded: {error.strerror or error}: {upstream.ca_file}"


def environment() -> Mapping[str, str]:
    """The variables of `.env` in the current directory, overridden by those of the environment. Raises CommandError."""
    try:
        file = dotenv_values(".env", encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise CommandError("The file .env is not UTF-8 text.") from None
    return {name: value for name, value in file.items() if value is not None} | os.environ


def with_overrides(config: Config, options: argparse.Namespace) -> Config:
    """The command line overrides the file, and the same rules apply to it."""
    changes = {name: value for name in ("host", "port", "workers") if (value := getattr(options, name)) is not None}
    changed = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **changes))
    return checked(changed)
