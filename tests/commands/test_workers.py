"""Several workers behind one address: each serves, a dead one is replaced, and signals reach all of them."""

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.handlers.test_metrics import Samples, samples_in, total, value
from tests.rig.clients import EVENTS, Answer
from tests.rig.processes import ends_cleanly
from tests.rig.redis import redis_server
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, Until, answer, delta, finish, stream
from tests.rig.served import Served

WORKERS = 2
OK = stream(delta("Hel"), delta("lo"), finish(), DONE)


class Workers(Served):
    """A gateway with two workers."""

    passed_on = 0

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    async def replaced(self, pid: int) -> None:
        await until(lambda: len(set(self.workers()) - {pid}) == WORKERS)

    async def begin(self) -> aiohttp.ClientResponse:
        """Starts an answer, and reads up to its first content."""
        response = await self.session.get(f"{self.address}/chat?q=hi", headers=EVENTS)
        await response.content.readuntil(b"Hel\n")
        return response

    async def begin_on_each(self, least: int) -> list[aiohttp.ClientResponse]:
        """Starts `least` answers, and goes on until each worker has at least two."""
        idle = {pid: sockets_of(pid) for pid in self.workers()}
        answers = await asyncio.gather(*[self.begin() for _ in range(least)])
        while any(sockets_of(pid) < idle[pid] + 4 for pid in idle):  # two for each answer
            assert len(answers) < least + 200
            answers.append(await self.begin())
        return answers

    async def through(self, path: str, headers: dict[str, str]) -> Answer:
        """Asks on a new connection, and counts the responses that another worker has passed on: these close it."""
        async with aiohttp.ClientSession() as new, new.get(self.address + path, headers=headers) as response:
            assert response.status == 200, await response.text()
            self.passed_on += response.headers.get("Connection") == "close"
            return Answer(await response.read())

    async def scraped(self) -> Samples:
        async with self.session.get(f"{self.address}/metrics") as response:
            return samples_in(await response.text())


@pytest.fixture
async def rig(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Workers]:
    upstream.script(OK)
    async with Workers(upstream, tmp_path, "[server]\ndrain_seconds = 0.5\n").started("--workers", f"{WORKERS}") as rig:
        await rig.written("2 workers: limits of keys and addresses")
        yield rig


def sockets_of(pid: int) -> int:
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            count += os.readlink(descriptor).startswith("socket:")
    return count


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # of another process, which sets no event
            await asyncio.sleep(0.01)


async def test_a_killed_worker_is_replaced_and_the_answers_of_the_other_one_go_on(rig: Workers) -> None:
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    answers = await rig.begin_on_each(10)
    killed, other = rig.workers()
    os.kill(killed, signal.SIGKILL)
    await rig.replaced(killed)
    assert other in rig.workers()
    go_on.set()
    rests = await asyncio.gather(*[answer.read() for answer in answers], return_exceptions=True)
    broken = [rest for rest in rests if isinstance(rest, aiohttp.ClientPayloadError)]
    whole = [Answer(rest).end["reason"] for rest in rests if isinstance(rest, bytes)]
    assert len(broken) >= 2
    assert len(whole) >= 2
    assert {*whole} == {"complete"}
    assert len(broken) + len(whole) == len(answers)
    go_on.clear()
    await rig.begin_on_each(2)  # the new one serves, too


async def test_a_worker_that_cannot_start_is_tried_again_and_the_others_go_on(rig: Workers) -> None:
    """Here it gets no descriptor but those of its parent."""
    taken = {int(name) for name in os.listdir(f"/proc/{rig.process.pid}/fd")}
    few = next(number for number in itertools.count() if number not in taken)
    before = resource.prlimit(rig.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(rig.process.pid, resource.RLIMIT_NOFILE, (few, before[1]))
    killed, other = rig.workers()
    os.kill(killed, signal.SIGKILL)
    await rig.written("was sent SIGKILL")
    await rig.written("a worker failed: [Errno 24] Too many open files")  # about the next one
    assert (await rig.ask()).end["reason"] == "complete"
    resource.prlimit(rig.process.pid, resource.RLIMIT_NOFILE, before)
    await rig.replaced(killed)
    assert other in rig.workers()
    assert (await rig.ask()).end["reason"] == "complete"


async def test_at_sigterm_all_workers_drain(rig: Workers) -> None:
    """Of 200 running answers, those that can end do, and the others end with a failure that can be tried again."""
    go_on = asyncio.Event()
    ending, stalled = stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE), stream(delta("Hel"), Stall())
    rig.upstream.script(*[ending, ending, ending, stalled] * 50)
    answers = await rig.begin_on_each(200)
    rig.process.terminate()
    go_on.set()
    rests = [Answer(await answer.read()) for answer in answers]
    reasons = Counter(rest.end["reason"] for rest in rests)
    assert reasons["complete"] == 150
    assert reasons.total() == reasons["complete"] + reasons["shutting_down"]
    for rest in rests:
        if rest.end["reason"] == "shutting_down":
            assert (rest.failure["error"]["code"], rest.failure["retryable"]) == ("shutting_down", True)
    async with asyncio.timeout(5):
        await ends_cleanly(rig.process)


async def test_a_signal_to_the_whole_group_counts_once(rig: Workers) -> None:
    """A terminal sends Ctrl-C to all processes. A worker that counted it and its parent's would cut its answers.

    The folder of the workers goes with them.
    """
    folder = folder_of(rig.workers()[0])
    assert folder.exists()
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    answers = await rig.begin_on_each(4)
    os.killpg(rig.process.pid, signal.SIGINT)
    await rig.written("waiting for")
    go_on.set()
    assert {Answer(await answer.read()).end["reason"] for answer in answers} == {"complete"}
    await ends_cleanly(rig.process)
    assert not folder.exists()


async def test_a_reload_replaces_no_worker_and_holds_for_later_ones(rig: Workers) -> None:
    before = rig.workers()
    for number in range(2):
        rig.write(model=f"m{number}")
        await rig.reload()
        assert [await rig.models() for _ in range(10)] == [[f"m{number}"]] * 10
    assert rig.workers() == before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: len({*rig.workers()} - {*before}) == WORKERS)
    assert [await rig.models() for _ in range(10)] == [["m1"]] * 10


async def test_a_file_with_faults_is_refused_once(rig: Workers) -> None:
    rig.write("prot = 1\n", model="n")
    rig.process.send_signal(signal.SIGHUP)
    lines = await rig.written("server.prot")
    assert [await rig.models() for _ in range(6)] == [["m"]] * 6
    rig.write("workers = 3\n", model="n")
    rig.process.send_signal(signal.SIGHUP)
    lines += await rig.written("read again")
    assert sum("the configuration is not used" in line for line in lines) == 1
    assert sum("read again" in line for line in lines) == 1
    assert [await rig.models() for _ in range(6)] == [["n"]] * 6


async def test_each_scrape_has_the_metrics_of_all_workers(rig: Workers) -> None:
    """The counts of a worker that was killed stay, and its running answers are not counted any more."""
    for _ in range(12):
        assert (await rig.ask()).end["reason"] == "complete"
    async with asyncio.timeout(5):  # a stream is counted when its client may have its end already
        while value(await rig.scraped(), "gateway_streams_ended_total", reason="complete") < 12:
            pass
    for _ in range(6):  # from any worker
        assert value(await rig.scraped(), "gateway_streams_ended_total", reason="complete") == 12
    rig.upstream.script(stream(delta("Hel"), Stall()))
    answers = await rig.begin_on_each(8)
    await asyncio.sleep(0.6)  # the workers share their gauges twice a second
    assert value(await rig.scraped(), "gateway_streams_running") == len(answers)
    os.kill(rig.workers()[0], signal.SIGKILL)
    async with asyncio.timeout(5):
        while value(found := await rig.scraped(), "gateway_streams_running") == len(answers):
            pass
    assert 2 <= value(found, "gateway_streams_running") <= len(answers) - 2
    assert value(found, "gateway_streams_ended_total", reason="complete") == 12
    assert value(found, "gen_ai_client_operation_duration_seconds_count", **labels(found)) == 12


async def test_a_target_is_as_bad_as_the_worst_worker_finds_it_until_it_is_removed(rig: Workers) -> None:
    """The files of the workers keep its series, so these say nothing bad of it any more."""

    async def scraped(is_open: float) -> None:
        async with asyncio.timeout(5):
            while value(found := await rig.scraped(), "gateway_target_breaker_open", target="up/m") != is_open:
                pass
        assert value(found, "gateway_target_available", target="up/m") == 1 - is_open

    rig.write("[retry]\nattempts = 1\n[breaker]\nfailures = 1\n")
    await rig.reload()
    rig.upstream.script(answer(500, {}))
    while len({one[:4] for one in [(await rig.ask()).end["stream"] for _ in range(4)]}) < WORKERS:
        pass
    await scraped(1)
    rig.write(model="n")
    await rig.reload()
    await scraped(0)


KEY = "gw-key-of-one-0123456789"
SHARED = """
[store]
url = "{url}"
[[keys]]
name = "one"
key = "{key}"
requests_per_minute = {requests}
"""


async def test_workers_with_a_redis_count_together(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    """Without one, each of them would let as many requests in."""
    upstream.script(OK)
    most = 12
    async with contextlib.AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        served = Workers(upstream, tmp_path, SHARED.format(url=redis.url, key=KEY, requests=most))
        rig = await stack.enter_async_context(served.started("--workers", f"{WORKERS}"))
        await rig.written("2 workers: server.max_running, ")
        idle = {pid: sockets_of(pid) for pid in rig.workers()}
        statuses: list[int] = []
        while len(statuses) < 2 * most or any(sockets_of(pid) == before for pid, before in idle.items()):
            assert len(statuses) < 200  # some worker has got none of them
            new = await stack.enter_async_context(aiohttp.ClientSession())  # its connection stays open
            statuses.append(await status_of(new, rig.address))
    assert statuses.count(200) == most
    assert statuses.count(429) == len(statuses) - most


async def status_of(session: aiohttp.ClientSession, address: str) -> int:
    fields = {"Authorization": f"Bearer {KEY}", **EVENTS}
    async with session.get(f"{address}/chat?q=hi", headers=fields) as response:
        await response.read()
        return response.status


def labels(found: Samples) -> dict[str, str]:
    (labels,) = [labels for name, labels in found if name == "gen_ai_client_operation_duration_seconds_count"]
    return dict(labels)


# Streams of the other worker


async def test_any_worker_finds_each_stream(rig: Workers) -> None:
    """Clients that come back, read the whole, or ask once more arrive at either worker; the model is asked once."""
    ids: list[str] = []
    while rig.passed_on < 4 or len({stream_id[:4] for stream_id in ids}) < WORKERS:
        assert len(ids) < 100
        once = {**EVENTS, "Idempotency-Key": f"asked-once-and-again-{len(ids)}"}
        answer = await rig.through("/chat?q=hi", once)
        ids.append(answer.end["stream"])
        for _ in range(3):
            again = await rig.through("/chat?q=hi", once)
            assert (again.text, again.end) == ("Hello", answer.end)
        resumed = await rig.through("/chat?q=hi", {**EVENTS, "Last-Event-ID": f"{ids[-1]}.1"})
        assert (resumed.text, resumed.end) == ("lo", answer.end)
    assert len(rig.upstream.requests) == len(ids)
    assert total(await rig.scraped(), "gateway_passed_on_total") == rig.passed_on


async def test_any_worker_stops_and_watches_a_stream(rig: Workers) -> None:
    rig.upstream.script(stream(delta("Hel"), Stall()))
    for _ in range(12):
        async with rig.session.post(f"{rig.address}/streams", json={"question": "hi"}) as response:
            created = await response.json()
        async with rig.session.get(rig.address + created["url"], headers=EVENTS) as watching:
            await watching.content.readuntil(b"Hel\n")
            async with rig.session.delete(rig.address + created["url"]) as response:
                assert response.status == 204
            assert Answer(await watching.read()).end["reason"] == "stopped"


async def test_a_worker_that_drains_goes_on_to_pass_on(rig: Workers) -> None:
    """Also one that has no stream of its own, and up to the end of an answer that a second signal breaks off."""
    go_on = asyncio.Event()
    ending, stalled = stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE), stream(delta("Hel"), Stall())
    watching = []
    for script, reason in ((ending, "complete"), (stalled, "shutting_down")):
        rig.upstream.script(script)
        async with rig.session.post(f"{rig.address}/streams", json={"question": "hi"}) as response:
            url = rig.address + (await response.json())["url"]
        watching += [(await rig.session.get(url, headers=EVENTS), reason) for _ in range(10)]
    rig.process.terminate()
    await rig.written("waiting for")
    go_on.set()
    for watcher, reason in watching:
        if reason == "shutting_down":
            rig.process.terminate()
        assert Answer(await watcher.read()).end["reason"] == reason
    await ends_cleanly(rig.process)


async def test_workers_end_when_their_parent_was_killed(rig: Workers) -> None:
    workers, folder = rig.workers(), folder_of(rig.workers()[0])
    rig.process.kill()
    await rig.process.wait()
    await until(lambda: not any(is_alive(pid) for pid in workers))
    assert not folder.exists()


def folder_of(pid: int) -> Path:
    """The folder of the files that the process maps."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    (folder,) = {Path(line.split()[-1]).parent for line in maps if line.endswith(".db")}
    return folder


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_without_gunicorn_the_command_says_how_to_install_it(tmp_path: Path) -> None:
    code = "import sys; sys.modules['gunicorn'] = None; from gateway.cli import main; sys.exit(main(sys.argv[1:]))"
    environ = {**os.environ, "OPENAI_API_KEY": "k"}
    command = [sys.executable, "-c", code, "serve", "--workers", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=tmp_path, env=environ)
    assert ended.returncode == 2
    assert "pip install 'gateway[workers]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_is_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        command = [sys.executable, "-m", "gateway", "serve", "--workers", "2", "--port", str(other.getsockname()[1])]
        environ = {**os.environ, "OPENAI_API_KEY": "k"}
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environ)
    assert ended.returncode == 1
    assert "Choose another port" in ended.stderr
