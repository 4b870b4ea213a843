"""The fields of a request. The gateway decodes those that it uses once, into one typed value per surface.

It keeps all fields as raw JSON, too. So any OpenAI parameter passes through as it was written, integers of any size
survive, and of duplicate names the last one wins, as JSON readers do.
"""

from codecs import getincrementaldecoder
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec.json import Decoder

from gateway.admission.surrogates import half_of_pair
from gateway.config import OnDisconnect
from gateway.errors import InvalidRequest
from gateway.log.views import Format
from gateway.upstream.shapes import without_mark

Fields = dict[str, msgspec.Raw]
T = TypeVar("T")

_LONGEST_NAME = 200  # characters of a model or an assistant; the longest names in use are about 100
_PIECE = 65_536  # bytes that are decoded at once
_HEADROOM = 60  # calls: later steps read and write parts of a body from up to 20 calls further down the stack
_FLAT = 20  # arrays and objects of a body that needs no headroom, however they are nested
POLICY = frozenset({"on_disconnect"})  # the name that may be in the query where a body is OpenAI's own
_DECIDED = frozenset(
    {
        *("model", "stream", "stream_options", "n", "messages", "input", "prompt", "store", "background"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "previous_response_id"),
    }
)
_VIEW_NAMES = ("model", "assistant", "format", "reasoning", *POLICY)

_Utf8Decoder = getincrementaldecoder("utf-8")
_encode_json = msgspec.json.Encoder().encode


class Show(msgspec.Struct, frozen=True):
    """The form in which a viewer wants a stream."""

    format: Format
    reasoning: bool


class ChatRequest(msgspec.Struct, frozen=True):
    """A request of the native surface. Each of its messages is an object with a role."""

    fields: Fields
    model: str | None
    assistant: str | None
    question: str | None
    messages: list[msgspec.Raw] | None
    n: int | None
    on_disconnect: OnDisconnect | None
    store: bool | None
    show: Show


class CompletionRequest(msgspec.Struct, frozen=True):
    """A request of the OpenAI surface. Its upstream may refuse a wrong `n`, `prompt` or wrong `stream_options`."""

    fields: Fields
    model: str | None
    stream: bool
    stream_options: Fields | msgspec.Raw | None  # Raw if they are not an object
    choices: int  # `n`, or 1 if it is not a number
    prompts: int  # that are answered, each with so many choices: `/v1/completions` takes a list of them
    on_disconnect: OnDisconnect | None


class ResponseFields(msgspec.Struct, frozen=True):
    """Of a request for a response that its upstream makes: what the gateway has to know."""

    previous: str | None
    background: bool


class _Message(msgspec.Struct):
    role: str


# Made once: making a decoder takes longer than decoding a value.
_TEXT: Decoder[str | None] = Decoder(str | None)
_INTEGER: Decoder[int | None] = Decoder(int | None)
_BOOLEAN: Decoder[bool | None] = Decoder(bool | None)
_FLAG: Decoder[object] = Decoder(bool | int | str | None)
_FORMAT: Decoder[Format | None] = Decoder(Format | None)
_ON_DISCONNECT: Decoder[OnDisconnect | None] = Decoder(OnDisconnect | None)
_MESSAGE = Decoder(_Message)
_MESSAGES: Decoder[list[msgspec.Raw] | None] = Decoder(list[msgspec.Raw] | None)
_OPTIONS: Decoder[Fields | None] = Decoder(Fields | None)
_PROMPTS = Decoder(list[msgspec.Raw])
_FIELDS = Decoder(Fields)


def query_fields(query: Mapping[str, str]) -> Fields:
    """The query of a GET as the body of a POST would say the same."""
    if "q" not in query:
        raise InvalidRequest("There is no question: add ?q=...", code="question_missing", param="q")
    return view_fields(query) | {"question": msgspec.Raw(_encode_json(query["q"]))}


def view_fields(query: Mapping[str, str]) -> Fields:
    """What may be said in the query of any request: whom to ask, and how to show the answer."""
    return {name: msgspec.Raw(_encode_json(query[name])) for name in _VIEW_NAMES if name in query}


def body_fields(body: bytes) -> Fields:
    """The fields of a JSON object, with or without a byte-order mark. Raises InvalidRequest for anything else."""
    body = without_mark(body)
    try:
        _check_utf8(body)
        is_flat = body.count(b"{") + body.count(b"[") <= _FLAT
        return _checked(_decoded(body, 0 if is_flat else _HEADROOM))
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON object.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        param, words = half_of_pair(body) or (None, f"The body is not valid JSON: {error}.")
        raise InvalidRequest(words, code="invalid_json", param=param) from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", code="invalid_json") from None


def _checked(fields: Fields) -> Fields:
    """Refuses another spelling of a field that the gateway decides on or looks at. Raises InvalidRequest.

    Servers in Go and .NET read names without regard to case, and take the last one. So `Model` would choose a model
    that the caller's key does not allow, and `Max_Tokens` would go past a limit. Go takes `\u017f` for an s, too.
    """
    for name in fields:
        if name not in _DECIDED and (known := name.casefold()) in _DECIDED:
            raise InvalidRequest(f"`{name}` is not a field. Write `{known}`.", param=known)
    return fields


def _decoded(body: bytes, headroom: int) -> Fields:
    """The fields, decoded from so many calls further down the stack. That takes 3 µs.

    Python bounds the calls and the levels of JSON together. So a body that passes here is not too deep for any later
    step, whose RecursionError would be a fault of the gateway.
    """
    return _decoded(body, headroom - 1) if headroom else _FIELDS.decode(body)


def _check_utf8(body: bytes) -> None:
    """Piece by piece: a text of the whole body would take up to four times its bytes. Raises InvalidRequest."""
    if body.isascii():
        return
    decoder = _Utf8Decoder()
    for start in range(0, len(body), _PIECE):
        unfinished = len(decoder.getstate()[0])  # bytes of a character that the piece before has begun
        try:
            decoder.decode(body[start : start + _PIECE], final=start + _PIECE >= len(body))
        except UnicodeDecodeError as error:
            place = start - unfinished + error.start
            raise InvalidRequest(f"The body is not UTF-8 (byte {place}).", code="invalid_json") from None


def chat_request(fields: Fields) -> ChatRequest:
    """Raises InvalidRequest."""
    return ChatRequest(
        fields,
        model=name_in(fields, "model"),
        assistant=name_in(fields, "assistant"),
        question=value_in(fields, "question", _TEXT),
        messages=_messages_in(fields),
        n=value_in(fields, "n", _INTEGER),
        on_disconnect=value_in(fields, "on_disconnect", _ON_DISCONNECT),
        store=value_in(fields, "store", _BOOLEAN),
        show=show_in(fields),
    )


def show_in(fields: Fields) -> Show:
    """Raises InvalidRequest."""
    return Show(value_in(fields, "format", _FORMAT) or Format.TEXT, _flag_in(fields, "reasoning"))


def completion_request(fields: Fields) -> CompletionRequest:
    """Raises InvalidRequest."""
    return CompletionRequest(
        fields,
        model=name_in(fields, "model"),
        stream=value_in(fields, "stream", _BOOLEAN) or False,
        stream_options=_options_in(fields),
        choices=_choices_in(fields),
        prompts=prompts_in(fields.get("prompt")),
        on_disconnect=value_in(fields, "on_disconnect", _ON_DISCONNECT),
    )


def response_fields(fields: Fields) -> ResponseFields:
    """Raises InvalidRequest."""
    return ResponseFields(
        previous=value_in(fields, "previous_response_id", _TEXT) or None,
        background=value_in(fields, "background", _BOOLEAN) or False,
    )


def value_in(fields: Fields, param: str, decoder: Decoder[T | None]) -> T | None:
    raw = fields.get(param)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition(" - at ")[0].replace("`", "")
        raise InvalidRequest(f"`{param}` has the wrong form: {reason}.", param=param) from None


def name_in(fields: Fields, param: str) -> str | None:
    """The name of a model or of an assistant."""
    name = value_in(fields, param, _TEXT)
    if name is not None and not (name.isprintable() and len(name) <= _LONGEST_NAME):
        raise InvalidRequest(f"`{param}` must be at most {_LONGEST_NAME} printable characters.", param=param)
    return name or None


def _flag_in(fields: Fields, param: str) -> bool:
    """A yes or no: as JSON true, false, 1, 0, or as a query has them."""
    value = value_in(fields, param, _FLAG)
    if value in (None, False, 0, "", "0", "false"):
        return False
    if value in (True, 1, "1", "true"):
        return True
    raise InvalidRequest(f"`{param}` must be 1 or 0.", param=param)


def _messages_in(fields: Fields) -> list[msgspec.Raw] | None:
    messages = value_in(fields, "messages", _MESSAGES)
    for index, message in enumerate(messages or ()):
        try:
            _MESSAGE.decode(message)
        except msgspec.DecodeError:
            raise InvalidRequest("Each message must be an object with a `role`.", param=f"messages[{index}]") from None
    return messages


def _choices_in(fields: Fields) -> int:
    try:
        return max(1, value_in(fields, "n", _INTEGER) or 1)
    except InvalidRequest:
        return 1


def prompts_in(prompt: msgspec.Raw | None) -> int:
    """The number of prompts: a list may have several texts or lists of tokens, or be one list of tokens."""
    if prompt is None or not bytes(prompt).lstrip().startswith(b"["):
        return 1
    try:
        prompts = _PROMPTS.decode(prompt)
    except (ValueError, RecursionError):
        return 1
    return len(prompts) if prompts and bytes(prompts[0]).startswith((b'"', b"[")) else 1


def _options_in(fields: Fields) -> Fields | msgspec.Raw | None:
    try:
        return value_in(fields, "stream_options", _OPTIONS)
    except InvalidRequest:
        return fields["stream_options"]
