"""The command `gateway`: its command line, and the start of each subcommand.

Exit status: 0 after a clean stop, 1 if something failed while running, 2 if the command line or the configuration is
wrong.
"""

import argparse
import errno
from collections.abc import Sequence

from gateway import __version__
from gateway.commands import arguments, doctor
from gateway.commands.announcement import unread
from gateway.commands.command_error import CommandError
from gateway.commands.configuration import NOTHING_CONFIGURED, configured, environment
from gateway.commands.key import print_key
from gateway.commands.probe import probe
from gateway.commands.serving import serve_demo_upstream, serve_gateway
from gateway.commands.standard_streams import escape_unknown, flush, open_missing, tell
from gateway.commands.usage import print_usage
from gateway.config import Faults, described
from gateway.observe.report import GROUPS

_EXAMPLES = """\
examples:
  gateway serve --demo                          try it: no key, no network, and a page to ask from
  OPENAI_API_KEY=... gateway serve              use OpenAI, or the server of OPENAI_BASE_URL
  gateway check --config config.toml --connect  find faults before a start, and ask each upstream once
  gateway serve --config config.toml            serve others; start from config.example.toml
  gateway key team-a                            make a key for a caller
  gateway usage --by key gateway.log            tokens and cost of each key

"gateway COMMAND --help" shows the options of a command. At SIGTERM, "serve" ends
after the running answers. At SIGHUP, it reads its configuration again.
"""


def main(line: Sequence[str] | None = None) -> int:
    open_missing()
    escape_unknown()
    try:
        status = _run(line)
    finally:
        failure = flush()
    if failure is None or isinstance(failure, BrokenPipeError):  # `head` and others leave early, which is no failure
        return status
    tell(f"gateway: {failure.strerror}.")
    return status or 1


def _run(line: Sequence[str] | None) -> int:
    options = build_parser().parse_args(line)
    try:
        status: int | None = options.command(options)
        return status or 0
    except Faults as faults:
        tell("\n  ".join(["The configuration has these faults:", *faults.faults]))
        return 2
    except CommandError as error:
        tell(error)
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
        prog="gateway",
        description="Streams chat completions from any OpenAI-compatible server.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gateway {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    parser.set_defaults(command=lambda _: _help(parser))

    command = commands.add_parser("serve", help="run the gateway")
    command.add_argument("--config", type=arguments.file, metavar="FILE", help="TOML file (default: environment only)")
    command.add_argument("--host", help="address to listen on (overrides server.host)")
    command.add_argument(
        "--port", type=arguments.port, help="port to listen on, 0 for any free one (overrides server.port)"
    )
    command.add_argument("--workers", type=arguments.workers, help="processes to serve with (overrides server.workers)")
    command.add_argument("--demo", action="store_true", help="use a built-in demo upstream; needs no configuration")
    command.set_defaults(command=serve_gateway)

    command = commands.add_parser("check", help="print the effective configuration, or its faults")
    command.add_argument("--config", type=arguments.file, metavar="FILE", help="TOML file (default: environment only)")
    command.add_argument("--connect", action="store_true", help="ask each upstream once, too; status 1 if one fails")
    command.set_defaults(command=_check)

    command = commands.add_parser("doctor", help="find what spoils a stream on the way to a gateway")
    doctor.add_options(command)
    command.set_defaults(command=lambda options: doctor.examine(options, environment()))

    command = commands.add_parser("demo-upstream", help="run only the demo upstream")
    command.add_argument("--port", type=arguments.port, default=9090, help="port to listen on (default: 9090)")
    command.add_argument("--tokens", type=arguments.count, help="tokens in every answer (default: depends on the text)")
    command.add_argument(
        "--interval-ms", type=arguments.milliseconds, help="pause between tokens (default: a realistic pace)"
    )
    command.set_defaults(command=lambda options: serve_demo_upstream(options.port, options.tokens, options.interval_ms))

    command = commands.add_parser("key", help="make an API key and its configuration entry")
    command.add_argument(
        "name", metavar="NAME", type=arguments.name, help="name of the key in the configuration and in the log"
    )
    command.set_defaults(command=lambda options: print_key(options.name))

    command = commands.add_parser("usage", help="sum up access logs by day, key and model")
    command.add_argument("logs", nargs="+", metavar="LOGFILE", help="access log in JSON, also .gz; - is standard input")
    command.add_argument(
        "--by",
        type=arguments.groups,
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


def _check(options: argparse.Namespace) -> int:
    config = configured(options.config)
    print(*described(config), sep="\n")
    for hint in unread(options.config):
        tell(hint)
    if not config.upstreams:
        raise CommandError(NOTHING_CONFIGURED)
    findings = probe(config) if options.connect else []
    if findings:
        print("", *findings, sep="\n")
    return int(any(finding.is_fault for finding in findings))
