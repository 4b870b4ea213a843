"""The folder in which the processes of one gateway find each other. Each process has two Unix sockets in it.

`EPOCH.http` takes requests that another process passes on. `EPOCH.ask` answers short questions: see `questions`. Only
the user of the gateway can open the folder, so whoever can connect to a socket is another process of the gateway.
"""

import contextlib
import errno
import os
import re
import socket
from pathlib import Path

from gateway.streams.epoch import new_epoch

_QUEUE = 1024  # connections that wait to be accepted: all clients of a process may come back at the same time
_MOST = 256  # other processes that are asked, as many as workers; a deploy leaves one, or a few if answers are long
_QUESTIONS = re.compile(r"([A-Za-z0-9_-]{4})\.ask", re.ASCII)
_CLOSED = "must belong to the user of the gateway and be closed to others (chmod 700)"


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Makes the folder if it does not exist, and checks that only this user can enter it. Raises OSError."""
        if not hasattr(socket, "send_fds"):
            raise OSError(errno.ENOTSUP, "server.runtime_dir: this system has no Unix sockets")
        with contextlib.suppress(FileExistsError):
            self.path.mkdir(mode=0o700)
        found = self.path.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise OSError(errno.EACCES, f"server.runtime_dir: {self.path} {_CLOSED}")

    def free_epoch(self) -> str:
        """An epoch that no process in the folder has."""
        while self.requests(epoch := new_epoch()).exists():
            pass
        return epoch

    def requests(self, epoch: str) -> Path:
        return self.path / f"{epoch}.http"

    def questions(self, epoch: str) -> Path:
        return self.path / f"{epoch}.ask"

    def others(self, epoch: str) -> list[str]:
        """The epochs of other processes, the youngest ones first."""
        found = [(_age(path), match[1]) for path in self.path.iterdir() if (match := _QUESTIONS.fullmatch(path.name))]
        return [other for _, other in sorted(found) if other != epoch][:_MOST]

    def forget(self, epoch: str) -> None:
        """Removes the sockets of a process that has gone."""
        for path in (self.questions(epoch), self.requests(epoch)):
            path.unlink(missing_ok=True)


def listening_at(path: Path) -> socket.socket:
    """A Unix socket that listens. It has its name only then: a name that refuses belongs to a process that has gone."""
    one = socket.socket(socket.AF_UNIX)
    before = path.with_name(f"{path.name}~")
    try:
        one.setblocking(False)
        one.bind(str(before))
        one.listen(_QUEUE)
        before.rename(path)
    except BaseException:
        one.close()
        before.unlink(missing_ok=True)
        raise
    return one


def _age(path: Path) -> float:
    """What sorts the youngest first. A file that has gone meanwhile is the oldest."""
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
