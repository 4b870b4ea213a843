"""The gateway between a client and two scripted targets, all on real sockets, without pytest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.app import create_app, server_options
from gateway.config import load
from tests.conftest import Client
from tests.rig.scripted_upstream import ScriptedUpstream

RETRY = "[retry]\nattempts = 3\nbackoff_seconds = 0.02\nmax_wait_seconds = 2\n"
SAME = "same_answer = true\n"


@dataclass
class Rig:
    """`one` and `two` are the targets of the model `m`, in this order."""

    client: Client
    one: ScriptedUpstream
    two: ScriptedUpstream

    @property
    def requests(self) -> tuple[int, int]:
        return len(self.one.requests), len(self.two.requests)


@asynccontextmanager
async def gateway(
    settings: str = "",
    *,
    model: str = SAME,
    targets: int = 2,
    first_url: str | None = None,
    upstream: str = "",
    retry: str = RETRY,
) -> AsyncIterator[Rig]:
    """`settings` is put before the tables of targets, `model` into that of the model, `upstream` into that of `one`."""
    one, two = ScriptedUpstream(), ScriptedUpstream()
    await one.start()
    await two.start()
    toml = settings + "\n" + retry + _upstream("one", (first_url or one.url), upstream) + _upstream("two", two.url)
    named = ", ".join([f'{{upstream = "{name}", model = "m-{name}"}}' for name in ("one", "two")[:targets]])
    config = load(f'{toml}[[models]]\nname = "m"\ntargets = [{named}]\n{model}', {})
    options = server_options()
    options.pop("handler_cancellation")  # a TestServer has it anyway, and takes it only from itself
    server = TestServer(create_app(config))
    await server.start_server(**options)
    client: Client = TestClient[web.Request, web.Application](server)
    try:
        yield Rig(client, one, two)
    finally:
        await client.close()
        await one.stop()
        await two.stop()


def _upstream(name: str, url: str, more: str = "") -> str:
    return f'[[upstreams]]\nname = "{name}"\nbase_url = "{url}/v1"\n{more}\n'
