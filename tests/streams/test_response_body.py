"""Reading a response body: how much of it one turn of the event loop takes."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast

from gateway.config import Timeouts
from gateway.entries import Entry
from gateway.log.memory import MemoryStore
from gateway.streams.response_body import Reading
from gateway.streams.watchdog import Watchdog
from gateway.upstream.client import UpstreamResponse
from gateway.upstream.dialects.openai import Decoder

EVENT = b"data: %b\n\n" % json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 70_000}}]}).encode()


class ReadyConnection:
    """A response of `reads` reads that are all there, as uvloop delivers them: one after another until told to stop.

    Each read lasts for longer than the clock of the event loop takes to move on. `turns` has the reads of each turn.
    """

    def __init__(self, reads: int) -> None:
        self._rest = reads
        self._loop = asyncio.get_running_loop()
        self.turns: list[int] = []

    async def feed(self, take: Callable[[bytes], bool]) -> bool:
        await asyncio.sleep(0)
        self.turns.append(0)
        while self._rest:
            self._rest -= 1
            self.turns[-1] += 1
            started = self._loop.time()
            while self._loop.time() < started + 0.002:
                pass
            if take(EVENT):
                return True
        return False


async def test_a_stream_takes_its_share_of_a_turn_however_long_a_read_takes() -> None:
    store = MemoryStore(max_streams=1, max_bytes=10_000_000)
    log, entries = store.create("one"), list[Entry]()
    watchdog = Watchdog(asyncio.get_running_loop(), Timeouts(), lambda timeout: None)
    response = ReadyConnection(20)
    reading = Reading(Decoder(), log, watchdog, entries.extend, max_event_bytes=1_000_000)
    await reading.events(cast(UpstreamResponse, cast(Any, response)), EVENT)
    assert set(response.turns) <= {0, 1, 2}  # of 70 kB each, and 128 KiB are a share
    assert len(entries) == 21
