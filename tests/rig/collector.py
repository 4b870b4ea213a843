"""A collector of traces on a real socket, which reads OTLP over HTTP as it is sent."""

import asyncio
import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.rig.clients import eventually

SERVER, CLIENT = 2, 3  # the kinds of spans, as numbers of the protocol
ERROR = 2  # the status


@dataclass(frozen=True)
class Span:
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    attributes: dict[str, Any]
    links: list[str]  # span ids
    status: int
    seconds: float
    resource: dict[str, Any] = field(repr=False)


class Collector:
    """Serves from threads of its own, since a gateway under test may wait for it. `status` is its answer."""

    def __init__(self) -> None:
        self.status = 200
        self.refused = 0
        self.answers = threading.Event()  # while it is not set, requests wait
        self.answers.set()
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def spans(self) -> list[Span]:
        return [span for body in list(self.bodies) for span in spans_in(body)]

    def has_refused(self, count: int) -> bool:
        return self.refused >= count

    async def until(self, count: int) -> list[Span]:
        """Waits for so many spans, and returns them in the order of their beginning."""
        await eventually(lambda: len(self.spans) >= count)
        await asyncio.sleep(0)
        assert len(self.spans) == count, [span.name for span in self.spans]
        return self.spans


def spans_in(body: bytes) -> Iterator[Span]:
    for sent in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = {pair.key: _value(pair.value) for pair in sent.resource.attributes}
        for scope in sent.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.trace_state,
                    {pair.key: _value(pair.value) for pair in span.attributes},
                    [link.span_id.hex() for link in span.links],
                    span.status.code,
                    (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    resource,
                )


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.answers.wait()
            if self.path == "/v1/traces" and collector.status == 200:
                collector.headers.append({name.lower(): value for name, value in self.headers.items()})
                is_packed = self.headers.get("Content-Encoding") == "gzip"
                collector.bodies.append(gzip.decompress(body) if is_packed else body)
            else:
                collector.refused += 1
            self.send_response(collector.status if self.path == "/v1/traces" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
