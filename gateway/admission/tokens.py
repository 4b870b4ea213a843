"""How many tokens an answer took, and what they cost: as the upstream says, or else estimated.

Estimates are of UTF-8 bytes, four to a token: close enough for English, and, with three bytes to a character, for
Chinese too. A tokeniser would be exact for one model, wrong for the next, and would hold up the event loop for both.
"""

import math
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.config import Prices
from gateway.upstream.dialects.usage import Tokens, measured

_BYTES = 4  # to a token
_PART = 1000  # tokens of a part that is a picture or a sound: pictures take between 85 and some thousand
_ANSWER = 256  # tokens that are reserved for an answer where the request sets it no bound
_SOUND_BYTES = 4096  # to a token of a sound: base64 of the densest usual format takes 6,400
_MOST_VALUES = 40_000  # that are looked at, which takes some 10 ms of everybody's time; prompts have some hundred
_MANY = 1_000_000_000  # tokens: more than any limit
_FORM = 256  # bytes of braces, names and labels that are not counted: those of a short conversation
# Names that are no text to the model, and those whose values are none either.
_STRUCTURE = frozenset({"messages", "role", "content", "type", "text", "image_url", "url", "tool_calls"})
_LABELS = frozenset({"role", "type"})
_LONGEST_LABEL = 16  # characters of such a value: longer ones would be a place for a text
_SETTINGS = ("model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "temperature")
_MILLION = 1_000_000

_encode_json = msgspec.json.Encoder().encode


def taken(usage: dict[str, Any] | None, *, complete: bool, prompt: Callable[[], int], said: int) -> Tokens:
    """By an estimate of the prompt and an answer of `said` bytes: as the upstream says, or as much as there was."""
    told = measured(usage) if usage is not None else Tokens()
    if told.all and complete:
        return told
    guess = Tokens(input=prompt(), output=-(-said // _BYTES), estimated=True)
    if not told.all:
        return guess
    output = max(told.output, guess.output)  # a count from before the end, as Gemini sends it with every chunk
    return msgspec.structs.replace(told, output=output, estimated=output > told.output)


def tokens_to_reserve(body: bytes) -> int:
    """Tokens that a request may take: its prompt, and as much of an answer as it allows."""
    try:
        request = msgspec.json.decode(body, type=_Request)
    except (ValueError, RecursionError):
        request = _Request()
    bounds = [_count(bound) for bound in (request.max_completion_tokens, request.max_tokens) if bound is not None]
    answer = max(bounds, default=_ANSWER) or _ANSWER  # which of the two holds is the upstream's to say
    return prompt(body) + answer * max(1, _count(1 if request.n is None else request.n))


def _count(value: Any) -> int:
    """A number as servers read it: `10.0` and "10" are 10. What they may refuse counts as the largest number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return _MANY
    return math.ceil(min(number, _MANY)) if number > 0 else 0


def prompt(body: bytes) -> int:
    """Of a request, by its texts where it is small, by its size where it is large, much work, or of an odd form.

    Whatever the upstream may read as a text counts a quarter of its bytes, wherever in the request it stands. The data
    of a picture or of a sound in a message does not: a model sees it as some tokens, which hardly depend on its bytes.
    """
    if body.count(b"{") + body.count(b",") > _MOST_VALUES:
        return -(-len(body) // _BYTES)
    try:
        request = msgspec.json.decode(body, type=dict[str, Any])
        for name in _SETTINGS:
            request.pop(name, None)
        media = _take_media(request)
        size = len(_encode_json(request)) - _FORM
    except (ValueError, RecursionError):
        return -(-len(body) // _BYTES)
    return -(-max(size, _texts(request)) // _BYTES) + media


def _take_media(request: dict[str, Any]) -> int:
    """Takes the data of pictures and sounds out of the messages; returns their tokens."""
    tokens = 0
    messages = request.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            tokens += _take_medium(part) if isinstance(part, dict) else 0
    return tokens


def _take_medium(part: dict[str, Any]) -> int:
    """Of `{"type": "image_url", "image_url": {"url": "data:image/png;base64,..."}}`, or of an `input_audio`."""
    kind = part.get("type")
    if kind == "image_url":
        holder = part["image_url"] if isinstance(part.get("image_url"), dict) else part
        name = "url" if holder is not part else "image_url"
        if isinstance(holder.get(name), str) and holder[name].startswith("data:image/"):
            holder[name] = ""
        return _PART
    if kind == "input_audio":
        sound = part.get("input_audio")
        data = sound.get("data") if isinstance(sound, dict) else None
        if isinstance(sound, dict) and isinstance(data, str):
            sound["data"] = ""
            return _PART + len(data) // _SOUND_BYTES
        return _PART
    return 0


def _texts(value: Any) -> int:
    """Bytes of all texts, without the names and labels that only give a message its form."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, list):
        return sum(map(_texts, value))
    if isinstance(value, dict):
        return sum([_field(name, item) for name, item in value.items()])
    return 0 if value is None or isinstance(value, bool) else len(str(value))


def _field(name: str, value: Any) -> int:
    is_label = name in _LABELS and isinstance(value, str) and len(value) <= _LONGEST_LABEL
    return (0 if name in _STRUCTURE else _texts(name)) + (0 if is_label else _texts(value))


def cost(tokens: Tokens, prices: Prices) -> float:
    """In the currency of the prices."""
    cached_price = prices.input if prices.cached is None else prices.cached
    cached = min(tokens.cached, tokens.input)
    total = (tokens.input - cached) * prices.input + cached * cached_price + tokens.output * prices.output
    return total / _MILLION


class _Request(msgspec.Struct):
    max_tokens: Any = None
    max_completion_tokens: Any = None
    n: Any = None
