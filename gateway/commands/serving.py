"""The commands `gateway serve` and `gateway demo-upstream`: one process, several, or one with the demo upstream."""

import argparse
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, suppress
from typing import Any

from gateway.commands.announcement import announced, announced_demo, unread
from gateway.commands.command_error import CommandError
from gateway.commands.configuration import NOTHING_CONFIGURED, configured, with_overrides
from gateway.commands.demo import demo_config
from gateway.config import Config
from gateway.demo import create_demo
from gateway.observe.formatters import JsonFormatter, TerminalFormatter
from gateway.observe.writer import LogWriter, logging_and_forking, logging_to
from gateway.serve import alone, listening, run, serve, serve_app

_NO_GUNICORN = """\
More than one worker needs gunicorn, which is not installed. Add it with the extra "workers":

  pip install 'gateway[workers]'

Or serve with one process: set server.workers to 1. gunicorn does not run on Windows."""


def serve_gateway(options: argparse.Namespace) -> int | None:
    if options.demo:
        _run_alone(lambda log: _serve_demo(options, log))
        return None
    config = with_overrides(configured(options.config), options)
    if not config.upstreams:
        raise CommandError("\n\n".join([NOTHING_CONFIGURED, *unread(options.config)]))
    if config.server.workers > 1:
        return _serve_workers(config, options)
    _run_alone(lambda log: _serve_alone(config, options, log))
    return None


def _run_alone(main: Callable[[LogWriter], Coroutine[Any, Any, None]]) -> None:
    with _logging() as log, suppress(KeyboardInterrupt):  # raised where the loop cannot handle signals (Windows)
        run(main(log))


async def _serve_alone(config: Config, options: argparse.Namespace, log: LogWriter) -> None:
    await serve(
        config, lambda address: log.say(_welcome(address, config, options)), alone(config), reread=_rereader(options)
    )


def _serve_workers(config: Config, options: argparse.Namespace) -> int:
    try:
        from gateway.workers.parent import serve_workers  # needs an extra
    except ImportError:
        raise CommandError(_NO_GUNICORN) from None
    formatter, encoding = _log_format()
    with logging_and_forking(2, formatter, encoding=encoding) as log:
        return serve_workers(
            config,
            lambda address: log.say(_welcome(address, config, options)),
            reread=_rereader(options),
            log=_logging,
        )


def _welcome(address: str, config: Config, options: argparse.Namespace) -> str:
    return "\n".join([*announced(address, config), *unread(options.config)])


def _rereader(options: argparse.Namespace) -> Callable[[], Config]:
    """Returns the configuration as it is when it is called. Raises Faults or CommandError."""

    def reread() -> Config:
        config = with_overrides(configured(options.config), options)
        if not config.upstreams:
            raise CommandError("there is no upstream any more")
        return config

    return reread


async def _serve_demo(options: argparse.Namespace, log: LogWriter) -> None:
    if options.config is not None:
        raise CommandError("--demo and --config exclude each other: choose one of the two.")
    if (options.workers or 1) > 1:
        raise CommandError("--demo runs in one process. Leave out --workers, or configure an upstream.")
    async with listening(create_demo(), "127.0.0.1", 0, access_log=None) as upstream:
        config = with_overrides(demo_config(f"{upstream}/v1"), options)
        both_ends = 2  # descriptors for each upstream connection, because the upstream is in this process, too
        await serve(
            config,
            lambda address: log.say(_welcome(address, config, options)),
            alone(config),
            cost=both_ends,
        )


def serve_demo_upstream(port: int, tokens: int | None, interval_ms: int | None) -> None:
    app = create_demo(tokens=tokens, interval=None if interval_ms is None else interval_ms / 1000)
    _run_alone(lambda log: serve_app(app, "127.0.0.1", port, lambda address: log.say(announced_demo(address))))


def _logging() -> AbstractContextManager[LogWriter]:
    formatter, encoding = _log_format()
    return logging_to(2, formatter, encoding=encoding)


def _log_format() -> tuple[logging.Formatter, str]:
    """How to log to standard error: as text for a terminal, else as JSON, which is UTF-8 (RFC 8259, section 8.1)."""
    if sys.stderr.isatty():
        return TerminalFormatter(), sys.stderr.encoding
    return JsonFormatter(), "utf-8"
