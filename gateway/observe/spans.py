"""What a trace is told of a request and of its attempts. `traces` sends it; without traces there are no such objects.

A request of a stream has one span, and each attempt of its answer one below it. Both may end in any order: an answer
may go on when its client has left.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from gateway.observe.records import FailedAttempt, StreamRecord


class Asked(msgspec.Struct, frozen=True):
    """An attempt that begins: the upstream by its configured name and address, and its own name of the model."""

    operation: str
    provider: str
    base_url: str
    model: str
    is_streamed: bool
    payload: bytes  # a JSON object


class AttemptSpan(Protocol):
    headers: Mapping[str, str]
    """Fields for the request to the upstream, which tell it the trace."""

    def answered(self, record: StreamRecord, *, first_chunk: float | None, text: bytes | None) -> None:
        """Ends the span of the attempt that gave the answer, or that ran when the stream ended.

        `first_chunk` is the time to the first content, in seconds. `text` is that of the answer, if it is known.
        """
        ...

    def failed(self, attempt: FailedAttempt) -> None:
        """Ends the span of another attempt."""
        ...


class RequestSpan(Protocol):
    trace_id: str
    keeps_content: bool
    """Whether the texts of questions and answers are sent, too."""

    def attempt(self, asked: Asked) -> AttemptSpan: ...

    def watched(self, stream_id: str, asked: "RequestSpan | None") -> None:
        """The request watched or stopped a stream. `asked` is the span of the request that had started it, if known."""
        ...

    def ended(self, *, status: int, request_id: str, stream: StreamRecord | None) -> None:
        """Ends the span. `stream` is the one that the request started."""
        ...


class Tracer(Protocol):
    def request(self, method: str, route: str, path: str, fields: Mapping[str, str]) -> RequestSpan:
        """Begins a span. `fields` has `traceparent` and `tracestate`, where the request has them."""
        ...

    async def close(self) -> None:
        """Sends what has ended, within a bounded time."""
        ...
