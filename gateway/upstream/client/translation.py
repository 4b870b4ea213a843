"""Foreign errors of a request that got no response, translated into the gateway's own."""

import logging

import aiohttp

from gateway.config import Upstream
from gateway.errors import ConnectTimeout, GatewayError, OutOfDescriptors, Timeout, UpstreamUnreachable
from gateway.upstream.dialects.status import speaks_tls
from gateway.upstream.redaction import redact
from gateway.upstream.unreachable import from_os, from_proxy, not_http, place_of, refused_by_proxy, without_a_word

logger = logging.getLogger(__name__)

_TLS_ALERT = r"\x15\x03"  # the first bytes of one, as aiohttp quotes what is not HTTP


FOREIGN = (aiohttp.ClientError, OSError, ValueError)
"""What a request may raise. A time limit is an OSError."""


def translated(error: Exception, upstream: Upstream) -> GatewayError:
    """The gateway's own error for one of FOREIGN."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return ConnectTimeout()
        case TimeoutError():
            return Timeout()
        case aiohttp.ClientHttpProxyError():
            return refused_by_proxy(error.status)
        case aiohttp.ClientResponseError():  # the response is not HTTP, or its header is too large
            return speaks_tls() if _TLS_ALERT in error.message else not_http()
        case aiohttp.ServerDisconnectedError():
            return without_a_word(type(error).__name__, upstream.base_url)
    cause = _cause(error)
    if cause is None:
        return UpstreamUnreachable(note=type(error).__name__)
    if upstream.proxy is not None and _place(error) == place_of(upstream.proxy):
        failure = from_proxy(cause, upstream.proxy)
    else:
        failure = from_os(cause, upstream.base_url)
    if isinstance(failure, OutOfDescriptors):  # a fault of this side, which nobody else logs
        logger.warning("upstream %s: %s", upstream.name, redact(failure, upstream))
    return failure


def _cause(error: Exception) -> OSError | None:
    """What the system or TLS said, where aiohttp has put it into an error of its own."""
    for cause in (getattr(error, "certificate_error", None), getattr(error, "os_error", None), error):
        if isinstance(cause, OSError):
            return cause
    return None


def _place(error: Exception) -> tuple[str | None, int | None]:
    """The host and port to which no connection was made: those of the proxy, if the upstream has one."""
    return getattr(error, "host", None), getattr(error, "port", None)


def has_begun(error: aiohttp.ClientError) -> bool:
    """Whether part of a response had arrived. Then the error holds that part, and otherwise words."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
