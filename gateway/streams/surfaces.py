"""How the answers of the surfaces differ: their decoders, and what is known of the text that a client has."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from gateway.admission.admit import Completion
from gateway.endpoints import Endpoint
from gateway.entries import Kind
from gateway.log.base import StreamLog
from gateway.log.receipt import Receipt
from gateway.streams.upstream_places import UpstreamPlaces
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.prefix import text_of
from gateway.upstream.dialects.relay import Relay, RememberingRelay
from gateway.upstream.dialects.remembering import RememberingDecoder
from gateway.upstream.dialects.responses import ResponseRelay
from gateway.upstream.dialects.texts import TextRelay
from gateway.upstream.dialects.values import ValueRelay
from gateway.upstream.redaction import cleaned, redacted
from gateway.upstream.routing import Target


class Surface(Protocol):
    """One of them, for one answer."""

    @property
    def receipt(self) -> Receipt | None:
        """The receipt of the text in the log. None if clients get something else than its entries."""
        ...

    def decoder(self, target: Target) -> Decoder:
        """A new decoder, for one attempt."""
        ...

    def passed_text(self, decoder: Decoder) -> bytes | None:
        """The text that the client has. None if it has anything else."""
        ...

    def held_text(self) -> bytes | None:
        """The text of the answer, for its trace. None if it is not held."""
        ...


class NativeSurface:
    """See `Surface`. The log holds the text."""

    __slots__ = ("_log", "receipt")

    def __init__(self, log: StreamLog) -> None:
        self._log = log
        self.receipt = Receipt(log)

    def decoder(self, target: Target) -> Decoder:
        return Decoder()

    def passed_text(self, decoder: Decoder) -> bytes | None:
        return text_of(self._log.entries)

    def held_text(self) -> bytes | None:
        return b"".join([entry.payload for entry in self._log.entries if entry.kind is Kind.TEXT])


class PassingSurface:
    """See `Surface`. The answer is decoded, but not kept."""

    __slots__ = ("_is_remembered",)

    receipt = None

    def __init__(self, *, is_remembered: bool) -> None:
        """`is_remembered`: another target may go on with the answer."""
        self._is_remembered = is_remembered

    def decoder(self, target: Target) -> Decoder:
        return RememberingDecoder() if self._is_remembered else Decoder()

    def passed_text(self, decoder: Decoder) -> bytes | None:
        return decoder.passed_text

    def held_text(self) -> bytes | None:
        return None


class OpenAISurface:
    """See `Surface`. Nothing holds the text apart from its chunks, except where another target may go on."""

    __slots__ = ("_choices", "_hide_usage", "_is_remembered", "_whole")

    receipt = None

    def __init__(self, asked: Completion) -> None:
        self._whole = not asked.stream
        self._choices = asked.choices
        self._hide_usage = asked.hide_usage
        self._is_remembered = asked.request.same_answer

    def decoder(self, target: Target) -> Decoder:
        if not target.endpoint.is_written:
            return ValueRelay()
        hide_usage = self._hide_usage and target.upstream.stream_usage
        if self._is_remembered:
            return RememberingRelay(hide_usage=hide_usage)
        kind = TextRelay if target.endpoint is Endpoint.COMPLETIONS else Relay
        return kind(whole=self._whole, hide_usage=hide_usage, choices=self._choices)

    def passed_text(self, decoder: Decoder) -> bytes | None:
        return decoder.passed_text

    def held_text(self) -> bytes | None:
        return None


class ResponsesSurface:
    """See `Surface`. The upstream makes the response itself, and `places` gets to know where it is."""

    __slots__ = ("_owner", "_places", "_whole")

    receipt = None

    def __init__(self, asked: Completion, places: UpstreamPlaces) -> None:
        self._whole = not asked.stream
        self._owner = asked.request.owner
        self._places = places

    def decoder(self, target: Target) -> Decoder:
        return response_relay(target, whole=self._whole, owner=self._owner, places=self._places)

    def passed_text(self, decoder: Decoder) -> bytes | None:
        return None

    def held_text(self) -> bytes | None:
        return None


def response_relay(
    target: Target, *, whole: bool, owner: str | None, places: UpstreamPlaces, is_resumed: bool = False
) -> ResponseRelay:
    made = partial(places.add, owner=owner, upstream=target.upstream.name)
    return ResponseRelay(whole=whole, made=made, clean=cleaner(target), is_resumed=is_resumed)


def cleaner(target: Target) -> Callable[[str], str]:
    """Takes what is the gateway's own out of words of the target's upstream."""
    return lambda words: redacted(cleaned(words), target.upstream)
