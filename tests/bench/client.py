"""The load client's connections: ask, count, time, and check that every answer is whole.

Bare asyncio protocols, as in the upstream. What is done for each event is a search, a subtraction and an append.
An answer that is cut, refused, too short or too long fails the whole pass with the reason: a figure over
broken streams would be worth nothing.
"""

import asyncio
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import msgspec

from tests.bench.wire import MODEL_PLACEHOLDER, Answer, Stamps, WireError, model_name, request

_ENDINGS = (b"[DONE]", b"event: end\n")  # OpenAI's, and the gateway's own


class LoadError(Exception):
    """A stream was not what it should have been."""


class Target(msgspec.Struct, frozen=True):
    """Where a contender takes questions, and in what form."""

    host: str
    port: int
    path: str
    headers: dict[str, str]
    body: str
    pids: list[int] | None  # its processes, to which those that descend from them are added; None: unknown
    watched: bool = False  # does it answer with an address, that of a stream which all connections then watch?


@dataclass(frozen=True, slots=True)
class Question:
    """One request, and the number of events that must come back."""

    request: bytes
    events: int


def question(target: Target, rate: float, events: int, padding: int = 0) -> Question:
    body = target.body.replace(MODEL_PLACEHOLDER, model_name(rate, events, padding)).encode()
    return Question(request(f"{target.host}:{target.port}", target.path, target.headers, body), events)


class Tally:
    """What the connections of one pass add up to."""

    def __init__(self, connections: int) -> None:
        self.events = 0
        self.body_bytes = 0
        self.answers = 0  # whole ones
        self.latencies = array("q")  # in ns, one for each event
        self.gaps = array("q")  # in ns, one between any two reads of a stream that brought events
        self.firsts = array("q")  # in ns, one for each answer: from the request to its first event
        self.told: dict[bytes, bytes] = {}  # request of a viewer to the digest of the answer
        self._unfinished = connections
        self._outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def pause(self, seconds: float) -> None:
        """Waits; raises LoadError as soon as a stream fails."""
        await asyncio.wait([self._outcome], timeout=max(seconds, 0))
        if self._outcome.done():
            self._outcome.result()

    def check(self) -> None:
        """Raises LoadError if a stream has failed."""
        if self._outcome.done():
            self._outcome.result()

    async def all_finished(self, *, timeout: float) -> None:
        await self.pause(timeout)
        if self._unfinished:
            raise LoadError(f"{self._unfinished} streams did not end in time")

    def connection_finished(self) -> None:
        self._unfinished -= 1
        if not self._unfinished and not self._outcome.done():
            self._outcome.set_result(None)

    def failed(self, reason: str) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(LoadError(reason))


async def open_connection(target: Target, make: "Callable[[], Asker]") -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.create_connection(make, target.host, target.port)
    except OSError as error:
        raise LoadError(f"{target.host}:{target.port}: {error}") from error


class Asker(asyncio.Protocol):
    """One connection that asks its questions one after the other."""

    __slots__ = (
        "_answer",
        "_asked_at",
        "_kept",
        "_question",
        "_questions",
        "_read_at",
        "_seen",
        "_stamps",
        "_tally",
        "_transport",
    )

    def __init__(self, tally: Tally, questions: Iterator[Question]) -> None:
        self._tally = tally
        self._questions = questions

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not derive from it
        self._ask()

    def _ask(self) -> None:
        self._question = next(self._questions, None)
        if self._question is None:
            self._tally.connection_finished()
            self._leave()
            return
        self._answer, self._stamps = Answer(), Stamps()
        self._seen = 0
        self._kept = b""  # what precedes the first event, or follows the last: an error, or the end
        self._asked_at = self._read_at = time.monotonic_ns()
        self._transport.write(self._question.request)

    def _leave(self) -> None:
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._question is None:
            return
        try:
            self._count(self._answer.feed(data), now, self._question.events)
        except WireError as error:
            self._fail(str(error))
            return
        if self._answer.ended:
            self._finish()

    def _count(self, body: bytes, now: int, wanted: int) -> None:
        tally = self._tally
        stamps = self._stamps.feed(body)
        if stamps and not self._seen:
            tally.firsts.append(now - self._asked_at)
        elif stamps:
            tally.gaps.append(now - self._read_at)
        if stamps:
            self._read_at = now
        for stamp in stamps:
            tally.latencies.append(now - int(stamp, 16))
        self._seen += len(stamps)
        tally.events += len(stamps)
        tally.body_bytes += len(body)
        if not 0 < self._seen < wanted:
            self._kept += body

    def _finish(self) -> None:
        fault = self._fault()
        if fault:
            self._fail(f"{fault}; it ends {self._kept[-400:]!r}")
            return
        self._tally.answers += 1
        self._ask()

    def _fault(self) -> str | None:
        assert self._question is not None
        if self._answer.head is None or self._answer.head.status != 200:
            return f"an answer with status {self._answer.head and self._answer.head.status}"
        if self._seen != self._question.events:
            return f"{self._seen} of {self._question.events} events in an answer"
        if not any(ending in self._kept for ending in _ENDINGS):
            return "an answer without its end"
        return None

    def _fail(self, reason: str) -> None:
        self._question = None
        self._tally.failed(reason)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._question is None:
            return
        self._answer.close()
        if self._answer.ended:
            self._finish()
        else:
            how = exc or "without an error"
            self._fail(f"connection closed after {self._seen} of {self._question.events} events, {how}")
