"""One request to one target, from the post to the last entry of its answer.

Entries from before the first content are held back. Until then the attempt may still fail without a trace, and another
one may take its place. With the first content the attempt asks its owner whether it may go on, and its entries go into
the log from then on, in the call that brought them.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from gateway.admission.tokens import taken
from gateway.config import Dialect, Stream, Timeouts
from gateway.entries import Entry
from gateway.errors import AnswerTooLarge, GatewayError, Timeout, UpstreamError
from gateway.log.base import Recording
from gateway.log.receipt import STEP, Receipt
from gateway.observe.spans import AttemptSpan
from gateway.streams.outcome import is_refusal
from gateway.streams.response_body import Decoding, Reading
from gateway.streams.watchdog import Watchdog
from gateway.upstream.client import UpstreamResponse
from gateway.upstream.dialects import openai
from gateway.upstream.dialects.anthropic.answer import Answer
from gateway.upstream.dialects.assembled import Assembled
from gateway.upstream.dialects.completion import Outcome
from gateway.upstream.dialects.prefix import Diverged, Prefix
from gateway.upstream.dialects.usage import Tokens
from gateway.upstream.routing import Target
from gateway.upstream.shapes import Shape

_HELD = 65_536  # bytes of chunks before the first content; Azure's remarks on a prompt, the longest known, take 1,000
_ENTRY = 80  # bytes that an entry takes beside its payload

# Entries of an answer whose last text leaves in one write with the end. A write is 7 % of the cost of a stream of two
# events, and 3 % of one of this length. The last text of a longer answer does not wait while the end is made, for 1 ms.
_SHORT = 32


class Client(Protocol):
    """Who asks the upstream."""

    async def open(
        self, target: Target, body: bytes, *, accept: str, span: AttemptSpan | None = None
    ) -> UpstreamResponse:
        """Raises a GatewayError."""
        ...


class Owner(Protocol):
    """Who wants the answer."""

    def begin(self, attempt: "Attempt") -> bool:
        """The first content has come. Returns whether the attempt may go on and write to the log."""
        ...

    def outcome(self) -> Outcome:
        """What is known of the answer that has begun."""
        ...


class Attempt:
    """`decoder` has what is known of the answer. `started` is a time on the loop's clock.

    With a `prefix`, the answer has to begin with it, and only what follows it is passed on. `asked_at` is the time from
    which the total time counts. The owner calls `close` once, after `run`.
    """

    __slots__ = (
        "_body",
        "_client",
        "_expired",
        "_held",
        "_held_bytes",
        "_is_begun",
        "_limits",
        "_log",
        "_look_at",
        "_max_bytes",
        "_owner",
        "_posted",
        "_prefix",
        "_receipt",
        "_response",
        "_task",
        "_watchdog",
        "decoder",
        "span",
        "started",
        "target",
    )

    def __init__(
        self,
        owner: Owner,
        log: Recording,
        target: Target,
        body: bytes,
        decoder: openai.Decoder,
        *,
        client: Client,
        limits: Stream,
        timeouts: Timeouts,
        asked_at: float,
        prefix: Prefix | None = None,
        span: AttemptSpan | None = None,
        receipt: Receipt | None = None,
    ) -> None:
        self.target = target
        self.span = span
        self.decoder = decoder
        self._owner = owner
        self._log = log
        self._body = body
        self._client = client
        self._limits = limits
        self._max_bytes = limits.max_bytes if log.is_kept else math.inf  # a window is bounded in itself
        self._receipt = receipt
        self._look_at = self._max_bytes if receipt is None else min(self._max_bytes, STEP)
        self._prefix = prefix
        self._watchdog = Watchdog(asyncio.get_running_loop(), timeouts, self._expire, asked_at=asked_at)
        self.started = self._watchdog.started
        self._task: asyncio.Task[Any] | None = None
        self._expired: Timeout | None = None
        self._response: UpstreamResponse | None = None
        self._posted = False  # may the upstream be at work?
        self._is_begun = False
        self._held: list[Entry] = []  # from before the first content
        self._held_bytes = 0

    @property
    def is_continuation(self) -> bool:
        """Whether it goes on with the answer of another attempt."""
        return self._prefix is not None

    @property
    def first_token(self) -> float | None:
        """When the first content came, on the loop's clock."""
        return self._watchdog.first_token

    # The main path

    async def run(self) -> None:
        """Returns when the answer is complete. Raises UpstreamError, AnswerTooLarge or Diverged."""
        task = self._task = asyncio.current_task()
        try:
            if self._expired is not None:  # before its task could run
                raise self._expired
            await self._read(*await self._ask())  # nothing else holds the first bytes, for all of the answer
            self.decoder.finish()
        except asyncio.CancelledError:
            if self._expired is None:
                raise
            if task is not None:
                task.uncancel()
            if not self.decoder.complete:  # else it said why it finished, and then neither `[DONE]` nor goodbye
                raise self._expired from None
        finally:
            self._watchdog.cancel()
        if self._prefix is not None and not self._prefix.is_over:
            raise Diverged  # it is shorter than what the client has
        rest: list[Entry] = []
        if not self._is_begun and self._begin(rest) and rest:  # a whole answer without any content
            self._log.append(rest)

    async def _ask(self) -> tuple[UpstreamResponse, Shape, bytes]:
        """The response, with the shape and the first bytes of its body."""
        accept = "application/json" if self.decoder.whole else "text/event-stream"
        self._posted = True
        try:
            response = self._response = await self._client.open(self.target, self._body, accept=accept, span=self.span)
        except GatewayError:
            self._posted = False
            raise
        self._body = b""
        return response, *await response.begin()

    def _read(self, response: UpstreamResponse, shape: Shape, start: bytes) -> Coroutine[Any, Any, None]:
        reading = self._reading(shape)
        return (reading.completion if shape is Shape.JSON else reading.events)(response, start)

    def _reading(self, shape: Shape) -> Reading:
        limits = self._limits
        if self.decoder.whole and shape is not Shape.JSON:
            if not self.decoder.is_joined:
                raise UpstreamError("The model's server sent something else where one JSON body was asked for.")
            choices, most = self.decoder.choices, limits.max_bytes
            self.decoder = Assembled(self._owner.outcome, choices=choices, most=most, count=self._log.grow)
        decoder: Decoding = self.decoder
        if self.target.upstream.dialect is Dialect.ANTHROPIC:
            decoder = Answer(self.decoder, created=self._owner.outcome().created)
        return Reading(decoder, self._log, self._watchdog, self._append, max_event_bytes=limits.max_event_bytes)

    def _expire(self, timeout: Timeout) -> None:
        self._expired = timeout
        if self._task is not None:
            self._task.cancel()

    # Into the log

    def _append(self, entries: list[Entry]) -> None:
        if not self._is_begun and not self._may_begin(entries):
            return
        log = self._log
        log.append(entries, tells=not self.decoder.done or log.last > _SHORT)  # what follows `[DONE]` is the end
        if log.size > self._look_at:
            self._look(log.size)

    def _look(self, size: int) -> None:
        """Now and then, the text so far is summed up. At the end of a long answer, it would hold other streams up."""
        if size > self._max_bytes:
            raise AnswerTooLarge()
        if self._receipt is not None:
            self._receipt.take()
        self._look_at = min(self._max_bytes, size + STEP)

    def _may_begin(self, entries: list[Entry]) -> bool:
        """Whether the entries, which may change here, go into the log. Until the first content, they are held back."""
        watchdog = self._watchdog
        if watchdog.first_token is None and self.decoder.has_content:
            watchdog.begin()
        if self._prefix is not None:
            entries[:] = self._prefix.cut(entries)
            return self._prefix.is_over and self._begin(entries)
        if watchdog.first_token is None and self._held_bytes < _HELD:
            self._held += entries
            self._held_bytes += sum([_ENTRY + len(entry.payload) for entry in entries])
            return False
        return self._begin(entries)

    def _begin(self, entries: list[Entry]) -> bool:
        """Asks the owner, and then puts the entries that were held back before the others."""
        if not self._owner.begin(self):
            return False
        self._is_begun = True
        entries[:0] = self._held
        self._held = []
        return True

    # The end

    def tokens(self, failure: GatewayError | None, *, complete: bool, prompt: Callable[[], int]) -> Tokens:
        """What the request took, whether the upstream told it or not."""
        usage = self.decoder.usage
        has_content = self.first_token is not None or self.decoder.said > 0  # a body in one piece has no first token
        if not self._posted or is_refusal(failure, usage, has_content=has_content):
            return Tokens()
        return taken(usage, complete=complete, prompt=prompt, said=self.decoder.said)

    def stop_watching(self) -> None:
        """No timeout ends it from now on."""
        self._watchdog.cancel()

    def abort(self) -> None:
        """Closes the connection at once: the upstream need not go on."""
        self._watchdog.cancel()
        if not self._is_begun:
            self.decoder.rest()  # nobody wants it, but the decoder may hold most of an answer
        response, self._response = self._response, None
        if response is not None:
            response.abort()

    async def finish(self) -> None:
        """Leaves the connection to other requests, if it can be used again."""
        self._watchdog.cancel()
        response, self._response = self._response, None
        if response is not None:
            await response.finish()
