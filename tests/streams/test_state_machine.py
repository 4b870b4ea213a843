"""Any stream, any viewers, in any order: what each of them is shown is its view, from its place on, and nothing else.

No sockets: an event loop whose clock stands still and which turns when the test says so, upstream bytes that are fed as
a generation feeds them, and sinks that take what they are told to take.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from contextvars import Context
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate, product
from operator import itemgetter
from typing import TypeVarTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.entries import Entry, Kind
from gateway.errors import ClientGone
from gateway.log.memory import MemoryStore
from gateway.log.views import Format, View, read_event_id, sse_view, text_view
from gateway.sse import Parser
from gateway.streams.frames import Frames
from gateway.streams.viewer import Viewer
from gateway.upstream.dialects.openai import Decoder
from tests.rig.wire import HEARTBEAT, last_event_id, whole_blocks

Ts = TypeVarTuple("Ts")

STREAM = "s" * 22
SSE = {
    f"{format}-{reasoning}": sse_view(STREAM, format=format, reasoning=reasoning)
    for format, reasoning in product(Format, (False, True))
}
VIEWS: dict[str, View] = {**SSE, "text": text_view}
BEHIND_A_CR = 0  # of a read: it ends there, where an LF may follow
BEAT = 15.0  # seconds between heartbeats
ENTRY = 80  # bytes that the store counts for an entry beside its payload
END: Entry = Entry(Kind.END, b'{"reason":"complete"}')
ENDS: dict[str, list[Entry]] = {
    "complete": [END],
    "stopped": [END],
    "failed": [Entry(Kind.FAILURE, b'{"error":{"message":"no"}}'), END],
}


# What the upstream says


@dataclass(frozen=True)
class Said:
    """One event of the upstream, and what is to become of it."""

    data: bytes
    entries: tuple[Entry, ...]
    is_there: int  # how many of its bytes it takes

    @classmethod
    def in_lines(cls, line: str, line_end: str, entries: tuple[Entry, ...] = ()) -> "Said":
        """A line and a blank line. After a CR, the LF that may follow is not waited for."""
        data = f"{line}{line_end}{line_end}".encode()
        return cls(data, entries, len(data) - (line_end == "\r\n"))


_line_ends = st.sampled_from(["\n", "\n", "\r\n", "\r"])
_texts = st.text(
    st.one_of(st.sampled_from("\r\n: aé\u2028👋"), st.characters(exclude_categories=["Cs"])), min_size=1, max_size=8
)
_calls = st.lists(st.fixed_dictionaries({"index": st.integers(0, 9), "id": _texts}), min_size=1, max_size=2)
_deltas = st.one_of(
    st.fixed_dictionaries({"content": _texts}),
    st.fixed_dictionaries({"reasoning": _texts}),
    st.fixed_dictionaries(
        {}, optional={"content": _texts, "reasoning": _texts, "refusal": _texts, "tool_calls": _calls}
    ),
)
_nothing = st.sampled_from([": a comment", "data: not JSON", 'data: {"choices":[]}', "retry: 1", "data:"])


def _as_said(delta: dict[str, object], line_end: str) -> Said:
    value = {"choices": [{"index": 0, "delta": delta}]}
    return Said.in_lines(f"data: {json.dumps(value, ensure_ascii=False)}", line_end, tuple(_entries(delta)))


def _entries(delta: dict[str, object]) -> Iterator[Entry]:
    for name, kind in {"reasoning": Kind.REASONING, "content": Kind.TEXT, "refusal": Kind.REFUSAL}.items():
        if name in delta:
            yield Entry(kind, str(delta[name]).encode())
    calls = delta.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        yield Entry(Kind.TOOL, json.dumps(call, ensure_ascii=False).encode())


_deltas_said = st.builds(_as_said, _deltas, _line_ends)
said = st.one_of(_deltas_said, _deltas_said, st.builds(Said.in_lines, _nothing, _line_ends))
sizes = st.one_of(st.just(1 << 20), st.just(BEHIND_A_CR), st.integers(1, 400))


# Who watches


class Taking(Enum):
    """What a connection does with bytes."""

    AT_ONCE = "at once"
    WAITING = "only where one waits for it"
    NOTHING = "nothing more than it has"


class Connection:
    """A sink in the machine's hand."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.writing = False
        self.gone = False
        self.finished_with: bytes | None = None
        self._taking = Taking.AT_ONCE
        self._changed = asyncio.Event()

    @property
    def taking(self) -> Taking:
        return self._taking

    def change(self, taking: Taking) -> None:
        self._taking = taking
        self._changed.set()

    async def write(self, data: bytes) -> None:
        assert data, "in HTTP, an empty chunk is the last one"
        assert not self.writing
        self.writing = True
        try:
            if not self.gone:
                self.writes.append(data)
                await asyncio.sleep(0)
            while self.taking is Taking.NOTHING and not self.gone:
                self._changed.clear()
                await self._changed.wait()
        finally:
            self.writing = False
        if self.gone:
            raise ClientGone()

    def write_now(self, data: bytes) -> bool:
        assert data, "in HTTP, an empty chunk is the last one"
        assert not self.writing
        if self.gone or self.taking is not Taking.AT_ONCE:
            return False
        self.writes.append(data)
        return True

    async def finish(self, data: bytes) -> None:
        assert self.finished_with is None
        if data:
            await self.write(data)
        self.finished_with = data

    def abort(self) -> None:
        self.gone = True
        self._changed.set()


@dataclass
class Watching:
    """One viewer: `had` is what earlier connections brought it, from `began` on."""

    view: str
    began: int
    had: bytes
    task: "asyncio.Task[None]"
    connection: Connection
    has_left: bool = False
    in_the_end: int = 0  # writes that it had when it left

    @property
    def received(self) -> bytes:
        beats = self.view != "text"  # in bare text there are none, and these bytes may be text
        return b"".join([data for data in self.connection.writes if not (beats and data == HEARTBEAT)])

    @property
    def stays(self) -> bool:
        return not (self.has_left or self.connection.gone)

    @property
    def keeps_up(self) -> bool:
        return self.stays and self.connection.taking is Taking.AT_ONCE


class SteppedLoop(asyncio.SelectorEventLoop):
    """Its clock stands still until somebody moves it. Timers that are due at once fire in the order they were set."""

    now = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[asyncio.TimerHandle] = []
        self._waiting: list[tuple[asyncio.TimerHandle, Callable[[], object]]] = []

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self.timers.append(timer)
        self._waiting.append((timer, lambda: None if timer.cancelled() else callback(*args)))
        return timer

    def time(self) -> float:
        return self.now

    def turn(self) -> None:
        self._waiting = [(timer, fire) for timer, fire in self._waiting if not timer.cancelled()]
        due = [(timer.when(), fire) for timer, fire in self._waiting if timer.when() <= self.now]
        self._waiting = [(timer, fire) for timer, fire in self._waiting if timer.when() > self.now]
        for _, fire in sorted(due, key=itemgetter(0)):
            self.call_soon(fire)
        self.run_until_complete(asyncio.sleep(0))


class Watched(RuleBasedStateMachine):
    """One stream and everybody who watches it."""

    viewers: Bundle[Watching] = Bundle("viewers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = SteppedLoop()
        self.patched = ExitStack()
        self.broken: list[dict[str, object]] = []
        self.loop.set_exception_handler(lambda _, context: self.broken.append(context))
        self.store = MemoryStore(max_streams=1, max_bytes=1 << 30)
        self.log = self.store.create(STREAM)
        self.empty = self.log.held
        self.parser = Parser(max_bytes=1 << 20)
        self.decoder = Decoder()
        self.upstream = b""  # what it has said so far
        self.fed = 0  # and how many bytes of that were read
        self.expected: list[tuple[int, Entry]] = []  # each with the byte that makes it whole
        self.ending: list[Entry] = []
        self.all: list[Watching] = []

    @initialize(piece=st.sampled_from([1, 150, 65_536]), view=st.sampled_from(list(SSE)))
    def two_are_there(self, piece: int, view: str) -> None:
        """`piece` is the size of a write."""
        self.piece = piece
        self.frames = {name: Frames(self.log, view, piece_bytes=piece) for name, view in SSE.items()}
        self.watch(view, 0)
        self.watch(view, 0)

    # The stream

    @precondition(lambda self: not self.log.ended)
    @rule(events=st.lists(said, min_size=1, max_size=4), size=sizes)
    def the_upstream_says(self, events: list[Said], size: int) -> None:
        self.say(events)
        self.read(size)

    @precondition(lambda self: self.fed < len(self.upstream) and not self.log.ended)
    @rule(size=sizes)
    def some_more_is_read(self, size: int) -> None:
        self.read(size)

    @precondition(lambda self: not self.log.ended)
    @rule(events=st.lists(said, min_size=1, max_size=4), size=sizes)
    def the_upstream_says_while_all_wait(self, events: list[Said], size: int) -> None:
        """Who keeps up has it within the append; those who keep up with one view have the same bytes object."""
        self.say(events)
        self.rest()
        before = self.log.last
        wrote = {id(viewer): len(viewer.connection.writes) for viewer in self.all}
        self.read(size)
        for name, view in SSE.items():
            new = b"".join(frames(view, self.log.entries, before))
            told = [viewer for viewer in self.all if viewer.view == name and viewer.keeps_up]
            written = [viewer.connection.writes[wrote[id(viewer)] :] for viewer in told]
            if len(new) < self.piece:
                assert all(writes == ([new] if new else []) for writes in written)
                assert len({id(data) for writes in written for data in writes}) <= 1, "a copy for each"
            else:
                assert all(len(writes) == 1 and new.startswith(writes[0]) for writes in written)

    def say(self, events: list[Said]) -> None:
        for event in events:
            whole_at = len(self.upstream) + event.is_there
            self.upstream += event.data
            self.expected += [(whole_at, entry) for entry in event.entries]

    def read(self, size: int) -> None:
        """What a generation does with a read."""
        if size == BEHIND_A_CR:
            size = self.upstream.find(b"\r", self.fed) + 1 - self.fed
        if size <= 0:
            return
        chunk = self.upstream[self.fed : self.fed + size]
        self.fed += len(chunk)
        entries: list[Entry] = []
        for event in self.parser.feed(chunk):
            self.decoder.decode(event, entries)
        if entries:
            self.log.append(entries)

    @precondition(lambda self: not self.log.ended and self.log.last > 5)
    @rule(how=st.sampled_from(list(ENDS)))
    def it_ends(self, how: str) -> None:
        if how == "complete":
            self.read(1 << 20)
        self.ending = ENDS[how]
        self.log.append(self.ending)

    # Its viewers

    @rule(
        target=viewers, view=st.sampled_from(list(VIEWS)), places=st.lists(st.integers(0, 40), min_size=1, max_size=3)
    )
    def some_come(self, view: str, places: list[int]):
        return multiple(*[self.watch(view, place % (self.log.last + 1)) for place in places])

    @rule(target=viewers, viewer=viewers, cut=st.integers(0, 2000), leaves=st.booleans())
    def one_comes_back(self, viewer: Watching, cut: int, leaves: bool):
        """With what came whole of what it was sent, and perhaps before its old connection is closed."""
        if viewer.view == "text":
            return multiple()
        if leaves:
            self.leave(viewer)
        raw = b"".join(viewer.connection.writes)
        kept = viewer.had + whole_blocks(raw[: cut % (len(raw) + 1)])
        place = read_event_id(last_event_id(kept)) if kept else (STREAM, viewer.began)
        assert place is not None
        return self.watch(viewer.view, place[1], began=viewer.began, had=kept)

    def watch(self, view: str, cursor: int, *, began: int | None = None, had: bytes = b"") -> Watching:
        connection = Connection()
        source = self.frames[view] if view in SSE else Frames(self.log, text_view)
        heartbeat = BEAT if view in SSE else None

        async def viewing() -> None:
            await Viewer(source, connection, cursor=cursor, heartbeat=heartbeat).run()

        task = self.loop.create_task(viewing())
        viewer = Watching(view, cursor if began is None else began, had, task, connection)
        self.all.append(viewer)
        return viewer

    @rule(viewer=viewers, taking=st.sampled_from(Taking))
    def one_changes_its_pace(self, viewer: Watching, taking: Taking) -> None:
        viewer.connection.change(taking)

    @rule(viewer=viewers, is_told=st.booleans())
    def one_goes(self, viewer: Watching, is_told: bool) -> None:
        """Its handler is cancelled, or nobody says so until something is written to it."""
        if is_told:
            self.leave(viewer)
        else:
            viewer.connection.gone = True

    def leave(self, viewer: Watching) -> None:
        if viewer.has_left:
            return
        viewer.task.cancel()
        self.loop.turn()
        viewer.has_left = True
        viewer.in_the_end = len(viewer.connection.writes)

    # Time

    @rule(seconds=st.sampled_from([0.0, 0.0, 1.0, BEAT, BEAT + 1]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
        self.loop.turn()

    @rule()
    def a_minute_passes(self) -> None:
        """Whoever takes nothing of a write for that long is cut, and without an end."""
        self.rest()
        stalled = [viewer.connection for viewer in self.all if viewer.connection.writing]
        self.loop.now += 61
        self.rest()
        assert all(connection.gone and connection.finished_with is None for connection in stalled)

    @rule()
    def all_comes_to_rest(self) -> None:
        """Whoever takes anything has everything, and the end of it where there is one."""
        self.rest()
        for viewer in self.all:
            connection = viewer.connection
            if viewer.stays and connection.taking is not Taking.NOTHING:
                assert viewer.had + viewer.received == b"".join(self.due(viewer))
                assert viewer.task.done() == self.log.ended == (connection.finished_with is not None)
                assert connection.finished_with != b"" or viewer.view == "text" or not viewer.received
        assert len(self.log._wakes) == sum(not viewer.task.done() for viewer in self.all)

    def rest(self) -> None:
        """Until nobody has written anything for a while."""
        quiet, wrote = 0, -1
        while quiet < 4:
            self.loop.turn()
            now = sum(len(viewer.connection.writes) for viewer in self.all)
            quiet, wrote = (quiet + 1 if now == wrote else 0), now

    def teardown(self) -> None:
        """Those who stayed to the end have it."""
        try:
            if not self.log.ended:
                self.it_ends("complete")
            for viewer in self.all:
                viewer.connection.change(Taking.WAITING)
            self.all_comes_to_rest()
            self.everybody_is_shown_what_is_due()
            assert len(self.log._wakes) == 0
        finally:
            for viewer in self.all:
                viewer.task.cancel()
                self.loop.run_until_complete(asyncio.wait([viewer.task]))
                if not viewer.task.cancelled():
                    viewer.task.exception()
            self.loop.close()
            self.patched.close()
        assert all(timer.cancelled() or timer.when() <= self.loop.now for timer in self.loop.timers)

    # What holds at every moment

    @invariant()
    def the_log_holds_what_was_said(self) -> None:
        whole = [entry for whole_at, entry in self.expected if whole_at <= self.fed]
        assert self.log.entries == whole + self.ending

    @invariant()
    def memory_is_that_of_the_entries(self) -> None:
        """However many watch, and however slowly: of a view, one piece is held beside them."""
        payloads = sum(len(entry.payload) for entry in self.log.entries)
        assert self.log.size == payloads
        assert self.store.size == self.log.held == self.empty + payloads + ENTRY * len(self.log.entries)
        for name, frames_of_view in self.frames.items():
            longest = max(map(len, frames(VIEWS[name], self.log.entries, 0)), default=0)
            assert len(frames_of_view._piece) < self.piece + longest + 1

    @invariant()
    def everybody_is_shown_what_is_due(self) -> None:
        """All frames from where it began up to some place, each once, in order, and none of them in part."""
        for viewer in self.all:
            shown = viewer.had + viewer.received
            places = [0, *accumulate(map(len, self.due(viewer)))]
            assert b"".join(self.due(viewer)).startswith(shown)
            assert len(shown) in places
            if viewer.connection.finished_with is not None:
                assert self.log.ended
                assert len(shown) == places[-1]

    @invariant()
    def whoever_left_is_written_nothing(self) -> None:
        assert all(len(v.connection.writes) == v.in_the_end for v in self.all if v.has_left)

    @invariant()
    def nothing_breaks(self) -> None:
        assert self.broken == []
        for viewer in self.all:
            if viewer.task.done() and not viewer.task.cancelled():
                error = viewer.task.exception()
                assert error is None or (isinstance(error, ClientGone) and viewer.connection.gone)

    def due(self, viewer: Watching) -> list[bytes]:
        return frames(VIEWS[viewer.view], self.log.entries, viewer.began)


def frames(view: View, entries: list[Entry], cursor: int) -> list[bytes]:
    return [view(number, entry) for number, entry in enumerate(entries[cursor:], cursor + 1)]


def test_every_viewer_is_shown_its_view_from_its_place_on() -> None:
    run_state_machine_as_test(Watched, settings=settings(stateful_step_count=30))
