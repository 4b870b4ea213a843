"""A stream that is passed on and not kept: frames wait until they are taken, and the upstream waits with them."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from gateway.bounds import Bounds
from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError
from gateway.log.views import chunk_view
from gateway.log.window import WINDOW_BYTES, Window
from gateway.streams.viewer import Viewer
from tests.conftest import Client, MakeGateway
from tests.rig.clients import connect, eventually, remains
from tests.rig.inside import streams
from tests.rig.scripted_upstream import DONE, ScriptedUpstream, Step, delta, finish, stream
from tests.rig.wire import read_response
from tests.streams.test_viewer import Connection

END: Entry = Entry(Kind.END, b"{}")
FAILED: list[Entry] = [
    Entry(Kind.FAILURE, b'{"error":{"message":"no"}}'),
    Entry(Kind.END, b'{"reason":"upstream_error"}'),
]
COMPLETE: Entry = Entry(Kind.END, b'{"reason":"complete"}')


def plain(number: int, entry: Entry) -> bytes:
    return entry.payload if entry.kind is Kind.CHUNK else b"."


def chunks(*payloads: bytes) -> list[Entry]:
    return [Entry(Kind.CHUNK, payload) for payload in payloads]


# What it holds


def test_it_is_empty_at_first() -> None:
    window = Window(plain)
    assert (window.last, window.size, window.ended, window.full) == (0, 0, False, False)
    assert window.after(0) == (b"", 0)


def test_frames_come_in_their_order() -> None:
    window = Window(plain)
    window.append(chunks(b"a"))
    window.append(chunks(b"b", b"c"))
    assert (window.last, window.size) == (3, 3)
    assert window.after(0) == (b"abc", 3)
    window.append([*chunks(b"d"), END])
    assert window.after(3) == (b"d.", 5)
    assert window.after(5) == (b"", 5)


def test_what_was_not_taken_is_there_when_one_looks_again() -> None:
    """A write that failed is tried once more; only the cursor says that frames have gone out."""
    window = Window(plain)
    window.append(chunks(b"a", b"b"))
    assert window.after(0) == window.after(0) == (b"ab", 2)
    window.append(chunks(b"c"))
    assert window.after(0) == (b"abc", 3)
    assert window.after(1) == (b"bc", 3)
    assert window.after(1) == (b"bc", 3)
    assert window.after(3) == (b"", 3)


def test_the_view_is_asked_once_for_every_entry() -> None:
    seen: list[int] = []

    def view(number: int, entry: Entry) -> bytes:
        seen.append(number)
        return entry.payload

    window = Window(view)
    window.append(chunks(b"a", b"b"))
    window.after(0)
    window.after(0)
    window.append(chunks(b"c"))
    window.after(2)
    assert seen == [1, 2, 3]


def test_an_entry_that_the_view_refuses_is_not_in_the_stream() -> None:
    """What came before it is shown, and so is what follows: the failure, and the end."""

    def view(number: int, entry: Entry) -> bytes:
        if entry.payload == b"b":
            raise UpstreamError("No.")
        return b"%d" % number + entry.payload

    window = Window(view)
    with pytest.raises(UpstreamError):
        window.append(chunks(b"a", b"b", b"c"))
    assert (window.last, window.size) == (1, 1)
    window.append([END])
    assert window.after(0) == (b"1a2{}", 2)
    assert window.ended


def test_a_piece_is_bounded() -> None:
    window = Window(plain)
    window.append(chunks(*[b"x" * 1000] * 500))
    cursor, pieces = 0, list[bytes]()
    while cursor < window.last:
        data, cursor = window.after(cursor)
        pieces.append(data)
    assert b"".join(pieces) == b"x" * 500_000
    assert all(len(piece) <= 65_536 + 1000 for piece in pieces)
    assert len(pieces) == 8


def test_frames_that_show_nothing_move_the_cursor() -> None:
    window = Window(lambda number, entry: b"")
    window.append(chunks(b"a", b"b"))
    assert window.after(0) == (b"", 2)
    assert not window.full


def test_nothing_comes_behind_the_end() -> None:
    window = Window(plain)
    window.append([*chunks(b"a"), END])
    assert window.ended
    with pytest.raises(ValueError, match="ended"):
        window.append(chunks(b"b"))
    assert window.after(0) == (b"a.", 2)


def test_an_empty_batch_is_none() -> None:
    window = Window(plain)
    window.append([])
    assert (window.last, window.ended) == (0, False)


def test_followers_are_told_of_every_batch_until_they_leave() -> None:
    window, told = Window(plain), list[str]()

    def one() -> None:
        told.append("a")

    window.follow(one)
    window.follow(lambda: told.append("b"))
    window.append(chunks(b"x", b"y"))
    assert told == ["a", "b"]
    window.unfollow(one)
    window.unfollow(one)
    window.append([END])
    assert told == ["a", "b", "b"]


def test_a_follower_may_leave_when_it_is_told() -> None:
    window, told = Window(plain), list[str]()

    def once() -> None:
        told.append("once")
        window.unfollow(once)

    window.follow(once)
    window.follow(lambda: told.append("always"))
    window.append(chunks(b"x"))
    window.append(chunks(b"y"))
    assert told == ["once", "always", "always"]


# When it is full


async def test_there_is_room_at_first_and_again_when_frames_are_taken() -> None:
    window = Window(plain, limit=10)
    await window.room()
    window.append(chunks(b"x" * 9))
    assert not window.full
    window.append(chunks(b"y", b"z"))
    assert window.full
    waiting = asyncio.create_task(window.room())
    await asyncio.sleep(0)
    window.after(0)  # looked at, but not taken
    await asyncio.sleep(0)
    assert not waiting.done()
    assert window.after(1) == (b"yz", 3)
    assert not window.full
    await waiting


async def test_room_is_told_when_enough_is_taken_and_not_before() -> None:
    window = Window(plain, limit=10)
    window.append(chunks(*[b"x" * 5] * 4))
    waiting = asyncio.create_task(window.room())
    for cursor, free in ((1, False), (2, False), (3, True)):
        await asyncio.sleep(0)
        window.after(cursor)
        assert window.full is not free
    await waiting


async def test_it_can_be_full_again_and_again() -> None:
    window = Window(plain, limit=10)
    for turn in range(5):
        window.append(chunks(b"x" * 10))
        waiting = asyncio.create_task(window.room())
        await asyncio.sleep(0)
        window.after(turn + 1)
        await waiting
    assert not window.full


async def test_who_waits_for_room_may_be_cancelled() -> None:
    window = Window(plain, limit=10)
    window.append(chunks(b"x" * 10))
    waiting = asyncio.create_task(window.room())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0)
    window.append([END])
    assert window.after(0) == (b"x" * 10 + b".", 2)
    assert window.after(2) == (b"", 2)


# With a viewer


class Sink(Connection):
    """Knows what it was to end with."""

    last: bytes | None = None

    async def finish(self, data: bytes) -> None:
        self.last = data
        await super().finish(data)


async def test_a_viewer_that_keeps_up_leaves_nothing_waiting() -> None:
    window, sink = Window(chunk_view, limit=100), Sink()
    viewing = asyncio.create_task(Viewer(window, sink, heartbeat=None).run())
    await asyncio.sleep(0)
    for n in range(50):
        window.append(chunks(b"%d" % n))
        assert sink.writes[-1] == b"data: %d\n\n" % n
        assert not window.full
    window.append([COMPLETE])
    await viewing
    assert sink.last == b"data: [DONE]\n\n"
    assert not sink.waited[:-1]


async def test_a_slow_viewer_fills_the_window_and_loses_nothing() -> None:
    window, sink = Window(chunk_view, limit=100), Sink()
    sink.full = True
    sink.room.clear()
    viewing = asyncio.create_task(Viewer(window, sink, heartbeat=None).run())
    await asyncio.sleep(0)
    sent = 0
    while not window.full:
        window.append(chunks(b"%d" % sent))
        sent += 1
        await asyncio.sleep(0)
    assert sent < 20
    sink.room.set()
    async with asyncio.timeout(1):
        await window.room()
    window.append([COMPLETE])
    await viewing
    assert b"".join(sink.writes) == b"".join([b"data: %d\n\n" % n for n in range(sent)]) + b"data: [DONE]\n\n"


async def test_fault_11_the_sink_is_finished_wherever_a_piece_ends() -> None:
    """It is what breaks the body off: a failure whose frame fills a piece must not leave the end to nobody."""
    for size in (1, 65_000, *range(65_480, 65_540), 70_000, 200_000):
        window, sink = Window(chunk_view), Sink()
        window.append([*chunks(b"x" * size), *FAILED])
        await Viewer(window, sink, heartbeat=None).run()
        assert b"".join(sink.writes).endswith(b'data: {"error":{"message":"no"}}\n\n')
        assert sink.last is not None, size


# With a gateway: a client that does not read


class Counted(list[Step]):
    """A script that knows how far it was played."""

    played = 0

    def __iter__(self) -> Iterator[Step]:
        for step in super().__iter__():
            self.played += 1
            yield step


async def test_fault_57_a_client_that_does_not_read_stops_the_upstream_and_then_gets_everything(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    """Its writes stall, and nothing grows here; and its silence in that time is not its own."""
    deltas = [delta(f"{n:06}" + "x" * 65_536) for n in range(400)]  # more than the kernel's buffers take
    script = Counted(stream(*deltas, finish(), DONE))
    upstream.script(script)
    client = await gateway("[timeouts]\nidle = 0.3")
    reader, writer = await asking(client, receive_buffer=4096)
    await eventually(lambda: len(streams(client)) == 1)
    (generation,) = streams(client)
    window = generation.log
    assert isinstance(window, Window)
    await eventually(lambda: window.full)
    await until_still(lambda: script.played)
    most = script.played
    await remains(lambda: window._waiting < WINDOW_BYTES + 524_288 and not window.ended, seconds=0.8)
    assert script.played == most < len(deltas)
    async with asyncio.timeout(20):
        raw = await reader.read()
    writer.close()
    response = read_response(raw)
    assert response is not None
    assert response.is_whole
    assert response.body == b"".join(deltas) + finish() + DONE


async def test_fault_57_a_client_that_never_reads_is_cut_and_the_upstream_let_go(
    gateway: MakeGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script(stream(*[delta("x" * 65_536)] * 400, finish(), DONE))
    client = await gateway(bounds=Bounds(stall_seconds=0.3))
    _, writer = await asking(client, receive_buffer=4096)
    await upstream.until(requests=1)
    await eventually(lambda: not upstream.open_connections and not len(streams(client)))
    writer.close()


async def asking(client: Client, *, receive_buffer: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await connect(client, receive_buffer=receive_buffer)
    body = b'{"model":"m","stream":true,"messages":[]}'
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return reader, writer


async def until_still(value: Callable[[], int]) -> None:
    """Until what is counted has not changed for a while."""
    before = -1
    async with asyncio.timeout(10):
        while before != (now := value()):
            before = now
            await asyncio.sleep(0.3)  # the while
