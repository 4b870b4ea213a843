"""The command `gateway`: its arguments, what each subcommand does, and the messages that it prints.

Exit status: 0 after a clean stop, 1 if something failed while running, 2 if the command line or the configuration is
wrong.
"""

import argparse
import errno
import json
import os
import secrets
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from hashlib import sha256
from pathlib import Path

import msgspec
from dotenv import dotenv_values

from gateway import __version__
from gateway.commands.announcement import announced, announced_demo, unread
from gateway.commands.probe import probe
from gateway.commands.standard_streams import escape_unknown, flush, open_missing, tell
from gateway.commands.usage import Unreadable, print_usage
from gateway.config import Config, Faults, Model, TargetName, Upstream, checked, described, load
from gateway.demo import create_demo
from gateway.demo.models import MODELS
from gateway.observe.account import GROUPS
from gateway.observe.formatters import JsonFormatter, TerminalFormatter
from gateway.observe.writer import LogWriter, logging_to
from gateway.serve import listening, run, serve, serve_app

_NOTHING_CONFIGURED = """\
Nothing is configured yet. There are three ways to continue:

  gateway serve --demo                    answers with a demo model, without any configuration
  OPENAI_API_KEY=... gateway serve        uses OpenAI or, with OPENAI_BASE_URL, any compatible server
  gateway serve --config config.toml      has all options; start from config.example.toml

The variables can also be in a file named .env."""


class Stop(Exception):
    """Ends the command with this message and exit status 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    open_missing()
    escape_unknown()
    try:
        status = _run(arguments)
    finally:
        failure = flush()
    if failure is None or isinstance(failure, BrokenPipeError):  # `head` and others leave early, which is no failure
        return status
    tell(f"gateway: {failure.strerror}.")
    return status or 1


def _run(arguments: Sequence[str] | None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        status: int | None = options.command(options)
        return status or 0
    except Faults as faults:
        tell("\n  ".join(["The configuration has these faults:", *faults.faults]))
        return 2
    except (Stop, Unreadable) as stop:
        tell(stop)
        return 2
    except BrokenPipeError:
        return 0
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = " Choose another port with --port; 0 takes any free one." if taken else ""
        tell(f"gateway: {error.strerror or error}.{advice}")
        return 1
    except KeyboardInterrupt:
        return 130  # as shells do: 128 plus the number of the signal


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gateway", description="Streams chat completions from any OpenAI-compatible server."
    )
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    parser.set_defaults(command=lambda _: _help(parser))

    command = commands.add_parser("serve", help="run the gateway")
    command.add_argument("--config", type=_file, metavar="FILE", help="TOML file (default: environment only)")
    command.add_argument("--host", help="address to listen on (overrides server.host)")
    command.add_argument("--port", type=_port, help="port to listen on, 0 for any free one (overrides server.port)")
    command.add_argument("--demo", action="store_true", help="use a built-in demo upstream; needs no configuration")
    command.set_defaults(command=_serve)

    command = commands.add_parser("check", help="print the effective configuration, or its faults")
    command.add_argument("--config", type=_file, metavar="FILE", help="TOML file (default: environment only)")
    command.add_argument("--connect", action="store_true", help="ask each upstream once, too; status 1 if one fails")
    command.set_defaults(command=_check)

    command = commands.add_parser("demo-upstream", help="run only the demo upstream")
    command.add_argument("--port", type=_port, default=9090, help="port to listen on (default: 9090)")
    command.add_argument("--tokens", type=_count, help="tokens in every answer (default: depends on the text)")
    command.add_argument("--interval-ms", type=_milliseconds, help="pause between tokens (default: a realistic pace)")
    command.set_defaults(command=_demo_upstream)

    command = commands.add_parser("key", help="make an API key and its configuration entry")
    command.add_argument("name", metavar="NAME", type=_name, help="name of the key in the configuration and in the log")
    command.set_defaults(command=_key)

    command = commands.add_parser("usage", help="sum up access logs by day, key and model")
    command.add_argument("logs", nargs="+", metavar="LOGFILE", help="access log in JSON, also .gz; - is standard input")
    command.add_argument(
        "--by",
        type=_groups,
        default=list(GROUPS),
        metavar="GROUPS",
        help=f"columns to group by, from {','.join(GROUPS)} (default: all)",
    )
    command.add_argument("--csv", action="store_true", help="print CSV, with full names and plain numbers")
    command.set_defaults(command=lambda options: print_usage(options.logs, options.by, csv=options.csv))
    return parser


# The commands


def _help(parser: argparse.ArgumentParser) -> int:
    """For a command line without a command, which is a mistake."""
    tell(parser.format_help().rstrip())
    return 2


def _serve(options: argparse.Namespace) -> None:
    with _logging() as log, suppress(KeyboardInterrupt):  # raised where the loop cannot handle signals (Windows)
        run(_serve_demo(options, log) if options.demo else _serve_configured(options, log))


async def _serve_configured(options: argparse.Namespace, log: LogWriter) -> None:
    config = _with_address(_load(options.config), options)
    if not config.upstreams:
        raise Stop("\n\n".join([_NOTHING_CONFIGURED, *unread(options.config)]))
    await serve(config, lambda address: log.say("\n".join([*announced(address, config), *unread(options.config)])))


async def _serve_demo(options: argparse.Namespace, log: LogWriter) -> None:
    if options.config is not None:
        raise Stop("--demo and --config exclude each other: choose one of the two.")
    async with listening(create_demo(), "127.0.0.1", 0, access_log=None) as upstream:
        config = _with_address(_demo_config(f"{upstream}/v1"), options)
        both_ends = 2  # descriptors for each upstream connection, because the upstream is in this process, too
        await serve(
            config,
            lambda address: log.say("\n".join([*announced(address, config), *unread(options.config)])),
            cost=both_ends,
        )


def _check(options: argparse.Namespace) -> int:
    config = _load(options.config)
    print(*described(config), sep="\n")
    for hint in unread(options.config):
        tell(hint)
    if not config.upstreams:
        raise Stop(_NOTHING_CONFIGURED)
    findings = probe(config) if options.connect else []
    if findings:
        print("", *findings, sep="\n")
    return int(any(finding.is_fault for finding in findings))


def _demo_upstream(options: argparse.Namespace) -> None:
    interval = None if options.interval_ms is None else options.interval_ms / 1000
    app = create_demo(tokens=options.tokens, interval=interval)
    with _logging() as log, suppress(KeyboardInterrupt):
        run(serve_app(app, "127.0.0.1", options.port, lambda address: log.say(announced_demo(address))))


def _key(options: argparse.Namespace) -> None:
    key = "gw-" + secrets.token_urlsafe(32)
    name = _shown(json.dumps(options.name, ensure_ascii=False))  # a TOML string: `_name` admits no control characters
    tell(f"The API key of {options.name}. It is not stored and not shown again:")
    print(f"\n  {key}\n", flush=True)
    tell("Add these lines to the configuration file to accept it:")
    print(f'\n[[keys]]\nname = {name}\nhash = "sha256:{sha256(key.encode()).hexdigest()}"')


# Configuration and logging


def _load(path: Path | None) -> Config:
    try:
        text = "" if path is None else path.read_text(encoding="utf-8-sig")  # some editors begin it with a mark
    except OSError as error:
        raise Stop(f"The configuration file cannot be read: {error.strerror}: {path}") from None
    except UnicodeDecodeError:
        raise Stop(f"The configuration file is not UTF-8 text: {path}") from None
    return load(text, _environment(), look=_file_faults)


def _file_faults(config: Config) -> Iterator[str]:
    """Faults that can only be found by reading other files."""
    for index, upstream in enumerate(config.upstreams):
        try:
            ssl.create_default_context(cafile=upstream.ca_file)
        except OSError as error:  # ssl.SSLError is one
            yield f"upstreams[{index}].ca_file: cannot be loaded: {error.strerror or error}: {upstream.ca_file}"


def _environment() -> Mapping[str, str]:
    """The variables of `.env` in the current directory, overridden by those of the environment."""
    try:
        file = dotenv_values(".env", encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Stop("The file .env is not UTF-8 text.") from None
    return {name: value for name, value in file.items() if value is not None} | os.environ


def _with_address(config: Config, options: argparse.Namespace) -> Config:
    """The command line overrides the file, and the same rules apply to it."""
    changes = {name: value for name in ("host", "port") if (value := getattr(options, name)) is not None}
    changed = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **changes))
    return checked(changed)


def _demo_config(base_url: str) -> Config:
    names = [Model(name=name, targets=[TargetName(upstream="demo")]) for name in MODELS]
    return Config(upstreams=[Upstream(name="demo", base_url=base_url)], models=names)


def _logging() -> AbstractContextManager[LogWriter]:
    """Logs to standard error: as text for a terminal, else as JSON, which is UTF-8 (RFC 8259, section 8.1)."""
    if sys.stderr.isatty():
        return logging_to(2, TerminalFormatter(), encoding=sys.stderr.encoding)
    return logging_to(2, JsonFormatter(), encoding="utf-8")


def _shown(text: str) -> str:
    """The text with TOML escapes for characters that standard output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    return "".join([c if c.encode(encoding, "ignore") else f"\\U{ord(c):08x}" for c in text])


def _file(text: str) -> Path:
    """An argparse type. An empty text would be the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a file, and got an empty text")
    return Path(text)


def _name(text: str) -> str:
    """An argparse type: a Name as in the schema, of printable characters only."""
    if not (0 < len(text) <= 200 and text.isprintable()) or "${" in text:
        raise argparse.ArgumentTypeError("expected 1 to 200 printable characters without ${...}")
    return text


def _groups(text: str) -> list[str]:
    """An argparse type: names of GROUPS, separated by commas."""
    names = text.split(",")
    for name in names:
        if name not in GROUPS:
            raise argparse.ArgumentTypeError(
                f"{name!r} is not a group; choose from {', '.join(GROUPS)}, with commas between them"
            )
        if names.count(name) > 1:
            raise argparse.ArgumentTypeError(f"{name!r} appears more than once; name each group once")
    return names


def _number(least: int, most: int) -> Callable[[str], int]:
    """An argparse type. The messages of `type=int` would name Python functions."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return number


_port = _number(0, 65_535)
_count = _number(1, 1_000_000)
_milliseconds = _number(0, 60_000)
