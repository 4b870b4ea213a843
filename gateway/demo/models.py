"""The models of the demo. Each model has a script: a series of steps that `playback` performs.

A step is a delta to send, a pause, or an act of a misbehaving model. Scripts are lazy and use neither sockets nor a
clock. They do not end an answer themselves: `playback` adds the finish reason and the usage.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import msgspec

from .answers import REFUSAL, THOUGHTS, answer_to, cut, say
from .completion import Delta, FunctionCall, ToolCall
from .errors import rate_limited
from .request import ChatRequest, Function, Parameters, Property


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence, measured in tokens at the slowest rate of the pace. For the realistic pace, 25 tokens are a second."""

    tokens: int


class Act(Enum):
    KEEP_ALIVE = auto()  # a comment line, which DeepSeek sends while a request waits in its queue
    STALL = auto()  # silence until the client leaves
    CUT = auto()  # the connection breaks
    ERROR = auto()  # an error object, and nothing after it


Step = Delta | Pause | Act
Script = Callable[[ChatRequest, int | None], Iterator[Step]]
"""Gives the steps for a request and a length in tokens. Without a length, the answer has its own."""

SECOND = Pause(25)


@dataclass(frozen=True, slots=True)
class Model:
    """Of `failures` + 1 requests, all but the last one are refused with status 503."""

    description: str
    script: Script
    failures: int = 0


def _demo(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    return _content(answer_to(chat.question, length))


def _reasoning(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    yield from (Delta(reasoning_content=token) for token in THOUGHTS)
    yield from _content(answer_to(chat.question, length))


def _refusal(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    return (Delta(refusal=token) for token in say(REFUSAL, length))


def _tools(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    """Calls the first two of the offered functions. After their results it sends a text, so that no agent loops."""
    if chat.messages[-1].role == "tool":
        return _content(say(cut(f"The tool said: {chat.messages[-1].text[:200]} 🔧"), length))
    return itertools.chain.from_iterable(
        _call(index, f"call_{len(chat.messages)}_{index}", name, arguments)
        for index, (name, arguments) in enumerate(_calls(chat))
    )


def _clock(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    """Sends numbered lines, so that a viewer who comes back sees that nothing is missing."""
    length = length if chat.stream else 1  # it never ends, so a whole answer contains only the first line
    for number in itertools.count(1) if length is None else range(1, length + 1):
        yield SECOND
        yield Delta(content=f"{number}: This is an SSE message.\n")


def _slow(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    for _ in range(8):
        yield Act.KEEP_ALIVE
        yield SECOND
    for token in answer_to(chat.question, length):
        yield Delta(content=token)
        yield Pause(8)


def _cut(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    return _half_way(Act.CUT, chat, length)


def _stall(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    return _half_way(Act.STALL, chat, length)


def _error(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    return _half_way(Act.ERROR, chat, length)


def _rate_limited(chat: ChatRequest, length: int | None) -> Iterator[Step]:
    raise rate_limited()  # raised at the call, before anything is sent, and not at the first step


BACKUP = "demo-backup"
RESCUES: Mapping[str, bool] = {"demo-flaky": False, "demo-rescued": True}
"""The models that need a second target, BACKUP, and whether it finishes answers that the model has begun."""

MODELS: Mapping[str, Model] = {
    "demo": Model("answers", _demo),
    "demo-flaky": Model("fails twice with status 503, then answers, and so on", _demo, failures=2),
    "demo-rescued": Model("breaks the connection half way; the gateway finishes its answers with demo-backup", _cut),
    "demo-reasoning": Model("thinks aloud (`reasoning_content`), then answers", _reasoning),
    "demo-tools": Model("calls two tools, then tells what they said", _tools),
    "demo-refusal": Model("refuses", _refusal),
    "demo-clock": Model("sends a short message a second until it is stopped", _clock),
    "demo-slow": Model("is silent for eight seconds but for comments, then answers slowly", _slow),
    "demo-stall": Model("goes silent half way, until the client leaves", _stall),
    "demo-cut": Model("breaks the connection half way", _cut),
    "demo-error": Model("sends an error half way", _error),
    "demo-429": Model("refuses with status 429", _rate_limited),
    BACKUP: Model("answers as demo does, in the place of demo-flaky and demo-rescued", _demo),
}


def _content(tokens: Iterable[str]) -> Iterator[Step]:
    return (Delta(content=token) for token in tokens)


def _half_way(act: Act, chat: ChatRequest, length: int | None) -> Iterator[Step]:
    first, second = answer_to(chat.question, length).halves()
    return itertools.chain(_content(first), [act], _content(second))


# Tools


def _call(index: int, call_id: str, name: str, arguments: dict[str, Any]) -> Iterator[Step]:
    """The fragments of a call in OpenAI's order: first the name, then the arguments in pieces."""
    yield Delta(tool_calls=[ToolCall(index=index, id=call_id, type="function", function=FunctionCall(name, ""))])
    for piece in cut(msgspec.json.encode(arguments).decode()):
        yield Delta(tool_calls=[ToolCall(index=index, function=FunctionCall(arguments=piece))])


def _calls(chat: ChatRequest) -> list[tuple[str, dict[str, Any]]]:
    offered = [tool.function for tool in chat.tools or () if tool.function is not None]
    if not offered:
        return [("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "上海"})]
    return [(function.name, _arguments(function, chat.question)) for function in offered[:2]]


def _arguments(function: Function, question: str) -> dict[str, Any]:
    properties = (function.parameters or Parameters()).properties
    return {name: _sample(schema, question) for name, schema in properties.items()}


def _sample(schema: Property, question: str) -> Any:
    samples = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    return schema.enum[0] if schema.enum else samples.get(str(schema.type), question[:200])
