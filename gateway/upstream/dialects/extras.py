"""The fields of a delta that are neither text, reasoning, refusal nor tool calls: audio, images, annotations, others.

They are passed on as JSON objects, so that no part of an answer is lost.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.entries import Kind

_TEXT_PARTS = ("text", "output_text")
_TOLD_OTHERWISE = frozenset(
    {"content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "role"}
)
_NO_CONTENT = frozenset({"channel", "obfuscation"})  # Groq: the kind of text; OpenAI: padding
_OF_REASONING = frozenset({"reasoning_details", "reasoning_text", "thinking_blocks"})  # OpenRouter, others, LiteLLM
_NO_ANSWER = frozenset({"annotations", "citations", "provider_specific_fields"})  # remarks on an answer
_NAMES_NOT_JOINED = frozenset({"id", "type", "format", "index", "name", "mime_type", "signature"})


def extras(delta: Mapping[str, Any]) -> dict[str, Any]:
    """The other fields of the delta that are not empty. `content` has only the parts that are not text."""
    others = _TOLD_OTHERWISE | _NO_CONTENT
    found = {name: value for name, value in delta.items() if value and name not in others}
    content = parts_of(delta.get("content"))
    if isinstance(content, list) and (parts := [p for p in content if p and not is_text(p) and not is_thought(p)]):
        found["content"] = parts
    return found


def parts_of(content: Any) -> Any:
    """The content of a delta. A single part counts as a list of one."""
    return [content] if isinstance(content, dict) else content


def is_text(part: Any) -> bool:
    """Whether this part of a content is text. A bare string is."""
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type", "text") in _TEXT_PARTS)


def is_thought(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "thinking"


def by_kind(fields: Mapping[str, Any]) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """The fields about the reasoning, and the others, each with their kind."""
    thoughts = {name: value for name, value in fields.items() if name in _OF_REASONING}
    others = {name: value for name, value in fields.items() if name not in _OF_REASONING}
    if thoughts:
        yield Kind.REASONING_EXTRA, thoughts
    if others:
        yield Kind.EXTRA, others


def are_answer(fields: Iterable[str]) -> bool:
    """Whether one of the fields is an answer by itself."""
    return any(name not in _OF_REASONING | _NO_ANSWER for name in fields)


def joined(all_of_them: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Joins the fields of several deltas. Texts and lists are appended, and objects are joined field by field."""
    message: dict[str, Any] = {}
    texts: dict[tuple[str, ...], list[str]] = {}  # joined once: appending to strings took seconds for a megabyte
    for fields in all_of_them:
        for name, value in fields.items():
            if isinstance(value, dict):
                known = message.setdefault(name, {})
                known = known if isinstance(known, dict) else {}
                message[name] = known
                for inner, part in value.items():
                    _add(known, inner, part, texts.setdefault((name, inner), []))
            else:
                _add(message, name, value, texts.setdefault((name,), []))
    for path, parts in texts.items():
        if len(parts) > 1:
            _set(message, path, "".join(parts))
    return message


def _add(known: dict[str, Any], name: str, value: Any, texts: list[str]) -> None:
    before = known.get(name)
    if isinstance(before, list) and isinstance(value, list):
        before.extend(value)
        return
    if isinstance(value, str) and name not in _NAMES_NOT_JOINED:
        texts.append(value)
    else:
        texts.clear()
    known[name] = list(value) if isinstance(value, list) else value


def _set(message: dict[str, Any], path: tuple[str, ...], text: str) -> None:
    *outer, name = path
    (message[outer[0]] if outer else message)[name] = text
