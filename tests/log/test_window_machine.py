"""Any entries, and one reader at any pace: a window gives every byte once, and holds no more than it says."""

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.entries import Entry, Kind
from gateway.log.window import Window

PIECE = 65_536  # bytes, of a read and of the count

texts = st.one_of(st.binary(max_size=8), st.integers(1, 3 * PIECE).map(lambda size: b"x" * size))
batches = st.lists(texts.map(lambda text: Entry(Kind.TEXT, text)), max_size=6)


def shown(number: int, entry: Entry) -> bytes:
    """Some entries show nothing, as in a view without reasoning."""
    return b"" if len(entry.payload) % 3 == 1 else b"%d:" % number + entry.payload


class Passing(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.told = 0  # times that the follower was told
        self.counted = 0  # bytes, as the store counts them
        self.frames: list[bytes] = []
        self.cursor = 0  # behind what the reader has written
        self.offered = 0  # behind what it was given last
        self.is_read = True
        self.producer: asyncio.Task[None] | None = None

    @initialize(limit=st.sampled_from([1, 100, PIECE, 4 * PIECE]))
    def a_window(self, limit: int) -> None:
        self.limit = limit
        self.window = Window(shown, limit=limit, count=self.count)
        self.window.follow(self.tell)

    def count(self, size: int) -> None:
        self.counted += size

    def tell(self) -> None:
        self.told += 1

    # Who writes

    @precondition(lambda self: not self.window.ended and not self.window.full)
    @rule(batch=batches, tells=st.booleans())
    def some_comes(self, batch: list[Entry], tells: bool) -> None:
        before = self.told
        self.window.append(batch, tells=tells)
        self.frames += [shown(number, entry) for number, entry in enumerate(batch, len(self.frames) + 1)]
        assert self.told == before + tells

    @precondition(lambda self: not self.window.ended and self.window.full and self.producer is None)
    @rule()
    def room_is_waited_for(self) -> None:
        self.producer = self.loop.create_task(self.window.room())
        self.turn()
        assert not self.producer.done()

    @precondition(lambda self: not self.window.ended)
    @rule()
    def it_ends(self) -> None:
        """Also where it is full: an answer may end at any time."""
        end = Entry(Kind.END, b"{}")
        self.window.append([end])
        self.frames.append(shown(len(self.frames) + 1, end))

    @precondition(lambda self: self.window.ended)
    @rule()
    def nothing_comes_behind_the_end(self) -> None:
        with pytest.raises(ValueError, match="has ended"):
            self.window.append([Entry(Kind.TEXT, b"a")])

    # Who reads

    @precondition(lambda self: self.is_read)
    @rule(writes=st.booleans())
    def the_reader_looks(self, writes: bool) -> None:
        """What it could not write, it asks for again."""
        data, behind = self.window.after(self.cursor)
        assert data == b"".join(self.frames[self.cursor : behind])
        assert behind > self.cursor or self.cursor == len(self.frames)
        assert len(data) < PIECE + max(map(len, self.frames[self.cursor : behind]), default=0) or not data
        self.offered = behind
        if writes:
            self.cursor = behind
        self.turn()

    @precondition(lambda self: self.is_read)
    @rule()
    def the_reader_catches_up(self) -> None:
        while self.cursor < len(self.frames):
            self.the_reader_looks(writes=True)
        self.the_reader_looks(writes=True)
        assert self.counted < PIECE

    @precondition(lambda self: self.is_read)
    @rule()
    def the_reader_leaves(self) -> None:
        """What comes from then on is counted, and held for nobody."""
        self.window.abandon()
        self.is_read = False
        self.turn()

    def turn(self) -> None:
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        if self.producer is not None and self.producer.done():
            self.producer.result()
            self.producer = None

    # What holds at every moment

    @property
    def waiting(self) -> int:
        """Bytes that the reader has not asked beyond."""
        return sum(map(len, self.frames[self.window._taken :])) if self.is_read else 0

    @invariant()
    def it_is_full_when_so_much_waits(self) -> None:
        assert self.window.full == (self.waiting >= self.limit)
        assert self.producer is None or self.window.full, "there is room, and nobody was told"

    @invariant()
    def what_it_holds_is_counted(self) -> None:
        """To within a piece, so that a reader that keeps up costs nothing."""
        assert self.window.held == self.counted
        assert abs(self.counted - self.waiting) < PIECE
        assert sum(map(len, self.window._frames)) == self.waiting

    @invariant()
    def numbers_go_on(self) -> None:
        assert self.window.last == len(self.frames)

    def teardown(self) -> None:
        if self.producer is not None:
            self.producer.cancel()
            self.turn_over(self.producer)
        self.loop.close()

    def turn_over(self, task: "asyncio.Task[None]") -> None:
        self.loop.run_until_complete(asyncio.wait([task]))


def test_every_byte_passes_once() -> None:
    run_state_machine_as_test(Passing, settings=settings(max_examples=settings().max_examples // 4))
