"""Reads the tokens of an answer from the upstream's `usage` object, whose fields differ between providers."""

from typing import Any

import msgspec

_MOST = 1_000_000_000_000  # tokens: a larger number is not a count, and is too large to compute a cost


class Tokens(msgspec.Struct, frozen=True):
    """`cached` and `written` are parts of `input`, from a cache and to it. `reasoning` is part of `output`."""

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    estimated: bool = False

    @property
    def all(self) -> int:
        return self.input + self.output

    @property
    def inputs(self) -> tuple[int, int, int]:
        """The input beside a cache, from it and to it. An upstream may tell larger parts than there are."""
        cached = min(self.cached, self.input)
        written = min(self.written, self.input - cached)
        return self.input - cached - written, cached, written


def measured(usage: dict[str, Any]) -> Tokens:
    """The counts of an upstream's `usage` object. A value that is not a count becomes 0."""
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    written = _count(prompt, "cache_creation_tokens") or _count(prompt, "cache_write_tokens")  # LiteLLM, OpenAI
    theirs = _count(usage, "prompt_cache_hit_tokens") or _count(usage, "cached_tokens")  # DeepSeek, Moonshot
    reasoning = _count(completion, "reasoning_tokens") or _count(usage, "reasoning_tokens")
    apart = _apart(usage)
    return Tokens(
        input=_count(usage, "prompt_tokens"),
        output=_count(usage, "completion_tokens") + apart,
        cached=_count(prompt, "cached_tokens") or theirs,
        written=written,
        reasoning=reasoning or apart,
    )


def of_value(usage: Any, meta: Any) -> dict[str, Any] | None:
    """The usage of an answer that is no text, with its tokens as `prompt_tokens`. None if no count is told.

    Servers that rank count all tokens only, or tell the count in Cohere's `meta`. Its `search_units` are no tokens.
    """
    tokens, billed = [meta.get(name) if isinstance(meta, dict) else None for name in ("tokens", "billed_units")]
    places = [(usage, "prompt_tokens"), (usage, "input_tokens"), (usage, "total_tokens")]
    places += [(tokens, "input_tokens"), (billed, "input_tokens"), (billed, "total_tokens")]
    told = next((count for place, name in places if (count := _count(place, name))), None)
    return None if told is None else {**(usage if isinstance(usage, dict) else {}), "prompt_tokens": told}


def of_response(usage: dict[str, Any]) -> dict[str, Any]:
    """The usage of a response, with the names of a chat's."""
    return {
        "prompt_tokens": _count(usage, "input_tokens"),
        "completion_tokens": _count(usage, "output_tokens"),
        "total_tokens": _count(usage, "total_tokens"),
        "prompt_tokens_details": usage.get("input_tokens_details"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }


def has_counts(usage: bytes) -> bool:
    """Whether this JSON has a count. Some servers send zeros after a real count. True if it cannot be read."""
    try:  # a typed reader, because some servers send usage with every chunk; it is four times as fast as `read_json`
        counts = msgspec.json.decode(usage, type=_Counts)
    except (ValueError, RecursionError):
        return True
    return bool(counts.prompt_tokens or counts.completion_tokens or counts.total_tokens)


def _apart(usage: dict[str, Any]) -> int:
    """Reasoning tokens that are in the total and not in `completion_tokens`, as Gemini and xAI count them."""
    prompt, completion = _count(usage, "prompt_tokens"), _count(usage, "completion_tokens")
    return max(0, _count(usage, "total_tokens") - prompt - completion) if prompt and completion else 0


class _Counts(msgspec.Struct):
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    total_tokens: int | float | None = None


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    is_count = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST
    return int(value) if is_count and value is not None else 0
