"""Undoes the content coding of an upstream's body (RFC 9110, section 8.4.1) while the body arrives.

The gateway asks for no coding. Some servers use gzip or deflate all the same, so both are decoded. Some servers and
proxies send names that are not codings (`none`, `utf-8`). Such a name means that the body has no coding. A body that is
labelled as gzip and does not begin like gzip passes unchanged, because some proxies decode a body and keep the label.

The output comes in pieces, so that a small body cannot become gigabytes at once.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterable

from gateway.errors import UpstreamIncomplete, UpstreamMisconfigured

_PIECE = 262_144  # bytes of output at once, as in one read of a plain body
_MOST_MEMBERS = 1024  # of a gzip body (RFC 1952, section 2.2); after each, the rest of the input is copied
_GZIP = frozenset({"gzip", "x-gzip"})
DECODED = _GZIP | {"deflate"}
_NOT_DECODED = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})  # in IANA's list of codings
_GZIP_START = 0x1F
_ZLIB = 8  # the low half of the first byte in zlib's format; some servers send bare deflate under the same name


def inflater_for(fields: Iterable[str]) -> "Inflater | None":
    """The decoder for the values of a response's `Content-Encoding` fields. None if there is no coding.

    Raises UpstreamMisconfigured for a coding that cannot be decoded, and for more than one.
    """
    names = [name.strip().lower() for value in fields for name in value.split(",")]
    codings = [name for name in names if name in DECODED or name in _NOT_DECODED]
    if not codings:
        return None
    if len(codings) > 1 or codings[0] in _NOT_DECODED:
        words = "The model's server sent an encoding that nobody asked for. The operator has to turn compression off."
        raise UpstreamMisconfigured(words, note=", ".join(codings))
    return Inflater(gzip=codings[0] in _GZIP)


class Inflater:
    """Decodes one body."""

    def __init__(self, *, gzip: bool, may_be_plain: bool = True) -> None:
        """`may_be_plain`: a body that is labelled as gzip and does not begin like gzip passes unchanged."""
        self._has_more = False  # there may be output before the next read
        self._gzip = gzip
        self._may_be_plain = may_be_plain
        self._plain = False
        self._decoder: zlib._Decompress | None = None
        self._rest = b""  # input that waits for the next piece
        self._members = 0

    async def read(self, source: Callable[[], Awaitable[bytes]]) -> bytes:
        """The next piece of the body, which is `b""` only at its end. `source` returns coded bytes in the same way.

        Raises UpstreamIncomplete if the coded bytes are damaged.
        """
        piece = b""
        while not piece:
            if self._has_more:
                await asyncio.sleep(0)  # a small body may contain gigabytes, and other streams need their turn
                piece = self._decode(self._rest)
            elif data := await source():
                piece = self._feed(data)
            else:
                break
        return piece

    def _feed(self, data: bytes) -> bytes:
        if not self._members and not self._plain:
            self._begin(data[0])
        return data if self._plain else self._decode(data)

    def _begin(self, first: int) -> None:
        self._plain = self._may_be_plain and self._gzip and first != _GZIP_START
        if not self._plain:
            self._next_member(bare=not self._gzip and first & 0xF != _ZLIB)

    def _next_member(self, *, bare: bool = False) -> None:
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise UpstreamIncomplete(note="its gzip body has too many members")
        self._decoder = zlib.decompressobj(zlib.MAX_WBITS + 16 if self._gzip else -zlib.MAX_WBITS if bare else 15)

    def _decode(self, data: bytes) -> bytes:
        decoder = self._decoder
        if decoder is None:
            return b""
        if decoder.eof:
            return self._after_member(data)
        try:
            piece = decoder.decompress(data, _PIECE)
        except zlib.error as error:
            raise UpstreamIncomplete(note="its compressed body is damaged") from error
        self._rest = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        self._has_more = bool(self._rest) or len(piece) == _PIECE
        return piece

    def _after_member(self, data: bytes) -> bytes:
        """Goes on with the next member of a gzip body. Other data after a member are padding, and are ignored."""
        if not self._gzip or not data.startswith(b"\x1f"):
            self._rest, self._has_more = b"", False
            return b""
        self._next_member()
        return self._decode(data)
