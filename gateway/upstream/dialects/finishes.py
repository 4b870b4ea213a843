"""What a `finish_reason` means for the completeness of an answer.

OpenAI's own values are `stop`, `length`, `tool_calls`, `content_filter` and `function_call`: each is an end. Any other
value is an end too, unless it stands in one of the two tables below. Values are compared in lower case.
"""

SAYS_NOTHING = frozenset({"", "null", "none"})
"""Written by servers that turn the missing value of another language into a string."""

GAVE_UP = frozenset(
    {
        "abort",  # vLLM and SGLang: the engine dropped the request, and `[DONE]` follows (vllm-project/vllm#57082)
        "aborted",
        "cancel",
        "canceled",  # LLM Gateway: its word for another server's `abort` (theopenco/llmgateway#1701)
        "cancelled",
        "error",  # OpenRouter and Mistral document it; vLLM
        "error_limit",  # Cohere, also through Oracle, as the next two
        "error_toxic",
        "user_cancel",
        "failed",
        "function_call_filter: malformed_function_call",  # Gemini through its OpenAI-compatible endpoint
        "insufficient_system_resource",  # DeepSeek: interrupted for want of resources
        "internal_error",
        "malformed_function_call",  # Gemini, as the last one
        "network_error",  # Zhipu (GLM): the inference failed
        "server_error",
        "timeout",
        "unexpected_tool_call",
    }
)
"""The server ended the answer without finishing it. A later `[DONE]` does not change that."""


def gave_up(reason: str) -> bool:
    return reason.lower() in GAVE_UP


def says_nothing(reason: str) -> bool:
    return reason.strip().lower() in SAYS_NOTHING
