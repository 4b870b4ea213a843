"""Sessions of aiohttp, and whether a request opened a connection of its own."""

import socket
from contextvars import ContextVar
from typing import Any

import aiohttp

_LONGEST_FIELD = 65_536  # bytes of a header field, as on the server's side; policies and cookies of 20 KB were seen
_MOST_FIELDS = 512  # 300 were seen; with the bound of each, a header takes at most 32 MiB


def pooling() -> aiohttp.ClientSession:
    """A session that uses connections again."""
    return _session(_Pool(limit=0, socket_factory=_note_opening))


def fresh() -> aiohttp.ClientSession:
    """A session that opens a connection for each request."""
    return _session(aiohttp.TCPConnector(limit=0, force_close=True))


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


class Opening:
    """Whether a connection of its own has been begun for a request. Else it is sent on one that another has used."""

    __slots__ = ("has_begun",)  # the context of a connection holds it

    def __init__(self) -> None:
        self.has_begun = False


opening: ContextVar[Opening] = ContextVar("opening")
"""That of the request which is being sent."""


class _Pool(aiohttp.TCPConnector):
    """Drops a connection on which something came while it rested.

    aiohttp would take a response that nobody asked for as the one to the next request, which may be another caller's.
    """

    async def connect(self, *request: Any, **options: Any) -> Any:
        """Raises ServerDisconnectedError, as for a connection that the server has closed."""
        connection = await super().connect(*request, **options)
        found = opening.get(None)
        is_new = found is not None and found.has_begun
        if getattr(connection.protocol, "should_close", False) and not is_new:
            connection.close()
            raise aiohttp.ServerDisconnectedError()
        return connection


def _note_opening(address: aiohttp.AddrInfoType) -> socket.socket:
    """Called for each attempt, in the request's context or in a copy of it."""
    if (found := opening.get(None)) is not None:
        found.has_begun = True
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)
