"""One answer being produced: the task that owns the upstream attempt.

A generation outlives or dies with its viewers by policy, never by accident: the request handler only attaches a
viewer. Whatever ends it (the upstream, a timeout, a stop, the last viewer leaving, a shutdown), it ends with exactly
one end entry, and a failure entry before it if something went wrong.

The end is told before the upstream connection is put away, so that no client waits for the latter.
"""

import asyncio
import logging
import math
import time
from typing import Any, Generic, TypeVar

import msgspec

from gateway.admission.admit import AdmittedRequest
from gateway.admission.limits import Reservation
from gateway.admission.tokens import prompt, taken
from gateway.config import Stream
from gateway.entries import EndReason, Entry, Kind
from gateway.errors import (
    AnswerTooLarge,
    EventTooLarge,
    GatewayError,
    ShuttingDown,
    Timeout,
    UpstreamError,
    UpstreamIncomplete,
)
from gateway.log.base import Recording
from gateway.observe.records import StreamRecord
from gateway.sse import END, Parser
from gateway.sse import EventTooLarge as ParserOverflow
from gateway.streams.account import is_refusal, write_outcome, write_tokens
from gateway.streams.watchdog import Watchdog
from gateway.upstream.client import UpstreamClient, UpstreamResponse
from gateway.upstream.dialects import openai
from gateway.upstream.dialects.assembled import Assembled
from gateway.upstream.dialects.completion import Outcome
from gateway.upstream.dialects.reasons import only_one
from gateway.upstream.dialects.status import refused_usage
from gateway.upstream.dialects.usage import Tokens
from gateway.upstream.redaction import redact
from gateway.upstream.shapes import Shape

logger = logging.getLogger(__name__)

_LARGE_BODY = 65_536  # bytes: a larger request is not held once its upstream has answered; that costs an estimate
_UNFINISHED = 65_536  # bytes of an unfinished event that are worth counting: nearly all events are smaller
_LARGE_READ = 32_768  # bytes: smaller reads make no burst, and are not counted
_BURST = 262_144  # bytes: as much as one read brings at most
_JSON_BODY = 33_554_432  # bytes of an upstream that answers in one JSON body: its answer, its logprobs, its spaces

_encode_json = msgspec.json.Encoder().encode

R = TypeVar("R", bound=Recording)


class Generation(Generic[R]):
    """`log` is what viewers follow; `failure` and `outcome()` are there once `log.ended`."""

    __slots__ = (
        "_asks_usage",
        "_body",
        "_burst",
        "_burst_at",
        "_client",
        "_created",
        "_decoder",
        "_limits",
        "_loop",
        "_max_bytes",
        "_parser",
        "_posted",
        "_prompt",
        "_response",
        "_running",
        "_target",
        "_tokens",
        "_unfinished",
        "_watchdog",
        "failure",
        "id",
        "log",
        "record",
        "reservation",
        "task",
    )

    def __init__(
        self,
        stream_id: str,
        request: AdmittedRequest,
        *,
        log: R,
        decoder: openai.Decoder,
        reservation: Reservation,
        client: UpstreamClient,
        limits: Stream,
    ) -> None:
        self.id = stream_id
        self.log = log
        self.reservation = reservation
        self.failure: GatewayError | None = None
        self.record = StreamRecord(stream=stream_id, target=request.target.name, model_asked=request.model)
        self._body = request.body
        self._prompt: int | None = None  # its tokens, where it is held no longer
        log.grow(len(request.body))
        self._target = request.target
        self._client = client
        self._limits = limits
        self._decoder = decoder
        self._created = int(time.time())
        self._running = False
        self._response: UpstreamResponse | None = None
        self._asks_usage = request.asks_usage
        self._burst, self._burst_at = 0, 0.0  # bytes of large reads in the turn that began then
        self._unfinished = 0  # bytes of an event, as far as the log counts them
        self._posted = False  # may the upstream be at work?
        self._max_bytes = limits.max_bytes if log.is_kept else math.inf  # a window is bounded in itself
        self._tokens = Tokens()
        self._loop = asyncio.get_running_loop()
        self._watchdog = Watchdog(self._loop, request.target.timeouts, self._expire)
        self.task = self._loop.create_task(self.run())

    @property
    def has_content(self) -> bool:
        """Has any content come?"""
        return self._watchdog.first_token is not None

    @property
    def is_whole(self) -> bool:
        return self.record.end is EndReason.COMPLETE

    @property
    def passed_finish(self) -> bool:
        """Has the client of a relayed stream seen a finish reason that says that the answer is whole?"""
        return self._decoder.passed_finish

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

    def _expire(self, timeout: Timeout) -> None:
        """An upstream that said why it finished, and then neither `[DONE]` nor goodbye, has answered all the same."""
        self.interrupt(EndReason.COMPLETE if self._decoder.complete else timeout)

    def outcome(self) -> Outcome:
        return Outcome(
            id=self._decoder.id or f"chatcmpl-{self.id}",
            created=self._decoder.created or self._created,
            model=self._decoder.model or self._target.model,
            finish_reason=self._decoder.finish_reason,
            usage=self._decoder.usage,
        )

    # The main path

    async def run(self) -> None:
        self._running = True
        try:
            if not self.log.ended:
                await self._attempt()
                self._end(EndReason.COMPLETE)
        except GatewayError as failure:
            self._fail(failure)
        except asyncio.CancelledError:
            self.interrupt(ShuttingDown())  # nothing, unless it is the event loop that goes down
        except Exception:
            logger.exception("stream %s failed on an unexpected error of the gateway's own", self.id)
            self._fail(GatewayError())
        self._drop_body()  # the rest may be held for minutes
        try:
            await self.reservation.settle(self._tokens.all)
        finally:
            await self._put_away()

    async def _attempt(self) -> None:
        """One request to the target, from the post to the last entry but the end."""
        self.record.attempts += 1
        accept = "application/json" if self._decoder.whole else "text/event-stream"
        self._posted = True
        try:
            response = self._response = await self._client.open(self._target, self._body, accept=accept)
        except GatewayError:
            self._posted = False
            raise
        if len(self._body) > _LARGE_BODY:
            self._prompt = prompt(self._body)
            self._drop_body()
        shape, start = await response.begin()
        if shape is Shape.JSON:
            await self._relay_completion(response, start)
        else:
            if self._decoder.whole:
                choices, most = self._decoder.choices, self._limits.max_bytes
                self._decoder = Assembled(self.outcome, choices=choices, most=most, count=self.log.grow)
            await self._relay_events(response, start)
        self._decoder.finish()

    async def _relay_events(self, response: UpstreamResponse, chunk: bytes) -> None:
        """`chunk` is what was read already."""
        self._parser = Parser(max_bytes=self._limits.max_event_bytes, data_fields=openai.DATA_FIELDS)
        try:
            if not await self._all_read(response, chunk):
                self._take_read(END)
        except ParserOverflow as error:
            raise EventTooLarge() from error
        finally:
            self._count_unfinished(0)
            del self._parser  # it may hold most of an event, and this object is held for minutes

    async def _all_read(self, response: UpstreamResponse, chunk: bytes) -> bool:
        """Takes reads up to the end of the body. Has the answer ended before that?"""
        try:
            stops = self._take_read(chunk)
            while stops or await response.feed(self._take_read):
                if self._decoder.done:
                    return True
                await self._wait_for_room()
                stops = False
        except UpstreamIncomplete:
            if not self._decoder.complete:
                raise
        return False

    def _take_read(self, chunk: bytes) -> bool:
        """Takes one read, from within the call that brought it. Is reading to stop?

        What one read brought becomes one batch; what came before an error in it is kept.
        """
        log, decoder = self.log, self._decoder
        if log.ended:
            return True  # it was interrupted, and its task is about to hear of that
        entries: list[Entry] = []
        try:
            if (events := self._parser.whole(chunk)) is None:
                self._decode(chunk, entries)
            else:
                for data in events:
                    decoder.decode_data(data, entries)
                    if decoder.done:
                        break
        finally:
            self._append(entries)
        return decoder.done or log.full or (len(chunk) >= _LARGE_READ and self._is_burst(len(chunk)))

    def _decode(self, chunk: bytes, entries: list[Entry]) -> None:
        parser, decoder = self._parser, self._decoder
        for event in parser.feed(chunk):
            decoder.decode(event, entries)
            if decoder.done:
                break
        if parser.held >= _UNFINISHED or self._unfinished:
            self._count_unfinished(parser.held)

    def _is_burst(self, size: int) -> bool:
        """Has this stream taken its share of this turn of the loop? uvloop reads a connection up to 32 times in one.

        Its time stands still within a turn. Other streams, and the bounds on what they hold together, come first then.
        """
        now = self._loop.time()
        self._burst, self._burst_at = size + (self._burst if now == self._burst_at else 0), now
        return self._burst > _BURST

    def _count_unfinished(self, held: int) -> None:
        """Counts the bytes of an event that has not come whole."""
        self.log.grow(held - self._unfinished)
        self._unfinished = held

    async def _wait_for_room(self) -> None:
        self._watchdog.paused = True
        await self.log.room()
        self._watchdog.last_read = self._loop.time()
        self._watchdog.paused = False

    async def _relay_completion(self, response: UpstreamResponse, start: bytes) -> None:
        body = bytearray(start)
        try:
            while chunk := await response.read():
                body += chunk
                self.log.grow(len(chunk))
                if len(body) > _JSON_BODY:
                    raise AnswerTooLarge()
            self._take_completion(bytes(body))
        finally:
            self.log.grow(len(start) - len(body))

    def _take_completion(self, body: bytes) -> None:
        entries: list[Entry] = []
        try:
            self._decoder.decode_completion(only_one(body), entries)
        finally:
            self._append(entries)

    def _append(self, entries: list[Entry]) -> None:
        watchdog, log = self._watchdog, self.log
        watchdog.last_read = self._loop.time()
        if entries:
            if watchdog.first_token is None and self._decoder.has_content:
                watchdog.begin()
            log.append(entries)
            if log.size > self._max_bytes:
                raise AnswerTooLarge()

    # The end

    def _fail(self, failure: GatewayError) -> None:
        if self.log.ended:  # it was interrupted, and then its task met an error on its way out
            return
        if isinstance(failure, UpstreamError):
            if self._asks_usage and not self.has_content:
                failure = refused_usage(failure) or failure
            note = redact(failure, self._target.upstream)
            logger.warning("stream %s: upstream %s: %s", self.id, self._target.upstream.name, note)
        self.failure = failure.copy()  # it may be held for minutes
        self._end(failure.end_reason, Entry(Kind.FAILURE, _encode_json(failure.failure())))

    def _end(self, reason: EndReason, *entries: Entry) -> None:
        """Whatever fails in here, the log ends: viewers wait for that."""
        self._watchdog.cancel()
        try:
            if rest := self._decoder.rest():
                self.log.append(rest)
            self._settle(reason)
            last = _encode_json(self._summary(reason))
        except Exception:
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
        return end

    def _settle(self, reason: EndReason) -> None:
        record, decoder, watchdog = self.record, self._decoder, self._watchdog
        write_outcome(record, decoder, reason, self.failure)
        record.entries, record.bytes = self.log.last, self.log.size
        if watchdog.first_token is not None:
            record.first_token = round(watchdog.first_token - watchdog.started, 4)
        usage = decoder.usage
        if self._posted and not is_refusal(self.failure, usage, has_content=self.has_content):
            is_complete = reason is EndReason.COMPLETE
            self._tokens = taken(usage, complete=is_complete, prompt=self._asked, said=decoder.said)
        write_tokens(record, self._tokens, self._target.prices)

    def _asked(self) -> int:
        """Tokens of the prompt, as an estimate."""
        return prompt(self._body) if self._prompt is None else self._prompt

    def _drop_body(self) -> None:
        self.log.grow(-len(self._body))
        self._body = b""

    async def _put_away(self) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        if self.record.end is EndReason.COMPLETE:
            await response.finish()
        else:
            response.abort()
