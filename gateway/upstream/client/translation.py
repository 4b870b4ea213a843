"""Foreign errors of a request that got no response, translated into the gateway's own."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from gateway.config import Upstream
from gateway.errors import ConnectTimeout, OutOfDescriptors, Timeout, UpstreamUnreachable
from gateway.upstream.dialects.status import speaks_tls
from gateway.upstream.redaction import redact
from gateway.upstream.unreachable import from_os, from_proxy, not_http, place_of, refused_by_proxy, without_a_word

logger = logging.getLogger(__name__)

_TLS_ALERT = r"\x15\x03"  # the first bytes of one, as aiohttp quotes what is not HTTP


@contextmanager
def translated(upstream: Upstream) -> Iterator[None]:
    """Raises foreign errors as errors of the gateway."""
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


def has_begun(error: aiohttp.ClientError) -> bool:
    """Whether part of a response had arrived. Then the error holds that part, and otherwise words."""
    return isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
