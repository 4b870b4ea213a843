"""The limit on open files: what is accepted gets its upstream, and what is not gets a 503 and not a closed door."""

import asyncio
import json
import logging
import resource
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway.admission.descriptors import Descriptors, highest_limit
from gateway.errors import OutOfDescriptors
from tests.rig.clients import EVENTS, eventually, remains
from tests.rig.processes import shell
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Until, answer, delta, finish, stream

CLIENTS = 300
LIMITED = 'ulimit -n 128; exec "$@" 2>log'


pytestmark = pytest.mark.usefixtures("empty_folder")


@pytest.fixture
async def address(upstream: ScriptedUpstream) -> AsyncIterator[str]:
    """A gateway that may open 128 files, and logs to `log`."""
    words = f"OPENAI_BASE_URL={upstream.url}/v1 OPENAI_MODEL=m; export OPENAI_BASE_URL OPENAI_MODEL; {LIMITED}"
    async with shell(words, "serve") as (process, address):
        yield address
        process.terminate()
        assert await process.wait() == 0


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


def log_lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines() if line.startswith("{")]


def statuses(folder: Path) -> Counter[object]:
    return Counter(line["status"] for line in log_lines(folder) if "status" in line)


@pytest.mark.parametrize("path", ["/chat", "/v1/chat/completions"])
async def test_with_128_descriptors_each_of_300_clients_gets_an_answer_or_a_503(
    upstream: ScriptedUpstream, address: str, session: aiohttp.ClientSession, tmp_path: Path, path: str
) -> None:
    go_on = asyncio.Event()
    upstream.script(stream(delta("a"), Until(go_on), delta("b"), finish(), DONE))
    met: Counter[str] = Counter()

    async def ask() -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}
        async with session.post(address + path, headers=EVENTS, json=body) as response:
            if response.status == 503:
                assert response.headers["Retry-After"] == "5"
                assert response.headers["Connection"] == "close"
                met[(await response.json())["error"]["code"]] += 1
            else:
                assert response.status == 200
                text = await response.read()
                assert b"failure" not in text
                assert b'"stop"' in text
                met["answer"] += 1

    async with asyncio.timeout(30), asyncio.TaskGroup() as asking:
        for _ in range(CLIENTS):
            asking.create_task(ask())
        await eventually(lambda: met["out_of_descriptors"] + len(upstream.requests) >= CLIENTS, within=30)
        go_on.set()  # all of the others are being answered
    assert set(met) == {"answer", "out_of_descriptors"}
    assert sum(met.values()) == CLIENTS
    assert met["answer"] >= 30, met
    await eventually(lambda: statuses(tmp_path) == {200: met["answer"], 503: met["out_of_descriptors"]})
    assert any("RLIMIT_NOFILE" in str(line.get("message")) for line in log_lines(tmp_path))


async def test_clients_that_wait_do_not_shut_out_the_health_check(
    upstream: ScriptedUpstream, address: str, session: aiohttp.ClientSession
) -> None:
    """While as many streams run as there may be, others are told so, and the process answers for itself."""
    go_on = asyncio.Event()
    upstream.script(stream(delta("a"), Until(go_on), delta("b"), finish(), DONE))
    running: list[aiohttp.ClientResponse] = []
    while True:
        response = await session.get(f"{address}/chat?q=x", headers=EVENTS)
        if response.status == 503:
            break
        running.append(response)
    assert len(running) >= 30
    for _ in range(50):
        async with session.get(f"{address}/healthz") as health:
            assert health.status == 200
    go_on.set()
    for response in running:
        assert b'"complete"' in await response.read()
    async with session.get(f"{address}/chat?q=x", headers=EVENTS) as response:
        assert response.status == 200


async def test_connections_that_say_nothing_make_new_ones_wait_and_not_fail(
    upstream: ScriptedUpstream, address: str, session: aiohttp.ClientSession
) -> None:
    """They wait in the system's queue, and are taken as soon as others leave."""
    host, port = address.removeprefix("http://").split(":")
    silent = [await asyncio.open_connection(host, int(port)) for _ in range(150)]
    asking = asyncio.create_task(health(session, address))
    await remains(lambda: not asking.done(), seconds=0.2)
    for _, writer in silent:
        writer.close()
    async with asyncio.timeout(10):
        assert await asking == 200


async def health(session: aiohttp.ClientSession, address: str) -> int:
    async with session.get(f"{address}/healthz") as response:
        return response.status


async def test_callers_of_the_list_of_models_share_one_upstream(
    upstream: ScriptedUpstream, address: str, session: aiohttp.ClientSession
) -> None:
    """Most are answered, with one descriptor for the upstream of them all; the others are told why not."""
    listed = asyncio.Event()
    upstream.script([Until(listed), *answer(200, {"data": []})])
    asking = [asyncio.create_task(models(session, address)) for _ in range(CLIENTS)]
    await upstream.until(requests=1)
    await eventually(lambda: sum(task.done() for task in asking) >= CLIENTS / 2)
    listed.set()
    statuses = Counter(await asyncio.gather(*asking))
    assert set(statuses) == {200, 503}
    assert statuses[200] >= 30
    assert len(upstream.requests) < CLIENTS / 5  # those who come behind an answer are asked for anew


async def models(session: aiohttp.ClientSession, address: str) -> int:
    async with session.get(f"{address}/v1/models") as response:
        return response.status


async def test_the_demo_counts_both_ends_of_its_upstreams(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    met: Counter[int] = Counter()

    async def ask(address: str) -> None:
        async with session.get(f"{address}/chat?q=x&model=demo-clock", headers=EVENTS) as response:
            met[response.status] += 1
            if response.status == 200:
                await response.content.readuntil(b"data: ")
                while sum(met.values()) < CLIENTS:
                    assert b"failure" not in await response.content.readany()

    async with shell(LIMITED, "serve", "--demo") as (_, address), asyncio.timeout(30):
        await asyncio.gather(*[ask(address) for _ in range(CLIENTS)])
    assert set(met) == {200, 503}
    assert met[200] >= 20


# The count


def test_without_a_limit_there_is_always_room() -> None:
    descriptors = Descriptors(None)
    for _ in range(100_000):
        descriptors.add_client()
        descriptors.check_upstream()
        descriptors.add_upstream()
    descriptors.check()
    assert not descriptors.full
    assert not descriptors.busy


@pytest.mark.parametrize("limit", [1, 40, 64, 128, 256, 1024, 20_000, 1_048_576])
@pytest.mark.parametrize("cost", [1, 2])
def test_whoever_is_accepted_finds_a_descriptor_for_its_upstream(limit: int, cost: int) -> None:
    """Clients come as long as the door is open, and each of them asks."""
    descriptors = Descriptors(limit, cost=cost)
    clients = streams = 0
    while not descriptors.full:
        clients += 1
        descriptors.add_client()
        try:
            descriptors.check()
            descriptors.check_upstream()
        except OutOfDescriptors:
            continue
        streams += 1
        descriptors.add_upstream()
    assert streams >= 1
    assert clients + cost * streams <= max(limit - 40, cost + 2)
    assert clients > streams  # some are there to be refused


def test_a_trouble_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    times = iter([0.0, 0.0, 30.0, 61.0, 61.0, 62.0])
    descriptors = Descriptors(128, now=lambda: next(times))
    for _ in range(89):
        descriptors.add_client()
    for _ in range(3):
        with pytest.raises(OutOfDescriptors, match="as many connections open as its system allows"):
            descriptors.check()
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 2
    assert said[0] == (
        "requests are refused: 89 connections of clients and 0 upstreams are open, and 128 files may be (RLIMIT_NOFILE)"
    )


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        expected = min(hard, 1_048_576) if hard != resource.RLIM_INFINITY else 1_048_576
        assert highest_limit() == expected == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
