"""A viewer against a sink that a test holds in its hand: what is written when, and how much at once."""

import asyncio

from gateway.entries import Entry, Kind
from gateway.log.memory import MemoryStore
from gateway.log.views import text_view
from gateway.streams.frames import Frames
from gateway.streams.viewer import Viewer

END: Entry = Entry(Kind.END, b"{}")


class Connection:
    """A sink. `full` makes it take nothing without waiting."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.waited: list[bytes] = []
        self.full = False
        self.aborted = False
        self.room = asyncio.Event()
        self.room.set()

    async def write(self, data: bytes) -> None:
        self.waited.append(data)
        self.writes.append(data)
        await self.room.wait()

    def write_now(self, data: bytes) -> bool:
        if self.full:
            return False
        self.writes.append(data)
        return True

    async def finish(self, data: bytes) -> None:
        if data:
            await self.write(data)

    def abort(self) -> None:
        self.aborted = True


def texts(*payloads: bytes) -> list[Entry]:
    return [Entry(Kind.TEXT, payload) for payload in payloads]


async def test_one_that_keeps_up_is_written_to_within_the_append() -> None:
    log, connection = MemoryStore(max_streams=1, max_bytes=1 << 30).create("s"), Connection()
    viewing = asyncio.create_task(Viewer(Frames(log, text_view), connection, heartbeat=None).run())
    await asyncio.sleep(0)
    log.append(texts(b"a", b"b"))
    assert connection.writes == [b"ab"]
    log.append([END])
    await viewing
    assert connection.writes == [b"ab"]


async def test_a_read_of_thousands_of_entries_is_written_without_waiting_for_the_next() -> None:
    log, connection = MemoryStore(max_streams=1, max_bytes=1 << 30).create("s"), Connection()
    viewing = asyncio.create_task(Viewer(Frames(log, text_view), connection, heartbeat=None).run())
    await asyncio.sleep(0)
    log.append(texts(*[b"x" * 100] * 3000))
    for _ in range(20):
        await asyncio.sleep(0)
    assert b"".join(connection.writes) == b"x" * 300_000
    assert max(map(len, connection.writes)) <= 65_536 + 100
    log.append([END])
    await viewing


async def test_one_that_is_full_lags_and_catches_up_in_order() -> None:
    log, connection = MemoryStore(max_streams=1, max_bytes=1 << 30).create("s"), Connection()
    connection.full = True
    connection.room.clear()
    viewing = asyncio.create_task(Viewer(Frames(log, text_view), connection, heartbeat=None).run())
    await asyncio.sleep(0)
    for payload in (b"a", b"b", b"c"):
        log.append(texts(payload))
        await asyncio.sleep(0)
    assert connection.writes == [b"a"]
    connection.room.set()
    log.append([END])
    await viewing
    assert b"".join(connection.writes) == b"abc"


async def test_viewers_that_keep_up_share_the_bytes() -> None:
    log = MemoryStore(max_streams=1, max_bytes=1 << 30).create("s")
    frames = Frames(log, text_view)
    connections = [Connection() for _ in range(3)]
    viewing = [asyncio.create_task(Viewer(frames, one, heartbeat=None).run()) for one in connections]
    await asyncio.sleep(0)
    log.append(texts(b"a", b"b"))
    (first, second, third) = (one.writes[0] for one in connections)
    assert first is second is third
    log.append([END])
    await asyncio.gather(*viewing)


async def test_one_that_starts_late_is_shown_everything() -> None:
    log, connection = MemoryStore(max_streams=1, max_bytes=1 << 30).create("s"), Connection()
    log.append([*texts(b"a", b"b"), END])
    await Viewer(Frames(log, text_view), connection, cursor=1, heartbeat=None).run()
    assert connection.writes == [b"b"]
