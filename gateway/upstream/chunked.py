"""The chunked transfer coding of a message body: https://www.rfc-editor.org/rfc/rfc9112#section-7.1

It knows one whole chunk only. Anything else is for aiohttp's parser: several chunks, a half, the last one, a fault.
"""


def whole_chunk(data: bytes) -> bytes:
    """The content of `data` where it is one whole chunk, and not the last; else `b""`. Nearly every read is one."""
    size, _, rest = data.partition(b"\r\n")
    if rest[-2:] == b"\r\n" and size.lower() == b"%x" % (len(rest) - 2):
        return rest[:-2]
    return b""
