"""The items of a response's output, while they grow. Each says which events its beginning and its end are.

https://platform.openai.com/docs/api-reference/responses/object#responses/object-output
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

from gateway.upstream.dialects.chunks import as_object
from gateway.upstream.dialects.tool_calls import Call, is_object

Object = dict[str, Any]
Event = tuple[str, Object]
"""The type of an event, and its fields without the type and the number."""

Status = Literal["in_progress", "completed", "incomplete"]


class Part:
    """A part of a message: a text, or a refusal."""

    __slots__ = ("_name", "_pieces", "_type", "annotations")

    def __init__(self, *, is_refusal: bool) -> None:
        self._type, self._name = ("refusal", "refusal") if is_refusal else ("output_text", "text")
        self._pieces: list[bytes] = []  # those of the log, so they take no memory of their own
        self.annotations: list[Object] = []

    @property
    def is_refusal(self) -> bool:
        return self._type == "refusal"

    @property
    def add(self) -> Callable[[bytes], None]:
        """Adds a piece. It is the list's own method: one in Python cost an event 5 % more."""
        return self._pieces.append

    @property
    def text(self) -> str:
        return b"".join(self._pieces).decode()

    def value(self) -> Object:
        value: Object = {"type": self._type, self._name: self.text}
        return value if self.is_refusal else value | {"annotations": self.annotations, "logprobs": []}

    def end(self, place: Object) -> Iterator[Event]:
        said: Object = {self._name: self.text} if self.is_refusal else {self._name: self.text, "logprobs": []}
        yield f"response.{self._type}.done", {**place, **said}
        yield "response.content_part.done", {**place, "part": self.value()}


class Message:
    def __init__(self, name: str, index: int) -> None:
        self.id = f"msg_{name}"
        self.index = index
        self.status: Status = "in_progress"
        self.parts: list[Part] = []

    @property
    def place(self) -> Object:
        """Of the last part."""
        return {"item_id": self.id, "output_index": self.index, "content_index": len(self.parts) - 1}

    def value(self) -> Object:
        content = [part.value() for part in self.parts]
        return {"id": self.id, "type": "message", "status": self.status, "role": "assistant", "content": content}

    def open(self, *, is_refusal: bool) -> Iterator[Event]:
        """Begins a part, and ends the one before."""
        yield from self.end()
        part = Part(is_refusal=is_refusal)
        empty = part.value()
        self.parts.append(part)
        yield "response.content_part.added", {**self.place, "part": empty}

    def end(self) -> Iterator[Event]:
        if self.parts:
            yield from self.parts[-1].end(self.place)


class Reasoning:
    """As a summary, because that is the form that all clients show."""

    def __init__(self, name: str, index: int) -> None:
        self.id = f"rs_{name}"
        self.index = index
        self.status: Status = "in_progress"
        self._pieces: list[bytes] = []
        self._is_open = False

    @property
    def place(self) -> Object:
        return {"item_id": self.id, "output_index": self.index, "summary_index": 0}

    def value(self) -> Object:
        summary = [self._part(self.text)] if self._is_open else []
        return {"id": self.id, "type": "reasoning", "status": self.status, "summary": summary}

    @property
    def add(self) -> Callable[[bytes], None]:
        return self._pieces.append

    def open(self) -> Iterator[Event]:
        self._is_open = True
        yield "response.reasoning_summary_part.added", {**self.place, "part": self._part("")}

    def end(self) -> Iterator[Event]:
        yield "response.reasoning_summary_text.done", {**self.place, "text": self.text}
        yield "response.reasoning_summary_part.done", {**self.place, "part": self._part(self.text)}

    @property
    def text(self) -> str:
        return b"".join(self._pieces).decode()

    @staticmethod
    def _part(text: str) -> Object:
        return {"type": "summary_text", "text": text}


class FunctionCall:
    """Its name and its id are fixed when it begins."""

    def __init__(self, call: Call, name: str, index: int, qualified: tuple[str, str] | None) -> None:
        """`qualified` is its namespace and its name in there, if it has one."""
        self.id = f"fc_{name}"
        self.index = index
        self.status: Status = "in_progress"
        self._call_id = call.id or f"call_{name}"
        self._names = {"name": call.name} if qualified is None else {"namespace": qualified[0], "name": qualified[1]}
        self._pieces: list[str] = []  # of the arguments, as they were told

    @property
    def place(self) -> Object:
        return {"item_id": self.id, "output_index": self.index}

    def value(self) -> Object:
        return {
            "id": self.id,
            "type": "function_call",
            "status": self.status,
            "call_id": self._call_id,
            **self._names,
            "arguments": self.arguments,
        }

    @property
    def arguments(self) -> str:
        return "".join(self._pieces)

    def argue(self, delta: str) -> Event:
        """More of the arguments."""
        self._pieces.append(delta)
        return "response.function_call_arguments.delta", {**self.place, "delta": delta}

    def is_made(self, *, if_empty: bool) -> bool:
        """Whether it can be made as it is. Arguments may have been about to come."""
        arguments = self.arguments
        return is_object(arguments) if arguments.strip() else if_empty

    def end(self) -> Iterator[Event]:
        """Nobody is told that the arguments of half a call are done: clients make the call then."""
        if self.status == "completed":
            said = {"name": self._names["name"], "arguments": self.arguments}
            yield "response.function_call_arguments.done", {**self.place, **said}


Item = Message | Reasoning | FunctionCall


def citation(annotation: Any) -> Object | None:
    """An annotation of a chat's message as one of a response's text."""
    fields = as_object(annotation) or {}
    cited = as_object(fields.get("url_citation"))
    if fields.get("type") != "url_citation" or cited is None:
        return None
    places = {name: value if isinstance(value := cited.get(name), int) else 0 for name in ("start_index", "end_index")}
    texts = {name: value if isinstance(value := cited.get(name), str) else "" for name in ("url", "title")}
    return {"type": "url_citation", **texts, **places}
