"""Passes responses on that the upstream makes itself: https://platform.openai.com/docs/api-reference/responses-streaming

The gateway searches each event for the response's id, usage, an error and the end. The lines `event` and `data` pass
unchanged, with these exceptions. An `error` event becomes a failure, whose words are cleaned. So does a response that
failed before its first content. An event that is not JSON is skipped. Near-JSON is encoded again: see `relay`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from gateway.entries import Entry, Kind
from gateway.errors import UpstreamError, UpstreamIncomplete
from gateway.sse import Event, encode
from gateway.upstream.dialects.chunks import Chunk, as_object, dump, read_json
from gateway.upstream.dialects.error_reasons import reason_in
from gateway.upstream.dialects.openai import Decoder
from gateway.upstream.dialects.reported_errors import error_from, error_in
from gateway.upstream.dialects.usage import of_response
from gateway.upstream.redaction import cleaned

# Events that come before the model has said anything. Another target may still be asked behind them.
_BEFORE = frozenset({"response.created", "response.queued", "response.in_progress"})
_ENDS = frozenset({"response.completed", "response.incomplete"})
_FAILED = "response.failed"
_NOTHING = (b"", b"null", b"[DONE]")  # the end of a chat, which some servers send behind a response, too
_BRACKET = b"["


class _Response(msgspec.Struct, gc=False):
    """The fields that are looked at. Values of any type: what is odd about them is for the client to see."""

    id: Any = None
    created_at: Any = None
    model: Any = None
    status: Any = None
    background: Any = None
    store: Any = None
    error: Any = None
    incomplete_details: Any = None
    usage: Any = None
    output: msgspec.Raw = msgspec.Raw()

    @property
    def has_output(self) -> bool:
        return bytes(memoryview(self.output)[:1]) == _BRACKET


class _Told(msgspec.Struct, gc=False):
    """An event."""

    type: str = ""
    delta: Any = None
    response: _Response | None = None


_decode_event = msgspec.json.Decoder(_Told).decode
_decode_response = msgspec.json.Decoder(_Response).decode


class ResponseRelay(Decoder):
    """See `Decoder`. `whole`: the response was asked for as one JSON body.

    `made` is called with the id of each response that the upstream stores. `clean` takes words of the upstream, and
    returns them without what is the gateway's own. `is_resumed`: the events are of a response that was made earlier, so
    that the first one is passed on at once, and an end of any kind is an end.
    """

    is_joined = False

    def __init__(
        self,
        *,
        whole: bool,
        made: Callable[[str], None] = lambda name: None,
        clean: Callable[[str], str] = cleaned,
        is_resumed: bool = False,
    ) -> None:
        super().__init__()
        self.whole = whole
        self._made = made
        self._clean = clean
        self._is_resumed = self._begins_at_once = is_resumed
        self._counts: dict[str, Any] | None = None

    @property
    def usage(self) -> dict[str, Any] | None:
        return self._counts

    def rest(self) -> list[Entry]:
        return []

    def finish(self) -> None:
        """A client that has all events of a response, and comes back behind the last of them, gets none."""
        if not self.done and (self.has_content or not self._is_resumed):
            raise UpstreamIncomplete()

    # A stream of events

    def decode_data(self, data: bytes, entries: list[Entry]) -> None:
        self.decode(Event(data), entries)

    def decode(self, event: Event, entries: list[Entry], chunk: Chunk | None = None) -> None:
        """Adds the event to `entries`. Raises UpstreamError if it reports an error."""
        read = _read(event.data)
        if read is None:
            self._skip(event)
            return
        data, told = read
        kind = told.type or event.type
        if not kind.startswith("response.") and (error := error_in(kind, as_object(read_json(data)) or {})):
            raise error
        if told.response is not None:
            self._take_response(told.response)
        if isinstance(told.delta, str):
            self.said += len(told.delta.encode())
        if kind == _FAILED:
            self._fail(event.type, data, told.response or _Response(), entries)
        entries.append(_entry(event.type, data))
        self.done = kind in _ENDS
        if self.done or self._begins_at_once or (kind.startswith("response.") and kind not in _BEFORE):
            self.has_content = self._answered = True

    def _skip(self, event: Event) -> None:
        if event.type == "error":
            raise error_from(event.data.decode(errors="replace"))
        self.skipped += event.data.strip() not in _NOTHING

    def _take_response(self, response: _Response) -> None:
        if self.id is None and isinstance(response.id, str):
            self.id = response.id
            self.created = response.created_at if isinstance(response.created_at, int) else None
            if response.store is not False:
                self._made(response.id)
        if isinstance(response.model, str):
            self.model = response.model
        if isinstance(response.usage, dict):
            self._counts = of_response(response.usage)
        if isinstance(response.status, str):
            details = as_object(response.incomplete_details) or {}
            self._reason = str(details.get("reason") or response.status)
        self._begins_at_once |= response.background is True  # its client may leave, and needs the id for that

    def _fail(self, event_type: str, data: bytes, response: _Response, entries: list[Entry]) -> None:
        """Behind content, the client gets the event itself, whose words are cleaned. Raises UpstreamError."""
        error = _error(response)
        if self.has_content or self._begins_at_once:
            self.has_content = error.is_told = True
            entries.append(_entry(event_type, self._cleaned(data, response)))
        raise error

    def _cleaned(self, data: bytes, response: _Response) -> bytes:
        words = _words(response)
        if self._clean(words) == words:
            return data
        value = as_object(read_json(data)) or {}
        value["response"]["error"]["message"] = self._clean(words)
        return dump(value)

    # One JSON body

    def decode_completion(self, body: bytes, entries: list[Entry]) -> None:
        """Passes the body on. Raises UpstreamError if it is an error, or no response, or if events were asked for."""
        body, response = _read_whole(body)
        if response.status == "failed":
            raise _error(response)
        if not response.has_output:
            _check_fields(body)
            raise UpstreamError("The model's server answered with something that is not a response.")
        if not self.whole:
            raise UpstreamError("The model's server sent one JSON body where a stream was asked for.")
        self._take_response(response)
        self.done = self.has_content = self._answered = True
        entries.append(Entry(Kind.CHUNK, _as_utf8(body)))


def stored(body: bytes, clean: Callable[[str], str]) -> bytes:
    """What an upstream says of a response that it has stored, unchanged but for the words of the response's error.

    Raises UpstreamError if it is an error of the request.
    """
    body, response = _read_whole(body)
    if not response.has_output:  # as of one that was deleted
        _check_fields(body)
    words = _words(response)
    if clean(words) == words:
        return _as_utf8(body)
    value = as_object(read_json(body)) or {}
    value["error"]["message"] = clean(words)
    return dump(value)


def _words(response: _Response) -> str:
    words = (as_object(response.error) or {}).get("message")
    return words if isinstance(words, str) else ""


def _entry(event_type: str, data: bytes) -> Entry:
    """The event as it goes to the client. An id would be of the upstream's own resuming, which clients cannot use."""
    return Entry(Kind.CHUNK, encode(Event(_as_utf8(data), event_type.replace("\0", "\ufffd"))))


def _as_utf8(data: bytes) -> bytes:
    return data if data.isascii() else data.decode(errors="replace").encode()


def _error(response: _Response) -> UpstreamError:
    return error_from({"error": response.error}) if response.error else UpstreamError()


def _read(data: bytes) -> tuple[bytes, _Told] | None:
    """The data, and what is looked at of them. None if they are no JSON object."""
    try:
        return data, _decode_event(data)
    except (ValueError, RecursionError):
        value = as_object(read_json(data))
    if value is None:
        return None
    try:
        data = dump(value)
        return data, _decode_event(data)
    except (ValueError, RecursionError):  # a field has another type than ours
        return data, _Told()


def _read_whole(body: bytes) -> tuple[bytes, _Response]:
    """The body, and what is looked at of it. Raises UpstreamError."""
    try:
        return body, _decode_response(body)
    except (ValueError, RecursionError):
        value = as_object(read_json(body))
    if value is None:
        if body.strip()[:1] in (b"", b"{"):  # an empty body, or part of one
            raise UpstreamIncomplete()
        raise UpstreamError("The model's server answered with something that is not a JSON object.")
    try:
        body = dump(value)
        return body, _decode_response(body)
    except (ValueError, RecursionError):
        raise UpstreamError("The model's server answered with JSON that is nested too deeply.") from None


def _check_fields(body: bytes) -> None:
    """Looks for an error in an object that is no response. Raises UpstreamError."""
    fields = as_object(read_json(body)) or {}
    if error := error_in("", fields):
        raise error
    if words := reason_in(fields).words:
        raise UpstreamError(words, note=words)
