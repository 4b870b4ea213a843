"""Reads that are pushed, on real sockets: what arrives when, and whose the connection is before, between and after."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import EMPTY_PAYLOAD, StreamReader
from aiohttp.client_proto import ResponseHandler

from gateway.errors import UpstreamIncomplete
from gateway.upstream import client as client_module
from gateway.upstream.client import UpstreamResponse
from gateway.upstream.tap import HANDLER_NAMES, READER_NAMES, Tap, fits, join
from tests.rig.clients import eventually, remains
from tests.rig.reads import Run, rig
from tests.rig.scripted_upstream import Close, Pause, Reset, Send, Stall, Step, Until, head, stream


def protocol_of(response: UpstreamResponse) -> Any:
    connection = response._response.connection
    assert connection is not None
    assert connection.transport is not None
    return connection.transport.get_protocol()


def test_aiohttp_has_the_names_that_a_tap_needs() -> None:
    """Where this fails, aiohttp has changed: until `tap` follows, reads are pulled, which costs more."""
    assert [name for name in HANDLER_NAMES if not hasattr(ResponseHandler, name)] == []
    assert [name for name in READER_NAMES if not hasattr(StreamReader, name)] == []
    assert fits(ResponseHandler, StreamReader)
    assert client_module.can_push()


@pytest.mark.parametrize("name", [*HANDLER_NAMES, *READER_NAMES])
def test_reads_are_pulled_where_a_name_is_missing(name: str) -> None:
    handler = type("Handler", (), {n: None for n in HANDLER_NAMES if n != name})
    reader = type("Reader", (), {"__slots__": ()} | {n: None for n in READER_NAMES if n != name})
    assert not fits(handler, reader)
    setattr(handler, name, None)
    setattr(reader, name, None)
    assert fits(handler, reader)


def test_reads_are_pulled_where_a_reader_may_hold_what_is_unknown() -> None:
    assert not fits(ResponseHandler, type("Reader", (StreamReader,), {}))


async def test_what_has_arrived_in_pieces_is_read_as_one() -> None:
    """aiohttp starts its parser again, with no bytes, for each piece that is read."""
    protocol = ResponseHandler(asyncio.get_running_loop())
    resumed: list[bool] = []
    protocol.resume_reading = lambda resume_parser=True: resumed.append(resume_parser)  # type: ignore[method-assign] # to count
    reader = StreamReader(protocol, 1024)
    for piece in (b"a", b"b", b"c"):
        reader.begin_http_chunk_receiving()
        reader.feed_data(piece)
        reader.end_http_chunk_receiving()
    join(reader)
    assert reader.read_nowait() == b"abc"
    assert len(resumed) == 1
    join(reader)
    reader.feed_data(b"d")
    reader.feed_eof()
    join(reader)
    assert reader.read_nowait() == b"d"
    assert reader.at_eof()
    join(EMPTY_PAYLOAD)
    assert EMPTY_PAYLOAD.at_eof()


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_each_read_is_taken_in_the_turn_that_brought_it(run: Run, tmp_path: Path, tls: bool) -> None:
    """In no task. What had arrived before is taken by the task that asks."""
    tasks: list[asyncio.Task[Any] | None] = []

    async def main() -> None:
        go = asyncio.Event()
        async with rig(tmp_path if tls else None) as it:

            def take(data: bytes) -> bool:
                tasks.append(asyncio.current_task())
                return it.take(data)

            response = await it.ask(*stream(b"a", Until(go), b"b", Pause(0.02), b"c"))
            assert await response.read() == b"a"
            feeding = asyncio.create_task(response.feed(take))
            await asyncio.sleep(0)
            assert isinstance(protocol_of(response), Tap)
            go.set()
            assert not await feeding
            assert it.reads == [b"b", b"c"]
            assert tasks == [None, None]

    run(main())


def test_what_has_arrived_before_is_taken_in_bounded_parts() -> None:
    """What a stop leaves stays in the reader, for the next tap."""

    async def main() -> None:
        whole, taken = bytes(range(256)) * 4096, list[bytes]()
        reader = StreamReader(ResponseHandler(asyncio.get_running_loop()), 2**21)
        reader.feed_data(whole)
        reader.feed_eof()
        stops = iter([True, False, False, True, False])

        def take(data: bytes) -> bool:
            taken.append(data)
            return next(stops)

        ends = []
        for _ in range(3):
            tap = Tap(reader, take)
            tap.open(None, None, StreamReader)
            ends.append(await tap.over)
        assert ends == [True, True, False]
        assert [len(data) for data in taken] == [262_144] * 4
        assert b"".join(taken) == whole

    asyncio.run(main())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_answer_that_is_there_already(run: Run, tmp_path: Path, tls: bool) -> None:
    """All of it waits in the reader, and its connection is back in the pool before anybody reads."""

    async def main() -> None:
        async with rig(tmp_path if tls else None) as it:
            for _ in range(2):
                response = await it.ask(Send(b"".join([s.data for s in stream(b"ab", b"c") if isinstance(s, Send)])))
                await eventually(response._content.is_eof)
                assert not await response.feed(it.take)
            assert it.taken == b"abcabc"
            assert it.upstream.connections == 1

    run(main())


def test_a_body_that_ends_with_its_connection(run: Run) -> None:
    async def main() -> None:
        async with rig() as it:
            response = await it.ask(Send(head() + b"a"), Pause(0.02), Send(b"b"), Close())
            assert not await response.feed(it.take)
            assert it.taken == b"ab"
            response = await it.ask(Send(head() + b"a"), Close())
            await eventually(response._content.is_eof)  # before anybody reads
            assert not await response.feed(it.take)
            assert it.taken == b"aba"

    run(main())


BROKEN: dict[str, list[Step]] = {
    "reset": stream(b"a", Pause(0.02), b"b", Pause(0.02), Reset()),
    "closed": stream(b"a", Pause(0.02), b"b", Close()),
    "a malformed chunk": [*stream(b"a", Pause(0.02), b"b", Stall())[:-1], Send(b"zz\r\n"), Stall()],
    "a malformed chunk in the read of a good one": [
        *stream(b"a", Pause(0.02), Stall())[:-1],
        Send(b"1\r\nb\r\nzz\r\n"),
        Stall(),
    ],
    "a length that is not reached": [Send(head(Content_Length="9") + b"a"), Pause(0.02), Send(b"b"), Close()],
}


@pytest.mark.parametrize("late", [False, True], ids=["as it comes", "after all has come"])
@pytest.mark.parametrize("case", BROKEN)
def test_a_body_that_breaks_off(run: Run, case: str, late: bool) -> None:
    """It raises; it neither hangs nor ends. What came before is not lost where somebody was reading."""

    async def main() -> None:
        async with rig() as it:
            response = await it.ask(*BROKEN[case])
            assert await response.read() == b"a"
            if late:
                await eventually(lambda: response._content.exception() is not None)
            with pytest.raises(UpstreamIncomplete):
                async with asyncio.timeout(2):
                    await response.feed(it.take)
            assert late or it.taken == b"b"
            response.abort()

    run(main())


def test_nothing_is_read_after_a_stop_until_it_is_asked_for(run: Run) -> None:
    """The stop restores aiohttp's protocol at once: what comes then waits in its reader, in order."""

    async def main() -> None:
        async with rig() as it:
            go = asyncio.Event()
            response = await it.ask(*stream(b"a", b"b", Until(go), b"c", Pause(0.02), b"d"))
            await eventually(lambda: response._content.total_bytes >= 2)
            assert await response.feed(it.take_one)
            assert isinstance(protocol_of(response), ResponseHandler)
            go.set()
            await eventually(response._content.is_eof)
            assert it.taken == b"ab"
            while await response.feed(it.take_one):
                pass
            assert it.taken == b"abcd"

    run(main())


@pytest.mark.usefixtures("pushed")
def test_data_between_a_stop_and_the_waking_of_the_task(run: Run) -> None:
    """The stop wakes the task with the loop's next turn; data of the turn between is not taken, and not lost."""

    async def main() -> None:
        async with rig() as it:
            go = asyncio.Event()
            response = await it.ask(*stream(b"a", Until(go), b"b", Stall()))
            assert await response.read() == b"a"
            feeding = asyncio.create_task(response.feed(it.take_one))
            await asyncio.sleep(0)
            transport, protocol = response._response.connection.transport, protocol_of(response)  # type: ignore[union-attr] # it is open
            assert isinstance(protocol, Tap)
            protocol.data_received(b"1\r\nx\r\n")
            assert isinstance(transport.get_protocol(), ResponseHandler)  # type: ignore[union-attr] # it is open
            transport.get_protocol().data_received(b"1\r\ny\r\n")  # type: ignore[union-attr] # it is open
            protocol.data_received(b"1\r\nz\r\n")  # a loop that had looked the protocol up before
            assert await feeding
            assert it.taken == b"x"
            go.set()
            assert await response.feed(it.take_one)
            assert it.taken == b"xyz"
            assert await response.feed(it.take_one)
            assert it.taken == b"xyzb"
            response.abort()

    run(main())


def test_a_stop_in_the_middle_of_the_first_chunk(run: Run) -> None:
    """It began while the reader only collected, and ends when it does not."""

    async def main() -> None:
        async with rig() as it:
            rest: list[Step] = [Send(b"4\r\nab"), Pause(0.02), Send(b"cd\r\n0\r\n\r\n")]
            response = await it.ask(Send(head(Transfer_Encoding="chunked")), Pause(0.02), *rest)
            assert await response.feed(it.take_one)
            await eventually(response._content.is_eof)
            assert not await response.feed(it.take)
            assert it.taken == b"abcd"

    run(main())


@pytest.mark.usefixtures("pushed")
def test_data_between_a_cancellation_and_the_waking_of_the_task(run: Run) -> None:
    """It is in the reader, and counted there."""

    async def main() -> None:
        async with rig() as it:
            response = await it.ask(*stream(b"a", Stall()))
            assert await response.read() == b"a"
            feeding = asyncio.create_task(response.feed(it.take))
            await asyncio.sleep(0)
            tap = protocol_of(response)
            assert isinstance(tap, Tap)
            tap.data_received(b"1\r\nb\r\n")
            feeding.cancel()
            tap.data_received(b"1\r\nx\r\n")
            await asyncio.wait([feeding])
            assert response._content._size == 1
            assert await response.read() == b"x"
            assert it.reads == [b"b"]
            response.abort()

    run(main())


def test_a_stopped_body_slows_its_upstream_down(run: Run) -> None:
    """Of 64 MB, what the buffers on the way hold is sent; the rest when it is read. No byte is lost."""
    piece, count = bytes(65_536), 1024

    async def main() -> None:
        async with rig() as it:
            response = await it.ask(*stream(*[piece] * count))
            size = 0

            def take(data: bytes) -> bool:
                nonlocal size
                size += len(data)
                return size >= stop

            stop = 1
            assert await response.feed(take)
            await remains(lambda: sum(map(len, response._content._buffer)) < 1_000_000)
            assert it.upstream.playing == 1
            stop = 10_000_000
            assert await response.feed(take)
            assert size < 12_000_000
            stop = len(piece) * count + 1
            assert not await response.feed(take)
            assert size == len(piece) * count

    run(main())


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("late", [False, True], ids=["as they come", "after all have come"])
def test_thousands_of_chunks_in_one_read(run: Run, late: bool) -> None:
    """aiohttp parses them in several goes, since it bounds their number; all are taken without another read."""
    chunks = b"1\r\nx\r\n" * 40_000

    async def main() -> None:
        async with rig() as it:
            response = await it.ask(*stream(b"a", Stall()))
            assert await response.read() == b"a"
            if late:
                protocol_of(response).data_received(chunks)
                assert response._content._size < 40_000
            feeding = asyncio.create_task(response.feed(it.take))
            await asyncio.sleep(0)
            if not late:
                protocol_of(response).data_received(chunks)
            assert it.taken == b"x" * 40_000
            feeding.cancel()
            response.abort()

    run(main())


@pytest.mark.parametrize("how", ["end", "stop", "cancel", "error"])
def test_the_connection_goes_back_to_the_pool(run: Run, how: str) -> None:
    """However reading ends, aiohttp's own protocol is the transport's again, and serves the next request."""

    async def main() -> None:
        async with rig() as it:
            taken = []

            def take(data: bytes) -> bool:
                taken.append(data)
                if how == "error":
                    raise ValueError(data)
                return how == "stop"

            go = asyncio.Event()
            response = await it.ask(*stream(b"a", Pause(0.02), b"b", Until(go)))
            assert await response.read() == b"a"
            handler = protocol_of(response)
            transport = response._response.connection.transport  # type: ignore[union-attr] # it is open
            feeding = asyncio.create_task(response.feed(take))
            await eventually(lambda: taken == [b"b"])
            if how == "end":
                go.set()
            elif how == "cancel":
                feeding.cancel()
            await asyncio.wait([feeding])
            if how == "error":
                assert isinstance(feeding.exception(), ValueError)
            go.set()
            assert transport is not None
            assert transport.get_protocol() is handler
            assert type(response._content) is StreamReader
            await response.finish()
            again = await it.ask(*stream(b"c"))
            assert not await again.feed(it.take)
            assert it.upstream.connections == 1

    run(main())


def test_a_connection_serves_another_while_the_rest_of_its_last_body_waits(run: Run) -> None:
    """The body had ended when reading was stopped: its connection is free, its rest is in the reader."""

    async def main() -> None:
        async with rig() as it:
            response = await it.ask(*stream(b"a", b"b"))
            await eventually(response._content.is_eof)
            assert await response.feed(it.take_one)
            other = await it.ask(*stream(b"c", Pause(0.02), b"d"))
            assert not await response.feed(it.take)
            assert it.taken == b"ab"
            assert not await other.feed(it.take)
            assert it.taken == b"abcd"
            assert it.upstream.connections == 1

    run(main())


def test_an_error_of_one_stream_is_its_own(run: Run) -> None:
    async def main() -> None:
        async with rig() as it:

            def fail(data: bytes) -> bool:
                raise RuntimeError("a fault of ours")

            steps = stream(b"a", Pause(0.05), b"b", Pause(0.05), b"c")
            first, second = await it.ask(*steps), await it.ask(*steps)
            broken, whole = asyncio.create_task(first.feed(fail)), asyncio.create_task(second.feed(it.take))
            with pytest.raises(RuntimeError, match="ours"):
                await broken
            first.abort()
            assert not await whole
            assert it.taken == b"abc"

    run(main())


@pytest.mark.usefixtures("pushed")
def test_a_task_that_is_cancelled_by_what_takes_its_reads(run: Run) -> None:
    """What takes a read may interrupt its own stream: the cancellation comes before its result, and its error."""

    async def main() -> None:
        async with rig() as it:
            response = await it.ask(*stream(b"a", Pause(0.02), b"b", Stall()))
            assert await response.read() == b"a"

            def take(data: bytes) -> bool:
                feeding.cancel()
                if data == b"b":
                    raise ValueError
                return True

            feeding = asyncio.create_task(response.feed(take))
            with pytest.raises(asyncio.CancelledError):
                await feeding
            assert isinstance(protocol_of(response), ResponseHandler)
            response.abort()

    run(main())
