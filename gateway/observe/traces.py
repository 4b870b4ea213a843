"""Traces of requests and attempts, sent by OTLP over HTTP. The only place that knows `opentelemetry`.

The names of spans and attributes are those of OpenTelemetry's conventions for HTTP servers and for generative AI:
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/client-inference.md

Tokens are on the spans of attempts only, so that sums over all spans count them once. A thread of the SDK sends batches
of spans; its queue holds 2,048 unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise, and spans beyond that are lost. This
module is imported only if traces are configured, because the SDK takes a fifth of a second to load.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanKind,
    Status,
    StatusCode,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace import Tracer as Maker
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gateway import __version__
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.config import Traces as Settings
from gateway.endpoints import Endpoint
from gateway.observe import spans
from gateway.observe.messages import asked_messages, told_message
from gateway.observe.records import FailedAttempt, StreamRecord

logger = logging.getLogger(__name__)

_LONGEST = 16_384  # characters of an attribute: with 2,048 spans in the queue, contents take at most some 64 MiB
_CANCELLED = frozenset({"outrun", "interrupted", "diverged"})  # no errors of the upstream
_PORTS = {"http": 80, "https": 443}

_context_fields = TraceContextTextMapPropagator()

Attributes = dict[str, AttributeValue]


class Traces:
    """See `spans.Tracer`. One per process; `close` it."""

    def __init__(self, settings: Settings, endpoint: str, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        _silence_library()
        self._bounds = bounds
        headers = {name: secret.reveal() for name, secret in settings.headers.items()}
        url = f"{endpoint.rstrip('/')}/v1/traces"
        self._exporter = _Reporting(OTLPSpanExporter(url, headers=headers, timeout=bounds.export_seconds))
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": settings.service_name, "service.version": __version__}),
            sampler=ParentBasedTraceIdRatio(settings.sample_ratio),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=_LONGEST),
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._maker = self._provider.get_tracer("gateway", __version__)
        self._keeps_content = settings.content

    def request(self, method: str, route: str, path: str, fields: Mapping[str, str]) -> "RequestSpan":
        attributes: Attributes = {"http.request.method": method, "http.route": route, "url.path": path}
        parent = _context_fields.extract(fields, Context())
        span = self._maker.start_span(f"{method} {route}", parent, SpanKind.SERVER, attributes)
        return RequestSpan(self._maker, span, self._keeps_content)

    async def close(self) -> None:
        """The SDK's own shutdown waits for up to 30 seconds, and would hold up the event loop."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()
        threading.Thread(target=self._shut_down, args=(loop, closed.set), name="traces", daemon=True).start()
        try:
            async with asyncio.timeout(self._bounds.traces_seconds):
                await closed.wait()
        except TimeoutError:
            logger.warning("the last traces were not taken in time, and are lost")
            self._exporter.shutdown()  # no repetition keeps its thread

    def _shut_down(self, loop: asyncio.AbstractEventLoop, then: Callable[[], None]) -> None:
        self._provider.shutdown()
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(then)


class RequestSpan:
    """See `spans.RequestSpan`."""

    __slots__ = ("_maker", "_parent", "_span", "context", "keeps_content", "trace_id")

    def __init__(self, maker: Maker, span: Span, keeps_content: bool) -> None:
        self._maker = maker
        self._span = span
        self._parent = set_span_in_context(span, Context())  # of the spans below
        self.context = span.get_span_context()
        self.trace_id = format_trace_id(self.context.trace_id)
        self.keeps_content = keeps_content and span.is_recording()

    def attempt(self, asked: spans.Asked) -> "AttemptSpan":
        attributes = _asked(asked)
        if self.keeps_content and asked.operation == Endpoint.CHAT.operation:  # other requests have no messages
            attributes["gen_ai.input.messages"] = asked_messages(asked.payload)
        name = f"{asked.operation} {asked.model}".rstrip()
        span = self._maker.start_span(name, self._parent, SpanKind.CLIENT, attributes)
        return AttemptSpan(span, keeps_content=self.keeps_content)

    def watched(self, stream_id: str, asked: spans.RequestSpan | None) -> None:
        self._span.set_attribute("gateway.stream.id", stream_id)
        if isinstance(asked, RequestSpan):
            self._span.add_link(asked.context)

    def ended(self, *, status: int, request_id: str, stream: StreamRecord | None) -> None:
        attributes: Attributes = {"http.response.status_code": status, "gateway.request.id": request_id}
        if stream is not None:
            attributes["gateway.stream.id"] = stream.stream
            if stream.model_asked is not None:
                attributes["gen_ai.request.model"] = stream.model_asked
        self._span.set_attributes(attributes)
        error = stream.error if stream is not None else None
        _end(self._span, error or (str(status) if status >= 500 else None))
        self._span = NonRecordingSpan(self.context)  # a stream holds this object for minutes
        self._parent = set_span_in_context(self._span, Context())


class AttemptSpan:
    """See `spans.AttemptSpan`."""

    __slots__ = ("_keeps_content", "_span", "headers")

    def __init__(self, span: Span, *, keeps_content: bool) -> None:
        self._span = span
        self._keeps_content = keeps_content
        fields: dict[str, str] = {}
        _context_fields.inject(fields, set_span_in_context(span, Context()))
        self.headers: Mapping[str, str] = fields

    def answered(self, record: StreamRecord, *, first_chunk: float | None, text: bytes | None) -> None:
        self._span.set_attributes(_answered(record))
        if first_chunk is not None:
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", round(first_chunk, 4))
        if self._keeps_content and text is not None:
            self._span.set_attribute("gen_ai.output.messages", told_message(text, record.finish_reason))
        _end(self._span, record.error)

    def failed(self, attempt: FailedAttempt) -> None:
        self._span.set_attributes(_usage(attempt))
        if attempt.error in _CANCELLED:
            self._span.set_attribute("gateway.cancelled", attempt.error)
            self._span.end()
        else:
            _end(self._span, attempt.error)


def _end(span: Span, error: str | None) -> None:
    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))
    span.end()


# Attributes


def _asked(asked: spans.Asked) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": asked.operation,
        "gen_ai.provider.name": asked.provider,
        "gen_ai.request.stream": asked.is_streamed,
    }
    if asked.model:
        attributes["gen_ai.request.model"] = asked.model
    parts = urlsplit(asked.base_url)
    if parts.hostname is not None:
        attributes["server.address"] = parts.hostname
        attributes["server.port"] = parts.port or _PORTS[parts.scheme]
    return attributes


def _answered(record: StreamRecord) -> Attributes:
    attributes = _usage(record)
    if record.end is not None:
        attributes["gateway.end_reason"] = record.end.value
    if record.model is not None:
        attributes["gen_ai.response.model"] = record.model
    if record.finish_reason is not None:
        attributes["gen_ai.response.finish_reasons"] = [record.finish_reason]
    if record.cached_tokens:
        attributes["gen_ai.usage.cache_read.input_tokens"] = record.cached_tokens
    if record.reasoning_tokens:
        attributes["gen_ai.usage.reasoning.output_tokens"] = record.reasoning_tokens
    return attributes


def _usage(record: StreamRecord | FailedAttempt) -> Attributes:
    if not (record.input_tokens or record.output_tokens):
        return {}
    attributes: Attributes = {
        "gen_ai.usage.input_tokens": record.input_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
    }
    if record.tokens_estimated:
        attributes["gateway.usage.estimated"] = True
    return attributes


# The collector


class _Reporting(SpanExporter):
    """Logs when the collector ceases to take spans, and when it takes them again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0
        self._is_closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                logger.warning("the collector of traces does not take them; they are lost until it does")
            self._lost += len(spans)
        elif self._lost:
            logger.warning("the collector takes traces again; %d spans were lost", self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """May be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _silence_library() -> None:
    """The library logs each failed request of a batch, some with tracebacks. `_Reporting` logs what counts."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
