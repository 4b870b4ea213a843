"""The three descriptors that a process is given, whatever state they are in.

A shell can start a command with a descriptor closed (`2>&-`), with one that takes nothing (`>/dev/full`), with one
whose reader leaves (`| head`), and with an encoding that lacks the characters of a name. None of these is a fault of
the command.
"""

import io
import os
import sys
from contextlib import suppress
from typing import TextIO


def open_missing() -> None:
    """Opens the null device in the place of closed descriptors.

    Else the next socket would take such a number, and be written to, or closed, as a standard stream.
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
    """Writes characters that the encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush() -> OSError | None:
    """Writes what was printed, while a failure can still be told; returns that.

    Python's own last try would print an exception, and change the exit status.
    """
    _flushed(sys.stderr)
    return _flushed(sys.stdout)


def tell(text: object) -> None:
    """Prints to standard error, if anybody can be told there."""
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
    """Lets what cannot be written go nowhere, so that it is not tried again."""
    with suppress(io.UnsupportedOperation):  # a stream without a descriptor, as tests have it
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
