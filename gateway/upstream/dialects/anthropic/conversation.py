"""Translates the messages of a chat to Anthropic's `system` and `messages`.

Anthropic's roles take turns, so messages of one role that follow each other become one. Results of tools are blocks of
the user, and have to come first in their message. All system prompts are lifted out, wherever they stand. Empty texts
are left out, because Anthropic's server refuses them.

Thoughts go back only if they are signed, as `thinking_blocks`, which is how `answer` passes them on.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from gateway.upstream.dialects.anthropic.refusing import no_place, read

Object = dict[str, Any]


class _Url(msgspec.Struct):
    url: str


class _File(msgspec.Struct):
    file_data: str | None = None


class _Part(msgspec.Struct):
    type: str = "text"
    text: str | None = None
    refusal: str | None = None
    image_url: _Url | None = None
    file: _File | None = None
    cache_control: Raw = Raw(b"null")  # Anthropic's own, which some clients add to a chat


class _Function(msgspec.Struct):
    name: str
    arguments: str | None = None


class _Call(msgspec.Struct):
    id: str
    function: _Function | None = None
    type: str = "function"


class _Thought(msgspec.Struct):
    type: str
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[_Thought] | None = None
    function_call: Raw = Raw(b"null")


_MESSAGES: Decoder[list[_Message]] = Decoder(list[_Message])
_INPUT: Decoder[dict[str, Raw]] = Decoder(dict[str, Raw])
_NULL = Raw(b"null")


class Conversation(msgspec.Struct, frozen=True):
    """`system` and `messages` as Anthropic wants them. `is_thoughtless`: a call whose thoughts are missing is open.

    Anthropic's server does not let the model think about the result of such a call.
    """

    system: Sequence[Object]
    messages: Sequence[Object]
    is_thoughtless: bool


def conversation(raw: Raw) -> Conversation:
    """Raises UpstreamCannot."""
    system: list[Object] = []
    turns: list[Object] = []
    messages = read(raw, _MESSAGES, "messages")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if message.role in ("system", "developer"):
            system += _parts(message.content, f"{where}.content")
            continue
        if message.role not in _ROLES:
            raise no_place(f"messages of the role `{message.role[:64]}`", f"{where}.role")
        role, translate = _ROLES[message.role]
        _add(turns, role, translate(message, where))
    for turn in turns:
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    return Conversation(system, turns, _is_thoughtless(turns))


def _add(turns: list[Object], role: str, blocks: list[Object]) -> None:
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    elif blocks:
        turns.append({"role": role, "content": blocks})


def _is_thoughtless(turns: Sequence[Object]) -> bool:
    calls = turns[-2]["content"] if len(turns) > 1 and turns[-1]["role"] == "user" else []
    is_open = any(block["type"] == "tool_use" for block in calls)
    return is_open and calls[0]["type"] not in ("thinking", "redacted_thinking")


# Messages of the user


def _user(message: _Message, where: str) -> list[Object]:
    return _parts(message.content, f"{where}.content")


def _result(message: _Message, where: str) -> list[Object]:
    content = message.content if isinstance(message.content, str) else _parts(message.content, f"{where}.content")
    return [{"type": "tool_result", "tool_use_id": message.tool_call_id or "", "content": content}]


def _parts(content: str | list[_Part] | None, where: str) -> list[Object]:
    if content is None or isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    blocks = []
    for index, part in enumerate(content):
        if block := _block(part, f"{where}[{index}]"):
            blocks.append(block if part.cache_control == _NULL else {**block, "cache_control": part.cache_control})
    return blocks


def _block(part: _Part, where: str) -> Object | None:
    if part.type == "text" or part.type == "refusal":
        text = part.text or part.refusal
        return {"type": "text", "text": text} if text else None
    if part.type == "image_url" and part.image_url is not None:
        return {"type": "image", "source": _source(part.image_url.url)}
    if part.type == "file" and part.file is not None and part.file.file_data is not None:
        return {"type": "document", "source": _source(part.file.file_data)}
    raise no_place(f"a part of type `{part.type[:64]}` in a message", where)


def _source(url: str) -> Object:
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": head[len("data:") : -len(";base64")], "data": data}


# Messages of the model


def _assistant(message: _Message, where: str) -> list[Object]:
    if message.function_call != _NULL:
        raise no_place("`function_call`, the older name of a tool call", f"{where}.function_call")
    blocks = [*_thoughts(message), *_parts(message.content, f"{where}.content")]
    return blocks + [_call(call, f"{where}.tool_calls[{index}]") for index, call in enumerate(message.tool_calls or [])]


def _thoughts(message: _Message) -> list[Object]:
    """The signed ones. A single signature without a text is that of the reasoning beside it."""
    found: list[Object] = []
    blocks = message.thinking_blocks or []
    for block in blocks:
        if block.type == "redacted_thinking" and block.data:
            found.append({"type": block.type, "data": block.data})
        elif block.type == "thinking" and block.signature:
            text = block.thinking or (message.reasoning_content if len(blocks) == 1 else None) or ""
            found.append({"type": block.type, "thinking": text, "signature": block.signature})
    return found


def _call(call: _Call, where: str) -> Object:
    if call.function is None:
        raise no_place(f"a call of type `{call.type[:64]}`", where)
    arguments = (call.function.arguments or "").strip()
    made = read(Raw(arguments.encode() or b"{}"), _INPUT, f"{where}.function.arguments")
    return {"type": "tool_use", "id": call.id, "name": call.function.name, "input": made}


_ROLES: Mapping[str, tuple[str, Callable[[_Message, str], list[Object]]]] = {
    "user": ("user", _user),
    "tool": ("user", _result),
    "assistant": ("assistant", _assistant),
}
