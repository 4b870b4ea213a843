"""What a real process takes of memory under load, as the system counts it. `.ci/long` sends larger bodies."""

import asyncio
import contextlib
import io
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import ClientError, ClientSession

from tests.rig.clients import error_of, eventually
from tests.rig.processes import running
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, delta, finish, stream

BODY = int(os.environ.get("BODY_MIB", "4")) * 1_048_576
POSTS = 40
ANSWERS = int(os.environ.get("ANSWERS", "40"))
STORE = 4_000_000  # bytes that ended answers may take; running ones may take twice as much
ALLOWED = 80_000_000  # bytes beside what is bounded: what a load of connections takes, and what the allocator keeps
READS = 2_000_000  # bytes of one answer that are on the way: what a turn of the loop reads, in several copies

KEY = "the-key-of-a-team"


@contextlib.asynccontextmanager
async def process(upstream: ScriptedUpstream, directory: Path, toml: str) -> AsyncIterator[tuple[int, ClientSession]]:
    file = directory / "gateway.toml"
    rest = f'[server]\ndrain_seconds = 0\n[[upstreams]]\nname = "up"\nbase_url = "{upstream.url}/v1"\n'
    file.write_text(f"{toml}\n{rest}")
    environ = {"OPENAI_MODEL": "m", "OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
    async with running("serve", "--config", str(file), **environ) as (gateway, address):
        assert gateway.stderr is not None
        logs = asyncio.create_task(gateway.stderr.read())
        async with ClientSession(address) as session:
            yield gateway.pid, session
        gateway.terminate()
        await logs


def peak(pid: int) -> int:
    """The most that the process ever took, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


async def test_many_large_bodies_at_once_take_the_memory_of_few(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A key that may have one stream: its other posts are refused while they arrive, and most of them unread."""
    upstream.script(stream(delta("a"), Stall()))
    limited = f'[[keys]]\nname = "one"\nkey = "{KEY}"\nmax_streams = 1\n'
    body = json.dumps({"messages": [{"role": "user", "content": "x" * BODY}], "stream": True}).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with process(upstream, tmp_path, limited) as (pid, session):
        before, codes = peak(pid), list[str]()
        admitted = asyncio.Event()

        async def post() -> None:
            with contextlib.suppress(ClientError):  # refused while it was sent, and the rest not waited for
                async with session.post("/v1/chat/completions", data=io.BytesIO(body), headers=headers) as response:
                    if response.status == 200:
                        codes.append("admitted")
                        await admitted.wait()
                    else:
                        codes.append((await error_of(response))[1])

        posts = {asyncio.create_task(post()) for _ in range(POSTS)}
        async with asyncio.timeout(60):
            while len(waiting := {one for one in posts if not one.done()}) > 1:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        admitted.set()
        await asyncio.gather(*posts)
        assert codes.count("admitted") == 1
        assert set(codes) == {"admitted", "too_many_streams"}
        assert peak(pid) - before < 4 * BODY + ALLOWED


async def test_running_answers_take_what_the_store_may_hold_twice_over(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Whatever each of them may grow to: the largest are ended, until the others are within the bound.

    What all of them read in the turns of the event loop until then comes on top.
    """
    upstream.script(stream(*[delta("x" * 50_000)] * 140, Stall()))
    async with process(upstream, tmp_path, f"[store]\nmax_bytes = {STORE}\n") as (pid, session):
        before = peak(pid)

        async def start() -> int:
            async with session.post("/streams", json={"question": "hi"}) as response:
                return response.status

        statuses = await asyncio.gather(*[start() for _ in range(ANSWERS)])
        assert statuses.count(201) >= 2  # the others came when those had filled the store
        await eventually(lambda: len(upstream.requests) == statuses.count(201), within=60)
        await eventually(lambda: upstream.playing <= 1, within=60)
        assert 2 * STORE < peak(pid) - before < 3 * STORE + ALLOWED / 2 + ANSWERS * READS < ANSWERS * 7_000_000


async def test_an_item_that_an_input_names_many_times_takes_no_room(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """A reference has 70 bytes, and stands for an item of half a megabyte."""
    upstream.script(stream(delta("x" * 500_000), finish(), DONE))
    async with process(upstream, tmp_path, "") as (pid, session):
        async with session.post("/v1/responses", json={"input": "hi"}) as response:
            (item,) = (await response.json())["output"]
        before = peak(pid)
        named = [{"type": "item_reference", "id": item["id"]}] * 1000
        async with session.post("/v1/responses", json={"input": named}) as response:
            assert await error_of(response) == (413, "body_too_large")
        assert peak(pid) - before < ALLOWED
        assert len(upstream.requests) == 1
