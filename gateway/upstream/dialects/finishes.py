"""Decides by a `finish_reason` whether an answer is complete.

OpenAI's own values are `stop`, `length`, `tool_calls`, `content_filter` and `function_call`. Each means that the answer
is complete. So does any other value that is not in one of the two tables below. Values are compared in lower case.
"""

SAYS_NOTHING = frozenset({"", "null", "none"})
"""Values of servers that write a missing value as a string. They count as null."""

GAVE_UP = frozenset(
    {
        "abort",  # vLLM and SGLang: the engine dropped the request, and `[DONE]` follows (vllm-project/vllm#57082)
        "aborted",
        "cancel",
        "canceled",  # LLM Gateway, for the `abort` of another server (theopenco/llmgateway#1701)
        "cancelled",
        "error",  # vLLM; documented by OpenRouter and Mistral
        "error_limit",  # Cohere, also through Oracle; the next two, too
        "error_toxic",
        "user_cancel",
        "failed",
        "function_call_filter: malformed_function_call",  # Gemini through its OpenAI-compatible endpoint
        "insufficient_system_resource",  # DeepSeek: interrupted because resources were short
        "internal_error",
        "malformed_function_call",  # Gemini; the last one, too
        "network_error",  # Zhipu (GLM): the inference failed
        "server_error",
        "timeout",
        "unexpected_tool_call",
    }
)
"""Values of an answer that the server did not complete. A later `[DONE]` does not change that."""


def gave_up(reason: str) -> bool:
    return reason.lower() in GAVE_UP


def says_nothing(reason: str) -> bool:
    return reason.strip().lower() in SAYS_NOTHING
