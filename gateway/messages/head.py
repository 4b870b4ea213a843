"""What a message tells beside its content: who answers, why it ended, which tokens it took."""

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.admission.tokens import taken
from gateway.messages.blocks import Blocks
from gateway.upstream.dialects.chunks import as_object
from gateway.upstream.dialects.usage import Tokens

Object = dict[str, Any]

_STOP_REASONS = {
    "length": "max_tokens",
    "max_tokens": "max_tokens",  # the word of some gateways, which have it from Anthropic's API
    "model_length": "model_context_window_exceeded",  # Mistral
    "content_filter": "refusal",
}
TRUNCATED = frozenset({"max_tokens", "model_context_window_exceeded"})


class Head(msgspec.Struct, frozen=True):
    """`model` is the name that the caller sent, `prompt_tokens` an estimate. `most` bounds the bytes of tool calls."""

    model: str
    prompt_tokens: int
    shows_thinking: bool
    request_id: str
    most: int

    def message(self, stream_id: str, *, content: list[Object], stop_reason: str | None, usage: Object) -> Object:
        return {
            "id": f"msg_{stream_id}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,  # a chat does not tell which one it was, or whether it was one at all
            "usage": usage,
        }

    def first_usage(self) -> Object:
        """What is known before the answer."""
        return _usage(Tokens(input=self.prompt_tokens))

    def usage(self, end: Mapping[str, Any], blocks: Blocks) -> Object:
        """As the model's server reported it, or else estimated."""
        told = as_object(end.get("usage"))
        return _usage(taken(told, complete=True, prompt=lambda: self.prompt_tokens, said=blocks.said))


def _usage(tokens: Tokens) -> Object:
    """In a chat, tokens of a cache are part of those of the prompt. Here they are not."""
    beside, cached, written = tokens.inputs
    usage: Object = {
        "input_tokens": beside,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": tokens.output,
    }
    thinking = {"output_tokens_details": {"thinking_tokens": tokens.reasoning}} if tokens.reasoning else {}
    return usage | thinking


def stop_reason(finish_reason: str | None, blocks: Blocks) -> str:
    """Many servers say `stop` behind calls, too."""
    if (told := _STOP_REASONS.get(finish_reason or "")) is not None:
        return told
    if blocks.has_calls:
        return "tool_use"
    return "refusal" if blocks.has_refusal else "end_turn"
