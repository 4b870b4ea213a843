"""The only place that talks to upstreams: one POST, its response as reads of bytes, foreign errors translated once.

Decisions, and what made them necessary:

- `total` is never aiohttp's: its default of 300 s cuts long answers. The connection phase cannot be seen from outside
  of the library, so its timer is used for that phase; the generation's watchdog keeps all other time.
- Redirects are not followed: they would send the prompt and the key to wherever the other side says.
- An identity encoding is asked for, since compression holds events back. gzip and deflate are decoded as they come,
  by a decoder that caps its output; what else a server sends regardless is an error.
- A pooled connection may have been closed just as it is used again. That is asked once more on a new connection, but
  only if no byte of a response came: else the upstream may have begun to work, and to charge.
- Nothing bounds the number of connections here: each belongs to a stream, and those are bounded at admission.
"""

import asyncio
import io
import logging
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import msgspec

from gateway import __version__
from gateway.config import Upstream
from gateway.dialects.status import error_from_status
from gateway.errors import (
    ConnectTimeout,
    GatewayError,
    UpstreamError,
    UpstreamIncomplete,
    UpstreamMisconfigured,
    UpstreamUnreachable,
)
from gateway.redaction import tell
from gateway.routing import Target

logger = logging.getLogger(__name__)

_ERROR_BODY = 65_536  # bytes read of an error's body: its message is looked for there, nothing else
_ERROR_BODY_SECONDS = 2.0  # for it to arrive; without it, the status says enough
_MODELS_BODY = 4_194_304  # bytes of a list of models: OpenRouter's, the longest, has about one million
_MODELS_SECONDS = 10.0  # for it to come
_TAIL_SECONDS = 0.1  # how long the end of a finished response may take, so that its connection can be used again
_LARGE_BODY = 1_048_576  # from here on aiohttp warns about bytes and wants a file
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})


class UpstreamResponse:
    """A response with status 200 that is being read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._content = response.content
        self._closed: asyncio.Future[None] | None = None
        if response.connection is not None and response.connection.protocol is not None:
            self._closed = response.connection.protocol.closed
        if self._closed is not None:
            self._closed.add_done_callback(self._on_closed)

    @property
    def is_json(self) -> bool:
        """Is this one JSON body rather than a stream of events?"""
        kind = self._response.content_type
        return kind == "application/json" or kind.endswith("+json")

    async def read(self) -> bytes:
        """What has arrived since the last read, at least a byte; `b""` at the end.

        Raises UpstreamIncomplete when the body breaks off.
        """
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamIncomplete() from error

    def abort(self) -> None:
        """Closes the connection at once: the upstream need not go on."""
        self._forget_connection()
        self._response.close()

    async def finish(self) -> None:
        """Puts the connection back for the next request if the response ends within moments, else closes it.

        An upstream usually sends the end of its response right behind `[DONE]`. Waiting that long saves the next stream
        a TCP and TLS handshake; nobody waits for it meanwhile, since the stream's own end was told before.
        """
        try:
            async with asyncio.timeout(_TAIL_SECONDS):
                while not self._content.at_eof():
                    await self._content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        finally:
            self._forget_connection()
            self._response.close()  # does nothing to a connection that has been put back

    def _on_closed(self, closed: asyncio.Future[None]) -> None:
        """Ends a read that would wait for ever.

        When a chunk is malformed in the middle of a body, aiohttp (3.14, its C parser) closes the connection and tells
        the reader nothing; so whoever reads is told here that the connection is gone.
        """
        _look_at(closed)
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("the body broke off"))

    def _forget_connection(self) -> None:
        if self._closed is not None:
            self._closed.remove_done_callback(self._on_closed)  # the next response on it is not ours
            self._closed.remove_done_callback(_look_at)  # that of the response before
            self._closed.add_done_callback(_look_at)


def _look_at(closed: asyncio.Future[None]) -> None:
    """A connection that is reset after its response was put away: without this, asyncio logs that nobody looked."""
    if not closed.cancelled():
        closed.exception()


class UpstreamClient:
    """Posts to upstreams. One per process; `close` it."""

    def __init__(self, upstreams: Sequence[Upstream]) -> None:
        """Raises OSError where a `ca_file` cannot be read (ssl.SSLError where it holds no certificate)."""
        self._ssl = {u.name: ssl.create_default_context(cafile=u.ca_file) if u.ca_file else True for u in upstreams}
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = _session(aiohttp.TCPConnector(limit=0), trace)
        self._fresh = _session(aiohttp.TCPConnector(limit=0, force_close=True), trace)  # pools nothing
        self._headers = {u.name: _headers(u) for u in upstreams}

    async def open(self, target: Target, body: bytes, *, accept: str = "text/event-stream") -> UpstreamResponse:
        """Posts `body` to the target's chat completions and returns its response with status 200.

        Raises an UpstreamError that says what went wrong, or what the upstream answered instead.
        """
        with _translated():
            response = await self._post(target, body, accept)
        try:
            await _check(response)
        except BaseException:
            response.close()
            raise
        return UpstreamResponse(response)

    async def models(self, upstream: Upstream) -> list[dict[str, Any]]:
        """The objects of the upstream's own list of models. Raises a GatewayError."""
        try:
            return await self._models(upstream)
        except GatewayError as error:
            logger.warning("models of upstream %s: %s", upstream.name, tell(error, upstream))
            raise

    async def _models(self, upstream: Upstream) -> list[dict[str, Any]]:
        options = self._options(upstream, aiohttp.ClientTimeout(total=_MODELS_SECONDS), "application/json")
        with _translated():
            connection = SimpleNamespace(reused=False)
            async with self._session.get(
                _url(upstream, "/models"), trace_request_ctx=connection, **options
            ) as response:
                body = await _start_of(response, most=_MODELS_BODY, seconds=_MODELS_SECONDS)
                if response.status != 200:
                    raise error_from_status(response.status, response.headers, body)
        try:
            return msgspec.json.decode(body, type=_ModelList).data
        except (ValueError, RecursionError) as error:
            raise UpstreamError("The model's server did not say which models it has.") from error

    async def close(self) -> None:
        await self._session.close()
        await self._fresh.close()

    async def _post(self, target: Target, body: bytes, accept: str) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(total=None, connect=target.timeouts.connect)
        options = self._options(target.upstream, timeout, accept)
        url = _url(target.upstream, "/chat/completions")
        connection = SimpleNamespace(reused=False)
        try:
            return await self._session.post(url, data=_payload(body), trace_request_ctx=connection, **options)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if not connection.reused or _has_begun(error):
                raise
        return await self._fresh.post(url, data=_payload(body), trace_request_ctx=connection, **options)

    def _options(self, upstream: Upstream, timeout: aiohttp.ClientTimeout, accept: str) -> dict[str, Any]:
        return {
            "headers": {"Accept": accept, **self._headers[upstream.name]},
            "timeout": timeout,
            "ssl": self._ssl[upstream.name],
            "proxy": upstream.proxy,
            "allow_redirects": False,
        }


class _ModelList(msgspec.Struct):
    data: list[dict[str, Any]]


@contextmanager
def _translated() -> Iterator[None]:
    """Foreign errors of a request that got no response, as ours."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise ConnectTimeout() from error
    except aiohttp.ClientResponseError as error:  # what came is not HTTP, or in an encoding that nobody knows
        raise UpstreamError(note="what it answered cannot be read") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise UpstreamUnreachable(note=_reason(error)) from error


def _url(upstream: Upstream, path: str) -> str:
    return upstream.base_url.rstrip("/") + path


def _has_begun(error: aiohttp.ClientError) -> bool:
    """Had part of a response arrived? Then the error holds it, where else it holds words."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)


def _session(connector: aiohttp.TCPConnector, trace: aiohttp.TraceConfig) -> aiohttp.ClientSession:
    jar = aiohttp.DummyCookieJar()  # one caller's cookies are not the next one's
    return aiohttp.ClientSession(connector=connector, cookie_jar=jar, trace_configs=[trace])


async def _note_reuse(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    context.trace_request_ctx.reused = True


def _headers(upstream: Upstream) -> Mapping[str, str]:
    headers = {
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": f"gateway/{__version__}",
    }
    if upstream.api_key is not None:
        headers["Authorization"] = f"Bearer {upstream.api_key.reveal()}"
    return headers | {name: secret.reveal() for name, secret in upstream.headers.items()}


def _payload(body: bytes) -> bytes | io.BytesIO:
    return body if len(body) < _LARGE_BODY else io.BytesIO(body)


def _reason(error: Exception) -> str:
    """What the system says of it, where it says something: `ClientConnectorError: Connection refused`."""
    words = getattr(error, "strerror", None)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raises unless the response may be an answer."""
    if response.status != 200:
        raise error_from_status(response.status, response.headers, await _start_of(response))
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise UpstreamMisconfigured("The model's server sent an encoding that nobody asked for.", note=repr(encoding))
    if response.content_type in ("text/html", "application/xhtml+xml"):
        raise UpstreamMisconfigured(
            "The model's server answered with a web page. The operator has to look at its `base_url`."
        )


async def _start_of(
    response: aiohttp.ClientResponse, *, most: int = _ERROR_BODY, seconds: float = _ERROR_BODY_SECONDS
) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while size < most and (part := await response.content.readany()):
                parts.append(part)
                size += len(part)
    except (aiohttp.ClientError, OSError):
        pass  # its status says enough
    return b"".join(parts)
