"""The attempts that did not become the answer: how each is put away and recorded, and what follows a failure."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from random import random

from gateway.admission.admit import AdmittedRequest
from gateway.errors import GatewayError, UpstreamError
from gateway.observe.records import StreamRecord
from gateway.streams.attempt import Attempt
from gateway.streams.bill import NoBill
from gateway.streams.dependencies import Dependencies
from gateway.streams.outcome import failed_attempt
from gateway.upstream.dialects.status import refused_usage
from gateway.upstream.redaction import redact
from gateway.upstream.routing import Failed, Step, Target, another, next_step

logger = logging.getLogger(__name__)


class Failures:
    """Those of one answer, in the order of `record.failed`. `broken` is the failure that ended it after its content."""

    __slots__ = ("_bill", "_dependencies", "_lost", "_record", "_waited", "broken")

    def __init__(self, record: StreamRecord, dependencies: Dependencies, bill: NoBill) -> None:
        self._bill = bill
        self._record = record
        self._dependencies = dependencies
        self._lost: list[tuple[Attempt, GatewayError | str]] = []
        self._waited = 0.0  # seconds between attempts
        self.broken: GatewayError | None = None

    def add(
        self, attempt: Attempt, why: GatewayError | str, request: AdmittedRequest, prompt: Callable[[], int]
    ) -> None:
        """Puts an attempt away that failed, or that ended from this side. `why` is then a code for the record."""
        target, failure = attempt.target, None
        if isinstance(why, GatewayError):
            why = failure = self._redacted(attempt, why, request)
            self._dependencies.targets.failure(target, failure)
        else:
            self._dependencies.targets.nothing(target)
        code = failure.code if failure is not None else str(why)
        tokens = attempt.tokens(failure, complete=False, prompt=prompt)
        self._bill.end(attempt, tokens, is_whole=False)
        seconds = round(asyncio.get_running_loop().time() - attempt.started, 3)
        self._lost.append((attempt, why))
        self._record.failed.append(failed_attempt(target, code, seconds, tokens))
        if attempt.span is not None:
            attempt.span.failed(self._record.failed[-1])
            attempt.span = None
        attempt.abort()
        self._dependencies.end(target)

    def _redacted(self, attempt: Attempt, error: GatewayError, request: AdmittedRequest) -> GatewayError:
        """The error without secrets, and a line for the operator."""
        if isinstance(error, UpstreamError):
            if request.asks_usage(attempt.target) and attempt.first_token is None:
                error = refused_usage(error) or error
            upstream = attempt.target.upstream
            note = redact(error, upstream)
            ids = request.request_id, self._record.stream
            logger.warning("request %s: stream %s: upstream %s: %s", *ids, upstream.name, note)
        return error

    def have(self, attempt: Attempt) -> bool:
        return any(lost is attempt for lost, _ in self._lost)

    def leave_out(self, answering: Attempt) -> None:
        """Takes the attempt that became the answer off the record of the others, if it failed in the end."""
        if self._lost:
            pairs = zip(self._lost, self._record.failed, strict=True)
            self._record.failed = [failed for (attempt, _), failed in pairs if attempt is not answering]

    # What follows

    @property
    def last(self) -> GatewayError:
        return self._failed[-1].error

    @property
    def _failed(self) -> list[Failed]:
        return [Failed(attempt.target, why) for attempt, why in self._lost if isinstance(why, GatewayError)]

    def another(self, order: Sequence[Target], *, beside: Target | None = None) -> Target | None:
        """Another target than those that failed, and than the one `beside` which it would run."""
        return another([*self._failed, *([] if beside is None else [Failed(beside, UpstreamError())])], order)

    def next_step(self, order: Sequence[Target], *, by: float) -> Step | None:
        """The next attempt before any content, if there may be one that begins before the time `by`."""
        failed, state = self._failed, self._dependencies.targets.state
        asked = [one.target for one in failed]  # where a breaker is open, one request is enough
        order = [target for target in order if target not in asked or not state(target).breaker.is_open]
        step = next_step(failed, order, self._dependencies.config.retry, waited=self._waited, chance=random())
        if step is None or asyncio.get_running_loop().time() + step.wait >= by:
            return None
        self._waited += step.wait
        return step
