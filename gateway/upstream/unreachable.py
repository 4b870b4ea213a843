"""Turns the errors of the system and of TLS for a failed connection into errors of the gateway. Pure.

Only some of these faults pass by themselves. With "ask again in a moment" for an expired certificate, a caller would
ask again for days. So the message says who has to correct the fault. The log has the system's reason, and the address
of the upstream if that is on this machine.
"""

import errno
import os
import socket
import ssl
from urllib.parse import urlsplit

from gateway.config import is_loopback
from gateway.errors import (
    GatewayError,
    OutOfDescriptors,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamTLS,
    UpstreamUnreachable,
)
from gateway.upstream.tls import certificate_fault, speaks_no_tls

_RETRY_SECONDS = "5"  # by then some connections have probably ended
_OPERATOR = "The operator has to look at it."
_LOOK_AT_PROXY = "The operator has to look at `proxy`."
_PROXY_REFUSALS = frozenset({401, 403, 405, 407})  # a retry does not help
_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_WORDS = {
    errno.ECONNREFUSED: "The model's server does not take connections. It may be starting; "
    "else the operator has to look at it, and at the port in `base_url`.",
}


def from_os(error: OSError, base_url: str) -> GatewayError:
    """The error for a connection that failed in the system or in TLS."""
    note = _note(error, base_url)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return OutOfDescriptors(note=note, headers={"Retry-After": _RETRY_SECONDS})
    if isinstance(error, ssl.SSLError):
        return UpstreamTLS(_tls_words(error), note=note)
    if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_NAME:
        return UpstreamUnreachable(
            "The host in `base_url` of the model's server is not known. The operator has to look at it.", note=note
        )
    return UpstreamUnreachable(_WORDS.get(error.errno or 0), note=note)


def from_proxy(error: OSError, proxy: str) -> GatewayError:
    """The error for a failed connection to the proxy itself."""
    note = _note(error, proxy)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return OutOfDescriptors(note=note, headers={"Retry-After": _RETRY_SECONDS})
    if isinstance(error, ssl.SSLError):
        return UpstreamTLS(f"No secure connection to the proxy can be made. {_LOOK_AT_PROXY}", note=note)
    if isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_NAME:
        return UpstreamUnreachable(f"The host of the proxy is not known. {_LOOK_AT_PROXY}", note=note)
    fault = "does not take connections" if error.errno == errno.ECONNREFUSED else "cannot be reached"
    return UpstreamUnreachable(f"The proxy before the model's server {fault}. {_LOOK_AT_PROXY}", note=note)


def place_of(url: str) -> tuple[str | None, int | None]:
    """The host and the port of a URL. A URL without a port has that of its scheme."""
    parts = urlsplit(url)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def refused_by_proxy(status: int) -> GatewayError:
    """The error for a proxy that answers CONNECT with this status instead of connecting to the upstream."""
    note = f"the proxy answered CONNECT with status {status}"
    if status in _PROXY_REFUSALS:
        words = f"The proxy before the model's server refused the gateway with status {status}. {_LOOK_AT_PROXY}"
        return UpstreamMisconfigured(words, note=note)
    words = f"The proxy did not connect to the model's server: it answered with status {status}. {_LOOK_AT_PROXY}"
    return UpstreamUnreachable(words, note=note)


def not_http() -> UpstreamError:
    """The error for an answer that the HTTP parser refuses. Most often the port belongs to another protocol."""
    return UpstreamError(
        "The model's server did not answer in HTTP, or its header is too large. If that goes on, the operator has to "
        "look at the port in `base_url`.",
        note="it did not answer in HTTP, or its header is too large: is the port in `base_url` right?",
    )


def without_a_word(name: str, base_url: str) -> UpstreamUnreachable:
    """The error for a server that closed the connection without an answer. `name` is that of the exception.

    Most servers that expect TLS do so after a request without TLS.
    """
    note = f"{name}{_place(base_url)}"
    if urlsplit(base_url).scheme == "https":
        return UpstreamUnreachable("The model's server closed the connection. Ask again in a moment.", note=note)
    return UpstreamUnreachable(
        "The model's server closed the connection without an answer. If that goes on, the operator has to look at it: "
        "a server that speaks TLS needs https in `base_url`.",
        note=f"{note}; does `base_url` need https?",
    )


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = certificate_fault(error, place="`base_url`", option="`ca_file`")
        return f"The certificate of the model's server {fault}. {_OPERATOR}"
    if speaks_no_tls(error):
        return f"The model's server does not speak TLS at this port: does `base_url` need http? {_OPERATOR}"
    return f"No secure connection to the model's server can be made. {_OPERATOR}"


def _note(error: OSError, base_url: str) -> str:
    """The note for the log: the system's reason without the addresses that libraries add to it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = f"the certificate is not accepted: {getattr(error, 'verify_message', '')}"
    elif isinstance(error, ssl.SSLError):
        said = f"TLS: {getattr(error, 'reason', None)}"
    elif isinstance(error, socket.gaierror):
        said = str(error.strerror)
    else:
        said = os.strerror(error.errno) if error.errno else ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        said = f"{errno.errorcode[error.errno]}: {said}"
    return f"{type(error).__name__}: {said}{_place(base_url)}" if said else f"{type(error).__name__}{_place(base_url)}"


def _place(base_url: str) -> str:
    """The host and port, if they are on this machine, where they are no secret. Never a user name or a password."""
    parts = urlsplit(base_url)
    return f" at {parts.netloc.rpartition('@')[2]}" if is_loopback(parts.hostname or "") else ""
