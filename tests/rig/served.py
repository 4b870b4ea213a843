"""A gateway that runs as a process, with the file that it reads, and clients of it."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import aiohttp

from tests.rig.clients import EVENTS, Answer, bearer
from tests.rig.processes import ends_cleanly, running
from tests.rig.scripted_upstream import ScriptedUpstream


def toml(url: str, more: str = "", *, model: str = "m") -> str:
    """A configuration with one upstream and one model. `more` has further tables."""
    return (
        f'{more}\n[[upstreams]]\nname = "up"\nbase_url = "{url}/v1"\n'
        f'[[models]]\nname = "{model}"\ntargets = [{{upstream = "up"}}]\n'
    )


class Served:
    """Each request has a connection of its own."""

    process: asyncio.subprocess.Process
    address: str
    session: aiohttp.ClientSession

    def __init__(self, upstream: ScriptedUpstream, folder: Path, more: str = "") -> None:
        """`more` has tables that each configuration has."""
        self.upstream = upstream
        self.file = folder / "gateway.toml"
        self.lines: list[str] = []  # that were read of what it wrote, without those about requests
        self._more = more
        self.write()

    def write(self, more: str = "", *, model: str = "m") -> None:
        self.file.write_text(toml(self.upstream.url, self._more + more, model=model), encoding="utf-8")

    @asynccontextmanager
    async def started(self, *options: str) -> AsyncIterator[Self]:
        """At the end the process is stopped, if it runs, and must have stopped cleanly."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        command = "serve", "--config", str(self.file), *options
        async with (
            aiohttp.ClientSession(connector=connector) as self.session,
            running(*command) as (self.process, self.address),
        ):
            yield self
            if self.process.returncode is None:
                await self.ended()

    async def ended(self) -> str:
        """Stops the process, and returns all that it wrote, without the lines about requests that were read before."""
        self.process.terminate()
        return "\n".join([*self.lines, *await ends_cleanly(self.process)])

    async def written(self, words: str) -> list[str]:
        """Reads on to the line with these words. Returns the lines that were read, without those about requests."""
        assert self.process.stderr is not None
        lines: list[str] = []
        async with asyncio.timeout(5):
            while not lines or words not in lines[-1]:
                line = (await self.process.stderr.readline()).decode()
                assert line, lines
                if '"gateway.access"' not in line:
                    lines.append(line)
        self.lines += lines
        return lines

    async def reload(self, until: str = "read again") -> None:
        """Has it read its file. Waits for the line that has the words `until`."""
        self.process.send_signal(signal.SIGHUP)
        await self.written(until)

    async def ask(self, key: str = "") -> Answer:
        headers = {**EVENTS, **bearer(key)} if key else EVENTS
        async with self.session.get(f"{self.address}/chat?q=hi", headers=headers) as response:
            assert response.status == 200, await response.text()
            return Answer(await response.read())

    async def models(self, key: str = "") -> list[str] | int:
        """The names of all models, or the status that is not 200."""
        headers = bearer(key) if key else {}
        async with self.session.get(f"{self.address}/v1/models", headers=headers) as response:
            if response.status != 200:
                return response.status
            return [model["id"] for model in (await response.json())["data"]]
