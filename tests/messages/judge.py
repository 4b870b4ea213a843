"""Says whether a sequence of events is one that Anthropic documents: a small state machine of its own.

https://platform.claude.com/docs/en/api/messages-streaming
"""

import json
from collections.abc import Sequence
from typing import Any

Object = dict[str, Any]

_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("tool_use", "partial_json"),
}
_STOP_REASONS = {"end_turn", "max_tokens", "tool_use", "refusal", "model_context_window_exceeded"}
_ERRORS = {
    *("invalid_request_error", "authentication_error", "permission_error", "not_found_error", "conflict_error"),
    *("request_too_large", "rate_limit_error", "api_error", "overloaded_error", "timeout_error"),
}


def read(data: bytes) -> list[Object]:
    """The events in a body. Each block is a type, which the data repeat, and the data."""
    assert not data or data.endswith(b"\n\n")
    events = []
    for block in data.split(b"\n\n")[:-1]:
        first, second = block.split(b"\n")
        event = json.loads(second.removeprefix(b"data: "))
        assert first == b"event: " + event["type"].encode()
        events.append(event)
    return events


def judge(events: Sequence[Object]) -> Object | None:
    """The message that the events say, put together as SDKs do. None if they end with an error."""
    message: Object | None = None
    open_block: Object | None = None
    inputs: list[str] = []
    shown = [event for event in events if event != {"type": "ping"}]
    for number, event in enumerate(shown):
        is_last = number == len(shown) - 1
        match event["type"]:
            case "message_start":
                assert message is None
                message = event["message"]
                assert (message["content"], message["stop_reason"], message["role"]) == ([], None, "assistant")
            case "content_block_start":
                assert message is not None
                assert open_block is None
                assert event["index"] == len(message["content"])
                open_block = dict(event["content_block"])
                message["content"].append(open_block)
                inputs.clear()
            case "content_block_delta":
                assert message is not None
                assert open_block is not None
                assert event["index"] == len(message["content"]) - 1
                _add(event["delta"], open_block, inputs)
            case "content_block_stop":
                assert message is not None
                assert open_block is not None
                assert event["index"] == len(message["content"]) - 1
                if open_block["type"] == "tool_use":
                    open_block["input"] = "".join(inputs)  # JSON, of which half may have come
                open_block = None
            case "message_delta":
                assert message is not None
                assert open_block is None
                assert message["stop_reason"] is None
                assert event["delta"]["stop_reason"] in _STOP_REASONS
                assert event["usage"]["output_tokens"] >= 0
                message |= event["delta"]
                message["usage"] |= event["usage"]
            case "message_stop":
                assert message is not None
                assert message["stop_reason"] is not None
                assert is_last
                return message
            case "error":
                assert is_last
                assert message is None or message["stop_reason"] is None
                assert event["error"]["type"] in _ERRORS
                assert event["error"]["message"]
                return None
            case other:
                raise AssertionError(f"an event of type {other}")
    raise AssertionError("there is no end")


def _add(delta: Object, block: Object, inputs: list[str]) -> None:
    if delta["type"] == "signature_delta":
        assert block["type"] == "thinking"
        assert not block["signature"]
        block["signature"] = delta["signature"]
        return
    block_type, field = _DELTAS[delta["type"]]
    assert block["type"] == block_type
    if block_type == "tool_use":
        inputs.append(delta[field])
    else:
        block[field] += delta[field]
