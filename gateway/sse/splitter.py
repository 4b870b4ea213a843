"""Splits an event stream into lines: bytes in, complete lines out. A line ends with LF, CR or CRLF, in any mix.

A call of `splitlines` is not enough, for three reasons:

- A CR ends its line at once. Only the next bytes show whether an LF follows. To wait for them would delay an event
  until the next one. So an LF is dropped if it follows a CR at the end of a read.
- An unfinished line is held in one growing buffer and joined once. To search it again at every read, or to use `+=` on
  bytes, would take quadratic time for a peer that sends one byte at a time.
- A comment may be endless (some providers send nothing else for minutes), so an unfinished comment is dropped as it
  arrives. A finished one is passed on, and the parser ignores it.

`bytes.splitlines` splits at exactly these three line ends. (`str.splitlines` also splits at U+2028, U+0085 and others.)
"""

_BOM = b"\xef\xbb\xbf"
_LINE_ENDS = (b"\n", b"\r")


class LineSplitter:
    """Takes reads and returns lines without their ends. It holds at most one unfinished line; the parser bounds it."""

    __slots__ = ("_comment", "_held", "_skip_lf", "at_start")

    def __init__(self) -> None:
        self._held = bytearray()  # the unfinished line
        self._comment = False  # the unfinished line is a comment and is not held
        self._skip_lf = False  # the last read ended with a CR, so a first LF belongs to it
        self.at_start = True  # the next bytes may be a byte-order mark, or its rest

    @property
    def held(self) -> int:
        """Bytes of the unfinished line."""
        return len(self._held)

    @property
    def is_between_lines(self) -> bool:
        """Whether the next bytes begin a new line in any case."""
        return not (self._held or self._comment or self._skip_lf or self.at_start)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes."""
        if self.at_start:
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
        """Removes a byte-order mark at the start of the stream. Its three bytes may come in three reads."""
        chunk = bytes(self._held) + chunk
        self._held.clear()
        if len(chunk) < len(_BOM) and _BOM.startswith(chunk):
            self._held += chunk
            return b""
        self.at_start = False
        return chunk.removeprefix(_BOM)
