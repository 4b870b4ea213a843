"""The attempts at one answer: asks one target after the other, until one of them has answered.

Before the first content, `routing.next_step` decides what follows a failure. After it, another target can only go on
with the same answer, character for character. It has to repeat all that the client has before anything of it is passed
on (see `dialects.prefix`).
"""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from gateway.admission.admit import AdmittedRequest
from gateway.admission.tokens import prompt
from gateway.entries import Entry
from gateway.errors import GatewayError, Recovery, UpstreamError, UpstreamIncomplete
from gateway.log.base import Recording
from gateway.log.receipt import Receipt
from gateway.observe.records import StreamRecord
from gateway.observe.spans import Asked, AttemptSpan, RequestSpan
from gateway.streams.attempt import Attempt
from gateway.streams.bill import NO_BILL, NoBill
from gateway.streams.dependencies import Dependencies
from gateway.streams.failures import Failures
from gateway.streams.hedging import INTERRUPTED, race
from gateway.streams.surfaces import Surface
from gateway.upstream.dialects.completion import Outcome
from gateway.upstream.dialects.prefix import Diverged, Prefix
from gateway.upstream.dialects.usage import Tokens
from gateway.upstream.payload import NO_PAYLOAD
from gateway.upstream.routing import Step, Target

_LARGE_BODY = 65_536  # bytes: a larger request is not held once its answer has begun; that costs an estimate
_DIVERGED = "diverged"  # the code of an attempt that gave another answer


class Attempts:
    """`answering` is the attempt whose content the client gets, or the last one before there is content."""

    __slots__ = (
        "_asked_at",
        "_begun",
        "_bill",
        "_created",
        "_dependencies",
        "_failures",
        "_has_begun",
        "_log",
        "_loop",
        "_prompt",
        "_request",
        "_surface",
        "answering",
        "first_asked_at",
        "record",
    )

    def __init__(
        self,
        stream_id: str,
        request: AdmittedRequest,
        log: Recording,
        surface: Surface,
        dependencies: Dependencies,
        bill: NoBill = NO_BILL,
    ) -> None:
        """A target must have room: see `Targets.check`."""
        self.record = StreamRecord(stream=stream_id, model_asked=request.model, operation=request.endpoint.operation)
        self._request = request
        self._log = log
        self._surface = surface
        self._dependencies = dependencies
        self._bill = bill
        self._failures = Failures(self.record, dependencies, bill)
        self._loop = asyncio.get_running_loop()
        self._asked_at = self._loop.time()
        self.first_asked_at: float | None = None  # by `time.monotonic`, when the first attempt began to run
        self._created = int(time.time())
        self._prompt: int | None = None  # its tokens, where it is held no longer
        self._has_begun = False
        self._begun: asyncio.Future[Attempt] | None = None  # where two attempts race
        log.grow(len(request.payload.fields))
        self.answering = self._start(dependencies.targets.order(request.route)[0])

    @property
    def has_content(self) -> bool:
        """Whether any content has come."""
        return self._has_begun and self.answering.first_token is not None

    @property
    def cost(self) -> int:
        """What all attempts cost the budget of the caller, in millionths."""
        return self._bill.total

    @property
    def span(self) -> RequestSpan | None:
        return self._request.span

    def outcome(self) -> Outcome:
        decoder = self.answering.decoder
        return Outcome(
            id=decoder.id or f"chatcmpl-{self.record.stream}",
            created=decoder.created or self._created,
            model=decoder.model or self.answering.target.model,
            finish_reason=decoder.finish_reason,
            usage=decoder.usage,
        )

    # Beginning

    def _start(self, target: Target, prefix: Prefix | None = None) -> Attempt:
        request, decoder = self._request, self._surface.decoder(target)
        if request.same_answer:
            decoder.may_skip = not self._could_go_on(target)
        span = None if request.span is None else request.span.attempt(_for_span(request, target))
        self.record.attempts += 1
        self.record.target = target.name
        self._dependencies.start(target)
        attempt = Attempt(
            self,
            self._log,
            target,
            request.payload.for_target(target),
            decoder,
            client=self._dependencies.client,
            limits=self._dependencies.config.stream,
            timeouts=request.timeouts(target),
            asked_at=self._asked_at,
            prefix=prefix,
            span=span,
            receipt=self._surface.receipt,
        )
        self._bill.begin(attempt, target.prices)
        return attempt

    def _could_go_on(self, target: Target) -> bool:
        """Whether another target could go on with an answer of this one. Then an event that is lost ends the latter."""
        may_ask = self.record.attempts + 1 < self._dependencies.config.retry.attempts
        return may_ask and self._failures.another(self._request.route.targets, beside=target) is not None

    # The main path

    async def run(self) -> None:
        """Returns when the answer is complete. Raises a GatewayError."""
        attempt = self.answering
        self.first_asked_at = time.monotonic()
        while True:
            try:
                return await self._asking(attempt)
            except Diverged as error:
                self._lose(attempt, _DIVERGED)
                raise self._failures.broken or UpstreamIncomplete() from error
            except GatewayError as error:
                self._lose(attempt, error)
                step = self._next_step()
                if step is None or not await self._bill.covers(step.target.prices):
                    raise self._failures.broken or self._failures.last from None
            except BaseException:
                if attempt is not self.answering:
                    self._lose(attempt, INTERRUPTED)
                raise
            prefix = self._prefix() if self._has_begun else None
            await asyncio.sleep(step.wait)
            attempt = self._start(step.target, prefix)
            if not self._has_begun:
                self.answering = attempt

    def _asking(self, attempt: Attempt) -> Coroutine[Any, Any, None]:
        """Asks with this attempt or, before there is content, with a second one beside it if it is silent for long."""
        seconds = self._request.route.hedge_seconds
        if seconds is None or self._has_begun:
            return attempt.run()
        self._begun = self._loop.create_future()
        return race(attempt, self._second, begun=self._begun, seconds=seconds, lose=self._lose)

    async def _second(self) -> Attempt | None:
        """A second attempt beside the first, if a target, descriptors and money are left for it."""
        targets, descriptors = self._dependencies.targets, self._dependencies.descriptors
        target = self._failures.another(targets.order(self._request.route), beside=self.answering.target)
        if target is None or self._may_ask_no_more or descriptors.busy:
            return None
        if not await self._bill.covers(target.prices) or self._has_begun:  # the first may have begun meanwhile
            return None
        return self._start(target)

    def begin(self, attempt: Attempt) -> bool:
        """See `attempt.Owner`. Of two attempts that race, the first one with content goes on."""
        if self._has_begun and not attempt.is_continuation:
            return False
        self.answering = attempt
        self._has_begun = True
        self._failures.broken = None
        self._dependencies.targets.content(attempt.target)
        if self._begun is not None and not self._begun.done():
            self._begun.set_result(attempt)
        if len(self._request.payload.fields) > _LARGE_BODY and not self._request.same_answer:
            self._prompt = self._asked()
            self.drop_payload()
        return True

    # After a failure

    def _lose(self, attempt: Attempt, why: GatewayError | str) -> None:
        """Puts the attempt away, unless a race has done that."""
        if not self._failures.have(attempt):
            self._failures.add(attempt, why, self._request, self._asked)

    @property
    def _may_ask_no_more(self) -> bool:
        return self.record.attempts >= self._dependencies.config.retry.attempts

    def _next_step(self) -> Step | None:
        """The next attempt after the last failure, if there may be one, and if there is time for it."""
        if self._may_ask_no_more:
            return None
        order = self._dependencies.targets.order(self._request.route)
        if self._has_begun:
            return self._continuation(order)
        return self._failures.next_step(order, by=self._asked_at + self._request.route.total)

    def _continuation(self, order: Sequence[Target]) -> Step | None:
        """An attempt on another target, which may go on with the answer that has broken off."""
        error = self._failures.last
        if not isinstance(error, UpstreamError) or error.recovery is Recovery.NOTHING or not self._request.same_answer:
            return None
        if self._surface.passed_text(self.answering.decoder) is None:
            return None
        target = self._failures.another(order)
        return None if target is None else Step(target)

    def _prefix(self) -> Prefix:
        self._failures.broken = self._failures.broken or self._failures.last
        return Prefix(self._surface.passed_text(self.answering.decoder) or b"")

    # The end

    @property
    def receipt(self) -> Receipt | None:
        return self._surface.receipt

    def rest(self) -> Sequence[Entry]:
        """The entries that remain when the answer ends in any way."""
        attempt = self.answering
        attempt.stop_watching()
        rest = attempt.decoder.rest()
        return rest if self._has_begun else ()

    def settle(self, failure: GatewayError | None, *, is_complete: bool) -> Tokens:
        """Ends the record. Returns the tokens of the answer, without those of attempts that did not become it."""
        record, answering = self.record, self.answering
        record.target = answering.target.name
        record.seconds = round(self._loop.time() - self._asked_at, 4)
        if answering.first_token is not None and self._has_begun:
            record.first_token = round(answering.first_token - self._asked_at, 4)
        self._failures.leave_out(answering)
        tokens = answering.tokens(failure, complete=is_complete, prompt=self._asked)
        self._bill.end(answering, tokens, is_whole=is_complete)
        return tokens

    async def put_away(self, *, is_complete: bool) -> None:
        """Ends the attempt that answered, if it has not failed."""
        attempt = self.answering
        if self._failures.have(attempt):
            return
        try:
            if attempt.span is not None:
                self._end_span(attempt, attempt.span)
            if is_complete:
                self._dependencies.targets.success(attempt.target)
                await attempt.finish()
            else:
                self._dependencies.targets.nothing(attempt.target)
                attempt.abort()
        finally:
            self._dependencies.end(attempt.target)

    def _end_span(self, attempt: Attempt, span: AttemptSpan) -> None:
        keeps_content = self._request.span is not None and self._request.span.keeps_content
        text = self._surface.held_text() if keeps_content else None
        first_chunk = None if attempt.first_token is None else attempt.first_token - attempt.started
        span.answered(self.record, first_chunk=first_chunk, text=text)
        attempt.span = None  # it may have the text

    def _asked(self) -> int:
        """Tokens of the prompt, as an estimate."""
        return prompt(self._request.payload.fields) if self._prompt is None else self._prompt

    def drop_payload(self) -> None:
        self._log.grow(-len(self._request.payload.fields))
        self._request = msgspec.structs.replace(self._request, payload=NO_PAYLOAD)


def _for_span(request: AdmittedRequest, target: Target) -> Asked:
    upstream, operation = target.upstream, request.endpoint.operation
    is_streamed, payload = not request.is_whole, request.payload.fields
    return Asked(operation, upstream.name, upstream.base_url, target.model, is_streamed, payload)
