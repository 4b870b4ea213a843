"""Any streams, any viewers who come and leave, under a clock that stands still: how each ends, and how long it is held.

Both are compared with a model of the documented rules.

The registry and all that it holds are real. Only the upstream is played. The event loop turns when the test says so.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from gateway.admission.admit import admit
from gateway.admission.auth import Caller
from gateway.admission.descriptors import Descriptors
from gateway.admission.fields import body_fields, chat_request
from gateway.admission.memory_limiter import MemoryLimiter
from gateway.config import OnDisconnect, load
from gateway.entries import EndReason, Kind
from gateway.errors import Busy, UpstreamRejected
from gateway.log.memory import MemoryStore
from gateway.observe.records import StreamRecord
from gateway.streams.held import HeldStream
from gateway.streams.registry import Streams
from gateway.upstream.shapes import Shape
from gateway.upstream.targets import Targets
from tests.streams.test_state_machine import SteppedLoop

ATTACH, GRACE, KEEP = 20.0, 10.0, 50.0  # seconds
MOST, ORPHANS = 4, 2  # streams that are held, and those that wait for a viewer
CONFIG = load(
    f"""
[stream]
attach_seconds = {ATTACH}
grace_seconds = {GRACE}
keep_seconds = {KEEP}
max_orphans = {ORPHANS}
[store]
max_streams = {MOST}
[retry]
attempts = 1
[timeouts]
first_token = 80000
idle = 80000
total = 80000
[[upstreams]]
name = "up"
base_url = "http://127.0.0.1:9/v1"
""",
    {"OPENAI_MODEL": "m"},
)
DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
DONE = b"data: [DONE]\n\n"
ADDRESSES = ("192.0.2.1", "192.0.2.2")

# The policy, whether it can be resumed, and whether the one who asks watches it
requests = st.tuples(st.sampled_from(list(OnDisconnect)), st.booleans(), st.sampled_from([False, False, True]))
steps = st.sampled_from([0.0, 1.0, 4.0, 6.0, GRACE - 0.5, GRACE, ATTACH - 0.5, ATTACH, KEEP - 0.5, KEEP, 200.0])


class Playing:
    """An upstream's response, in the machine's hand."""

    def __init__(self) -> None:
        self.parts: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.is_closed = False

    async def begin(self) -> tuple[Shape, bytes]:
        return Shape.EVENTS, await self.read()

    async def read(self) -> bytes:
        part = await self.parts.get()
        if isinstance(part, Exception):
            raise part
        return part

    async def feed(self, take: Callable[[bytes], bool]) -> bool:
        while part := await self.read():
            if take(part):
                return True
        return False

    def abort(self) -> None:
        self.is_closed = True

    async def finish(self) -> None:
        self.is_closed = True


class Upstream:
    def __init__(self) -> None:
        self.opened: list[Playing] = []

    async def open(self, *_: object, **__: object) -> Any:
        self.opened.append(Playing())
        return self.opened[-1]


@dataclass(eq=False)
class Life:
    """One stream, and what the rules say of it."""

    stream: HeldStream[Any]
    policy: OnDisconnect
    is_kept: bool
    playing: Playing | None = None
    guests: list[Callable[[], None]] = field(default_factory=list)
    owners: list[Callable[[], None]] = field(default_factory=list)
    is_attended: bool = False
    waits_for: str = ""  # "owner" or "viewer"
    until: float = 0.0
    left_at: float | None = None
    spent: float = 0.0  # seconds without a viewer since the last owner
    end: EndReason | None = None
    kept_until: float | None = None
    is_held: bool = True

    @property
    def viewers(self) -> int:
        return len(self.guests) + len(self.owners)

    def __repr__(self) -> str:
        return f"Life({self.policy}, kept={self.is_kept}, end={self.end}, waits for {self.waits_for or 'nobody'})"


class Lives(RuleBasedStateMachine):
    lives: Bundle[Life] = Bundle("lives")

    def __init__(self) -> None:
        super().__init__()
        self.loop = SteppedLoop()
        self.broken: list[dict[str, object]] = []
        self.loop.set_exception_handler(lambda _, context: self.broken.append(context))
        self.upstream = Upstream()
        self.ended: list[StreamRecord] = []
        self.all: list[Life] = []
        self.orphans: list[Life] = []  # in the order in which they were left
        self.idle: list[Life] = []  # ended and without viewers, the same
        self.limiter = MemoryLimiter()
        self.loop.run_until_complete(self.begin())

    async def begin(self) -> None:
        client: Any = self.upstream
        self.store = MemoryStore(max_streams=CONFIG.store.max_streams, max_bytes=CONFIG.store.max_bytes)
        self.streams = Streams(
            store=self.store,
            client=client,
            targets=Targets(CONFIG, self.loop.time),
            limiter=self.limiter,
            config=CONFIG,
            descriptors=Descriptors(None),
            ended=self.ended.append,
        )

    # Requests

    @rule(target=lives, requests=st.lists(requests, min_size=1, max_size=3), address=st.sampled_from(ADDRESSES))
    def some_are_asked(self, requests: list[tuple[OnDisconnect, bool, bool]], address: str):
        asked = [self.ask(address, *request) for request in requests]
        return multiple(*[life for life in asked if life is not None])

    def ask(self, address: str, policy: OnDisconnect, is_kept: bool, at_once: bool) -> Life | None:
        """`at_once`: the one who asks watches it, as of `GET /chat`. Else somebody may come, as of `POST /streams`."""
        asked = chat_request(body_fields(b'{"question":"hi","on_disconnect":"%b"}' % policy.encode()))
        request = admit(CONFIG, Caller(address), asked, is_kept=is_kept)
        has_room = len([life for life in self.all if life.is_held]) < MOST or bool(self.idle)
        opened = len(self.upstream.opened)
        try:
            stream: Any = self.loop.run_until_complete(self.streams.record(request))
        except Busy:
            assert not has_room
            return None
        assert has_room
        if len([life for life in self.all if life.is_held]) == MOST:
            self.forget(self.idle[0])
        life = Life(stream, request.on_disconnect, is_kept)
        self.all.append(life)
        if at_once:
            self.come(life, as_guest=False)
        else:
            stream.expect()
            self.left(life)
        self.rest()
        if life.end is None:
            (life.playing,) = self.upstream.opened[opened:]
        return life

    # Viewers

    @rule(life=lives, as_guest=st.booleans())
    def one_comes(self, life: Life, as_guest: bool) -> None:
        """Whoever comes to a stream that is not held any more is told so."""
        if not life.is_held:
            assert self.streams.find(life.stream.id) is None
            return
        self.come(life, as_guest=as_guest)

    def come(self, life: Life, *, as_guest: bool) -> None:
        def cut() -> None:
            raise AssertionError("nobody here is slow")

        life.stream.attach(cut, as_guest=as_guest)
        (life.guests if as_guest else life.owners).append(cut)
        if life.left_at is not None:
            life.spent += self.loop.now - life.left_at
            life.left_at = None
        life.waits_for = ""
        self.drop(life)
        if not as_guest:
            life.is_attended, life.spent = True, 0.0

    @rule(life=lives, as_guest=st.booleans(), stays=steps, is_away=steps)
    def one_visits(self, life: Life, as_guest: bool, stays: float, is_away: float) -> None:
        """The only one who watches it, often: it comes, leaves, and others may come back later."""
        self.one_comes(life, as_guest)
        self.time_passes(stays)
        while life.viewers:
            self.one_leaves(life, bool(life.guests))
        self.time_passes(is_away)

    @rule(life=lives, as_guest=st.booleans())
    def one_leaves(self, life: Life, as_guest: bool) -> None:
        viewers = life.guests if as_guest else life.owners
        if not viewers:
            return
        life.stream.detach(viewers.pop())
        if not life.viewers:
            self.left(life)
        self.rest()

    # The upstream, and those who may stop a stream

    @rule(life=lives, how=st.sampled_from(["content", "content", "done", "refused"]))
    def the_upstream_says(self, life: Life, how: str) -> None:
        if life.end is not None or life.playing is None:
            return
        if how == "content":
            life.playing.parts.put_nowait(DELTA)
        elif how == "done":
            life.playing.parts.put_nowait(DELTA + DONE)
            self.ends(life, EndReason.COMPLETE)
        else:
            life.playing.parts.put_nowait(UpstreamRejected())
            self.ends(life, EndReason.UPSTREAM_ERROR)
        self.rest()
        self.settle(life)

    @rule(life=lives)
    def one_is_stopped(self, life: Life) -> None:
        self.loop.run_until_complete(life.stream.stop())
        if life.end is None:
            self.ends(life, EndReason.STOPPED)
        self.rest()
        self.settle(life)

    @rule(life=lives)
    def one_is_deleted(self, life: Life) -> None:
        if not life.is_held:
            return
        self.loop.run_until_complete(life.stream.delete())
        life.is_kept = False
        if life.end is None:
            self.ends(life, EndReason.STOPPED)
        self.rest()
        if not life.viewers:
            self.forget(life)

    @rule(seconds=steps)
    def time_passes(self, seconds: float) -> None:
        """Every timer fires at its own time."""
        until = self.loop.now + seconds
        while due := [t.when() for t in self.loop.timers if not t.cancelled() and self.loop.now < t.when() <= until]:
            self.pass_to(min(due))
        self.pass_to(until)

    def pass_to(self, now: float) -> None:
        self.loop.now = now
        self.rest()
        for life in [life for life in self.orphans if life.until <= now]:
            self.waited(life)
        for life in [life for life in self.idle if life.kept_until is not None and life.kept_until <= now]:
            self.forget(life)

    # The model

    def left(self, life: Life) -> None:
        """It has no viewers."""
        if life.end is not None:
            self.keep(life)
        elif not life.is_attended:
            self.wait(life, "owner", ATTACH)
        elif life.policy is OnDisconnect.CANCEL:
            self.give_up(life)
        elif life.policy is OnDisconnect.DETACH:
            self.wait(life, "viewer", GRACE)

    def wait(self, life: Life, whom: str, seconds: float) -> None:
        life.waits_for, life.left_at = whom, self.loop.now
        life.until = self.loop.now + max(0.0, seconds - life.spent)
        self.orphans.append(life)
        if len(self.orphans) > ORPHANS:
            most, _ = Counter(one.stream.scope for one in self.orphans).most_common(1)[0]
            self.give_up(next(one for one in self.orphans if one.stream.scope == most))

    def waited(self, life: Life) -> None:
        """Nobody has come in time."""
        whom = life.waits_for
        self.drop(life)
        if whom == "viewer":
            self.give_up(life)
        else:
            life.is_attended, life.spent = True, 0.0
            self.left(life)

    def give_up(self, life: Life) -> None:
        self.ends(life, EndReason.CLIENT_GONE)
        self.settle(life)

    def ends(self, life: Life, reason: EndReason) -> None:
        assert life.end is None
        life.end = reason
        self.drop(life)

    def settle(self, life: Life) -> None:
        """It has ended, and its task is over."""
        if life.end is not None and not life.viewers and life.is_held and life not in self.idle:
            self.keep(life)

    def keep(self, life: Life) -> None:
        if not life.is_kept:
            self.forget(life)
            return
        if life.kept_until is None:
            life.kept_until = self.loop.now + KEEP
        if life.kept_until <= self.loop.now:
            self.forget(life)
        else:
            self.idle.append(life)

    def forget(self, life: Life) -> None:
        self.drop(life)
        life.is_held = False

    def drop(self, life: Life) -> None:
        """It waits for nobody, and its room is not free."""
        life.waits_for = ""
        for those in (self.orphans, self.idle):
            if life in those:
                those.remove(life)

    def rest(self) -> None:
        """Tasks that are about to end do so."""
        for _ in range(12):
            self.loop.turn()

    # What holds at every moment

    @invariant()
    def each_runs_or_has_ended_as_it_should(self) -> None:
        for life in self.all:
            entries = life.stream.log.entries
            assert life.stream.log.ended == (life.end is not None), life
            assert life.stream.reason == life.end
            assert [entry.kind for entry in entries].count(Kind.END) == (life.end is not None)
            if life.playing is not None:
                assert life.playing.is_closed == (life.end is not None), "an upstream that nobody wants goes on"

    @invariant()
    def those_are_held_that_should_be(self) -> None:
        held = [life for life in self.all if life.is_held]
        assert {stream.id for stream in self.streams} == {life.stream.id for life in held}
        assert len(held) <= MOST
        assert self.streams.orphans == len(self.orphans) <= ORPHANS
        assert self.streams.viewers == sum(life.viewers for life in held)

    @invariant()
    def what_has_ended_is_told_once_and_takes_no_place(self) -> None:
        running = [life for life in self.all if life.end is None]
        assert len(self.streams) == self.limiter.streams == len(running)
        assert len(self.ended) == len(self.all) - len(running)

    @invariant()
    def the_room_is_that_of_the_streams_that_are_held(self) -> None:
        assert self.store.size == sum(life.stream.log.held for life in self.all if life.is_held)

    @invariant()
    def nothing_breaks(self) -> None:
        assert self.broken == []

    def teardown(self) -> None:
        """What is left over ends at a shutdown, and nothing waits any more."""
        try:
            closing = self.loop.create_task(self.streams.close())
            self.rest()
            assert closing.done()
            assert len(self.streams) == 0
            assert all(playing.is_closed for playing in self.upstream.opened)
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.rest()
            self.loop.close()


def test_a_stream_ends_and_is_held_as_the_rules_say() -> None:
    run_state_machine_as_test(
        Lives, settings=settings(max_examples=settings().max_examples // 2, stateful_step_count=30)
    )
