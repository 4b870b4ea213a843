"""What a delta says: the bytes of its content, whether they belong to an answer, and whether they continue it.

The names of its fields, and what providers send in place of them, are read in `chunks`; `halves` has those of texts.
"""

import msgspec

from gateway.upstream.dialects.chunks import Delta, as_raw
from gateway.upstream.dialects.extras import are_answer
from gateway.upstream.dialects.tool_calls import is_empty


def size(delta: Delta) -> int:
    """The bytes of all content of a delta."""
    texts = (delta.content, delta.reasoning_content or delta.reasoning, delta.refusal)
    counted = sum([len(text.encode()) for text in texts if text])
    if delta.tool_calls:
        counted += sum([len(bytes(call)) for call in delta.tool_calls])
    return counted + (len(as_raw(delta.extra)) if delta.extra else 0)


def answers(delta: Delta) -> bool:
    """Whether the delta contains a part of an answer. Reasoning and remarks such as annotations do not count."""
    said = delta.content or delta.refusal or (delta.tool_calls and objects(delta.tool_calls))
    return bool(said or (delta.extra and are_answer(delta.extra)))


def speaks(delta: Delta) -> bool:
    """Whether the delta continues the answer, so that an earlier finish reason was not the end."""
    calls = objects(delta.tool_calls or [])
    texts = delta.content or delta.reasoning_content or delta.reasoning or delta.refusal
    return bool(texts or not all(map(is_empty, calls)) or (delta.extra and are_answer(delta.extra)))


def objects(values: list[msgspec.Raw]) -> list[bytes]:
    """The values that are objects, as valid UTF-8."""
    found = [data for data in map(bytes, values) if data.startswith(b"{")]
    return [data if data.isascii() else data.decode(errors="replace").encode() for data in found]
