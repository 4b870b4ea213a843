"""What the parent of several workers and the workers themselves know."""

import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.config import Config
from gateway.notify import Messenger

MESSAGE = 32  # bytes of a worker's report: its process and a number, padded


@dataclass(slots=True, kw_only=True)
class Plan:
    """What the workers are to do. A reload replaces `config`, and each has a number."""

    config: Config
    announce: Callable[[str], None]
    reread: Callable[[], Config]
    log: Callable[[], AbstractContextManager[Any]]  # opens the log of a worker
    sockets: Sequence[socket.socket]
    folder: Path
    systemd: Messenger
    number: int = 0
    announced: bool = False
