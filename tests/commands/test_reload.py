"""SIGHUP: the configuration is read again while answers run."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Mode
from tests.rig.clients import EVENTS, Answer, bearer
from tests.rig.scripted_upstream import (
    DONE,
    Received,
    ScriptedUpstream,
    Step,
    Until,
    answer,
    delta,
    finish,
    stream,
    usage,
)
from tests.rig.served import Served

KEY = "sk-the-first-key-of-all"
OTHER = "sk-another-key-of-all"
RUNNING = 100  # answers that run through all reloads, half of them on each surface
ASKING = 4  # clients that ask one question after the other


def keyed(key: str) -> str:
    return f'[[keys]]\nname = "team"\nkey = "{key}"\n'


@pytest.fixture
async def other() -> AsyncIterator[ScriptedUpstream]:
    """One more upstream."""
    other = ScriptedUpstream()
    await other.start()
    yield other
    await other.stop()


@pytest.fixture
async def served(upstream: ScriptedUpstream, tmp_path: Path) -> AsyncIterator[Served]:
    upstream.script(answer(200, {"data": []}))
    served = Served(upstream, tmp_path)
    served.write(keyed(KEY))
    async with served.started():
        yield served


async def test_models_and_keys_change_and_running_answers_go_on(served: Served) -> None:
    go_on = asyncio.Event()
    served.upstream.script(stream(delta("Hel"), Until(go_on), delta("lo"), finish(), DONE))
    headers = {**EVENTS, **bearer(KEY)}
    async with served.session.get(f"{served.address}/chat?q=hi", headers=headers) as response:
        await response.content.readuntil(b"Hel\n")
        served.write(keyed(OTHER), model="n")
        await served.reload()
        assert await served.models(OTHER) == ["n"]
        assert await served.models(KEY) == 401
        go_on.set()
        assert Answer(await response.read()).end["reason"] == "complete"
    assert "the configuration was read again" in await served.ended()


async def test_upstreams_limits_and_prices_change(
    served: Served, upstream: ScriptedUpstream, other: ScriptedUpstream
) -> None:
    """An answer costs what its model costs when it is asked for."""
    spent = usage(prompt_tokens=7, completion_tokens=2)
    upstream.script(stream(delta("old"), finish(), spent, DONE))
    other.script(stream(delta("new"), finish(), spent, DONE))
    assert (await served.ask(KEY)).text == "old"
    model = served.file.read_text().partition("[[models]]")[2] + "prices = {input = 1e6, output = 2e6}\n"
    key = keyed(KEY) + "requests_per_minute = 2\n"
    served.file.write_text(f'{key}[[upstreams]]\nname = "up"\nbase_url = "{other.url}/v1"\n[[models]]{model}')
    await served.reload()
    assert [(await served.ask(KEY)).text for _ in range(2)] == ["new"] * 2
    async with served.session.get(f"{served.address}/chat?q=hi", headers=bearer(KEY)) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (429, "rate_limit_exceeded")
    assert (len(upstream.requests), len(other.requests)) == (1, 2)
    asked = [json.loads(line) for line in (await served.ended()).splitlines() if '"gateway.access"' in line]
    assert [line["stream"]["cost"] for line in asked if "stream" in line] == [11.0, 11.0]


async def test_the_endpoints_of_a_model_change(served: Served) -> None:
    value = answer(200, {"object": "list", "data": []})
    served.upstream.script(value)
    embeddings: dict[str, Any] = {
        "url": f"{served.address}/v1/embeddings",
        "json": {"input": "a"},
        "headers": bearer(KEY),
    }
    before = served.file.read_text()
    served.file.write_text(before + 'endpoints = ["chat/completions"]\n')
    await served.reload()
    async with served.session.post(**embeddings) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (400, "endpoint_not_supported")
    served.file.write_text(before + 'endpoints = ["embeddings", "chat"]\n')
    await served.reload(until="models[0].endpoints[1]: expected one of")
    served.file.write_text(before + 'endpoints = ["embeddings"]\n')
    await served.reload()
    async with served.session.post(**embeddings) as response:
        assert response.status == 200
    async with served.session.get(f"{served.address}/v1/models/m", headers=bearer(KEY)) as response:
        assert (await response.json())["endpoints"] == ["embeddings"]


async def test_a_file_with_faults_is_refused_and_the_old_one_stays(served: Served) -> None:
    served.write("[stream]\nkeep_second = 1\nretry_ms = -1", model="n")
    await served.reload(until="stream.retry_ms")
    assert await served.models(KEY) == ["m"]
    served.file.unlink()
    await served.reload(until="cannot be read")
    assert await served.models(KEY) == ["m"]
    written = await served.ended()
    assert "the configuration is not used: stream.keep_second: unknown key; did you mean keep_seconds?" in written
    assert "the configuration is not used: stream.retry_ms: " in written


async def test_what_needs_a_new_start_is_told(served: Served) -> None:
    """And a gateway that others can reach does not open itself: the rules hold for the socket that it has."""
    changed = "[server]\nplayground = false\n[store]\nmax_streams = 5\n[traces]\ncontent = true\n"
    served.write(changed + keyed(KEY), model="n")
    await served.reload()
    assert await served.models(KEY) == ["n"]
    assert "these options change at the next start: server.playground, store, traces" in await served.ended()


class Load:
    """Answers that run through all reloads, and others that begin and end all the time."""

    def __init__(self, served: Served, turns: int) -> None:
        self.served = served
        self.turns = [asyncio.Event() for _ in range(turns)]
        self.texts: list[str] = []  # of the short answers: the upstream's name of the model that each one asked
        served.upstream.script(self._script)

    def _script(self, received: Received) -> list[Step]:
        if b'"long"' in received.body:
            return stream(*self._long())
        return stream(delta(str(received.json["model"])), finish(), DONE)

    def _long(self) -> list[bytes | Step]:
        parts = [part for number, turn in enumerate(self.turns) for part in (delta(f"{number},"), Until(turn))]
        return [*parts, delta("over"), finish(), DONE]

    async def begin(self) -> list[asyncio.Task[bytes]]:
        tasks = [asyncio.create_task(self._read(number)) for number in range(RUNNING)]
        await self.served.upstream.until(requests=RUNNING)
        return tasks

    async def _read(self, number: int) -> bytes:
        chat = {"messages": [{"role": "user", "content": "long"}], "stream": True}
        path, body = ("/chat", {"question": "long"}) if number % 2 else ("/v1/chat/completions", chat)
        async with self.served.session.post(self.served.address + path, json=body, headers=EVENTS) as response:
            assert response.status == 200
            return await response.read()

    async def ask(self) -> None:
        while True:
            answer = await self.served.ask()
            assert answer.end["reason"] == "complete"
            self.texts.append(answer.text)

    def check(self, raw: list[bytes]) -> None:
        """Each has all of its bytes: on `/v1` those of the upstream, on `/chat` the same events with their ids."""
        sent = b"".join(part for part in self._long() if isinstance(part, bytes))
        assert set(raw[::2]) == {sent}
        (told,) = {without_names(one) for one in raw[1::2]}
        assert Answer(told).text == "".join(f"{number}," for number in range(len(self.turns))) + "over"
        assert Answer(told).end["reason"] == "complete"
        numbers = re.findall(rb"^id: STREAM\.(\d+)$", told, re.MULTILINE)
        assert numbers == [b"%d" % number for number in range(len(numbers))]


def without_names(raw: bytes) -> bytes:
    """A stream without what differs between two answers."""
    (stream_id,) = set(re.findall(rb"^id: (.*)\.\d+$", raw, re.MULTILINE))
    return re.sub(rb'"ticket":"[^"]*"', b"", raw.replace(stream_id, b"STREAM"))


async def test_reloads_under_load_cost_no_byte(upstream: ScriptedUpstream, tmp_path: Path, mode: Mode) -> None:
    """Four files that change the model, and one with faults, while a hundred answers run and others begin and end."""
    served = Served(upstream, tmp_path, "[breaker]\nfailures = 3\n")
    load = Load(served, turns=5)
    async with served.started(*mode):
        running = await load.begin()
        asking = [asyncio.create_task(load.ask()) for _ in range(ASKING)]
        model = "m"
        for number, turn in enumerate(load.turns):
            turn.set()
            if number == 2:
                served.write("failure = 3\n", model="bad")
                await served.reload(until="breaker.failure:")
            else:
                model = f"m{number}"
                served.write(model=model)
                await served.reload()
            assert {(await served.ask()).text for _ in range(6)} == {model}
        load.check(await asyncio.gather(*running))
        for task in asking:
            assert not task.done()
            task.cancel()
        await asyncio.wait(asking)
        assert set(load.texts) <= {"m", "m0", "m1", "m3", "m4"}
        assert {"m0", "m4"} <= set(load.texts)
        written = await served.ended()
    assert written.count("the configuration was read again") == 4
    assert written.count("the configuration is not used") == 1
