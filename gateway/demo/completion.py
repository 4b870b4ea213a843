"""An answer in OpenAI's format: a chunk for every delta, or one whole `chat.completion`.

https://platform.openai.com/docs/api-reference/chat/streaming, and `.../chat/object`. A text completion has the same
tokens in another form: https://platform.openai.com/docs/api-reference/completions. OpenAI has no field
`reasoning_content`: DeepSeek, Qwen and Moonshot send the thoughts before the answer in it.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from ..sse.event import encode_data
from .errors import ErrorBody, encode_error


class FunctionCall(msgspec.Struct, omit_defaults=True):
    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A fragment of one call. Fragments with the same `index` belong together."""

    index: int
    id: str | None = None
    type: str | None = None
    function: FunctionCall


class Delta(msgspec.Struct, omit_defaults=True):
    """One token of an answer."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def text(self) -> str:
        return self.content or self.reasoning_content or self.refusal or ""


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: dict[str, int]


@dataclass(slots=True)
class Tally:
    """Counts the tokens of an answer while they are sent. Usage and finish reason follow from the count."""

    prompt: int
    limit: int | None = None
    completion: int = 0
    reasoning: int = 0
    finish_reason: str = "stop"

    def admits(self, delta: Delta) -> bool:
        if self.completion == self.limit:
            self.finish_reason = "length"
            return False
        self.completion += 1
        self.reasoning += delta.reasoning_content is not None
        if delta.tool_calls:
            self.finish_reason = "tool_calls"
        return True

    @property
    def usage(self) -> Usage:
        details = {"reasoning_tokens": self.reasoning}
        return Usage(self.prompt, self.completion, self.prompt + self.completion, details)


# Streamed answers: every frame is one event


class Choice(msgspec.Struct, kw_only=True):
    index: int = 0
    delta: Delta
    logprobs: None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct, kw_only=True):
    id: str
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | UnsetType | None


DONE = b"data: [DONE]\n\n"
ROLE = Delta(role="assistant", content="")


@dataclass(frozen=True, slots=True)
class Completion:
    """The fields that all chunks of one answer share. It makes the bytes of the answer."""

    id: str
    created: int
    model: str
    with_usage: bool = False

    @property
    def first_frames(self) -> list[bytes]:
        return [self.delta_frame(ROLE)]

    def delta_frame(self, delta: Delta) -> bytes:
        return self._frame([Choice(delta=delta)], None)

    def last_frames(self, tally: Tally) -> bytes:
        finish = self._finish_frame(tally)
        return finish + (self._frame([], tally.usage) if self.with_usage else b"") + DONE

    def _finish_frame(self, tally: Tally) -> bytes:
        return self._frame([Choice(delta=Delta(), finish_reason=tally.finish_reason)], None)

    def _frame(self, choices: list[Choice], usage: Usage | None) -> bytes:
        # With `include_usage`, OpenAI writes `usage: null` in every chunk but the last. Otherwise it omits the field.
        shown = usage if self.with_usage else UNSET
        chunk = Chunk(id=self.id, created=self.created, model=self.model, choices=choices, usage=shown)
        return _event(msgspec.json.encode(chunk))

    def whole(self, tally: Tally, message: dict[str, Any]) -> bytes:
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": tally.finish_reason}
        body = {"id": self.id, "object": "chat.completion", "created": self.created, "model": self.model}
        return msgspec.json.encode({**body, "choices": [choice], "usage": tally.usage})


@dataclass(frozen=True, slots=True)
class TextCompletion(Completion):
    """The same for `/v1/completions`: each choice has a text in place of a delta."""

    @property
    def first_frames(self) -> list[bytes]:
        return []

    def delta_frame(self, delta: Delta) -> bytes:
        return self._text_frame(delta.text, None)

    def _finish_frame(self, tally: Tally) -> bytes:
        return self._text_frame("", tally.finish_reason)

    def _text_frame(self, text: str, finish_reason: str | None) -> bytes:
        return _event(msgspec.json.encode({**self._head, "choices": [_text_choice(text, finish_reason)]}))

    def _frame(self, choices: list[Choice], usage: Usage | None) -> bytes:
        return _event(msgspec.json.encode({**self._head, "choices": choices, "usage": usage}))

    def whole(self, tally: Tally, message: dict[str, Any]) -> bytes:
        text = "".join([message.get(name) or "" for name in ("reasoning_content", "content", "refusal")])
        choices = [_text_choice(text, tally.finish_reason)]
        return msgspec.json.encode({**self._head, "choices": choices, "usage": tally.usage})

    @property
    def _head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}


def _text_choice(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "logprobs": None, "finish_reason": finish_reason}


def error_frame(error: ErrorBody) -> bytes:
    return _event(encode_error(error))


def _event(data: bytes) -> bytes:
    return encode_data(data) + b"\n"


# Whole answers: the deltas are joined


@dataclass(slots=True)
class Assembly:
    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)

    def add(self, delta: Delta) -> None:
        self.content.append(delta.content or "")
        self.reasoning.append(delta.reasoning_content or "")
        self.refusal.append(delta.refusal or "")
        for call in delta.tool_calls or ():
            self._add_call(call)

    def _add_call(self, call: ToolCall) -> None:
        if call.id is not None:
            function = {"name": call.function.name, "arguments": ""}
            self.calls[call.index] = {"id": call.id, "type": call.type, "function": function}
        self.calls[call.index]["function"]["arguments"] += call.function.arguments or ""

    def message(self) -> dict[str, Any]:
        """As at OpenAI, content and refusal are always present and null if empty. Other fields are omitted if empty."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.content) or None}
        message["refusal"] = "".join(self.refusal) or None
        if any(self.reasoning):
            message["reasoning_content"] = "".join(self.reasoning)
        if self.calls:
            message["tool_calls"] = list(self.calls.values())
        return message
