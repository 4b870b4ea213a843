"""The command `gateway usage`: sums over access logs."""

import gzip
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from gateway.commands.announcement import is_announcement
from gateway.commands.command_error import CommandError
from gateway.commands.standard_streams import tell
from gateway.observe.report import account, as_csv, as_table

_LINES_PER_LOOK = 65_536  # at the clock: these take a fifth of a second


def print_usage(logs: Sequence[str], by: Sequence[str], *, csv: bool) -> None:
    """Sums the logs by the names in `by` and prints them as a table or as CSV. Raises CommandError."""
    result = account(with_progress(_lines(logs)), by, is_known=is_announcement)
    if result.skipped:
        lines = "1 line was" if result.skipped == 1 else f"{result.skipped:,} lines were"
        tell(f"{lines} not JSON and {lines.split()[-1]} skipped.")
    if csv and not result.rows:
        tell(as_table(result))
    print(as_csv(result) if csv else as_table(result))


def with_progress(lines: Iterable[bytes], *, now: Callable[[], float] = time.monotonic) -> Iterator[bytes]:
    """The lines, with their number on a terminal once they take more than a second."""
    if not sys.stderr.isatty():
        yield from lines
        return
    started, clear = now(), ""
    try:
        for number, line in enumerate(lines, 1):
            if number % _LINES_PER_LOOK == 0 and now() - started > 1:
                print(f"\r{number:,} lines", end="", file=sys.stderr, flush=True)
                clear = "\r\x1b[K"
            yield line
    finally:
        print(clear, end="", file=sys.stderr, flush=True)


def _lines(names: Sequence[str]) -> Iterator[bytes]:
    for name in names:
        try:
            with _opened(name) as file:
                yield from file
        except (OSError, EOFError, zlib.error) as error:  # the last two mean that a .gz file is cut or damaged
            reason = getattr(error, "strerror", None) or error
            raise CommandError(f"The log cannot be read: {reason}: {name}") from None


def _opened(name: str) -> AbstractContextManager[Iterable[bytes]]:
    if name == "-":
        return nullcontext(sys.stdin.buffer)
    return gzip.open(name) if name.endswith(".gz") else open(name, "rb")
