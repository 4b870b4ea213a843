"""SIGHUP: the configuration is read again while answers run."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.commands.test_cli import ends_cleanly
from tests.rig.clients import EVENTS, Answer
from tests.rig.processes import running
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Until, answer, delta, finish, stream

KEY = "sk-the-first-key-of-all"
OTHER = "sk-another-key-of-all"


@dataclass
class Rig:
    """A gateway as a process, with its file."""

    process: asyncio.subprocess.Process
    address: str
    session: aiohttp.ClientSession
    file: Path
    upstream: ScriptedUpstream
    lines: list[str] = field(default_factory=list)

    def write(self, more: str, *, model: str = "m", key: str = KEY) -> None:
        self.file.write_text(
            f'{more}\n[[upstreams]]\nname = "up"\nbase_url = "{self.upstream.url}/v1"\n[[models]]\nname = "{model}"\n'
            f'targets = [{{upstream = "up"}}]\n[[keys]]\nname = "team"\nkey = "{key}"\n',
            encoding="utf-8",
        )

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)

    async def models(self, key: str = KEY) -> list[str] | int:
        """The names of all models, or the status that is not 200."""
        headers = {"Authorization": f"Bearer {key}"}
        async with self.session.get(f"{self.address}/v1/models", headers=headers) as response:
            if response.status != 200:
                return response.status
            return [model["id"] for model in (await response.json())["data"]]

    async def after_reload(self, expected: list[str] | int, key: str = KEY) -> None:
        await self.until_written("read again")
        assert await self.models(key) == expected

    async def heard(self) -> None:
        """Waits for the next line of the process that is not about a request."""
        assert self.process.stderr is not None
        line = b'"gateway.access"'
        while b'"gateway.access"' in line:
            line = await self.process.stderr.readline()
        self.lines.append(line.decode())

    async def until_written(self, words: str) -> None:
        async with asyncio.timeout(5):
            while words not in "".join(self.lines):
                await self.heard()

    async def written(self) -> str:
        """Ends the process, and returns what it wrote."""
        self.process.terminate()
        return "\n".join([*self.lines, *await ends_cleanly(self.process)])


@pytest.fixture
async def rig(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Rig]:
    file = tmp_path / "gateway.toml"
    upstream.script(answer(200, {"data": []}))
    async with aiohttp.ClientSession() as session:
        rig = Rig(None, "", session, file, upstream)  # type: ignore[arg-type]  # the file has to exist first
        rig.write("")
        async with running("serve", "--config", str(file)) as (rig.process, rig.address):
            yield rig


async def test_models_and_keys_change_and_running_answers_go_on(rig: Rig) -> None:
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    headers = {**EVENTS, "Authorization": f"Bearer {KEY}"}
    async with rig.session.get(f"{rig.address}/chat?q=hi", headers=headers) as answer:
        await answer.content.readuntil(b"Hel\n")
        rig.write("", model="n", key=OTHER)
        rig.reload()
        await rig.after_reload(["n"], OTHER)
        assert await rig.models(KEY) == 401
        go_on.set()
        assert Answer(await answer.read()).end["reason"] == "complete"
    assert "the configuration was read again" in await rig.written()


async def test_a_file_with_faults_is_refused_and_the_old_one_stays(rig: Rig) -> None:
    rig.write("[stream]\nkeep_second = 1\nretry_ms = -1", model="n")
    rig.reload()
    await rig.until_written("stream.retry_ms")
    assert await rig.models() == ["m"]
    rig.file.unlink()
    rig.reload()
    await rig.until_written("cannot be read")
    assert await rig.models() == ["m"]
    written = await rig.written()
    assert "the configuration is not used: stream.keep_second: unknown key; did you mean keep_seconds?" in written
    assert "the configuration is not used: stream.retry_ms: " in written


async def test_what_needs_a_new_start_is_told(rig: Rig) -> None:
    """And a gateway that others can reach does not open itself: the rules hold for the socket that it has."""
    rig.write("[server]\nplayground = false\n[store]\nmax_streams = 5\n[traces]\ncontent = true", model="n")
    rig.reload()
    await rig.after_reload(["n"])
    assert "these options change at the next start: server.playground, store, traces" in await rig.written()
