"""Tells systemd about the process: ready, reloading, stopping, alive. The protocol is that of `sd_notify`.

Each message is a datagram to the Unix socket that NOTIFY_SOCKET names. Without that variable, nothing is sent. The
pings of the watchdog come from the event loop, so they stop when the loop is stuck, and systemd starts a new process.
With several workers they come from their parent, which replaces a worker that is stuck.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Mapping

logger = logging.getLogger(__name__)

_SEND_SECONDS = 1.0  # for systemd to make room for a message; its queue holds hundreds, so this is never needed
_PINGS = 3  # in the time that systemd allows: one may be late, and one may be lost


class Messenger:
    """The state of this process, as systemd sees it. The owner calls `ping` every `ping_seconds`."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        self._address = _socket_address(environ.get("NOTIFY_SOCKET", ""))
        self.ping_seconds = _ping_seconds(environ, pid) if self._address else None

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """To be followed by `ready`. `Type=notify-reload` compares the time with the moment of its own request."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str, seconds: float | None = None) -> None:
        """`seconds` is the time from now on that systemd has to wait for the end, if `TimeoutStopSec` is shorter."""
        more = "" if seconds is None else f"\nEXTEND_TIMEOUT_USEC={seconds * 1_000_000:.0f}"
        self._send(f"STOPPING=1\nSTATUS={status}{more}")

    def ping(self) -> None:
        self._send("WATCHDOG=1", seconds=0)

    def _send(self, message: str, *, seconds: float = _SEND_SECONDS) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(seconds)
                sender.sendto(message.encode(), self._address)
        except OSError as error:  # the gateway serves on; after a lost READY or too few pings, systemd restarts it
            logger.warning("systemd was not told %s: %s", message.partition("\n")[0], error.strerror or error)


class Notifier(Messenger):
    """One that pings from the event loop. The owner must call `close`."""

    _timer: asyncio.TimerHandle | None = None

    def ready(self, status: str) -> None:
        super().ready(status)
        if self._timer is None and self.ping_seconds is not None:
            self._ping(asyncio.get_running_loop(), self.ping_seconds)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _ping(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.ping()
        self._timer = loop.call_later(seconds, self._ping, loop, seconds)


def _socket_address(name: str) -> str:
    """A name that begins with @ is in the abstract namespace. Other kinds (vsock:) are for virtual machines only."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else ""


def _ping_seconds(environ: Mapping[str, str], pid: int) -> float | None:
    """The time between two pings, or None if systemd expects none from this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid) or not (microseconds.isascii() and microseconds.isdigit()):
        return None
    return int(microseconds) / 1_000_000 / _PINGS or None
