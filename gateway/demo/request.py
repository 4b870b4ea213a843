"""The bodies of `POST /v1/chat/completions` and `POST /v1/completions`, decoded and checked.

The types contain only the fields that the demo uses. All other fields of OpenAI are accepted and have no effect.
"""

from typing import Annotated, Any, Literal, TypeVar

import msgspec

from .errors import ApiError, ErrorBody


class Part(msgspec.Struct):
    type: str
    text: str = ""


class Message(msgspec.Struct):
    role: Literal["developer", "system", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return " ".join(part.text for part in self.content if part.text)
        return self.content or ""


class Property(msgspec.Struct):
    type: Any = None  # a name, or a list of names
    enum: list[Any] = []


class Parameters(msgspec.Struct):
    properties: dict[str, Property] = {}


class Function(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


class Tool(msgspec.Struct):
    type: str
    function: Function | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


Limit = Annotated[int, msgspec.Meta(ge=1)]


class ChatRequest(msgspec.Struct):
    messages: list[Message] = []
    model: str = "demo"
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Limit | None = None  # the older name of the next field
    max_completion_tokens: Limit | None = None
    n: int | None = None
    tools: list[Tool] | None = None

    @property
    def question(self) -> str:
        """The text of the last message of the user."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def prompt_tokens(self) -> int:
        """An estimate of four bytes for a token, which is quick for long prompts as well."""
        return sum(len(message.text.encode()) // 4 + 1 for message in self.messages)


class TextRequest(msgspec.Struct):
    """`prompt` may also be tokens, which mean nothing to the demo."""

    prompt: str | list[str | int] = ""
    model: str = "demo"
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Limit | None = None
    n: int | None = None

    def as_chat(self) -> ChatRequest:
        words = [self.prompt] if isinstance(self.prompt, str) else [str(part) for part in self.prompt]
        return ChatRequest(
            [Message("user", " ".join(words))], self.model, self.stream, self.stream_options, self.max_tokens
        )


T = TypeVar("T")


def decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(f"{error}.", param=_path(error)) from error
    except (ValueError, RecursionError) as error:  # malformed, not UTF-8, or nested too deeply
        raise _invalid("The body is not valid JSON.") from error


def decode_text(body: bytes) -> ChatRequest:
    """A text completion, as the chat in which its prompt is the question."""
    asked = decode(body, TextRequest)
    several = not isinstance(asked.prompt, str) and len(asked.prompt) > 1 and isinstance(asked.prompt[0], str)
    if several or asked.n not in (None, 1):
        raise _invalid("The demo gives one answer: send one `prompt`, and `n` must be 1.", param="prompt")
    return asked.as_chat()


def decode_chat(body: bytes) -> ChatRequest:
    chat = decode(body, ChatRequest)
    if not chat.messages:
        raise _invalid("`messages` must hold at least one message.", param="messages")
    if chat.n not in (None, 1):
        raise _invalid("The demo gives one answer: `n` must be 1.", param="n")
    return chat


def _invalid(message: str, *, param: str | None = None) -> ApiError:
    return ApiError(400, ErrorBody(message, param=param))


def _path(error: msgspec.ValidationError) -> str | None:
    """Only the message of msgspec has the path: "Expected `str`, got `int` - at `$.messages[0].role`"."""
    return str(error).rpartition(" - at `$.")[2].removesuffix("`") if " - at `$." in str(error) else None
