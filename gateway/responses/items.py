"""Translates the `input` of a response to the messages of a chat.

https://platform.openai.com/docs/api-reference/responses/create#responses-create-input

What a chat has no place for is an error that names it. Reasoning is an exception: clients send that of earlier answers
back, and no chat takes it, so it is left out with a note.
"""

from typing import Any

from gateway.errors import InvalidRequest

Object = dict[str, Any]

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


class Conversation:
    """Collects chat messages, item by item. `notes` tell what was left out."""

    def __init__(self) -> None:
        self.messages: list[Object] = []
        self.notes: list[str] = []

    def add_input(self, value: Any) -> None:
        """Adds a text, or a list of items. Raises InvalidRequest."""
        if isinstance(value, str):
            self.messages.append({"role": "user", "content": value})
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._add_item(item, f"input[{index}]")
        else:
            raise InvalidRequest("`input` must be a text or a list of items.", param="input")

    def _add_item(self, item: Any, where: str) -> None:
        if not isinstance(item, dict):
            raise InvalidRequest("Each item of `input` must be an object.", param=where)
        kind = item.get("type") or ("message" if "role" in item else None)
        match kind:
            case "message":
                self._add_message(item, where)
            case "function_call":
                self._add_call(item, where)
            case "function_call_output":
                self._add_call_output(item, where)
            case "reasoning":
                self.notes.append(f"{where}: reasoning was left out, because a chat takes none.")
            case _:
                raise _unknown("item", kind, where)

    def _add_message(self, item: Object, where: str) -> None:
        role = item.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            words = "The role of a message must be `user`, `assistant`, `system` or `developer`."
            raise InvalidRequest(words, param=f"{where}.role")
        self.messages.append({"role": _ROLES[role], **_content(item.get("content"), role, f"{where}.content")})

    def _add_call(self, item: Object, where: str) -> None:
        """Calls that follow a text of the model, or each other, are those of one message."""
        namespace = None if item.get("namespace") is None else _text(item, "namespace", where)
        function = {
            "name": qualified(namespace, _text(item, "name", where)),
            "arguments": _text(item, "arguments", where),
        }
        call = {"id": _text(item, "call_id", where), "type": "function", "function": function}
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant":
            last = {"role": "assistant", "content": None}
            self.messages.append(last)
        last.setdefault("tool_calls", []).append(call)

    def _add_call_output(self, item: Object, where: str) -> None:
        output = item.get("output")
        if isinstance(output, list):
            output = "".join([_text_part(part, f"{where}.output[{index}]") for index, part in enumerate(output)])
        if not isinstance(output, str):
            raise InvalidRequest("The `output` of a call must be a text or a list of texts.", param=f"{where}.output")
        self.messages.append({"role": "tool", "tool_call_id": _text(item, "call_id", where), "content": output})


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
    if not isinstance(part, dict) or part.get("type") not in ("input_text", "output_text", "text"):
        raise _unknown("part", part.get("type") if isinstance(part, dict) else None, where)
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
        raise InvalidRequest(words, code="unsupported_value", param=f"{where}.{name}")


def _text(item: Object, name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a text.", param=f"{where}.{name}")
    return value


def _unknown(what: str, kind: Any, where: str) -> InvalidRequest:
    if isinstance(kind, str):
        words = (
            f"A chat has no place for an {what} of type `{kind[:64]}`."
            if what == "item"
            else (f"A chat has no place for a {what} of type `{kind[:64]}` here.")
        )
        return InvalidRequest(words, code="unsupported_value", param=where)
    return InvalidRequest(f"Each {what} must have a `type`.", param=where)
