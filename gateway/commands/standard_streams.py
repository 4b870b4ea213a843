"""Standard input, output and error, in whatever state the process receives them.

A shell can start a command with a closed descriptor (`2>&-`), with one that cannot be written to (`>/dev/full`), with
one whose reader leaves (`| head`), or with an encoding that lacks some characters. The command has to work with each.
"""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO


def open_missing() -> None:
    """Opens the null device in place of closed descriptors.

    Otherwise the next socket would get such a number, and be written to or closed like a standard stream.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def escape_unknown() -> None:
    """Makes the streams write escapes for characters that their encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> OSError | None:
    """Writes what was printed while a failure can still be reported, and returns the failure.

    Python's own flush at the exit would print an exception and change the exit status.
    """
    _flushed(sys.stderr)
    return _flushed(sys.stdout)


def tell(text: object) -> None:
    """Prints to standard error, if that is possible."""
    with suppress(OSError):
        print(text, file=sys.stderr)
    _flushed(sys.stderr)


def _flushed(stream: TextIO) -> OSError | None:
    try:
        stream.flush()
    except OSError as error:
        _divert(stream)
        return error
    return None


def _divert(stream: TextIO) -> None:
    """Points the stream at the null device, so that the same text is not written again."""
    with suppress(io.UnsupportedOperation):  # a stream without a descriptor, as in tests
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
