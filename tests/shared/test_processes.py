"""Two real processes on one Redis, of which one is killed."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.rig.clients import EVENTS
from tests.rig.completions import STREAMED, read
from tests.rig.processes import running
from tests.rig.redis import RedisServer
from tests.rig.scripted_upstream import ScriptedUpstream, Stall, delta, finish, stream

Gateway = tuple[asyncio.subprocess.Process, aiohttp.ClientSession]


@pytest.fixture
async def two(upstream: ScriptedUpstream, redis: RedisServer, tmp_path: Path) -> AsyncIterator[list[Gateway]]:
    file = tmp_path / "gateway.toml"
    file.write_text(
        f'[server]\ndrain_seconds = 0\n[store]\nurl = "{redis.url}"\n'
        f'[[upstreams]]\nname = "up"\nbase_url = "{upstream.url}/v1"\n'
    )
    environ = {"OPENAI_MODEL": "m", "OPENAI_API_KEY": "", "OPENAI_BASE_URL": ""}
    async with contextlib.AsyncExitStack() as stack:
        gateways = []
        for _ in range(2):
            process, address = await stack.enter_async_context(running("serve", "--config", str(file), **environ))
            assert process.stderr is not None
            session = await stack.enter_async_context(aiohttp.ClientSession(address))
            gateways.append((process, session))
        yield gateways


async def test_fault_67_a_killed_process_leaves_what_it_recorded(
    two: list[Gateway], upstream: ScriptedUpstream
) -> None:
    """Who watches elsewhere is told within ten seconds. Who comes later reads the same bytes."""
    (process, here), (_, there) = two
    upstream.script(stream(delta("one "), delta("two "), Stall()))
    async with here.post("/streams", json={"question": "hi"}) as response:
        url = (await response.json())["url"]
    async with there.get(url, headers=EVENTS) as response:
        body = b""
        while b"data: two" not in body:
            body += await response.content.readany()
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        while part := await response.content.readany():
            body += part
    assert time.monotonic() - killed < 10
    assert body.count(b"producer_lost") == 1
    assert b"receipt" not in body  # nobody knows any more what its own clients were sent
    assert b'"retryable":true' in body
    assert b"event: end\n" in body
    async with there.get(url, headers=EVENTS) as response:
        assert await response.read() == body
    last = next(line[4:] for line in reversed(body.decode().splitlines()) if line.startswith("id: "))
    stream_id, _, number = last.rpartition(".")
    assert number == "04"
    async with there.get(url, headers={"Accept": "application/json"}) as response:
        assert (await response.json())["last_event_id"] == last
    # A client that had one or two more events of the killed process has what is lost, and not the failure or the end.
    for number, status in (("04", 204), ("03", 200), ("2", 200), ("3", 404), ("4", 404), ("5", 404)):
        async with there.get(url, headers={**EVENTS, "Last-Event-ID": f"{stream_id}.{number}"}) as response:
            assert response.status == status
    assert len(upstream.requests) == 1


@pytest.mark.long
@pytest.mark.parametrize("parts", [[delta("a")], [delta("a"), finish()]], ids=["before the finish", "behind it"])
async def test_a_chat_completion_of_a_killed_process_ends_honestly(
    two: list[Gateway], upstream: ScriptedUpstream, parts: list[bytes]
) -> None:
    """Without `[DONE]`, and with an end that breaks off where a client has read that the answer is whole."""
    (process, here), (_, there) = two
    upstream.script(stream(b"".join(parts), Stall()))
    headers = {"Idempotency-Key": "0b9d8c5e-7a54-4ad0-9f7e-3f6a5cf41c0d"}
    async with here.post("/v1/chat/completions", json=STREAMED, headers=headers) as first:
        assert await first.content.readexactly(len(parts[0])) == parts[0]
        async with there.post("/v1/chat/completions", json=STREAMED, headers=headers) as response:
            process.send_signal(signal.SIGKILL)
            joined = await read(response)
    async with there.post("/v1/chat/completions", json=STREAMED, headers=headers) as response:
        assert await read(response) == joined
    assert joined.raw.startswith(b"".join(parts))
    assert joined.error["code"] == "producer_lost"
    assert joined.broken is (len(parts) > 1)
    assert len(upstream.requests) == 1


async def test_a_drained_process_leaves_its_ended_answers_to_the_others(
    two: list[Gateway], upstream: ScriptedUpstream
) -> None:
    """The last entries are written before it exits, and its viewers come back elsewhere."""
    (process, here), (_, there) = two
    upstream.script(stream(delta("one "), Stall()))
    async with here.post("/streams", json={"question": "hi"}) as response:
        url = (await response.json())["url"]
    async with here.get(url, headers=EVENTS) as response:
        await response.content.readuntil(b"data: one")
        process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await process.wait() == 0
    async with there.get(url, headers=EVENTS) as response:
        body = await response.read()
    assert b"data: one" in body
    assert b"shutting_down" in body
