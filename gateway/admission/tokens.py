"""Tokens of requests and answers, and their cost: as the upstream reports them, or else estimated.

An estimate counts four UTF-8 bytes as a token. That is close for English and, with three bytes to a character, for
Chinese. A tokeniser would be exact for one model and wrong for others, and would block the event loop.
"""

import math
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.admission.fields import prompts_in
from gateway.config import Prices
from gateway.endpoints import Endpoint
from gateway.upstream.dialects.usage import Tokens, measured
from gateway.upstream.payload import BOUNDS

_BYTES = 4  # in a token
_PART = 1000  # tokens of an image or audio part; an image takes between 85 and some thousands
_ANSWER = 256  # tokens reserved for an answer that the request does not bound
_SOUND_BYTES = 4096  # in a token of audio; base64 of the densest usual format has 6,400
_MOST_VALUES = 40_000  # inspected, which blocks the loop for some 10 ms; prompts have some hundreds
_MANY = 1_000_000_000  # tokens, more than any limit
_FORM = 256  # bytes of braces, names and labels that are not counted, as in a short conversation
# Names that the model does not read as text, and names whose values it does not read either.
_STRUCTURE = frozenset({"messages", "role", "content", "type", "text", "image_url", "url", "tool_calls"})
_LABELS = frozenset({"role", "type"})
_LONGEST_LABEL = 16  # characters of such a value; a longer one could hide a text
_SETTINGS = (
    *("model", "stream", "stream_options", "n", "max_tokens", "max_completion_tokens", "max_output_tokens"),
    "temperature",
)
_MILLION = 1_000_000

_encode_json = msgspec.json.Encoder().encode


def taken(usage: dict[str, Any] | None, *, complete: bool, prompt: Callable[[], int], said: int) -> Tokens:
    """The usage as the upstream reported it, or else an estimate from the prompt and an answer of `said` bytes."""
    told = measured(usage) if usage is not None else Tokens()
    if told.all and complete:
        return told
    guess = Tokens(input=prompt(), output=-(-said // _BYTES), estimated=True)
    if not told.all:
        return guess
    output = max(told.output, guess.output)  # Gemini sends a count with every chunk, also before the end
    return msgspec.structs.replace(told, output=output, estimated=output > told.output)


def tokens_to_reserve(body: bytes, endpoint: Endpoint = Endpoint.CHAT) -> int:
    """Tokens that a request may take: those of its prompt, and of the longest answers that it allows."""
    if not endpoint.is_written:
        return prompt(body)
    try:
        request = msgspec.json.decode(body, type=_Request)
    except (ValueError, RecursionError):
        request = _Request()
    named = (request.max_completion_tokens, request.max_tokens, request.max_output_tokens)
    bounds = [_count(bound) for bound in named if bound is not None]
    answer = max(bounds, default=_ANSWER) or _ANSWER  # the upstream decides which of them applies
    return prompt(body) + answer * _answers(request, endpoint)


def answers_of(body: bytes, endpoint: Endpoint) -> tuple[int, int | None]:
    """How many answers the request wants, and the bound of each. None: it has no bound, or none that can be read.

    A server may read a bound under any of its names, so the smallest counts. Some servers (Ollama's) write without an
    end for a zero, so it bounds only text completions, which have their prompt scored with it.
    """
    try:
        request = msgspec.json.decode(body, type=_Request)
    except (ValueError, RecursionError):
        return 1, None
    least = 0 if endpoint is Endpoint.COMPLETIONS else 1
    named = [_bound(getattr(request, name)) for name in BOUNDS]
    bounds = [bound for bound in named if bound is not None and bound >= least]
    return _answers(request, endpoint), min(bounds, default=None)


def _bound(value: Any) -> int | None:
    """None for -1, too: it is no bound for some servers."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return math.floor(min(number, _MANY)) if number >= 0 else None


def _answers(request: "_Request", endpoint: Endpoint) -> int:
    """How many are written. Of `best_of`, only the best ones are sent."""
    choices = max([1, *[_count(number) for number in (request.n, request.best_of) if number is not None]])
    return choices * prompts_in(request.prompt) if endpoint is Endpoint.COMPLETIONS else choices


def _count(value: Any) -> int:
    """A number as servers read it: `10.0` and "10" are 10. Values that they may refuse count as _MANY."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return _MANY
    return math.ceil(min(number, _MANY)) if number > 0 else 0


def prompt(body: bytes) -> int:
    """An estimate by the texts of a request, or by its size if it has very many values or cannot be read.

    Every text that the upstream may read counts, four bytes as a token, wherever in the request it is. The data of
    images and audio in messages are excluded: a model reads them as tokens whose number hardly depends on their bytes.
    """
    if body.count(b"{") + body.count(b",") > _MOST_VALUES:
        return -(-len(body) // _BYTES)
    try:
        request = msgspec.json.decode(body, type=dict[str, Any])
        for name in _SETTINGS:
            request.pop(name, None)
        media = _take_media(request)
        size = max(len(_encode_json(request)) - _FORM, _texts(request))
    except (ValueError, RecursionError):
        return -(-len(body) // _BYTES)
    return -(-size // _BYTES) + media


def _take_media(request: dict[str, Any]) -> int:
    """Removes the data of images and audio from the messages, and returns their tokens."""
    tokens = 0
    for name in ("messages", "input"):  # of a chat, and of a response
        messages = request.get(name)
        for message in messages if isinstance(messages, list) else ():
            content = message.get("content") if isinstance(message, dict) else None
            for part in content if isinstance(content, list) else ():
                tokens += _take_medium(part) if isinstance(part, dict) else 0
    return tokens


def _take_medium(part: dict[str, Any]) -> int:
    """Tokens of an image with a `data:` URL, or of an `input_audio`; removes the data."""
    kind = part.get("type")
    if kind in ("image_url", "input_image"):
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
    """The bytes of all texts, without names and labels of the message format."""
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
    """The cost, in the currency of the prices."""
    parts = zip(tokens.inputs, prices.inputs, strict=True)
    return (sum([count * price for count, price in parts]) + tokens.output * prices.output) / _MILLION


class _Request(msgspec.Struct):
    max_tokens: Any = None
    max_completion_tokens: Any = None
    max_output_tokens: Any = None  # of a response
    n_predict: Any = None  # of llama.cpp's server, where it outranks the others
    n: Any = None
    best_of: Any = None
    prompt: msgspec.Raw = msgspec.Raw()
