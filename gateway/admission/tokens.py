"""How many tokens an answer took, and what they cost: as the upstream says, or else estimated.

Estimates are of UTF-8 bytes, four to a token: close enough for English, and, with three bytes to a character, for
Chinese too. A tokeniser would be exact for one model, wrong for the next, and would hold up the event loop for both.
"""

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
_MEDIA = frozenset({"image_url", "input_audio"})  # the types of a message's part that hold data which is no text
# Names that are no text to the model, and those whose values are none either.
_STRUCTURE = frozenset({"messages", "role", "content", "type", "text", "tool_calls"})
_LABELS = frozenset({"role", "type"})
_LONGEST_LABEL = 16  # characters of such a value: longer ones would be a place for a text
_SETTINGS = ("model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "temperature")
_MILLION = 1_000_000


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
    request = _read(body)
    bounds = [bound for bound in (request.max_completion_tokens, request.max_tokens) if bound is not None]
    answer = _ANSWER if not bounds or max(bounds) < 0 else max(bounds)  # which of the two holds is the upstream's
    return prompt(body) + answer * max(1, request.n or 1)


def prompt(body: bytes) -> int:
    """Of a request, by its texts where that is little work, and by its size where it is much or of an odd form.

    Whatever the upstream may read as a text counts a quarter of its bytes, wherever in the request it stands. The data
    of a picture or of a sound does not: a model sees it as a number of tokens that hardly depends on its bytes.
    """
    if body.count(b"{") + body.count(b",") > _MOST_VALUES:
        return -(-len(body) // _BYTES)
    try:
        request = msgspec.json.decode(body, type=dict[str, Any])
    except (ValueError, RecursionError):
        return -(-len(body) // _BYTES)
    counted = _Counted()
    for name in _SETTINGS:
        request.pop(name, None)
    counted.add(request)
    return -(-counted.bytes // _BYTES) + counted.tokens


class _Counted:
    """What a request holds: `bytes` of text, and `tokens` of pictures and sounds."""

    def __init__(self) -> None:
        self.bytes = 0
        self.tokens = 0

    def add(self, value: Any) -> None:
        if isinstance(value, str):
            self.bytes += len(value) if value.isascii() else len(value.encode())
        elif isinstance(value, list):
            for item in value:
                self.add(item)
        elif isinstance(value, dict):
            self._add_object(value)
        elif value is not None and not isinstance(value, bool):
            self.bytes += len(str(value))

    def _add_object(self, value: dict[str, Any]) -> None:
        for name, item in value.items():
            if name in _MEDIA and name == value.get("type"):
                self._add_media(item)
                continue
            if name not in _STRUCTURE:
                self.add(name)
            if not (name in _LABELS and isinstance(item, str) and len(item) <= _LONGEST_LABEL):
                self.add(item)

    def _add_media(self, item: Any) -> None:
        """`{"url": "data:image/png;base64,..."}`, such a text alone, or `{"data": ..., "format": "wav"}`."""
        self.tokens += _PART
        for name, text in item.items() if isinstance(item, dict) else [("url", item)]:
            if name == "data" and isinstance(text, str):
                self.tokens += len(text) // _SOUND_BYTES
            elif not (name == "url" and isinstance(text, str) and text.startswith("data:image/")):
                self.add(text)


def cost(tokens: Tokens, prices: Prices) -> float:
    """In the currency of the prices."""
    cached_price = prices.input if prices.cached is None else prices.cached
    cached = min(tokens.cached, tokens.input)
    total = (tokens.input - cached) * prices.input + cached * cached_price + tokens.output * prices.output
    return total / _MILLION


class _Request(msgspec.Struct):
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None


def _read(body: bytes) -> _Request:
    """The numbers of a request; none where they are of another form, which is the upstream's to refuse."""
    try:
        return msgspec.json.decode(body, type=_Request, strict=False)
    except (ValueError, RecursionError):
        return _Request()
