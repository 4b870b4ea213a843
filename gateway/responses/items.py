"""Translates the `input` of a response to the messages of a chat.

https://platform.openai.com/docs/api-reference/responses/create#responses-create-input

What a chat has no place for is an error that names it, with two exceptions. Reasoning of earlier answers is left out
with a note, because no chat takes it back. A chat's result of a tool is a text, so an image in it is shown in a message
of the user behind all results.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw

from gateway.admission.translating import IMAGE_RESULT, MOST_PARTS, unsupported
from gateway.errors import InvalidRequest

Object = dict[str, Any]

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXTS = frozenset({"input_text", "output_text", "text"})

_NOTHING: Mapping[str, Object] = {}


class _Reference(msgspec.Struct):
    """Any other item has it, too, with fields of any type. `Conversation` refuses what is wrong."""

    type: Any = None
    id: Any = None


class _Parts(msgspec.Struct):
    """The lists in an item, to count them before they are read."""

    content: list[Raw] | Any = None
    output: list[Raw] | Any = None


_list = msgspec.json.Decoder(list[Raw]).decode
_reference = msgspec.json.Decoder(_Reference).decode
_parts = msgspec.json.Decoder(_Parts).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode


def references(value: Raw) -> list[str]:
    """The ids of items of earlier responses that the input names without repeating them."""
    found = [_reference(item) for item in _items(value) if item[:1] == b"{" and b"item_reference" in item]
    return [item.id for item in found if item.type == "item_reference" and isinstance(item.id, str)]


def _items(value: Raw) -> list[bytes]:
    """The items of the input. Raises InvalidRequest for too many."""
    items = [bytes(item) for item in _list(value)] if _begins(value) == b"[" else []
    if len(items) > MOST_PARTS:
        raise _too_many()
    return items


def _begins(value: Raw) -> bytes:
    """The first byte, without a copy of all."""
    return bytes(memoryview(value)[:1])


class Conversation:
    """Collects chat messages, item by item. `known` are items of earlier responses by their ids."""

    def __init__(self, known: Mapping[str, Object] = _NOTHING) -> None:
        self.messages: list[Object] = []
        self.left_out = 0  # items of reasoning
        self._known = known
        self._images: list[Object] = []  # of results of tools
        self._size = 0  # items and parts

    def add_input(self, value: Raw) -> None:
        """Adds a text, or a list of items. Raises InvalidRequest."""
        kind = _begins(value)
        if kind == b'"':
            self.messages.append({"role": "user", "content": msgspec.json.decode(value)})
        elif kind == b"[":
            for index, item in enumerate(_items(value)):
                where = f"input[{index}]"
                try:
                    self._count(item)
                    decoded = _object(item) if item[:1] == b"{" else None
                except msgspec.ValidationError:  # the body is JSON, but this number is no double
                    raise InvalidRequest("A number is out of range.", param=where) from None
                self.add_item(decoded, where)
        else:
            raise InvalidRequest("`input` must be a text or a list of items.", param="input")
        self._show_images()

    def _count(self, item: bytes) -> None:
        self._size += 1
        if item[:1] == b"{":
            parts = _parts(item)
            self._size += sum([len(found) for found in (parts.content, parts.output) if isinstance(found, list)])
        if self._size > MOST_PARTS:
            raise _too_many()

    def add_item(self, item: Object | None, where: str) -> None:
        if item is None:
            raise InvalidRequest("Each item of `input` must be an object.", param=where)
        kind = item.get("type") or ("message" if "role" in item else None)
        if kind != "function_call_output":
            self._show_images()
        match kind:
            case "message":
                self._add_message(item, where)
            case "function_call":
                self._add_call(item, where)
            case "function_call_output":
                self._add_call_output(item, where)
            case "reasoning":
                self.left_out += 1
            case "item_reference" if (known := self._known.get(str(item.get("id")))) is not None:
                self.add_item(known, where)
            case _:
                raise _unknown(kind, where)

    def _add_message(self, item: Object, where: str) -> None:
        role = item.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            words = "The role of a message must be `user`, `assistant`, `system` or `developer`."
            raise InvalidRequest(words, param=f"{where}.role")
        message = {"role": _ROLES[role], **_content(item.get("content"), role, f"{where}.content")}
        if role == "assistant" and self.messages and "tool_calls" in self.messages[-1]:
            last = self.messages[-1]  # what is said behind calls has to come before their results
            last["content"] = (last["content"] or "") + message.pop("content")
            last |= {name: value for name, value in message.items() if name == "refusal"}
        else:
            self.messages.append(message)

    def _add_call(self, item: Object, where: str) -> None:
        """Calls that follow a text of the model, or each other, are those of one message."""
        namespace = None if item.get("namespace") is None else _text(item, "namespace", where)
        name = qualified(namespace, _text(item, "name", where))
        function = {"name": name, "arguments": _text(item, "arguments", where)}
        call = {"id": _text(item, "call_id", where), "type": "function", "function": function}
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant":
            last = {"role": "assistant", "content": None}
            self.messages.append(last)
        last.setdefault("tool_calls", []).append(call)

    def _add_call_output(self, item: Object, where: str) -> None:
        output = item.get("output")
        if isinstance(output, list):
            parts = [_user_part(part, f"{where}.output[{index}]") for index, part in enumerate(output)]
            images = [part for part in parts if part["type"] != "text"]
            self._images += images
            texts = "".join([part["text"] for part in parts if part["type"] == "text"])
            output = texts or (IMAGE_RESULT if images else "")
        if not isinstance(output, str):
            raise InvalidRequest("The `output` of a call must be a text or a list of parts.", param=f"{where}.output")
        self.messages.append({"role": "tool", "tool_call_id": _text(item, "call_id", where), "content": output})

    def _show_images(self) -> None:
        if self._images:
            self.messages.append({"role": "user", "content": self._images})
            self._images = []


def qualified(namespace: str | None, name: str) -> str:
    """The name of a function in a chat."""
    return name if namespace is None else f"{namespace}__{name}"


# Contents


def _content(content: Any, role: str, where: str) -> Object:
    """The fields of a chat message for a text or a list of parts.

    Texts of the model and of the system become one text, because many servers take only that.
    """
    if isinstance(content, str):
        return {"content": content}
    if not isinstance(content, list):
        raise InvalidRequest("The content of a message must be a text or a list of parts.", param=where)
    places = [(part, f"{where}[{index}]") for index, part in enumerate(content)]
    if role == "user":
        parts = [_user_part(part, place) for part, place in places]
        return {"content": parts[0]["text"] if len(parts) == 1 and parts[0]["type"] == "text" else parts}
    fields: Object = {"content": "".join([_text_part(part, place) for part, place in places if not _is_refusal(part)])}
    if role == "assistant" and (refusals := [part for part in content if _is_refusal(part)]):
        fields["refusal"] = "".join([_text(part, "refusal", where) for part in refusals])
    return fields


def _is_refusal(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "refusal"


def _text_part(part: Any, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in _TEXTS:
        raise _unknown(kind, where)
    return _text(part, "text", where)


def _user_part(part: Any, where: str) -> Object:
    kind = part.get("type") if isinstance(part, dict) else None
    match kind:
        case "input_image":
            return {"type": "image_url", "image_url": _image(part, where)}
        case "input_file":
            return {"type": "file", "file": _file(part, where)}
        case _:
            return {"type": "text", "text": _text_part(part, where)}


def _image(part: Object, where: str) -> Object:
    _refuse(part, "file_id", where)
    image = {"url": _text(part, "image_url", where)}
    return image if part.get("detail") is None else image | {"detail": _text(part, "detail", where)}


def _file(part: Object, where: str) -> Object:
    for name in ("file_id", "file_url"):
        _refuse(part, name, where)
    names = [name for name in ("filename", "file_data") if part.get(name) is not None]
    return {name: _text(part, name, where) for name in names}


def _refuse(part: Object, name: str, where: str) -> None:
    if part.get(name) is not None:
        words = f"`{name}` names something that only OpenAI's servers hold. Send the data themselves."
        raise unsupported(words, f"{where}.{name}")


def _text(item: Object, name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a text.", param=f"{where}.{name}")
    return value


def _unknown(kind: Any, where: str) -> InvalidRequest:
    if isinstance(kind, str):
        return unsupported(f"A chat has no place for the type `{kind[:64]}` here.", where)
    return InvalidRequest("Items and parts must have a `type`.", param=where)


def _too_many() -> InvalidRequest:
    return InvalidRequest(f"`input` has over {MOST_PARTS} items and parts.", param="input")
