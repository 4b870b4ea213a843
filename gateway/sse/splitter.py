"""Bytes in, complete lines out, as the event-stream format ends them: LF, CR or CRLF, in any mix.

Three things make this more than a call of `splitlines`:

- A CR ends its line *now*; whether an LF follows is known only with the next bytes, and waiting for those would hold
  an event back until the next one. So the LF is swallowed when and if it comes.
- A line that is not finished is held in one growing buffer and joined once. Searching it again with every read, or
  `+=` on bytes, would make a peer that sends one byte at a time cost quadratic time.
- A comment may be endless (some providers send nothing else for minutes), so an unfinished one is thrown away as it
  arrives. A finished one is passed on; it is the parser that knows what to do with lines.

`bytes.splitlines` knows just these three line ends. (`str.splitlines` would also split at U+2028, U+0085, form feed.)
"""

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = (b"\n", b"\r")


class LineSplitter:
    """Feed it reads, take lines without their ends. It holds at most one unfinished line; the parser bounds it."""

    __slots__ = ("_at_start", "_comment", "_held", "_skip_lf")

    def __init__(self) -> None:
        self._held = bytearray()  # the line that has begun and not ended
        self._comment = False  # is that line a comment, and so not held?
        self._skip_lf = False  # did the last read end with a CR, so that an LF now belongs to it?
        self._at_start = True  # could the next bytes be (the rest of) a byte-order mark?

    @property
    def held(self) -> int:
        """Bytes of the unfinished line."""
        return len(self._held)

    @property
    def is_between_lines(self) -> bool:
        """Would the next bytes begin a line, whatever they are?"""
        return not (self._held or self._comment or self._skip_lf or self._at_start)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes."""
        if self._at_start:
            chunk = self._without_bom(chunk)
        if self._skip_lf and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._skip_lf = False
        if not chunk:
            return []
        self._skip_lf = chunk.endswith(b"\r")
        lines = chunk.splitlines()
        tail = b"" if chunk.endswith(_LINE_ENDS) else lines.pop()
        if lines and (self._held or self._comment):
            self._complete(lines)
        if tail:
            self._hold(tail)
        return lines

    def _complete(self, lines: list[bytes]) -> None:
        if self._comment:
            self._comment = False
            del lines[0]
        else:
            lines[0] = bytes(self._held) + lines[0]
            self._held.clear()

    def _hold(self, tail: bytes) -> None:
        if not self._held and tail.startswith(b":"):
            self._comment = True
        if not self._comment:
            self._held += tail

    def _without_bom(self, chunk: bytes) -> bytes:
        """One mark at the very start is not text; its three bytes may come in three reads."""
        chunk = bytes(self._held) + chunk
        self._held.clear()
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._held += chunk
            return b""
        self._at_start = False
        return chunk.removeprefix(_BOM)
