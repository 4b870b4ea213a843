"""A gateway that is replaced by a new process on the same machine, with `server.runtime_dir` and without Redis."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.commands.test_systemd import Systemd
from tests.rig.clients import EVENTS, Answer, bearer
from tests.rig.nginx import before
from tests.rig.ports import free_port
from tests.rig.processes import COMMAND, ends_cleanly, running
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Stall, Until, delta, finish, stream
from tests.rig.served import toml

VIEWERS = 200
KEY = "sk-the-first-key-of-all"
OTHER = "sk-another-key-of-all"
KEYS = f'[[keys]]\nname = "team"\nkey = "{KEY}"\n[[keys]]\nname = "other"\nkey = "{OTHER}"\n'


@dataclass
class Rig:
    """A place where gateways replace each other."""

    folder: Path
    upstream: ScriptedUpstream
    session: aiohttp.ClientSession
    port: int = field(default_factory=free_port)
    keys: str = ""
    is_open: bool = False
    keep_seconds: float = 300.0
    drain_seconds: float = 30.0
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def sockets(self) -> Path:
        return self.folder / "run"

    @asynccontextmanager
    async def started(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """One more gateway, which listens when this yields."""
        path = self.folder / "gateway.toml"
        server = f'[server]\nruntime_dir = "{self.sockets}"\ndrain_seconds = {self.drain_seconds}\n'
        server += "allow_anonymous = true\n" if self.is_open else ""
        more = f"{server}[stream]\nkeep_seconds = {self.keep_seconds}\n{self.keys}"
        path.write_text(toml(self.upstream.url, more), encoding="utf-8")
        async with running("serve", "--config", str(path), port=str(self.port), **self.environ) as (process, address):
            assert address == self.address
            yield process

    def get(self, path: str, **headers: str) -> Any:
        return self.session.get(f"{self.address}{path}", headers={**EVENTS, **headers})

    async def create(self, **headers: str) -> dict[str, Any]:
        async with self.session.post(f"{self.address}/streams", json={"question": "hi"}, headers=headers) as response:
            assert response.status == 201, await response.text()
            body: dict[str, Any] = await response.json()
            return body


@pytest.fixture
async def rig(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Rig]:
    """Each request has a connection of its own, as after a restart of a proxy."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Rig(tmp_path, upstream, session)


class Returning:
    """A client that keeps whole events, and comes back with the id of the last one."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._response: aiohttp.ClientResponse
        self.raw = b""

    @property
    def last(self) -> str:
        ids: list[bytes] = re.findall(rb"^id: (.*)$", self.raw, re.MULTILINE)
        return ids[-1].decode()

    @property
    def stream(self) -> str:
        return self.last.partition(".")[0]

    async def come(self) -> None:
        """Asks, or resumes."""
        headers = {"Last-Event-ID": self.last} if self.raw else {}
        self._response = await self._rig.get("/chat?q=hi", **headers)
        assert self._response.status == 200, await self._response.text()

    async def read(self, until: bytes) -> None:
        while until not in self.raw:
            self.raw += await self._response.content.readuntil(b"\n\n")

    async def read_all(self) -> None:
        self.raw += await self._response.read()

    def leave(self) -> None:
        self._response.close()

    @property
    def told(self) -> bytes:
        """What it has, without what differs between two streams."""
        return re.sub(rb'"ticket":"[^"]*"', b"", self.raw.replace(self.stream.encode(), b"STREAM"))


async def all_of(viewers: list[Returning], what: str, *args: bytes) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*[getattr(viewer, what)(*args) for viewer in viewers])


async def test_two_restarts_in_a_row_with_200_viewers_lose_no_byte(rig: Rig) -> None:
    """Half of the answers begin in the first process and half in the second one; all end behind the third one."""
    second, third = asyncio.Event(), asyncio.Event()
    script = stream(delta("one"), Until(second), delta("two\nlines"), Until(third), delta("three"), finish(), DONE)
    rig.upstream.script(script)
    rig.keep_seconds = 1.0
    viewers = [Returning(rig) for _ in range(VIEWERS)]
    async with rig.started() as a:
        await all_of(viewers[::2], "come")
        await all_of(viewers[::2], "read", b"one")
        async with rig.started() as b:
            await all_of(viewers[1::2], "come")
            await all_of(viewers[1::2], "read", b"one")
            for viewer in viewers[::4]:  # others stay on the connection that they have to the first process
                viewer.leave()
            await all_of(viewers[::4], "come")
            second.set()
            await all_of(viewers, "read", b"lines\n")
            async with rig.started() as c:
                for viewer in viewers:
                    viewer.leave()
                await all_of(viewers, "come")
                third.set()
                await all_of(viewers, "read_all")
                assert len(rig.upstream.requests) == VIEWERS
                whole = Returning(rig)
                await whole.come()
                await whole.read_all()
                assert {viewer.told for viewer in viewers} == {whole.told}
                assert Answer(whole.raw).text == "onetwo\nlinesthree"
                assert len({viewer.stream[:4] for viewer in viewers}) == 2
                await ends_cleanly(a)
                await ends_cleanly(b)
                assert len(list(rig.sockets.iterdir())) == 2
                c.terminate()
                await ends_cleanly(c)
    assert list(rig.sockets.iterdir()) == []


# One restart


async def test_all_that_a_stream_takes_reaches_the_process_that_holds_it(rig: Rig) -> None:
    """And that process decides who may: a wrong key, another caller's key and a ticket that may not stop."""
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    rig.keys = KEYS
    async with rig.started() as old:
        first, second = await rig.create(**bearer(KEY)), await rig.create(**bearer(KEY))
        async with rig.started():
            for ticket, key, status in (
                (None, "sk-wrong", 404),
                (None, OTHER, 404),
                ("no", None, 404),
                (None, None, 404),
            ):
                query = "" if ticket is None else f"?ticket={ticket}"
                headers = {} if key is None else bearer(key)
                async with rig.get(f"/streams/{first['id']}{query}", **headers) as response:
                    assert (response.status, (await response.json())["error"]["code"]) == (status, "stream_not_found")
            async with rig.get("/chat?q=hi", **{"Last-Event-ID": f"{first['id']}.0"}, **bearer("sk-wrong")) as response:
                assert response.status == 401
            async with rig.session.delete(rig.address + first["viewer_url"]) as response:
                assert response.status == 404
            async with rig.get(first["viewer_url"]) as watching:
                async with rig.session.get(rig.address + first["url"], headers={"Accept": "application/json"}) as taken:
                    snapshot = await taken.json()
                    assert (snapshot["id"], snapshot["state"], snapshot["text"]) == (first["id"], "running", "Hel")
                async with rig.session.delete(f"{rig.address}/streams/{first['id']}", headers=bearer(KEY)) as response:
                    assert response.status == 204
                assert Answer(await watching.read()).end["reason"] == "stopped"
            go_on.set()
            async with rig.get(second["url"], Accept="text/plain") as response:
                assert await response.text() == "Hello"
            async with rig.get(second["url"], **{"Last-Event-ID": f"{second['id']}.3"}) as response:
                assert response.status == 204
            async with rig.get(second["url"], **{"Last-Event-ID": f"{first['id']}.1"}) as response:
                assert response.status == 404
            assert len(rig.upstream.requests) == 2
            old.send_signal(signal.SIGTERM)  # the first one: it changes nothing
            old.send_signal(signal.SIGINT)
            await ends_cleanly(old)
            async with rig.get(second["url"]) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (404, "stream_not_found")


async def test_one_signal_after_the_hand_over_cuts_no_answer(rig: Rig) -> None:
    """As `systemctl stop` sends it to the old unit. A second one ends the answers, as always."""
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    rig.keep_seconds = 0.1
    async with rig.started() as old, rig.get("/chat?q=hi") as answer:
        await answer.content.readuntil(b"Hel\n")
        async with rig.started():
            old.terminate()
            await asyncio.sleep(1.2)  # longer than it takes to begin the end
            go_on.set()
            assert Answer(await answer.read()).end["reason"] == "complete"
            await ends_cleanly(old)


async def test_a_process_that_drains_already_hands_over(rig: Rig) -> None:
    """So the first signal may come before the new process starts; until then new work gets 503."""
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    rig.keep_seconds = 0.1
    async with rig.started() as old, rig.get("/chat?q=hi") as answer:
        await answer.content.readuntil(b"Hel\n")
        old.terminate()
        assert old.stderr is not None
        while b"waiting for 1 running answers" not in await old.stderr.readline():
            pass
        async with rig.get("/chat?q=hi") as response:
            assert response.status == 503
        async with rig.started():
            async with rig.get("/readyz") as response:
                assert response.status == 200
            go_on.set()
            async with rig.get("/chat?q=hi") as response:
                assert Answer(await response.read()).text == "Hello"
            assert Answer(await answer.read()).end["reason"] == "complete"
            await ends_cleanly(old)


async def test_a_repeated_request_joins_the_answer_of_the_old_process(rig: Rig) -> None:
    """By its `Idempotency-Key`, for each caller on its own; the model is not paid twice."""
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    rig.keys = KEYS
    once = {"Idempotency-Key": "once", **bearer(KEY)}
    async with rig.started():
        first = await rig.create(**once)
        async with rig.started():
            assert (await rig.create(**once))["id"] == first["id"]
            url = f"{rig.address}/streams"
            async with rig.session.post(url, json={"question": "other"}, headers=once) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (409, "idempotency_conflict")
            assert (await rig.create(**{**once, **bearer(OTHER)}))["id"] != first["id"]
            assert (await rig.create(**{**once, "Idempotency-Key": "twice"}))["id"] != first["id"]
            go_on.set()
            async with rig.session.post(f"{rig.address}/chat", json={"question": "hi"}, headers=once) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == "Hello"
            async with rig.get("/chat?q=hi&idempotency_key=once", **bearer(KEY)) as response:
                assert Answer(await response.read()).text == "Hello"
    assert len(rig.upstream.requests) == 3


async def test_a_connection_to_the_old_process_asks_the_new_one(rig: Rig) -> None:
    """A proxy keeps connections open. What comes on them is not refused because the process behind it ends."""
    rig.upstream.script(stream(delta("Hello"), finish(), DONE))
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
    fields = {**EVENTS, "Content-Type": "application/json"}
    kinds = [(path, in_chunks) for path in ("/chat", "/v1/chat/completions") for in_chunks in (False, True)]
    async with rig.started() as old, AsyncExitStack() as open_ones:
        kept = [await open_ones.enter_async_context(aiohttp.ClientSession()) for _ in kinds]
        for one in kept:
            async with one.get(f"{rig.address}/healthz") as response:
                await response.read()
        async with rig.started() as new:
            for one, (path, in_chunks) in zip(kept, kinds, strict=True):
                data = pieces(body) if in_chunks else body
                async with one.post(rig.address + path, data=data, headers=fields) as response:
                    assert (response.status, response.headers["Connection"]) == (200, "close")
                    assert b"Hello" in await response.read()
            await ends_cleanly(old)
            new.terminate()
            lines = [json.loads(line) for line in await ends_cleanly(new) if "access" in line]
            assert [(line["client"], line["status"]) for line in lines] == [("127.0.0.1", 200)] * len(kinds)


@asynccontextmanager
async def passed_on(
    rig: Rig, session: aiohttp.ClientSession, path: str
) -> AsyncIterator[tuple[aiohttp.ClientResponse, bytes]]:
    """An answer of a new process, on a connection to the old one, and what was read of it: up to its first content."""
    async with session.get(f"{rig.address}/healthz") as response:
        await response.read()
    async with rig.started() as new:
        body = {"question": "hi"} if path == "/chat" else {"messages": [], "stream": True}
        async with session.post(rig.address + path, json=body, headers=EVENTS) as answer:
            yield answer, await answer.content.readuntil(b"Hel") + await answer.content.readuntil(b"\n\n")
        new.terminate()
        await ends_cleanly(new)


async def until_outlasting(old: asyncio.subprocess.Process) -> None:
    assert old.stderr is not None
    lines = [b""]
    async with asyncio.timeout(10):
        while b"are passed on, for at most 600 seconds" not in lines[-1]:
            lines.append(await old.stderr.readline())
            assert lines[-1], b"".join(lines[5:]).decode()


async def test_an_answer_that_is_passed_on_outlasts_the_drain(rig: Rig, tmp_path: Path) -> None:
    """Unlike one of the old process itself. systemd is asked to wait for as long as an answer may take."""
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Stall()), stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    rig.drain_seconds = 0.2
    rig.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
    with contextlib.closing(Systemd(rig.environ["NOTIFY_SOCKET"])) as systemd:
        async with rig.started() as old, rig.get("/chat?q=hi") as own, aiohttp.ClientSession() as session:
            await own.content.readuntil(b"Hel\n")
            async with passed_on(rig, session, "/v1/chat/completions") as (answer, _):
                await until_outlasting(old)
                assert Answer(await own.read()).end["reason"] == "shutting_down"
                assert b"EXTEND_TIMEOUT_USEC=615000000" in b"".join(systemd.waiting())
                go_on.set()
                rest = await answer.read()
                assert rest.endswith(delta("lo") + finish() + DONE)
                await ends_cleanly(old)


@pytest.mark.parametrize("is_early", [True, False], ids=["before the drain is over", "after it"])
async def test_a_process_that_was_told_to_stop_does_not_outlast_its_drain(rig: Rig, is_early: bool) -> None:
    """Whoever told it waits for its end. The client sees that its answer is broken, and reads on at the new process."""
    go_on = asyncio.Event()
    rig.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    rig.drain_seconds = 0.2
    async with rig.started() as old, aiohttp.ClientSession() as session, passed_on(rig, session, "/chat") as answered:
        answer, told = answered
        if not is_early:
            await until_outlasting(old)
        old.terminate()
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.readuntil(b"event: end")
        await ends_cleanly(old)
        go_on.set()
        last = re.findall(rb"^id: (.*)$", told, re.MULTILINE)[-1].decode()
        async with rig.get("/chat?q=hi", **{"Last-Event-ID": last}) as response:
            rest = Answer(await response.read())
        assert (rest.text, rest.end["reason"]) == ("lo", "complete")


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data[:9]
    yield data[9:]


@pytest.mark.parametrize("is_behind_nginx", [False, True], ids=["direct", "nginx"])
async def test_no_question_is_refused_while_the_port_changes_hands(rig: Rig, is_behind_nginx: bool) -> None:
    """Questions come all the time: each on a connection of its own, or on those that nginx keeps."""
    rig.upstream.script(stream(delta("Hello"), finish(), DONE))
    rig.is_open = is_behind_nginx
    is_over, asked = asyncio.Event(), 0

    async def ask(address: str) -> None:
        nonlocal asked
        while not is_over.is_set():
            async with rig.session.post(f"{address}/chat", json={"question": "hi"}, headers=EVENTS) as response:
                assert response.status == 200, await response.text()
                assert Answer(await response.read()).end["reason"] == "complete"
            asked += 1
            await asyncio.sleep(0.01)

    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(rig.started())
        address = await stack.enter_async_context(before(rig.port, rig.folder, {})) if is_behind_nginx else rig.address
        asking = [asyncio.create_task(ask(address)) for _ in range(4)]
        new = await stack.enter_async_context(rig.started())
        await asyncio.sleep(1.5)  # the old process waits for a second before it begins to end
        is_over.set()
        await asyncio.gather(*asking)
        for process in (old, new):
            process.send_signal(signal.SIGTERM)
        old.send_signal(signal.SIGINT)
        answered = [len([1 for line in await ends_cleanly(one) if _started(line)]) for one in (old, new)]
    assert min(answered) > 0
    assert asked == len(rig.upstream.requests)
    assert sum(answered) == asked


def _started(line: str) -> bool:
    """Whether the line is of a question that this process answered. One that it passed on has no stream here."""
    return '"path":"/chat"' in line and '"stream":{' in line


# What goes wrong


async def test_streams_of_a_process_that_died_are_unknown(rig: Rig) -> None:
    """At once: its sockets refuse, and are removed."""
    rig.upstream.script(stream(delta("Hel"), Stall()))
    async with rig.started() as old:
        created = await rig.create()
        async with rig.started():
            old.kill()
            await old.wait()
            started = time.monotonic()
            for request in (rig.get(created["url"]), rig.session.delete(rig.address + created["url"])):
                async with request as response:
                    assert (response.status, (await response.json())["error"]["code"]) == (404, "stream_not_found")
            assert time.monotonic() - started < 1
            assert {path.name[:4] for path in rig.sockets.iterdir()}.isdisjoint({created["id"][:4]})


@pytest.mark.long
async def test_a_process_that_hangs_delays_nobody_for_long(rig: Rig) -> None:
    rig.upstream.script(stream(delta("Hel"), Stall()))
    async with rig.started() as old:
        created = await rig.create()
        async with rig.started() as new:
            old.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            watched, asked = await asyncio.gather(
                rig.get(created["url"]), rig.get("/chat?q=hi&idempotency_key=0123456789abcdef")
            )
            assert (watched.status, asked.status) == (404, 200)
            assert 2 <= time.monotonic() - started < 6
            new.send_signal(signal.SIGSTOP)
            status, words = await started_in_vain("--config", str(rig.folder / "gateway.toml"), "--port", str(rig.port))
            assert status == 1
            assert f"{rig.port}" in words


async def test_the_old_process_goes_on_if_its_successor_dies_too_soon(rig: Rig) -> None:
    """It offers its sockets, and the other process leaves before it listens on them."""
    rig.upstream.script(stream(delta("Hello"), finish(), DONE))
    async with rig.started() as process:
        (path,) = rig.sockets.glob("*.ask")
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(path))
            other.sendall(json.dumps(["listen", "127.0.0.1", rig.port, "abcd"]).encode() + b"\n")
            answer, descriptors, _, _ = await asyncio.to_thread(socket.recv_fds, other, 4, 1)
            assert (answer, len(descriptors)) == (b"yes\n", 1)
            socket.close(descriptors[0])
        async with rig.get("/chat?q=hi") as response:
            assert Answer(await response.read()).text == "Hello"
        process.terminate()
        assert "taken over" not in "".join(await ends_cleanly(process))


async def test_two_gateways_on_one_port_are_still_a_mistake(rig: Rig) -> None:
    """Without the option, or with a folder of another gateway: an error that names the port."""
    async with rig.started():
        failures = [
            started_in_vain("--config", str(path), "--port", str(rig.port)) for path in configurations_of_others(rig)
        ]
        for status, words in await asyncio.gather(*failures):
            assert status == 1
            assert str(rig.port) in words
            assert "Choose another port" in words
        async with rig.get("/healthz") as response:
            assert response.status == 200


def configurations_of_others(rig: Rig) -> list[Path]:
    paths = [rig.folder / "without.toml", rig.folder / "other.toml"]
    servers = ["", f'[server]\nruntime_dir = "{rig.folder / "other"}"\n']
    for path, server in zip(paths, servers, strict=True):
        path.write_text(f'{server}[[upstreams]]\nname = "up"\nbase_url = "{rig.upstream.url}/v1"\n')
    return paths


async def test_a_folder_that_others_can_enter_is_refused(rig: Rig) -> None:
    """Whoever can connect to the sockets is believed about the addresses of clients."""
    rig.sockets.mkdir(mode=0o755)
    rig.sockets.chmod(0o755)
    path = rig.folder / "gateway.toml"
    path.write_text(
        f'[server]\nruntime_dir = "{rig.sockets}"\n[[upstreams]]\nname = "up"\nbase_url = "{rig.upstream.url}/v1"\n'
    )
    status, words = await started_in_vain("--config", str(path), "--port", "0")
    assert status == 1
    assert f"{rig.sockets} must belong to the user of the gateway and be closed to others (chmod 700)" in words


async def started_in_vain(*arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(*COMMAND, "serve", *arguments, stderr=asyncio.subprocess.PIPE)
    async with asyncio.timeout(20):
        _, written = await process.communicate()
    assert b"Traceback" not in written
    return process.returncode, written.decode()
