"""`systemctl restart` with the commands of the unit, and a stand-in for systemd (see `tests/rig/systemd.py`)."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.commands.test_handover import Returning, Rig, all_of
from tests.commands.test_systemd import unit
from tests.rig.clients import Answer
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Until, delta, finish, stream
from tests.rig.served import toml
from tests.rig.systemd import Service

VIEWERS = 50


@pytest.fixture
async def rig(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Rig]:
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Rig(tmp_path, upstream, session)


def service(rig: Rig, more: str = "") -> Service:
    path = rig.folder / "gateway.toml"
    server = f"[server]\nport = {rig.port}\n{more or f'runtime_dir = {str(rig.sockets)!r}'}\n"
    path.write_text(toml(rig.upstream.url, server), encoding="utf-8")
    rig.sockets.mkdir(mode=0o700)
    return Service(unit()["Service"], path, rig.sockets, rig.folder)


async def test_two_restarts_in_a_row_lose_no_answer(rig: Rig) -> None:
    """Neither one that runs nor one that has ended. New work is taken at once."""
    go_on = asyncio.Event()
    rig.upstream.script(
        stream(delta("whole"), finish(), DONE),
        *[stream(delta("one"), Until(go_on), delta("two\nlines"), finish(), DONE)] * VIEWERS,
        stream(delta("new"), finish(), DONE),
    )
    ended, viewers = Returning(rig), [Returning(rig) for _ in range(VIEWERS)]
    async with service(rig).started() as systemd:
        await ended.come()
        await ended.read(b"whole")
        await all_of(viewers, "come")
        await all_of(viewers, "read", b"one")
        for _ in range(2):
            await systemd.restart()
            for viewer in viewers:
                viewer.leave()
            await all_of(viewers, "come")
            async with rig.get("/chat?q=hi") as response:
                assert Answer(await response.read()).text == "new"
        await ended.come()
        await ended.read_all()
        go_on.set()
        await all_of(viewers, "read_all")
        assert Answer(ended.raw).end["reason"] == "complete"
        assert {Answer(viewer.raw).text for viewer in viewers} == {"onetwo\nlines"}
        assert len({viewer.told for viewer in viewers}) == 1
        assert len(rig.upstream.requests) == 1 + VIEWERS + 2
        assert systemd.calls.read_text().count("StartTransientUnit") == 2
        assert await systemd.stop() == 0


@pytest.mark.parametrize("job", ["stop", "restart"])
@pytest.mark.parametrize("kind", ["runtime_dir", "no folder", "two workers"])
async def test_what_cannot_or_must_not_hand_over_drains(rig: Rig, job: str, kind: str) -> None:
    """A stop, a process without the folder, several workers, and a systemd that refuses the scope."""
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    more = {"runtime_dir": "", "no folder": "host = '127.0.0.1'", "two workers": "workers = 2"}[kind]
    async with service(rig, more).started() as systemd, rig.get("/chat?q=hi") as answer:
        await answer.content.readuntil(b"Hel\n")
        stopping = asyncio.create_task(systemd.stop(job, REFUSES="yes"))
        await asyncio.sleep(0.3)
        assert not stopping.done()
        go_on.set()
        assert Answer(await answer.read()).end["reason"] == "complete"
        assert await stopping == 0


async def test_the_main_process_passes_signals_on_and_ends_with_the_status_of_the_gateway(rig: Rig) -> None:
    async with service(rig).started() as systemd:
        systemd.main.send_signal(signal.SIGHUP)
        await systemd.written("was read again")
        os.kill(systemd.gateway, signal.SIGKILL)
        assert await systemd.main.wait() == 128 + signal.SIGKILL
