"""What Anthropic's server sends, and a gateway's configuration for it."""

import json
from collections.abc import Sequence
from typing import Any

from tests.rig.scripted_upstream import Step, stream

USAGE = {"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 5, "output_tokens": 1}


def event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def start(**fields: object) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-1", "content": []}
    return event("message_start", message={**message, "usage": USAGE, "stop_reason": None, **fields})


PING = event("ping")
STOP = event("message_stop")


def end(reason: str = "end_turn", **usage: int) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage=usage or {"output_tokens": 7})


def begin(index: int, kind: str, **fields: object) -> bytes:
    return event("content_block_start", index=index, content_block={"type": kind, **fields})


def delta(index: int, kind: str, **fields: object) -> bytes:
    return event("content_block_delta", index=index, delta={"type": kind, **fields})


def close(index: int) -> bytes:
    return event("content_block_stop", index=index)


def text(index: int, *parts: str) -> list[bytes]:
    deltas = [delta(index, "text_delta", text=part) for part in parts]
    return [begin(index, "text", text=""), *deltas, close(index)]


def thinking(index: int, *parts: str, signature: str = "c2ln") -> list[bytes]:
    deltas = [delta(index, "thinking_delta", thinking=part) for part in parts]
    signed = delta(index, "signature_delta", signature=signature)
    return [begin(index, "thinking", thinking="", signature=""), *deltas, signed, close(index)]


def tool(index: int, name: str, *parts: str, kind: str = "tool_use") -> list[bytes]:
    deltas = [delta(index, "input_json_delta", partial_json=part) for part in parts]
    return [begin(index, kind, id=f"toolu_{index}", name=name, input={}), *deltas, close(index)]


def message(*blocks: Sequence[bytes], reason: str = "end_turn") -> list[bytes]:
    """The events of a whole message."""
    return [start(), PING, *[one for block in blocks for one in block], end(reason), STOP]


HELLO = message(text(0, "Hel", "lo"))


def answered(events: Sequence[bytes]) -> list[Step]:
    return stream(*events)


def error_body(kind: str, words: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}


def error(kind: str, words: str = "Overloaded") -> bytes:
    return b"event: error\ndata: " + json.dumps(error_body(kind, words)).encode() + b"\n\n"


def configured(url: str, more: str = "") -> str:
    """An upstream of this dialect, as TOML."""
    name = 'name = "claude"\napi_key = "key-of-anthropic-012345"\ndialect = "anthropic"\n'
    return f'[[upstreams]]\n{name}base_url = "{url}/v1"\n{more}\n'
