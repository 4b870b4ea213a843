"""A whole answer as one message: https://platform.claude.com/docs/en/api/messages"""

import msgspec

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError
from gateway.messages.blocks import Blocks
from gateway.messages.head import TRUNCATED, Head, Object, stop_reason
from gateway.upstream.dialects.tool_calls import input_of


class _Content:
    """Collects the blocks."""

    def __init__(self) -> None:
        self.blocks: list[Object] = []
        self._texts: list[str] = []

    def begin(self, block: Object) -> None:
        self.blocks.append(dict(block))

    def add(self, text: str) -> None:
        self._texts.append(text)

    def sign(self, signature: str) -> None:
        self.blocks[-1]["signature"] = signature

    def end(self) -> None:
        block, text = self.blocks[-1], "".join(self._texts)
        self._texts.clear()
        match block["type"]:
            case "tool_use":
                block["input"] = _input(text)
            case "text" | "thinking" as name:  # as its field is called, too
                block[name] = text


class WholeMessage:
    """The message of a complete answer, whose entries are to be added in order."""

    def __init__(self, stream_id: str, head: Head) -> None:
        self._stream_id = stream_id
        self._head = head
        self._content = _Content()
        self._blocks = Blocks(self._content, stream_id, shows_thinking=head.shows_thinking, most=head.most)
        self._end: Object = {}

    def add(self, entry: Entry) -> None:
        """Raises UpstreamError or AnswerTooLarge."""
        if entry.kind is self._blocks.kind:  # nearly always
            self._blocks.said += len(entry.payload)
            self._content.add(entry.payload.decode())
        elif entry.kind is Kind.END:
            self._end = msgspec.json.decode(entry.payload)
        else:
            self._blocks.add(entry)

    def value(self) -> Object:
        """Raises UpstreamError."""
        blocks = self._blocks
        blocks.end()
        reason = stop_reason(self._end.get("finish_reason"), blocks)
        if reason not in TRUNCATED:
            blocks.check()
        usage = self._head.usage(self._end, blocks)
        return self._head.message(self._stream_id, content=self._content.blocks, stop_reason=reason, usage=usage)


def _input(arguments: str) -> msgspec.Raw | Object:
    """In an answer that was cut at its largest size, the last arguments may be half, which is no object."""
    try:
        return input_of(arguments)
    except UpstreamError:
        return {}
