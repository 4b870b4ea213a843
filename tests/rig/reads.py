"""A client of an upstream alone, and what it is given of a body, read by read."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from gateway.config import Timeouts, Upstream
from gateway.upstream.client import UpstreamClient, UpstreamResponse
from gateway.upstream.routing import Target
from tests.rig.scripted_upstream import ScriptedUpstream, Step

Run = Callable[[Coroutine[Any, Any, None]], None]


@dataclass
class Rig:
    """A client, and the upstream that it asks."""

    upstream: ScriptedUpstream
    client: UpstreamClient
    target: Target
    reads: list[bytes] = field(default_factory=list)

    async def ask(self, *steps: Step) -> UpstreamResponse:
        self.upstream.script(steps)
        return await self.client.open(self.target, b"{}")

    @property
    def taken(self) -> bytes:
        return b"".join(self.reads)

    def take(self, data: bytes) -> bool:
        self.reads.append(data)
        return False

    def take_one(self, data: bytes) -> bool:
        self.reads.append(data)
        return True


@asynccontextmanager
async def rig(certificates: Path | None = None) -> AsyncIterator[Rig]:
    upstream, ca_file = ScriptedUpstream(), None
    await upstream.start()
    url = upstream.url
    if certificates is not None:
        authority, ca_file = trustme.CA(), str(certificates / "ca.pem")
        authority.cert_pem.write_to_path(ca_file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        upstream._server.close()
        upstream._server = await asyncio.start_server(upstream._serve, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{upstream._server.sockets[0].getsockname()[1]}"
    named = Upstream(name="up", base_url=f"{url}/v1", ca_file=ca_file)
    client = UpstreamClient([named])
    try:
        yield Rig(upstream, client, Target(named, "m", Timeouts(connect=5)))
    finally:
        await client.close()
        await upstream.stop()
