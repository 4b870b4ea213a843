"""One answer being produced: the task that owns it, from its first attempt to the end entry.

A generation outlives or dies with its viewers by policy, never by accident: the request handler only attaches a
viewer. Whatever ends it (the upstream, a timeout, a stop, the last viewer leaving, a shutdown), it ends with exactly
one end entry, and a failure entry before it if something went wrong.

The end is told before the upstream connection is put away, so that no client waits for the latter.
"""

import asyncio
import logging
from typing import Any, Generic, TypeVar

import msgspec

from gateway.admission.limits import Reservation
from gateway.entries import EndReason, Entry, Kind
from gateway.errors import GatewayError, ShuttingDown
from gateway.log.base import Recording
from gateway.observe.records import StreamRecord
from gateway.observe.spans import RequestSpan
from gateway.streams.attempts import Attempts
from gateway.streams.outcome import write_outcome, write_tokens
from gateway.upstream.dialects.completion import Outcome
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.usage import Tokens

logger = logging.getLogger(__name__)

_encode_json = msgspec.json.Encoder().encode

_NO_TOKENS = Tokens()

R = TypeVar("R", bound=Recording)


class Generation(Generic[R]):
    """`log` is what viewers follow; `failure` and `outcome()` are there once `log.ended`."""

    __slots__ = ("_attempts", "_running", "_tokens", "failure", "id", "log", "record", "reservation", "task")

    def __init__(self, log: R, attempts: Attempts, reservation: Reservation) -> None:
        self.log = log
        self.record: StreamRecord = attempts.record
        self.id = self.record.stream
        self.reservation = reservation
        self.failure: GatewayError | None = None
        self._attempts = attempts
        self._running = False
        self._tokens = _NO_TOKENS
        self.task = asyncio.get_running_loop().create_task(self.run())

    @property
    def has_content(self) -> bool:
        """Has any content come?"""
        return self._attempts.has_content

    @property
    def is_decided(self) -> bool:
        """Whether it is known which attempt gives the answer, or that none does."""
        return self.has_content or self.log.ended

    @property
    def is_whole(self) -> bool:
        return self.record.end is EndReason.COMPLETE

    @property
    def passed_finish(self) -> bool:
        """Has the client of a relayed stream seen a finish reason that says that the answer is whole?"""
        return self._decoder.passed_finish

    @property
    def span(self) -> RequestSpan | None:
        """That of the request that asked, if it is traced."""
        return self._attempts.span

    @property
    def first_asked_at(self) -> float | None:
        """When an upstream was asked first, by `time.monotonic`. None if it was not yet, or never."""
        return self._attempts.first_asked_at

    @property
    def _decoder(self) -> Decoder:
        return self._attempts.answering.decoder

    def outcome(self) -> Outcome:
        return self._attempts.outcome()

    def interrupt(self, why: EndReason | GatewayError) -> None:
        """Ends the generation from outside, if it has not ended: with `why` as its reason, or as its failure."""
        if self.log.ended:
            return
        if isinstance(why, GatewayError):
            self._fail(why)
        else:
            self._end(why)
        if self._running:  # else it will see, when its turn comes, that there is nothing left to do
            self.task.cancel()

    async def run(self) -> None:
        self._running = True
        try:
            if not self.log.ended:
                await self._attempts.run()
                self._end(EndReason.COMPLETE)
        except GatewayError as failure:
            self._fail(failure)
        except asyncio.CancelledError:
            self.interrupt(ShuttingDown())  # nothing, unless it is the event loop that goes down
        except Exception:
            logger.exception("stream %s failed on an unexpected error of the gateway's own", self.id)
            self._fail(GatewayError())
        self._attempts.drop_payload()  # the rest may be held for minutes
        try:
            await self.reservation.settle(self._tokens.all, self._attempts.cost)
        finally:
            await self._attempts.put_away(is_complete=self.is_whole)

    # The end

    def _fail(self, failure: GatewayError) -> None:
        if self.log.ended:  # it was interrupted, and then its task met an error on its way out
            return
        self.failure = failure.copy()  # it may be held for minutes
        self._end(failure.end_reason, Entry(Kind.FAILURE, _encode_json(failure.failure())))

    def _end(self, reason: EndReason, *entries: Entry) -> None:
        """Whatever fails in here, the log ends: viewers wait for that."""
        try:
            if rest := self._attempts.rest():
                self.log.append(rest)
            self._settle(reason)
            last = _encode_json(self._summary(reason))
        except Exception as error:
            if isinstance(error, GatewayError) and reason is EndReason.COMPLETE:  # no body can be built of the answer
                self._fail(error)
                return
            logger.exception("stream %s cannot be accounted for", self.id)
            self.record.end = reason
            last = _encode_json({"reason": reason, "stream": self.id})
        self.reservation.release()  # before anybody is told
        self.log.append([*entries, Entry(Kind.END, last)])

    def _summary(self, reason: EndReason) -> dict[str, Any]:
        """The data of the end entry."""
        record = self.record
        end = {
            "reason": reason,
            "finish_reason": record.finish_reason,
            "model": record.model,
            "usage": self._decoder.usage,
            "stream": self.id,
            "attempts": record.attempts,
        }
        if record.skipped:
            end["skipped"] = record.skipped
        if (receipt := self._attempts.receipt) is not None:
            end["receipt"] = receipt.fields()
        return end

    def _settle(self, reason: EndReason) -> None:
        record = self.record
        write_outcome(record, self._decoder, reason, self.failure)
        record.entries, record.bytes = self.log.last, self.log.size
        self._tokens = self._attempts.settle(self.failure, is_complete=self.is_whole)
        write_tokens(record, self._tokens, self._attempts.answering.target.prices)
