"""A process whose event loop does not turn: `/healthz` does not answer, the metric tells it, and answers go on."""

import asyncio
import re
import signal
from pathlib import Path

import pytest
from aiohttp import ClientTimeout

from tests.rig.clients import EVENTS
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Until, delta, finish, stream
from tests.rig.served import Served

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
PATHS = ["/chat", "/v1/chat/completions"]


async def test_fault_68_a_blocked_loop_is_seen_from_outside_and_loses_nothing(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """SIGSTOP blocks it, as a long computation would: timers come late, and the system takes in what arrives."""
    go_on = asyncio.Event()
    upstream.script(stream(delta("one "), Until(go_on), delta("two"), finish(), DONE))
    async with Served(upstream, tmp_path).started() as gateway:
        session, address = gateway.session, gateway.address
        running = [await session.post(f"{address}{path}", json=BODY, headers=EVENTS) for path in PATHS]
        for response in running:
            await response.content.readuntil(b"one ")
        assert await _late(gateway) == 0
        gateway.process.send_signal(signal.SIGSTOP)
        with pytest.raises(TimeoutError):
            await session.get(f"{address}/healthz", timeout=ClientTimeout(total=1.2))
        go_on.set()
        gateway.process.send_signal(signal.SIGCONT)
        rests = [await response.read() for response in running]
        assert [rest.count(b"two") for rest in rests] == [1, 1]
        assert b'"reason":"complete"' in rests[0]
        assert rests[1].endswith(b"data: [DONE]\n\n")
        async with session.get(f"{address}/healthz") as health:
            assert health.status == 200
        assert await _late(gateway) == 1


async def _late(gateway: Served) -> int:
    """How many times the loop was more than half a second late."""
    async with gateway.session.get(f"{gateway.address}/metrics") as response:
        text = await response.text()
    counts = dict(re.findall(r'gateway_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)', text))
    return int(float(counts["+Inf"]) - float(counts["0.5"]))
