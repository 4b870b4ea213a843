"""Builds one `chat.completion` if an upstream streams although one JSON body was asked for.

The fields are those of the JSON answer of `/chat`. `logprobs` are lost, and so are fields outside of the message that
OpenAI's answers do not have.
"""

from collections.abc import Callable

import msgspec

from gateway.entries import Entry, Kind
from gateway.errors import AnswerTooLarge, UpstreamError
from gateway.sse import Event
from gateway.upstream.dialects.chunks import Chunk
from gateway.upstream.dialects.completion import Outcome, completion
from gateway.upstream.dialects.openai import Decoder

_PART = 100  # bytes that a part takes in addition to its text: a tuple, a bytes object, a place in a list

_encode_json = msgspec.json.Encoder().encode


class Assembled(Decoder):
    """`outcome` is called once, at the end. `most` bounds the bytes of the answer, which is held until then.

    `count` is called with the number of bytes by which the held bytes grow or, if negative, shrink.
    """

    whole = True

    def __init__(
        self, outcome: Callable[[], Outcome], *, choices: int, most: int, count: Callable[[int], None]
    ) -> None:
        """Raises UpstreamError for several choices, because the decoder does not separate their parts."""
        super().__init__()
        if choices > 1:
            raise UpstreamError(
                "The model's server streams several answers where one JSON body was asked for. Ask with `stream: true`."
            )
        self._outcome = outcome
        self._most = most
        self._count = count
        self._counted = 0
        self._parts: list[Entry] = []
        self._is_built = False

    def decode(self, event: Event, entries: list[Entry], chunk: Chunk | None = None) -> Chunk | None:
        said, parts = self.said, len(self._parts)
        chunk = super().decode(event, self._parts, chunk)
        grown = self.said - said + _PART * (len(self._parts) - parts)
        self._counted += grown
        self._count(grown)
        if self.said > self._most:
            raise AnswerTooLarge()
        return chunk

    def decode_data(self, data: bytes, entries: list[Entry]) -> None:
        self.decode(Event(data), entries)

    def rest(self) -> list[Entry]:
        """The whole answer, if it is complete, and once. Raises UpstreamError for too many calls of tools."""
        self._count(-self._counted)
        self._counted = 0
        self._parts += super().rest()
        if not self.complete or self._is_built:
            return []
        self._is_built = True
        value = completion(self._parts, self._outcome(), reasoning=True)
        (choice,) = value["choices"]
        if choice["message"]["reasoning_content"] is None:
            del choice["message"]["reasoning_content"]
        if choice["finish_reason"] is None:  # strict clients do not accept null here
            choice["finish_reason"] = "tool_calls" if "tool_calls" in choice["message"] else "stop"
        return [Entry(Kind.CHUNK, _encode_json(value))]
