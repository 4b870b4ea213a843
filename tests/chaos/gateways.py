"""The processes of a run: gateways on fixed ports, the upstream, and Redis. Each can be asked what is left in it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.chaos.connection import Connection
from tests.chaos.logs import UPSTREAM_KEY
from tests.rig.accounts import Account, account
from tests.rig.ports import free_port
from tests.rig.processes import answers

KEEP = 6.0  # seconds that an answer is kept after its end: clients come back sooner
_DRAIN = 2.0  # seconds; some answers take longer, so a drain has to end them

_TOML = """
[server]
drain_seconds = {drain}
[stream]
keep_seconds = {keep}
attach_seconds = 3
grace_seconds = 3
heartbeat_seconds = 1
[timeouts]
first_token = 4
idle = 4
total = 40
[retry]
backoff_seconds = 0.05
[breaker]
failures = 1000000
{store}
[[upstreams]]
name = "up"
base_url = "{upstream}/v1"
api_key = "{key}"
[[models]]
name = "m"
targets = [{{upstream = "up"}}]
"""


class Gateway:
    """One gateway. `more` has further tables of its configuration.

    `idle` is its account before it had a client. It is compared only if the process was never restarted.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        upstream: str,
        redis: str | None,
        more: str = "",
        *,
        keep: float = KEEP,
        **environ: str,
    ) -> None:
        self.name = name
        self.port = free_port()
        self.restarts = 0
        self.keep = keep
        self.idle: Account | None = None
        self._environ = {"ACCOUNT": str(folder / f"{name}.account"), **environ}
        self._log = folder / f"{name}.log"
        self._file = folder / f"{name}.toml"
        store = f'[store]\nurl = "{redis}"' if redis else ""
        tables = _TOML.format(drain=_DRAIN, keep=keep, store=store, upstream=upstream, key=UPSTREAM_KEY)
        self._file.write_text(tables + more)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self) -> None:
        environ = {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "", "OPENAI_MODEL": ""}
        command = "tests.rig.accounts", "serve", "--config", str(self._file), "--port", str(self.port)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *command),
                stderr=log,
                env={**os.environ, **environ, **self._environ},
                start_new_session=True,  # Ctrl-C is for the run, which then stops its processes
            )
        await answers(self.port)

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()
        self.restarts += 1

    async def drain(self) -> int:
        """SIGTERM, and its exit status."""
        self._process.send_signal(signal.SIGTERM)
        self.restarts += 1
        async with asyncio.timeout(_DRAIN + 15):  # `operating.md` allows 12 seconds more, and the machine is busy
            return await self._process.wait()

    async def stop(self) -> None:
        if self._process.returncode is None:
            with suppress(TimeoutError):
                await self.drain()
                return
            await self.kill()

    async def account(self) -> Account:
        return await account(self.pid, Path(self._environ["ACCOUNT"]))

    async def gauges(self) -> dict[str, float]:
        connection = await Connection.ask(self.port, "GET", "/metrics", headers={"Connection": "close"})
        lines = (await connection.body()).decode().splitlines()
        connection.cut("fin")
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def log(self) -> str:
        return self._log.read_text(errors="replace")


class UpstreamProcess:
    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self._process = process

    async def told(self) -> tuple[dict[str, int], int]:
        """How often each answer was asked for, and how many answers are being given."""
        value = await self._get("/told")
        return value["calls"], value["playing"]

    async def hang_up(self) -> None:
        """Closes the connections that wait to be used again, which are no leak. Gateways would hold them for 15 s."""
        await self._get("/hang-up")

    async def _get(self, path: str) -> Any:
        connection = await Connection.ask(int(self.url.rpartition(":")[2]), "GET", path)
        value = json.loads(await connection.body())
        connection.cut("fin")
        return value


@asynccontextmanager
async def upstream_process() -> AsyncIterator[UpstreamProcess]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.upstream"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            url = (await process.stdout.readline()).decode().strip()
        yield UpstreamProcess(process, url)
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
