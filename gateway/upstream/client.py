"""The only place that talks to upstreams: one POST, its response as reads of bytes, foreign errors translated once.

Decisions, and what made them necessary:

- `total` is never aiohttp's: its default of 300 s cuts long answers. The connection phase cannot be seen from outside
  of the library, so its timer is used for that phase; the generation's watchdog keeps all other time.
- Redirects are not followed: they would send the prompt and the key to wherever the other side says.
- The gateway asks for no content coding, since compression holds events back. Where a server compresses regardless,
  `codings` decodes the body in pieces; aiohttp's own decoder does not know `x-gzip`.
- A pooled connection may have been closed just as it is used again. That is asked once more on a new connection, but
  only if no byte of a response came: else the upstream may have begun to work, and to charge.
- Nothing bounds the number of connections here: each belongs to a stream, and those are bounded at admission.
"""

import asyncio
import io
import logging
import socket
import ssl
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp

from gateway import __version__
from gateway.bounds import DEFAULT_BOUNDS, Bounds
from gateway.config import Upstream
from gateway.errors import (
    ConnectTimeout,
    GatewayError,
    OutOfDescriptors,
    Timeout,
    UpstreamIncomplete,
    UpstreamMisconfigured,
    UpstreamUnreachable,
)
from gateway.upstream.codings import inflater_for
from gateway.upstream.dialects.listing import ModelFields, models_in
from gateway.upstream.dialects.status import error_from_status, speaks_tls
from gateway.upstream.redaction import redact
from gateway.upstream.routing import Target
from gateway.upstream.shapes import Shape, is_told, shape_of, stripped
from gateway.upstream.tap import Take, Tap, collecting, fits
from gateway.upstream.unreachable import from_os, from_proxy, not_http, place_of, refused_by_proxy, without_a_word

logger = logging.getLogger(__name__)

_ERROR_BODY = 65_536  # bytes read of an error's body: its message is looked for there, nothing else
_MODELS_BODY = 4_194_304  # bytes of a list of models: OpenRouter's, the longest, has about one million
_TAIL_SECONDS = 0.1  # how long the end of a finished response may take, so that its connection can be used again
_LARGE_BODY = 1_048_576  # from here on aiohttp warns about bytes and wants a file
_LONGEST_FIELD = 65_536  # bytes of a header field, as on the server's side; policies and cookies of 20 KB were seen
_MOST_FIELDS = 512  # 300 were seen; with the bound of each, a header takes at most 32 MiB
_TLS_ALERT = r"\x15\x03"  # the first bytes of one, as aiohttp quotes what is not HTTP
_BODILESS = frozenset({204, 205})  # of the 2xx: RFC 9110, sections 15.3.5 and 15.3.6
_Collecting = collecting(aiohttp.StreamReader)


def can_push() -> bool:
    """Has aiohttp the names by which reads are pushed? Else they are pulled."""
    handler = getattr(getattr(aiohttp, "client_proto", None), "ResponseHandler", object)
    return fits(handler, aiohttp.StreamReader)


_PUSHES = can_push()


class UpstreamResponse:
    """A response whose body is being read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        """Raises UpstreamMisconfigured for a content coding that cannot be decoded."""
        self._inflater = inflater_for(response.headers.getall("Content-Encoding", ()))
        self._response = response
        self._content = response.content
        protocol = getattr(response.connection, "protocol", None)
        self._closed: asyncio.Future[None] | None = getattr(protocol, "closed", None)
        if self._closed is not None:
            self._closed.add_done_callback(self._on_closed)

    async def begin(self) -> tuple[Shape, bytes]:
        """The shape of the body, and its first bytes. Without any, the response is an error unless its status is 200.

        White space before them is dropped: DeepSeek keeps a connection open with empty lines. So none is held, and
        the time limits of the stream bound the wait. Raises UpstreamError.
        """
        start = b""
        while not is_told(start) and (chunk := await self.read()):
            start = stripped(start + chunk)
        if not start and self._response.status != 200:
            raise error_from_status(self._response.status, self._response.headers, b"")
        shape = shape_of(start, self._response.content_type)
        if shape is Shape.PAGE:
            raise UpstreamMisconfigured(
                "The model's server answered with a web page. The operator has to look at its `base_url`."
            )
        return shape, start

    async def read(self) -> bytes:
        """The bytes that have arrived since the last read, at least one; `b""` at the end.

        Raises UpstreamIncomplete when the body breaks off.
        """
        try:
            if self._inflater is not None:
                return await self._inflater.read(self._content.readany)
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamIncomplete() from error

    def feed(self, take: Take) -> Coroutine[Any, Any, bool]:
        """Calls `take` with each read of the rest of the body. True where it said stop, False where the body has ended.

        Reads are pushed, from within the event loop's own callback, where they can be; a body with a content coding is
        decoded piece by piece, and pulled. After a stop nothing is read: aiohttp's buffer fills, and TCP slows the
        upstream down. Raises UpstreamIncomplete when the body breaks off, and what `take` raises.
        """
        return self._push(take) if self._inflater is None and _PUSHES else self._pull(take)

    async def _pull(self, take: Take) -> bool:
        while chunk := await self.read():
            if take(chunk):
                return True
        return False

    async def _push(self, take: Take) -> bool:
        tap, connection = Tap(self._content, take), self._response.connection
        try:
            if connection is None:  # it is lost, or put back
                tap.open(None, None, _Collecting)
            else:
                tap.open(connection.protocol, connection.transport, _Collecting)
            return await tap.over
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamIncomplete() from error
        finally:
            tap.close()

    async def start_of(self, *, most: int, seconds: float) -> bytes:
        """As much of the body as comes in time, until there are `most` bytes of it; less where it breaks off."""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while size < most and (part := await self.read()):
                    parts.append(part)
                    size += len(part)
        except (UpstreamIncomplete, TimeoutError):
            pass
        return b"".join(parts)

    def abort(self) -> None:
        """Closes the connection at once: the upstream need not go on."""
        self.let_go()
        self._response.close()

    async def finish(self) -> None:
        """Puts the connection back for the next request if the response ends within moments, else closes it.

        An upstream usually sends the end of its response right behind `[DONE]`. Waiting that long saves the next stream
        a TCP and TLS handshake; nobody waits for it meanwhile, since the stream's own end was told before.
        """
        try:
            if not self._content.at_eof():  # the time limit alone costs a hundredth of a short stream
                async with asyncio.timeout(_TAIL_SECONDS):
                    while not self._content.at_eof():
                        await self._content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        finally:
            self.let_go()
            self._response.close()  # does nothing to a connection that has been put back

    def _on_closed(self, closed: asyncio.Future[None]) -> None:
        """Ends a read that would wait for ever.

        When a chunk is malformed in the middle of a body, aiohttp (3.14, its C parser) closes the connection and tells
        the reader nothing; so whoever reads is told here that the connection is gone.
        """
        _look_at(closed)
        if not self._content.is_eof() and self._content.exception() is None:
            self._content.set_exception(aiohttp.ClientPayloadError("the body broke off"))

    def let_go(self) -> None:
        """The connection is somebody else's from now on, or nobody's."""
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

    def __init__(self, upstreams: Sequence[Upstream], bounds: Bounds = DEFAULT_BOUNDS) -> None:
        """Raises OSError where a `ca_file` cannot be read (ssl.SSLError where it holds no certificate)."""
        self._ssl = {u.name: ssl.create_default_context(cafile=u.ca_file) if u.ca_file else True for u in upstreams}
        self._session = _session(aiohttp.TCPConnector(limit=0, socket_factory=_note_opening))
        self._fresh = _session(aiohttp.TCPConnector(limit=0, force_close=True))  # pools nothing
        self._bounds = bounds
        self._headers = {u.name: _headers(u) for u in upstreams}

    async def open(self, target: Target, body: bytes, *, accept: str = "text/event-stream") -> UpstreamResponse:
        """Posts `body` to the target's chat completions and returns its response, whose status is a 2xx.

        Raises an UpstreamError that says what went wrong, or what the upstream answered instead.
        """
        with _translated(target.upstream):
            response = await self._post(target, body, accept)
        try:
            await self._check(response)
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
        with _translated(upstream):
            async with self._session.get(_url(upstream, "/models"), **options) as response:
                await self._check(response)
                body = await _start_of(response, most=_MODELS_BODY, seconds=seconds)
        return models_in(body)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raises unless the response may be an answer."""
        if not 200 <= response.status < 300 or response.status in _BODILESS:
            body = await _start_of(response, most=_ERROR_BODY, seconds=self._bounds.error_body_seconds)
            raise error_from_status(response.status, response.headers, body)

    async def close(self) -> None:
        await self._session.close()
        await self._fresh.close()

    async def _post(self, target: Target, body: bytes, accept: str) -> aiohttp.ClientResponse:
        timeout = aiohttp.ClientTimeout(total=None, connect=target.timeouts.connect)
        options = self._options(target.upstream, timeout, accept)
        url = _url(target.upstream, "/chat/completions")
        opening = _Opening()
        token = _opening.set(opening)
        try:
            return await self._session.post(url, data=_payload(body), **options)
        except aiohttp.ClientConnectorError:  # there was no connection to be used again
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if opening.has_begun or _has_begun(error):
                raise
        finally:
            _opening.reset(token)
        return await self._fresh.post(url, data=_payload(body), **options)

    def _options(self, upstream: Upstream, timeout: aiohttp.ClientTimeout, accept: str) -> dict[str, Any]:
        return {
            "headers": {"Accept": accept, **self._headers[upstream.name]},
            "timeout": timeout,
            "ssl": self._ssl[upstream.name],
            "proxy": upstream.proxy,
            "allow_redirects": False,
        }


@contextmanager
def _translated(upstream: Upstream) -> Iterator[None]:
    """Foreign errors of a request that got no response, as ours."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise ConnectTimeout() from error
    except TimeoutError as error:
        raise Timeout() from error
    except aiohttp.ClientHttpProxyError as error:
        raise refused_by_proxy(error.status) from error
    except aiohttp.ClientResponseError as error:  # the response is not HTTP, or its header is too large
        if _TLS_ALERT in error.message:
            raise speaks_tls() from error
        raise not_http() from error
    except aiohttp.ServerDisconnectedError as error:
        raise without_a_word(type(error).__name__, upstream.base_url) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        cause = _cause(error)
        if cause is None:
            raise UpstreamUnreachable(note=type(error).__name__) from error
        if upstream.proxy is not None and _place(error) == place_of(upstream.proxy):
            failure = from_proxy(cause, upstream.proxy)
        else:
            failure = from_os(cause, upstream.base_url)
        if isinstance(failure, OutOfDescriptors):  # a fault of this side, which nobody else logs
            logger.warning("upstream %s: %s", upstream.name, redact(failure, upstream))
        raise failure from error


def _cause(error: Exception) -> OSError | None:
    """What the system or TLS said, where aiohttp has put it into an error of its own."""
    for cause in (getattr(error, "certificate_error", None), getattr(error, "os_error", None), error):
        if isinstance(cause, OSError):
            return cause
    return None


def _place(error: Exception) -> tuple[str | None, int | None]:
    """The host and port to which no connection was made: those of the proxy, if the upstream has one."""
    return getattr(error, "host", None), getattr(error, "port", None)


def _url(upstream: Upstream, path: str) -> str:
    return upstream.base_url.rstrip("/") + path


def _has_begun(error: aiohttp.ClientError) -> bool:
    """Had part of a response arrived? Then the error holds it, where else it holds words."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    jar = aiohttp.DummyCookieJar()  # one caller's cookies are not the next one's
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=jar,
        auto_decompress=False,
        max_line_size=_LONGEST_FIELD,
        max_field_size=_LONGEST_FIELD,
        max_headers=_MOST_FIELDS,
    )


class _Opening:
    """Has a connection of its own been begun for a request? Else it is sent on one that another has used."""

    has_begun = False


_opening: ContextVar[_Opening] = ContextVar("_opening")


def _note_opening(address: aiohttp.AddrInfoType) -> socket.socket:
    """Called for each attempt, in the request's context or in a copy of it."""
    if (opening := _opening.get(None)) is not None:
        opening.has_begun = True
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)


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


async def _start_of(response: aiohttp.ClientResponse, *, most: int, seconds: float) -> bytes:
    """Nothing where its content coding cannot be decoded."""
    try:
        reading = UpstreamResponse(response)
    except UpstreamMisconfigured:
        return b""
    try:
        return await reading.start_of(most=most, seconds=seconds)
    finally:
        reading.let_go()
