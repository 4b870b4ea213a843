"""Clients whose connections are cut, and who come back at one gateway or the other."""

import asyncio
import gc
import os
import random

import pytest

from gateway.bounds import Bounds
from tests.conftest import Client, MakeGateway
from tests.rig.redis import RedisServer
from tests.rig.scripted_upstream import ScriptedUpstream
from tests.rig.wire import close_all
from tests.streams.test_resume import ENDINGS, VIEWS, WAYS, cut_again_and_again, paced, uncut

CUTS = int(os.environ.get("CUTS", "500"))
AT_ONCE = 20  # streams


class Either:
    """A client of two gateways: each request goes to one of them, by chance."""

    def __init__(self, clients: list[Client], chance: random.Random) -> None:
        self._clients = clients
        self._chance = chance

    def __getattr__(self, name: str) -> object:
        return getattr(self._chance.choice(self._clients), name)


@pytest.mark.parametrize("ending", ["complete", "incomplete"])
async def test_fault_59_cut_at_any_moment_and_resumed_at_either_gateway(
    gateway: MakeGateway, upstream: ScriptedUpstream, redis: RedisServer, ending: str
) -> None:
    """Nothing is lost, nothing comes twice, and the model is asked once for each stream."""
    chance = random.Random(ending)
    toml = f'[store]\nurl = "{redis.url}"\n[stream]\nheartbeat_seconds = 0.01'
    patient = Bounds(redis_seconds=20)  # however busy the machine is
    clients = [await gateway(toml, bounds=patient) for _ in range(2)]
    upstream.script(ENDINGS[ending])
    wholes = [await uncut(clients[0], upstream, WAYS["chat"], view, ENDINGS[ending]) for view in VIEWS]
    upstream.script(*[paced(ENDINGS[ending], chance) for _ in range(100)])
    upstream.requests.clear()
    either: Client = Either(clients, chance)  # type: ignore[assignment] # it has all attributes of a client
    gc.freeze()  # a pass over all that earlier tests have left takes most of a second, and stops both gateways
    try:
        streams = await cut_again_and_again(either, wholes, chance, cuts=CUTS / 2, at_once=AT_ONCE)
    finally:
        gc.unfreeze()
        close_all()
        await asyncio.sleep(0)
    assert len(upstream.requests) == streams
