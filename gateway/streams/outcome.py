"""What is written into a stream's record when it ends: how the answer went, which tokens it took, what it cost."""

from typing import Any

from gateway.admission.tokens import cost
from gateway.config import Prices
from gateway.entries import EndReason
from gateway.errors import GatewayError, Timeout, UpstreamError, UpstreamIncomplete
from gateway.observe.records import FailedAttempt, StreamRecord
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.usage import Tokens
from gateway.upstream.routing import Target


def write_outcome(record: StreamRecord, decoder: Decoder, reason: EndReason, failure: GatewayError | None) -> None:
    is_complete = reason is EndReason.COMPLETE
    record.end = reason
    record.error = failure.code if failure else None
    record.model = decoder.model
    record.finish_reason = decoder.finish_reason
    record.done_missing = is_complete and not decoder.done
    record.finish_missing = is_complete and decoder.finishes and decoder.finish_reason is None
    record.skipped = decoder.skipped


def write_tokens(record: StreamRecord, tokens: Tokens, prices: Prices | None) -> None:
    record.input_tokens, record.cached_tokens, record.cache_written_tokens = tokens.input, tokens.cached, tokens.written
    record.output_tokens, record.reasoning_tokens = tokens.output, tokens.reasoning
    record.tokens_estimated = tokens.estimated
    record.cost = _cost(tokens, prices)


def failed_attempt(target: Target, code: str, seconds: float, tokens: Tokens) -> FailedAttempt:
    return FailedAttempt(
        target=target.name,
        error=code,
        seconds=seconds,
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        tokens_estimated=tokens.estimated,
        cost=_cost(tokens, target.prices),
    )


def _cost(tokens: Tokens, prices: Prices | None) -> float | None:
    return None if prices is None else round(cost(tokens, prices), 10)


def is_refusal(failure: GatewayError | None, usage: dict[str, Any] | None, *, has_content: bool) -> bool:
    """Whether the upstream refused, so that nobody pays. A silent or broken answer may cost all the same."""
    is_told = isinstance(failure, UpstreamError) and not isinstance(failure, Timeout | UpstreamIncomplete)
    return is_told and not has_content and usage is None
