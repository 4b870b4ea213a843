"""A host name whose lookup takes long: the next target answers within the connect timeout, and nobody else waits."""

import asyncio
from typing import Any

import pytest
from aiohttp.resolver import ThreadedResolver

from tests.conftest import MakeGateway, configured
from tests.rig.clients import ask
from tests.rig.scripted_upstream import DONE, Pause, ScriptedUpstream, delta, finish, stream

SLOW = "slow.example.org"
CONNECT_SECONDS = 0.3


async def test_fault_51_a_slow_lookup(
    gateway: MakeGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = ThreadedResolver.resolve
    lookups: list[str] = []

    async def slowly(self: ThreadedResolver, host: str, *place: Any, **more: Any) -> Any:
        lookups.append(host)
        if host == SLOW:
            await asyncio.sleep(60)
        return await resolve(self, host, *place, **more)

    monkeypatch.setattr(ThreadedResolver, "resolve", slowly)
    upstream.script(stream(*[part for letter in "abcdefgh" for part in (Pause(0.02), delta(letter))], finish(), DONE))
    client = await gateway(config=configured(upstream.url.replace("127.0.0.1", "localhost"), TWO_TARGETS))
    loop = asyncio.get_running_loop()
    ends: dict[str, float] = {}

    async def asked(model: str) -> str:
        answer = await ask(client, model=model)
        ends[model] = loop.time()
        return answer.text

    assert [*await asyncio.gather(asked("slow first"), asked("other"))] == ["abcdefgh"] * 2
    assert lookups.count(SLOW) == 1
    assert ends["other"] + CONNECT_SECONDS / 2 < ends["slow first"]


TWO_TARGETS = f"""
[timeouts]
connect = {CONNECT_SECONDS}
[retry]
attempts = 2
[[models]]
name = "slow first"
targets = [{{upstream = "slow", model = "m"}}, {{upstream = "up", model = "m"}}]
[[models]]
name = "other"
targets = [{{upstream = "up", model = "m"}}]
[[upstreams]]
name = "slow"
base_url = "http://{SLOW}/v1"
"""
