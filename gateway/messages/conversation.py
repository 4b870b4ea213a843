"""Translates the `messages` and the `system` prompt of a request to the messages of a chat.

https://platform.claude.com/docs/en/api/messages

A chat has no place for some blocks. Each is an error that names it, with two exceptions: marks such as `cache_control`
change nothing, and thinking of earlier answers is left out. Only Anthropic's own server takes that back, if it is
signed. Where it is the one that is asked, `thinking_blocks` have it, in the form that answers of this dialect have.

Texts that follow each other become one text with blank lines between them, because some servers take only a text as the
content of a message. Messages of the user that follow each other become one. Results of tools become messages of their
own, which a chat wants right behind the calls. A chat's result is a text, so an image in it is shown in the user's
message behind all results.

A system message within the conversation, as Claude Code sends them, becomes a text of the user in tags: the templates
of many models refuse a system message that is not the first one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.json import Decoder

from gateway.admission.translating import IMAGE_RESULT, MOST_PARTS, needed, read, unsupported
from gateway.errors import InvalidRequest

Object = dict[str, Any]


class _Block(msgspec.Struct):
    """`source` is that of an image, `content` that of a tool's result, and `data` are thoughts that nobody can read."""

    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    source: Raw = Raw()
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"{}")
    tool_use_id: str | None = None
    content: Raw = Raw(b"null")
    is_error: bool | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Block]


class _Sized(msgspec.Struct):
    content: list[Raw] | Any = None


class _Source(msgspec.Struct):
    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


_MESSAGES = Decoder(list[_Message])
_CONTENT: Decoder[str | list[_Block] | None] = Decoder(str | list[_Block] | None)
_SOURCE = Decoder(_Source)
_SIZES = Decoder(list[_Sized])

_EMPTY = 2  # fields of a message of the model that has only a role, and null for a content
_BETWEEN_TEXTS = "\n\n"
_THINKING = frozenset({"thinking", "redacted_thinking"})
_REMINDER = "<system-reminder>\n{}\n</system-reminder>"
_ERROR = "Error: "  # a chat has no other mark for a tool that failed


def chat_messages(messages: Raw, system: Raw, *, takes_thoughts: bool = False) -> list[Object]:
    """Raises InvalidRequest."""
    if sum([1 + (len(one.content) if isinstance(one.content, list) else 0) for one in _counted(messages)]) > MOST_PARTS:
        raise InvalidRequest(f"There are over {MOST_PARTS} messages and blocks.", param="messages")
    read_messages = read(messages, _MESSAGES, "messages")
    if not read_messages:
        raise InvalidRequest("There are no messages.", code="question_missing", param="messages")
    chat: list[Object] = []
    if prompt := _texts(read(system, _CONTENT, "system"), "system"):
        chat.append({"role": "system", "content": prompt})
    for index, message in enumerate(read_messages):
        where = f"messages[{index}]"
        translate = _ROLES.get(message.role)
        if translate is None:
            words = "The role of a message must be `user`, `assistant` or `system`."
            raise InvalidRequest(words, param=f"{where}.role")
        for one in translate(message.content, f"{where}.content"):
            if not takes_thoughts:
                one.pop("thinking_blocks", None)
            if one["role"] != "assistant" or one["content"] is not None or len(one) > _EMPTY:
                _add(chat, one)
    return [_finished(one) for one in chat]


def _counted(messages: Raw) -> "list[_Sized]":
    """Nothing for what has another form, which is told where it is read."""
    try:
        return _SIZES.decode(messages)
    except msgspec.ValidationError:
        return []


def _add(chat: list[Object], message: Object) -> None:
    if message["role"] == "user" and chat and chat[-1]["role"] == "user":
        chat[-1]["content"] += message["content"]
    else:
        chat.append(message)


def _finished(message: Object) -> Object:
    return {**message, "content": _as_content(message["content"])} if message["role"] == "user" else message


def _system(content: str | list[_Block], where: str) -> list[Object]:
    return [_of_user([{"type": "text", "text": _REMINDER.format(_texts(content, where))}])]


def _texts(content: str | list[_Block] | None, where: str) -> str:
    """The text of a content that can be nothing else."""
    if content is None or isinstance(content, str):
        return content or ""
    return _BETWEEN_TEXTS.join([_text(block, f"{where}[{index}]") for index, block in enumerate(content)])


def _text(block: _Block, where: str) -> str:
    if block.type != "text":
        raise _no_place(block, where)
    return needed(block.text, f"{where}.text")


def _no_place(block: _Block, where: str) -> InvalidRequest:
    return unsupported(f"A chat has no place for a block of type `{block.type[:64]}` here.", where)


# Messages of the user


def _user(content: str | list[_Block], where: str) -> list[Object]:
    if isinstance(content, str):
        return [_of_user([{"type": "text", "text": content}])]
    results: list[Object] = []
    images: list[Object] = []  # of the results
    parts: list[Object] = []
    for index, block in enumerate(content):
        place = f"{where}[{index}]"
        if block.type == "tool_result":
            results.append(_result(block, place, images))
        else:
            parts.append(_part(block, place))
    parts = [*images, *parts]
    return results if results and not parts else [*results, _of_user(parts)]


def _of_user(parts: list[Object]) -> Object:
    """A message whose content is to be finished once all parts are there."""
    return {"role": "user", "content": parts}


def _part(block: _Block, where: str) -> Object:
    if block.type == "image":
        return {"type": "image_url", "image_url": {"url": _url(block, f"{where}.source")}}
    return {"type": "text", "text": _text(block, where)}


def _as_content(parts: Sequence[Object]) -> str | Sequence[Object]:
    if all(part["type"] == "text" for part in parts):
        return _BETWEEN_TEXTS.join([part["text"] for part in parts])
    return parts


def _url(block: _Block, where: str) -> str:
    source = read(block.source, _SOURCE, where)
    match source.type:
        case "base64":
            media_type = needed(source.media_type, f"{where}.media_type")
            return f"data:{media_type};base64,{needed(source.data, f'{where}.data')}"
        case "url":
            return needed(source.url, f"{where}.url")
        case _:
            raise unsupported(f"An image cannot come from a source of type `{source.type[:64]}`.", where)


def _result(block: _Block, where: str, images: list[Object]) -> Object:
    """Adds the images of the result to `images`."""
    content = read(block.content, _CONTENT, f"{where}.content")
    parts: list[Object] = []
    if isinstance(content, list):
        parts = [_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]
        images += [part for part in parts if part["type"] != "text"]
        content = _BETWEEN_TEXTS.join([part["text"] for part in parts if part["type"] == "text"])
    text = content or (IMAGE_RESULT if parts else "")
    name = needed(block.tool_use_id, f"{where}.tool_use_id")
    return {"role": "tool", "tool_call_id": name, "content": f"{_ERROR}{text}" if block.is_error else text}


# Messages of the model


def _assistant(content: str | list[_Block], where: str) -> list[Object]:
    if isinstance(content, str):
        return [{"role": "assistant", "content": content}]
    texts: list[str] = []
    calls: list[Object] = []
    thoughts: list[Object] = []
    for index, block in enumerate(content):
        place = f"{where}[{index}]"
        if block.type == "tool_use":
            calls.append(_call(block, place))
        elif block.type in _THINKING:
            thoughts += _thoughts(block)
        else:
            texts.append(_text(block, place))
    message: Object = {"role": "assistant", "content": _BETWEEN_TEXTS.join(texts) or None}
    parts = {"tool_calls": calls, "thinking_blocks": thoughts}
    return [message | {name: found for name, found in parts.items() if found}]


def _thoughts(block: _Block) -> list[Object]:
    """A list of one. It is empty for thoughts without a signature, which are not of Anthropic's models."""
    if block.type == "thinking" and block.signature:
        return [{"type": block.type, "thinking": block.thinking or "", "signature": block.signature}]
    return [{"type": block.type, "data": block.data}] if block.data else []


def _call(block: _Block, where: str) -> Object:
    arguments = bytes(block.input).decode()
    if not arguments.startswith("{"):
        raise InvalidRequest("The input of a tool must be an object.", param=f"{where}.input")
    function = {"name": needed(block.name, f"{where}.name"), "arguments": arguments}
    return {"id": needed(block.id, f"{where}.id"), "type": "function", "function": function}


_ROLES: Mapping[str, Callable[[str | list[_Block], str], list[Object]]] = {
    "user": _user,
    "assistant": _assistant,
    "system": _system,
}
