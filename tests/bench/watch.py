"""Viewers of one stream: what is asked once, and watched by every connection at its address.

All of them must be told the same, to the byte, and so must one that comes when the stream has ended. One that *stalls*
connects as a distant client would, with a small receive buffer and packets of Ethernet's size (on loopback's own the
kernel would hold megabytes for it), takes the head of the answer, and reads no further until it is woken.
"""

import asyncio
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import sha256
from itertools import repeat

import msgspec

from tests.bench import wire
from tests.bench.client import Asker, LoadError, Question, Tally, Target, open_connection, question

WOKEN = 20  # of those that stalled: enough to see that nothing was lost, where all of them would take minutes
_RECEIVE_BUFFER = 16_384
_SEGMENT = 1_448
_LATE = 30.0  # seconds for those that were woken, or came late, to read everything


class _Created(msgspec.Struct):
    viewer_url: str


async def started(target: Target, rate: float, events: int, padding: int = 0) -> Question:
    """Starts a stream; what is returned asks to watch it."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    answer, body = wire.Answer(), b""
    try:
        writer.write(question(target, rate, events, padding).request)
        while not answer.ended and (data := await reader.read(65_536)):
            body += answer.feed(data)
    finally:
        writer.close()
    if answer.head is None or answer.head.status != 201:
        raise LoadError(f"no stream was started: {answer.head}, {body[:400]!r}")
    path = msgspec.json.decode(body, type=_Created).viewer_url
    return Question(wire.watching(f"{target.host}:{target.port}", path), events)


class Watcher(Asker):
    """What it is told must be what others were told who asked the same."""

    __slots__ = ("_digest",)

    def _ask(self) -> None:
        self._digest = sha256()
        super()._ask()

    def _count(self, body: bytes, now: int, wanted: int) -> None:
        self._digest.update(body)
        super()._count(body, now, wanted)

    def _fault(self) -> str | None:
        fault = super()._fault()
        if fault or self._question is None:
            return fault
        digest = self._digest.digest()
        same = self._tally.told.setdefault(self._question.request, digest) == digest
        return None if same else "an answer unlike that of another viewer"


class Staller(Watcher):
    __slots__ = ("_awake",)

    def __init__(self, tally: Tally, questions: Iterator[Question]) -> None:
        super().__init__(tally, questions)
        self._awake = False

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._awake and self._question is not None:
            self._transport.pause_reading()

    def wake(self) -> None:
        self._awake = True
        connection = self._transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1_048_576)
        self._transport.resume_reading()

    def leave(self) -> None:
        self._question = None
        self._transport.abort()


class Stalled:
    """The connections that stall, with a tally of their own: what they read is not counted."""

    def __init__(self, target: Target, tally: Tally) -> None:
        self._target = target
        self._tally = Tally(WOKEN)
        self._tally.told = tally.told
        self._all: list[Staller] = []

    async def open(self, asking: Question) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
        staller = Staller(self._tally, iter([asking]))
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(connection, (self._target.host, self._target.port))
            await loop.create_connection(lambda: staller, sock=connection)
        except OSError as error:
            connection.close()
            raise LoadError(f"a viewer that stalls: {error}") from error
        self._all.append(staller)

    async def wake(self) -> None:
        """Some of them read on, to the end; the others leave. Raises LoadError if those miss anything."""
        chosen, others = _spread(self._all, WOKEN)
        for one in others:
            one.leave()
        for one in chosen:
            one.wake()
        for _ in range(WOKEN - len(chosen)):
            self._tally.connection_finished()
        if chosen:
            await self._tally.all_finished(timeout=_LATE)


def _spread(found: Sequence[Staller], count: int) -> tuple[list[Staller], list[Staller]]:
    """`count` of them, from the first to the last, and the others."""
    step = max(len(found) // count, 1)
    chosen = list(found[::step])[:count]
    return chosen, [one for one in found if one not in chosen]


async def watch_again(target: Target, tally: Tally, asking: Question) -> None:
    """One more viewer, when all is over."""
    late = Tally(1)
    late.told = tally.told
    await open_connection(target, lambda: Watcher(late, iter([asking])))
    await late.all_finished(timeout=_LATE)


async def warm_up(target: Target, *, connections: int, answers: int, events: int) -> None:
    tally = Tally(connections)
    for _ in range(connections):
        asking = await started(target, 0, events)
        await open_connection(target, partial(Watcher, tally, repeat(asking, answers)))
    await tally.all_finished(timeout=_LATE)
