"""What providers stream, in the shapes in which they were seen to, and what is to be understood of it.

One case or more for every provider that is known to differ from the textbook; its comment says by what.
"""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Heard:
    """All that a decoder makes of a stream. `error` is a code; `said` the words that go with it."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tools: tuple[Any, ...] = ()
    finish_reason: str | None = "stop"
    usage: Any = None
    id: str | None = "chatcmpl-1"
    model: str | None = "m-1"
    done: bool = True
    skipped: int = 0
    error: str | None = None
    said: str | None = None


DONE = "[DONE]"


def stream(*payloads: object, field: str = "data: ", end: str = "\n\n") -> bytes:
    """An event for each payload; a string is taken as it is."""
    texts = [p if isinstance(p, str) else json.dumps(p, ensure_ascii=False, separators=(",", ":")) for p in payloads]
    return "".join([f"{field}{text}{end}" for text in texts]).encode()


def chunk(*choices: object, **fields: object) -> dict[str, object]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m-1"}
    return {**head, "choices": list(choices), **fields}


def choice(finish_reason: str | None = None, /, **delta: object) -> dict[str, object]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def text(content: str | None, **fields: object) -> dict[str, object]:
    return chunk(choice(content=content), **fields)


def call(**fields: object) -> dict[str, object]:
    """A chunk with one fragment of a tool call."""
    return chunk(choice(tool_calls=[fields]))


COUNTED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}

# A role alone first, usage null on all chunks but the last, which has no choice, and fields nobody knows.
_OPENAI = stream(
    chunk(
        {**choice(role="assistant", content="", refusal=None), "logprobs": None},
        service_tier="default",
        system_fingerprint="fp_1",
        usage=None,
        obfuscation="x7Q",
    ),
    chunk({**choice(content="Hel"), "logprobs": None}, service_tier="default", usage=None, obfuscation="4tZp"),
    text("lo", usage=None, obfuscation=""),
    chunk({**choice("stop"), "logprobs": None}, usage=None, obfuscation="9"),
    chunk(usage={**COUNTED, "prompt_tokens_details": {"cached_tokens": 0}}, service_tier="default", obfuscation="a"),
    DONE,
)

_OPENAI_TOOLS = stream(
    call(index=0, id="call_1", type="function", function={"name": "weather", "arguments": ""}),
    call(index=0, function={"arguments": '{"city":'}),
    call(index=0, function={"arguments": '"Paris"}'}),
    chunk(choice("tool_calls")),
    DONE,
)

_OPENAI_REFUSAL = stream(
    chunk(choice(role="assistant", content=None, refusal="")),
    chunk(choice(refusal="I can't")),
    chunk(choice("stop")),
    DONE,
)

# A first chunk without choices, id or model; annotations of a content filter, also behind the finish.
_AZURE = stream(
    chunk(
        id="", object="", created=0, model="", prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}]
    ),
    chunk({**choice(role="assistant", content=""), "content_filter_results": {}}),
    chunk({**choice(content="Hello"), "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}),
    chunk({**choice("stop"), "content_filter_results": {}}),
    chunk(
        {
            "index": 0,
            "finish_reason": None,
            "content_filter_offsets": {"check_offset": 5},
            "content_filter_results": {},
        },
        id="",
        model="",
    ),
    DONE,
)

# Usage inside the choice.
_MOONSHOT = stream(
    text("Hel"),
    text("lo"),
    chunk({**choice("stop"), "usage": COUNTED}),
    DONE,
)

_MOONSHOT_THINKS = stream(
    chunk(choice(reasoning_content="h")),
    chunk(choice(reasoning_content="m")),
    text("Hello"),
    chunk(choice("stop")),
    DONE,
)

# Keys in another order with every chunk, and a usage chunk without choices.
_QWEN = stream(
    {"choices": [{"delta": {"content": "", "role": "assistant"}, "index": 0, "logprobs": None, "finish_reason": None}]}
    | {"object": "chat.completion.chunk", "usage": None, "created": 7, "model": "m-1", "id": "chatcmpl-1"},
    {
        "choices": [{"finish_reason": None, "logprobs": None, "delta": {"content": "Hello"}, "index": 0}],
        "id": "chatcmpl-1",
    },
    {"choices": [{"finish_reason": "stop", "delta": {"content": ""}, "index": 0, "logprobs": None}], "usage": None},
    {"choices": [], "usage": COUNTED, "model": "m-1", "id": "chatcmpl-1", "created": 7, "system_fingerprint": None},
    DONE,
)

# The tail of a tool call: `id` empty, arguments null, and no finish reason's key at all.
_QWEN_TAIL = {"index": 0, "id": "", "type": "function", "function": {"arguments": None}}
_QWEN_TOOLS = stream(
    call(index=0, id="call_1", type="function", function={"name": "f", "arguments": ""}),
    {"choices": [{"delta": {"content": None, "tool_calls": [_QWEN_TAIL]}, "index": 0}], "model": "m-1"},
    chunk(choice("tool_calls", content="", tool_calls=[])),
    DONE,
)

# Comments for as long as a request is queued, reasoning of its own, usage with the finish.
_DEEPSEEK = b": keep-alive\n\n" * 100 + stream(
    chunk(choice(role="assistant", content=None, reasoning_content="")),
    chunk(choice(content=None, reasoning_content="hm")),
    chunk(choice(content="Hello", reasoning_content=None)),
    chunk(choice("stop", content="", reasoning_content=None), usage=COUNTED),
    DONE,
)

_DEEPSEEK_OVERLOADED = stream(text("Hel"), chunk(choice("insufficient_system_resource", content="")), DONE)

# A role on every delta, the finish with the last text, usage on every chunk and at first in part.
_GEMINI = stream(
    chunk(choice(role="assistant", content="Hel"), usage={"prompt_tokens": 3, "total_tokens": 3}),
    chunk(choice("stop", role="assistant", content="lo"), usage=COUNTED),
    DONE,
)

_GEMINI_CALLS = [
    {"id": f"call_{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in (1, 2)
]  # without an index
_GEMINI_TOOLS = stream(chunk(choice("tool_calls", role="assistant", tool_calls=_GEMINI_CALLS)), DONE)

# Two spaces behind the colon, and content as a list of parts.
_MISTRAL = stream(
    chunk(choice(role="assistant", content="")),
    chunk(
        choice(
            content=[{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": "m"}]}]
        )
    ),
    chunk(choice(content=[{"type": "text", "text": "Hel"}, {"type": "reference", "reference_ids": [1]}])),
    text("lo"),
    chunk(choice("stop", content=""), usage=COUNTED),
    DONE,
    field="data:  ",
)

# Usage three times, once inside `x_groq`.
_GROQ = stream(
    text("", x_groq={"id": "req_1"}),
    text("Hello"),
    chunk(
        choice("stop"),
        x_groq={"id": "req_1", "usage": {"total_tokens": 4, "queue_time": 0.1}},
        usage={"total_tokens": 4},
    ),
    chunk(usage=COUNTED),
    DONE,
)

_GROQ_ERROR = stream(
    text("Hel"),
    chunk(choice("error"), x_groq={"id": "req_1", "error": "over capacity", "usage": {"total_tokens": 4}}),
    DONE,
)

# Comments, the finish twice, a provider's name.
_OPENROUTER = b": OPENROUTER PROCESSING\n\n" * 3 + stream(
    chunk(choice(role="assistant", content="Hello"), provider="P"),
    chunk({**choice("stop", content=""), "native_finish_reason": "stop"}, provider="P"),
    chunk({**choice("stop", role="assistant", content=""), "native_finish_reason": None}, usage=COUNTED),
    DONE,
)

# An error in the middle: beside the choices, with a number as its code.
_OPENROUTER_ERROR = stream(
    text("Hel"),
    chunk(choice("error", content=""), error={"code": 502, "message": "Provider disconnected"}, usage=COUNTED),
    DONE,
)
_OPENROUTER_LIMIT = stream(chunk(choice("error", content=""), error={"code": 429, "message": "Slow down"}))

# An error, and then `[DONE]` as if nothing had been.
_VLLM_ERROR = stream(
    text("Hel"),
    {
        "error": {
            "message": "EngineCore encountered an issue",
            "type": "InternalServerError",
            "param": None,
            "code": 500,
        }
    },
    DONE,
)
_VLLM_OLD_ERROR = stream(
    text("Hel"), {"object": "error", "message": "boom", "type": "BadRequestError", "param": None, "code": 400}, DONE
)
_SGLANG_ERROR = stream(
    {"error": {"object": "error", "message": "boom", "type": "InternalServerError", "code": 500}}, DONE
)

# A first content that is null, timings.
_LLAMA_CPP = stream(
    chunk(choice(role="assistant", content=None)),
    text("Hello", timings={"predicted_per_second": 41.5}),
    chunk(choice("stop"), timings={"prompt_n": 3}),
    chunk(usage=COUNTED, timings={"prompt_n": 3}),
    DONE,
)
_LLAMA_CPP_ERROR = stream(text("Hel")) + stream(
    {"code": 500, "message": "context is full", "type": "server_error"}, field="error: "
)

# It forgets why it stopped.
_OLLAMA_LOST = stream(text("Hel"), text(""))

# No space behind the colon, an error that is just a string.
_TGI = stream(text("Hello"), chunk(choice("eos_token")), DONE, field="data:")
_TGI_ERROR = stream(
    text("Hel"), {"error": "Request failed during generation", "error_type": "generation"}, field="data:"
)

# Status 200, and then it has no model.
_LM_STUDIO = b"event: error\n" + stream({"error": {"message": "No models loaded"}})

PROVIDERS = {
    "OpenAI": (_OPENAI, Heard("Hello", usage={**COUNTED, "prompt_tokens_details": {"cached_tokens": 0}})),
    "OpenAI, a tool": (
        _OPENAI_TOOLS,
        Heard(
            tools=(
                {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
                {"index": 0, "function": {"arguments": '{"city":'}},
                {"index": 0, "function": {"arguments": '"Paris"}'}},
            ),
            finish_reason="tool_calls",
        ),
    ),
    "OpenAI, a refusal": (_OPENAI_REFUSAL, Heard(refusal="I can't")),
    "Azure OpenAI": (_AZURE, Heard("Hello")),
    "Moonshot": (_MOONSHOT, Heard("Hello", usage=COUNTED)),
    "Moonshot, thinking": (_MOONSHOT_THINKS, Heard("Hello", "hm")),
    "Qwen": (_QWEN, Heard("Hello", usage=COUNTED)),
    "Qwen, a tool": (
        _QWEN_TOOLS,
        Heard(
            tools=(
                {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}},
                _QWEN_TAIL,
            ),
            finish_reason="tool_calls",
        ),
    ),
    "fault_24 DeepSeek": (_DEEPSEEK, Heard("Hello", "hm", usage=COUNTED)),
    "fault_44 DeepSeek, overloaded": (
        _DEEPSEEK_OVERLOADED,
        Heard(
            "Hel",
            finish_reason="insufficient_system_resource",
            done=False,
            error="upstream_error",
            said="The model's server gave up on the answer (`insufficient_system_resource`). Ask again in a moment.",
        ),
    ),
    "fault_45 Gemini": (_GEMINI, Heard("Hello", usage=COUNTED)),
    "Gemini, two tools": (_GEMINI_TOOLS, Heard(tools=tuple(_GEMINI_CALLS), finish_reason="tool_calls")),
    "fault_40 Mistral": (_MISTRAL, Heard("Hello", "hm", usage=COUNTED)),
    "fault_41 Groq": (_GROQ, Heard("Hello", usage=COUNTED)),
    "fault_15 Groq, an error": (
        _GROQ_ERROR,
        Heard(
            "Hel",
            finish_reason="error",
            usage={"total_tokens": 4},
            done=False,
            error="upstream_error",
            said="over capacity",
        ),
    ),
    "fault_45 OpenRouter": (_OPENROUTER, Heard("Hello", usage=COUNTED)),
    "fault_14 OpenRouter, an error": (
        _OPENROUTER_ERROR,
        Heard(
            "Hel",
            finish_reason="error",
            usage=COUNTED,
            done=False,
            error="upstream_error",
            said="Provider disconnected",
        ),
    ),
    "OpenRouter, a limit": (
        _OPENROUTER_LIMIT,
        Heard(finish_reason="error", done=False, error="upstream_rate_limited", said="Slow down"),
    ),
    "fault_13 vLLM, an error": (
        _VLLM_ERROR,
        Heard("Hel", finish_reason=None, done=False, error="upstream_error", said="EngineCore encountered an issue"),
    ),
    "fault_15 vLLM, an old error": (
        _VLLM_OLD_ERROR,
        Heard("Hel", finish_reason=None, done=False, error="upstream_error", said="boom"),
    ),
    "SGLang, an error": (
        _SGLANG_ERROR,
        Heard(finish_reason=None, id=None, model=None, done=False, error="upstream_error", said="boom"),
    ),
    "llama.cpp": (_LLAMA_CPP, Heard("Hello", usage=COUNTED)),
    "fault_15 llama.cpp, an error": (
        _LLAMA_CPP_ERROR,
        Heard("Hel", finish_reason=None, done=False, error="upstream_error", said="context is full"),
    ),
    "fault_16 Ollama, a lost error": (
        _OLLAMA_LOST,
        Heard("Hel", finish_reason=None, done=False, error="upstream_incomplete"),
    ),
    "fault_23 TGI": (_TGI, Heard("Hello", finish_reason="eos_token")),
    "TGI, an error": (
        _TGI_ERROR,
        Heard("Hel", finish_reason=None, done=False, error="upstream_error", said="Request failed during generation"),
    ),
    "fault_12 LM Studio, an error": (
        _LM_STUDIO,
        Heard(finish_reason=None, id=None, model=None, done=False, error="upstream_error", said="No models loaded"),
    ),
}
