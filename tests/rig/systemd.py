"""What systemd does with the unit when it starts, restarts and stops it, without systemd.

It runs the commands of the unit itself. It sends SIGTERM to the main process only, waits for its end, and only then
starts the next one. Four commands that need systemd are stand-ins: the list of jobs, the call that makes a scope, and
the look whether the process is in it.
"""

import asyncio
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Self

_STAND_INS = {
    "systemctl": 'echo "7 gateway.service $JOB running"',
    "busctl": 'test -z "$REFUSES" && echo "$@" >>"$CALLS"',
    "grep": "exit 0",
    "sleep": "exit 0",
}


class Service:
    """One service. Its unit has the sections `unit`."""

    main: asyncio.subprocess.Process

    def __init__(self, unit: Mapping[str, list[str]], config: Path, sockets: Path, folder: Path) -> None:
        self._unit = unit
        self._config = config
        self.calls = folder / "calls"
        self.log = folder / "log"
        self._environ = {
            **os.environ,
            "PATH": f"{folder}:{os.environ['PATH']}",
            "RUNTIME_DIRECTORY": str(sockets),
            "CALLS": str(self.calls),
        }
        for name, words in _STAND_INS.items():
            (folder / name).write_text(f"#!/bin/sh\n{words}\n")
            (folder / name).chmod(0o700)

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncIterator[Self]:
        """At the end, all that is left is killed."""
        self._groups: list[int] = []
        try:
            await self.start()
            yield self
        finally:
            for group in self._groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
            await self.main.wait()
        assert "Traceback" not in self.log.read_text()

    async def start(self) -> None:
        """Returns when the gateway serves."""
        with self.log.open("ab") as log:
            self.main = await asyncio.create_subprocess_exec(
                *self._command("ExecStart"), env=self._environ, stderr=log, start_new_session=True
            )
        self._groups.append(self.main.pid)
        await self.written("is serving at", len(self._groups))

    async def written(self, words: str, times: int = 1) -> None:
        async with asyncio.timeout(20):
            while self.log.read_text().count(words) < times:
                assert self.main.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)

    @property
    def gateway(self) -> int:
        """The number of the process that the main process started."""
        return int(Path(f"/proc/{self.main.pid}/task/{self.main.pid}/children").read_text())

    async def stop(self, job: str = "stop", **environ: str) -> int:
        """Returns the exit status of the main process."""
        environ = {**self._environ, **environ, "JOB": job, "MAINPID": str(self.main.pid)}
        stopping = await asyncio.create_subprocess_exec(*self._command("ExecStop"), env=environ)
        await stopping.wait()
        if self.main.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.main.terminate()
        return await self.main.wait()

    async def restart(self, **environ: str) -> None:
        assert await self.stop("restart", **environ) == 0
        await self.start()

    def _command(self, name: str) -> list[str]:
        """As systemd reads it, with the gateway under test in place of the installed one."""
        line = self._unit[name][0].lstrip("-+").replace("%n", "gateway.service").replace("%N", "gateway")
        line = line.replace("$$", "$").replace("/opt/gateway/bin/gateway", f"{sys.executable} -m gateway")
        return shlex.split(re.sub(r"/etc/gateway/config\.toml", str(self._config), line))
