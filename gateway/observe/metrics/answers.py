"""The metrics of answers. A stream is counted once, when it ends.

Callers and upstreams cannot add any number of series: of each label whose values they choose, only the first
`_MOST_VALUES` have a series of their own (in each worker).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.entries import EndReason
from gateway.observe.records import StreamRecord

_MOST_VALUES = 200  # of a label; each combination of values takes some 10 KiB
_OTHER = "_OTHER"  # the conventions' name for values without a series of their own
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_CHUNK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_TOKENS = tuple([4**power for power in range(14)])
_CANCELS = {EndReason.STOPPED, EndReason.CLIENT_GONE, EndReason.SHUTTING_DOWN}  # the upstream had not finished
_LEFT = {"outrun", "interrupted", "diverged"}  # codes of attempts that were cancelled while the answer went on
_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")


class Answers:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._series: dict[tuple[Any, ...], _Series] = {}
        self._models = _Values()
        self._answered_by = _Values()
        self._errors = _Values()
        self._targets = _Values()
        self._duration = self._histogram(
            "gen_ai_client_operation_duration_seconds",
            "From the question to the end of its answer.",
            (*_LABELS, "error_type"),
            _SECONDS,
        )
        self._first = self._histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "From the question to the first content.",
            _LABELS,
            _SECONDS,
        )
        self._chunk = self._histogram(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "Mean time between two chunks of an answer, once for each answer.",
            _LABELS,
            _CHUNK_SECONDS,
        )
        self._usage = self._histogram(
            "gen_ai_client_token_usage", "Tokens of an answer, by their type.", (*_LABELS, "gen_ai_token_type"), _TOKENS
        )
        self._input = self._counter("gen_ai_client_inference_usage_input_tokens", "Tokens of prompts.", _LABELS)
        self._output = self._counter("gen_ai_client_inference_usage_output_tokens", "Tokens of answers.", _LABELS)
        self._cached = self._counter(
            "gen_ai_client_inference_usage_cache_read_input_tokens",
            "Tokens of prompts that the upstream had in its cache, which are part of the input.",
            _LABELS,
        )
        self._reasoning = self._counter(
            "gen_ai_client_inference_usage_reasoning_output_tokens",
            "Tokens of reasoning, which are part of the output.",
            _LABELS,
        )
        self._ended = self._counter("gateway_streams_ended", "Answers that ended, by their end reason.", ("reason",))
        self._attempts = self._counter(
            "gateway_attempts", "Requests to targets, by their outcome.", ("target", "outcome")
        )
        self._cancels = self._counter(
            "gateway_cancels", "Requests to targets that the gateway broke off, by the reason.", ("reason",)
        )
        self._resumes = self._counter("gateway_resumes", "Times that a client came back to a stream.", ())

    def ended(self, record: StreamRecord) -> None:
        """Counts a stream. Its record is complete."""
        self._series_of(record).count(record)
        for failed in record.failed:
            self._attempts.labels(self._targets.bounded(failed.target), self._errors.bounded(failed.error)).inc()
            if failed.error in _LEFT:
                self._cancels.labels(failed.error).inc()
        if record.end in _CANCELS:
            self._cancels.labels(record.end).inc()
        if record.resumes:
            self._resumes.inc(record.resumes)

    def _series_of(self, record: StreamRecord) -> "_Series":
        """The series of answers like this one. To search for each of them would take as long as to count."""
        has_pace, has_tokens = record.entries > 2, bool(record.input_tokens or record.output_tokens)
        kind = (record.first_token is not None, has_pace, has_tokens)
        key = (record.target, record.operation, record.model_asked, record.model, record.error, record.end, kind)
        series = self._series.get(key)
        if series is None:
            series = self._found(record, *kind)
            if len(self._series) < _MOST_VALUES:
                self._series[key] = series
        return series

    def _found(self, record: StreamRecord, has_content: bool, has_pace: bool, has_tokens: bool) -> "_Series":
        provider, _, model = (record.target or "").partition("/")
        asked = self._models.bounded(record.model_asked or model)
        labels = (record.operation, provider, asked, self._answered_by.bounded(record.model or ""))
        error = self._errors.bounded(record.error or "")
        outcome = error or (record.end or "" if record.end in _CANCELS else "")
        return _Series(
            ended=self._ended.labels(record.end or ""),
            attempts=self._attempts.labels(self._targets.bounded(record.target or ""), outcome),
            duration=self._duration.labels(*labels, error),
            first=self._first.labels(*labels) if has_content else None,
            pace=self._chunk.labels(*labels) if has_content and has_pace else None,
            tokens=self._tokens_of(labels) if has_tokens else None,
        )

    def _tokens_of(self, labels: tuple[str, ...]) -> "_Tokens":
        return _Tokens(
            input_size=self._usage.labels(*labels, "input"),
            output_size=self._usage.labels(*labels, "output"),
            input=self._input.labels(*labels),
            output=self._output.labels(*labels),
            cached=self._cached.labels(*labels),
            reasoning=self._reasoning.labels(*labels),
        )

    def _histogram(self, name: str, help: str, labels: Iterable[str], buckets: Iterable[float]) -> Histogram:
        return Histogram(name, help, labels, registry=self._registry, buckets=tuple(buckets))

    def _counter(self, name: str, help: str, labels: Iterable[str]) -> Counter:
        return Counter(name, help, labels, registry=self._registry)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tokens:
    input_size: Histogram
    output_size: Histogram
    input: Counter
    output: Counter
    cached: Counter
    reasoning: Counter

    def count(self, record: StreamRecord) -> None:
        self.input_size.observe(record.input_tokens)
        self.output_size.observe(record.output_tokens)
        self.input.inc(record.input_tokens)
        self.output.inc(record.output_tokens)
        if record.cached_tokens:
            self.cached.inc(record.cached_tokens)
        if record.reasoning_tokens:
            self.reasoning.inc(record.reasoning_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """Those of answers with the same labels. None: such answers have nothing to count there."""

    ended: Counter
    attempts: Counter
    duration: Histogram
    first: Histogram | None
    pace: Histogram | None
    tokens: _Tokens | None

    def count(self, record: StreamRecord) -> None:
        seconds, first = record.seconds or 0.0, record.first_token or 0.0
        self.ended.inc()
        self.attempts.inc()
        self.duration.observe(seconds)
        if self.first is not None:
            self.first.observe(first)
        if self.pace is not None:
            self.pace.observe((seconds - first) / (record.entries - 2))
        if self.tokens is not None:
            self.tokens.count(record)


class _Values:
    """The values of a label, as far as they have a series of their own."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def bounded(self, value: str) -> str:
        if value not in self._known:
            if len(self._known) >= _MOST_VALUES:
                return _OTHER
            self._known.add(value)
        return value
