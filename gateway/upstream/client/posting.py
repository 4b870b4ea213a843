"""The client of upstreams: posts requests to them, and asks for their lists of models and for what they have stored."""

import io
import logging
import ssl
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import aiohttp
from aiohttp import hdrs

from gateway import __version__
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.config import Dialect, Upstream
from gateway.endpoints import Endpoint
from gateway.errors import GatewayError
from gateway.observe.spans import AttemptSpan
from gateway.upstream.client import connections
from gateway.upstream.client.response import UpstreamResponse, start_of
from gateway.upstream.client.translation import FOREIGN, has_begun, translated
from gateway.upstream.dialects.anthropic.request import messages_body
from gateway.upstream.dialects.listing import ModelFields, models_in, with_openais_fields
from gateway.upstream.dialects.status import error_from_status
from gateway.upstream.redaction import redact
from gateway.upstream.routing import Target

logger = logging.getLogger(__name__)

_ERROR_BODY = 65_536  # bytes read of an error's body: its message is looked for there, nothing else
_MODELS_BODY = 4_194_304  # bytes of a list of models: OpenRouter's, the longest, has about one million
_LARGE_BODY = 1_048_576  # from here on aiohttp warns about bytes and wants a file
_LISTS = {Dialect.OPENAI: "/models", Dialect.ANTHROPIC: "/models?limit=1000"}  # of which Anthropic's shows 20 by itself
_ANTHROPIC_VERSION = "2023-06-01"  # the only one of the Messages API
_BODILESS = frozenset({204, 205})  # of the 2xx: RFC 9110, sections 15.3.5 and 15.3.6


class UpstreamClient:
    """Posts to upstreams. One per process; `close` it."""

    def __init__(self, upstreams: Sequence[Upstream], bounds: Bounds = DEFAULT_BOUNDS) -> None:
        """Raises OSError where a `ca_file` cannot be read (ssl.SSLError where it holds no certificate)."""
        self._ssl: dict[str, ssl.SSLContext] = {}
        self._headers: dict[str, tuple[Upstream, Mapping[str, str]]] = {}
        self.trust(upstreams)
        self._session = connections.pooling()
        self._fresh = connections.fresh()
        self._bounds = bounds

    def trust(self, upstreams: Sequence[Upstream]) -> None:
        """Reads the certificates of `ca_file` again. Raises OSError (ssl.SSLError where a file holds no certificate).

        Files that were read earlier stay, since running answers may use them.
        """
        files = {upstream.ca_file for upstream in upstreams if upstream.ca_file is not None}
        self._ssl |= {file: ssl.create_default_context(cafile=file) for file in files}

    async def open(
        self, target: Target, body: bytes, *, accept: str = "text/event-stream", span: AttemptSpan | None = None
    ) -> UpstreamResponse:
        """Posts `body` to the target's endpoint and returns its response, whose status is a 2xx.

        For a target of another dialect, a chat is translated, and its answer comes as a stream (see `dialects`).

        With a span, the request has its fields. Without one it has no `traceparent`, even if the client's request had
        one: the upstream is mostly another company's, and it gets no field of the client unless the operator says so.

        Raises an UpstreamError that says what went wrong, or what the upstream answered instead.
        """
        path = target.endpoint.value
        if target.upstream.dialect is Dialect.ANTHROPIC:
            path, accept = "messages", "text/event-stream"
            upstream = target.upstream
            body = messages_body(body, max_tokens=upstream.max_tokens, thinking=upstream.thinking)
        return await self._open("POST", _url(target.upstream, f"/{path}"), target, body, accept, span)

    async def ask_about(self, target: Target, method: str, path: str, *, accept: str) -> UpstreamResponse:
        """Sends a request about something that the upstream has at `path` below the target's endpoint.

        `path` may have a query. Raises the same errors.
        """
        url = _url(target.upstream, f"/{target.endpoint}{path}")
        return await self._open(method, url, target, b"", accept, None)

    async def _open(
        self, method: str, url: str, target: Target, body: bytes, accept: str, span: AttemptSpan | None
    ) -> UpstreamResponse:
        try:
            response = await self._send(method, url, target, body, accept, span)
        except FOREIGN as error:
            raise translated(error, target.upstream) from error
        try:
            await self._check(response, target.endpoint)
            return UpstreamResponse(response)
        except BaseException:
            response.close()
            raise

    async def models(self, upstream: Upstream) -> Sequence[ModelFields]:
        """The objects of the upstream's own list of models. Raises a GatewayError."""
        try:
            return await self._models(upstream)
        except GatewayError as error:
            logger.warning("models of upstream %s: %s", upstream.name, redact(error, upstream))
            raise

    async def _models(self, upstream: Upstream) -> Sequence[ModelFields]:
        seconds = self._bounds.models_seconds
        options = self._options(upstream, aiohttp.ClientTimeout(total=seconds), "application/json")
        try:
            async with self._session.get(_url(upstream, _LISTS[upstream.dialect]), **options) as response:
                await self._check(response)
                body = await start_of(response, most=_MODELS_BODY, seconds=seconds)
        except FOREIGN as error:
            raise translated(error, upstream) from error
        models = models_in(body)
        return models if upstream.dialect is Dialect.OPENAI else with_openais_fields(models)

    async def _check(self, response: aiohttp.ClientResponse, endpoint: Endpoint = Endpoint.CHAT) -> None:
        """Raises unless the response may be an answer."""
        if not 200 <= response.status < 300 or response.status in _BODILESS:
            body = await start_of(response, most=_ERROR_BODY, seconds=self._bounds.error_body_seconds)
            raise error_from_status(response.status, response.headers, body, now=time.time(), endpoint=endpoint)

    async def close(self) -> None:
        await self._session.close()
        await self._fresh.close()

    async def _send(
        self, method: str, url: str, target: Target, body: bytes, accept: str, span: AttemptSpan | None
    ) -> aiohttp.ClientResponse:
        options = self._options(target.upstream, _connecting(target.timeouts.connect), accept)
        if span is not None:
            options["headers"] |= span.headers
        opening = connections.Opening()
        token = connections.opening.set(opening)
        sent_at = time.monotonic()
        try:
            return await self._session.request(method, url, data=_payload(body) or None, **options)
        except aiohttp.ClientConnectorError:  # there was no connection to be used again
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if opening.has_begun or has_begun(error) or time.monotonic() - sent_at > self._bounds.stale_seconds:
                raise
        finally:
            connections.opening.reset(token)
        return await self._fresh.request(method, url, data=_payload(body) or None, **options)

    def _headers_for(self, upstream: Upstream) -> Mapping[str, str]:
        """The fields for every request. After a reload, another upstream may have the name."""
        known, headers = self._headers.get(upstream.name, (None, {}))
        if known is not upstream:
            headers = _headers(upstream)
            self._headers[upstream.name] = upstream, headers
        return headers

    def _options(self, upstream: Upstream, timeout: aiohttp.ClientTimeout, accept: str) -> dict[str, Any]:
        return {
            "headers": {hdrs.ACCEPT: accept, **self._headers_for(upstream)},
            "timeout": timeout,
            "ssl": True if upstream.ca_file is None else self._ssl[upstream.ca_file],
            "proxy": upstream.proxy,
            "allow_redirects": False,
        }


@lru_cache(maxsize=64)  # as many as there are different timeouts in a configuration
def _connecting(seconds: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, connect=seconds)


def _url(upstream: Upstream, path: str) -> str:
    return upstream.base_url.rstrip("/") + path


def _headers(upstream: Upstream) -> Mapping[str, str]:
    """aiohttp makes other names than its own anew for each request, and holds them as long as its response."""
    headers: dict[str, str] = {
        hdrs.ACCEPT_ENCODING: "identity",
        hdrs.CONTENT_TYPE: "application/json",
        hdrs.USER_AGENT: f"gateway/{__version__}",
    }
    if upstream.dialect is Dialect.ANTHROPIC:
        headers["anthropic-version"] = _ANTHROPIC_VERSION
        if upstream.api_key is not None:
            headers["x-api-key"] = upstream.api_key.reveal()
    elif upstream.api_key is not None:
        headers[hdrs.AUTHORIZATION] = f"Bearer {upstream.api_key.reveal()}"
    return headers | {name: secret.reveal() for name, secret in upstream.headers.items()}


def _payload(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) < _LARGE_BODY else io.BytesIO(body)
