"""A whole answer as one message: https://platform.claude.com/docs/en/api/messages"""

from collections.abc import Iterable

import msgspec

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError
from gateway.messages.blocks import Blocks
from gateway.messages.head import TRUNCATED, Head, Object, stop_reason
from gateway.upstream.dialects.tool_calls import input_of

_FIELDS = {"text": "text", "thinking": "thinking"}


class _Content:
    """Collects the blocks."""

    def __init__(self) -> None:
        self.blocks: list[Object] = []
        self._texts: list[str] = []

    def begin(self, block: Object) -> None:
        self.blocks.append(dict(block))

    def add(self, text: str) -> None:
        self._texts.append(text)

    def end(self) -> None:
        block, text = self.blocks[-1], "".join(self._texts)
        self._texts.clear()
        if block["type"] == "tool_use":
            block["input"] = _input(text)
        else:
            block[_FIELDS[block["type"]]] = text


def whole_message(entries: Iterable[Entry], stream_id: str, head: Head) -> Object:
    """The message of a complete answer. Raises UpstreamError or AnswerTooLarge."""
    content = _Content()
    blocks = Blocks(content, stream_id, shows_thinking=head.shows_thinking, most=head.most)
    end: Object = {}
    for entry in entries:
        if entry.kind is Kind.END:
            end = msgspec.json.decode(entry.payload)
        else:
            blocks.add(entry)
    blocks.end()
    reason = stop_reason(end.get("finish_reason"), blocks)
    if reason not in TRUNCATED:
        blocks.check()
    return head.message(stream_id, content=content.blocks, stop_reason=reason, usage=head.usage(end, blocks))


def _input(arguments: str) -> msgspec.Raw | Object:
    """In an answer that was cut at its largest size, the last arguments may be half, which is no object."""
    try:
        return input_of(arguments)
    except UpstreamError:
        return {}
