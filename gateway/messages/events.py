"""The events of a message, as bytes that are ready to be sent: https://platform.claude.com/docs/en/api/messages-streaming

    message_start ─> blocks (each: start, deltas, stop) ─> message_delta ─> message_stop, or error

The stop reason is told only if the whole answer has come, and an error in place of it otherwise. So an answer that
breaks off never looks whole.
"""

import msgspec

from gateway.entries import EndReason, Entry, Kind
from gateway.errors import GatewayError, Stopped
from gateway.messages.blocks import Blocks
from gateway.messages.errors import error_body, failure_body
from gateway.messages.head import TRUNCATED, Head, Object, stop_reason

PING = b'event: ping\ndata: {"type": "ping"}\n\n'

# By the type of a block: the field of a delta that has its content, and the type of the delta.
_FIELDS = {"text": b"text", "thinking": b"thinking", "tool_use": b"partial_json"}
_DELTAS = {"text": b"text_delta", "thinking": b"thinking_delta", "tool_use": b"input_json_delta"}

_encode_json = msgspec.json.Encoder().encode


class MessageEvents:
    """`frame` is the view of one stream, for one client: it is to be called for each entry, in order."""

    __slots__ = ("_blocks", "_failed", "_head", "_writer")

    def __init__(self, stream_id: str, head: Head) -> None:
        self._head = head
        self._writer = _Writer(stream_id, head)
        self._blocks = Blocks(self._writer, stream_id, shows_thinking=head.shows_thinking, most=head.most)
        self._failed = False

    def start(self) -> bytes:
        """The first event, which says nothing of the answer. Empty if it was made before."""
        self._writer.start()
        return self._writer.taken()

    def frame(self, number: int, entry: Entry) -> bytes:
        """Raises UpstreamError or AnswerTooLarge for an answer that cannot go on. Then a failure follows."""
        kind, blocks = entry.kind, self._blocks
        if kind is blocks.kind:  # nearly always
            payload = entry.payload
            blocks.said += len(payload)
            return b"%b%b}}\n\n" % (self._writer.delta, _encode_json(payload.decode()))
        if kind is Kind.FAILURE:
            self._fail(failure_body(msgspec.json.decode(entry.payload), self._head.request_id))
        elif kind is Kind.END:
            self._finish(msgspec.json.decode(entry.payload))
        else:
            blocks.add(entry)
        return self._writer.taken()

    def show(self, entry: Entry) -> bytes:
        """As `frame`, of an answer that is recorded, and goes on whatever this client can be shown of it.

        An entry that cannot be shown is an `error` event, and nothing is shown behind that.
        """
        if self._failed:
            return b""
        try:
            return self.frame(0, entry)
        except GatewayError as error:
            self._fail(error_body(error, self._head.request_id))
            return self._writer.taken()

    def _fail(self, body: Object) -> None:
        self._failed = True
        self._writer.emit(body)

    def _finish(self, end: Object) -> None:
        if self._failed:
            return
        try:
            if end["reason"] != EndReason.COMPLETE:
                raise Stopped()
            self._complete(end)
        except GatewayError as error:
            self._fail(error_body(error, self._head.request_id))

    def _complete(self, end: Object) -> None:
        self._writer.start()
        self._blocks.end()
        reason = stop_reason(end.get("finish_reason"), self._blocks)
        if reason not in TRUNCATED:
            self._blocks.check()
        delta = {"stop_reason": reason, "stop_sequence": None}
        self._writer.emit({"type": "message_delta", "delta": delta, "usage": self._head.usage(end, self._blocks)})
        self._writer.emit({"type": "message_stop"})


class _Writer:
    """Collects events until they are taken. `delta` is a delta of the open block, as far as its content."""

    __slots__ = ("_head", "_index", "_out", "_started", "_stream_id", "_type", "delta")

    def __init__(self, stream_id: str, head: Head) -> None:
        self.delta = b""
        self._stream_id = stream_id
        self._head = head
        self._out: list[bytes] = []
        self._index = -1  # of the block
        self._type = ""
        self._started = False

    def taken(self) -> bytes:
        data = b"".join(self._out)
        self._out.clear()
        return data

    def emit(self, event: Object) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (event["type"].encode(), _encode_json(event)))

    def start(self) -> None:
        if not self._started:
            self._started = True
            usage = self._head.first_usage()
            message = self._head.message(self._stream_id, content=[], stop_reason=None, usage=usage)
            self.emit({"type": "message_start", "message": message})

    def begin(self, block: Object) -> None:
        self.start()
        self._index += 1
        self._type = block["type"]
        self.emit({"type": "content_block_start", "index": self._index, "content_block": block})
        if self._type in _DELTAS:
            self.delta = (
                b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
                % (self._index, _DELTAS[self._type], _FIELDS[self._type])
            )

    def add(self, text: str) -> None:
        self._out.append(b"%b%b}}\n\n" % (self.delta, _encode_json(text)))

    def sign(self, signature: str) -> None:
        delta = {"type": "signature_delta", "signature": signature}
        self.emit({"type": "content_block_delta", "index": self._index, "delta": delta})
        self._type = ""

    def end(self) -> None:
        if self._type == "thinking":  # SDKs send a block back only with a signature; nobody here checks it
            self.sign("")
        self.emit({"type": "content_block_stop", "index": self._index})
